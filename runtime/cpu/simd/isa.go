package simd

import "fmt"

// ISA is a set of vector instructions.
type ISA uint8

const (
	// Generic is plain Go.
	Generic ISA = iota
	// AVX2 is AVX2 with FMA, BMI2 and F16C: 8 floats a vector.
	AVX2
	// AVX512 is AVX-512 F, BW, DQ and VL: 16 floats a vector.
	AVX512
	// NEON is the vectors that every arm64 has: 4 floats a vector.
	NEON
)

func (i ISA) String() string {
	switch i {
	case Generic:
		return "generic"
	case AVX2:
		return "avx2"
	case AVX512:
		return "avx512"
	case NEON:
		return "neon"
	}
	return fmt.Sprintf("isa(%d)", uint8(i))
}

// Available lists what this machine can run, slowest first. Generic is always
// there.
func Available() []ISA {
	found := []ISA{Generic}
	for _, i := range []ISA{AVX2, AVX512, NEON} {
		if supported(i) {
			found = append(found, i)
		}
	}
	return found
}

// Best returns the kernels of the fastest instructions this machine has.
func Best() *Kernels {
	a := Available()
	k, err := For(a[len(a)-1])
	if err != nil {
		panic("simd: " + err.Error()) // Available lists only what For accepts.
	}
	return k
}

// For returns the kernels written in the given instructions, or an error where
// this machine lacks them.
func For(isa ISA) (*Kernels, error) {
	if isa == Generic {
		k := generic()
		return &k, nil
	}
	if !supported(isa) {
		return nil, fmt.Errorf("this machine has no %v instructions", isa)
	}
	k := vectorised(isa)
	return &k, nil
}
