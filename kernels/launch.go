package kernels

import (
	"fmt"
	"math"

	"unirestorer/kernels/abi"
)

// Launch is one kernel with its arguments, ready for a stream, and what it costs.
type Launch struct {
	// Module is the PTX image, Kernel the entry in it.
	Module, Kernel string
	Shape          abi.Shape
	Args           abi.Args
	// Arrived, unless zero, are counters of type uint32 at which blocks meet, Arrivals at each, so that the last one does what
	// is left. They are zero before and after the launch.
	Arrived  abi.Buffer
	Arrivals int
	// Bytes is the least that the launch moves: each operand once. Operations counts a multiply-add as two.
	Bytes, Operations int64
}

// Activation is applied after the bias. The numbers are those of the device code.
type Activation int32

// Activations of a product.
const (
	Identity Activation = iota
	ReLU
	LeakyReLU
	GELU
)

// Gate multiplies the first half of the channels with the second.
type Gate int32

// Gates of a product.
const (
	NoGate Gate = iota
	SimpleGate
	GELUGate
)

// PadMode says what lies outside an image.
type PadMode int32

// Padding modes.
const (
	Zero PadMode = iota
	Reflect
	ReflectLoop
	Replicate
)

// NormKind is a normalisation over channels.
type NormKind int32

// Normalisations.
const (
	NoNorm NormKind = iota
	LayerNorm
	BiasFree
)

const (
	maxGridYZ = 65535
	maxCount  = math.MaxInt32
)

// problems collects what is wrong with the arguments of a launcher; the first one is reported.
type problems struct {
	kernel string
	err    error
}

func (p *problems) addf(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("kernel "+p.kernel+": "+format, args...)
	}
}

// positive checks that sizes are at least 1 and that what they make up can be indexed.
func (p *problems) positive(name string, values ...int) {
	product := 1
	for _, v := range values {
		if v <= 0 {
			p.addf("%s %v: every size must be positive", name, values)
			return
		}
		if product > math.MaxInt64/4/v {
			p.addf("%s %v are too large", name, values)
			return
		}
		product *= v
	}
}

// fits checks that a buffer is present, aligned to 16 bytes and holds count values of elem bytes.
func (p *problems) fits(name string, b abi.Buffer, count, elem int) {
	switch {
	case b.IsZero():
		p.addf("%s is missing", name)
	case b.Ptr%16 != 0:
		p.addf("%s at %#x is not aligned to 16 bytes", name, uint64(b.Ptr))
	case b.Size < int64(count)*int64(elem):
		p.addf("%s holds %d bytes, needs %d values of %d", name, b.Size, count, elem)
	}
}

// optional is fits for operands that may be absent.
func (p *problems) optional(name string, b abi.Buffer, count, elem int) {
	if !b.IsZero() {
		p.fits(name, b, count, elem)
	}
}

func (p *problems) layout(name string, l Layout) {
	if !l.valid() {
		p.addf("%s: %d channels do not split into %d parts", name, l.Channels, l.parts())
	}
}

// structure turns arguments that were appended one after the other into one struct parameter.
func structure(fields *abi.Args) abi.Args {
	content := fields.Bytes()
	for len(content)%8 != 0 {
		content = append(content, 0)
	}
	var a abi.Args
	a.Struct(8, content)
	return a
}

// linear is the shape for n threads in blocks of the given size.
func (p *problems) linear(n, block int) abi.Shape {
	blocks := ceilDiv(n, block)
	if blocks > maxCount {
		p.addf("%d threads need too many blocks", n)
		blocks = 1
	}
	return abi.Shape{Grid: abi.D1(max(blocks, 1)), Block: abi.D1(block)}
}

// done gives the launch, or the first problem.
func (p *problems) done(l Launch) (Launch, error) {
	g := l.Shape.Grid
	if g.Y > maxGridYZ || g.Z > maxGridYZ {
		p.addf("grid %v: at most %d blocks in y and z", g, maxGridYZ)
	}
	if p.err != nil {
		return Launch{}, p.err
	}
	l.Kernel = p.kernel
	l.Shape.Programmatic = true // see dependent.cuh
	return l, nil
}

func flag(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

// words are ints as a C struct of ints.
func words(values ...int) []byte {
	var a abi.Args
	for _, v := range values {
		a.I32(int32(v))
	}
	return a.Bytes()
}
