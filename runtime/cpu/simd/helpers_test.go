package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// eachISA runs a test with every kind of instructions this machine has.
func eachISA(t *testing.T, test func(t *testing.T, k *Kernels, rng *rand.Rand)) {
	for _, isa := range Available() {
		t.Run(isa.String(), func(t *testing.T) {
			k, err := For(isa)
			require.NoError(t, err)
			test(t, k, rand.New(rand.NewPCG(1, 2)))
		})
	}
}

// poison fills memory that no kernel may write and whose values must not reach
// a result: a NaN that arithmetic does not make.
var poison = math.Float32frombits(0x7fc0dead)

// operand is a matrix amid poison: before it, after it and between its rows.
type operand struct {
	Mat
	all     []float32
	offset  int
	rows, n int
}

// operandOf makes a matrix of random values, rows gap floats apart, that starts
// at an odd address.
func operandOf(rng *rand.Rand, rows, n, gap int) *operand {
	const guard = 40
	o := &operand{offset: guard + rng.IntN(16), rows: rows, n: n}
	stride := n + gap
	o.all = make([]float32, o.offset+rows*stride+guard)
	for i := range o.all {
		o.all[i] = poison
	}
	o.Mat = Mat{o.all[o.offset : o.offset+(rows-1)*stride+n], stride}
	for r := range rows {
		for c := range n {
			o.set(r, c, float32(rng.NormFloat64()))
		}
	}
	return o
}

// rowOperand is a matrix all of whose rows are the same random values.
func rowOperand(rng *rand.Rand, n int) *operand {
	o := operandOf(rng, 1, n, 0)
	o.Mat = Row(o.Data)
	return o
}

func (o *operand) at(r, c int) float64     { return float64(o.Data[r*o.Stride+c]) }
func (o *operand) set(r, c int, x float32) { o.Data[r*o.Stride+c] = x }

// fill sets every element.
func (o *operand) fill(x float32) {
	for r := range o.rows {
		for c := range o.n {
			o.set(r, c, x)
		}
	}
}

// requireClose compares every element with want, relative to max(1, |want|),
// and checks that nothing else was written.
func (o *operand) requireClose(t *testing.T, tolerance float64, want func(r, c int) float64) {
	t.Helper()
	for r := range o.rows {
		for c := range o.n {
			w, got := want(r, c), o.at(r, c)
			if !close(got, w, tolerance) {
				require.Failf(t, "wrong value", "row %d column %d of %d × %d: %v, want %v", r, c, o.rows, o.n, got, w)
			}
		}
	}
	bits := math.Float32bits(poison)
	for i, v := range o.all {
		r, c := (i-o.offset)/o.Stride, (i-o.offset)%o.Stride
		if i >= o.offset && r < o.rows && c < o.n {
			continue
		}
		if math.Float32bits(v) != bits {
			require.Failf(t, "wrote outside the destination", "float %d of %d × %d", i-o.offset, o.rows, o.n)
		}
	}
}

func close(got, want, tolerance float64) bool {
	if math.IsNaN(want) || math.IsInf(want, 0) {
		return math.IsNaN(got) == math.IsNaN(want) && (math.IsNaN(want) || got == want)
	}
	return math.Abs(got-want) <= tolerance*max(1, math.Abs(want))
}

func floats(rng *rand.Rand, n int) []float32 {
	return operandOf(rng, 1, n, 0).Data
}

// shapes are row counts and widths around the sizes of vectors and blocks.
func shapes() (s []struct{ rows, n int }) {
	for _, n := range []int{1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 48, 63, 100} {
		for _, rows := range []int{1, 2, 5, 9} {
			s = append(s, struct{ rows, n int }{rows, n})
		}
	}
	return s
}

func eachBenchISA(b *testing.B, bench func(b *testing.B, k *Kernels)) {
	for _, isa := range Available() {
		b.Run(isa.String(), func(b *testing.B) {
			k, err := For(isa)
			require.NoError(b, err)
			bench(b, k)
		})
	}
}

// reportRate reports operations per second of n operations an iteration.
func reportRate(b *testing.B, n int, unit string) {
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e9, unit)
}

// filled returns aligned floats with values that neither overflow nor vanish.
func filled(n int) []float32 {
	rng := rand.New(rand.NewPCG(3, 4))
	x := Aligned(n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

func name(parts ...any) string {
	s := fmt.Sprint(parts[0])
	for _, p := range parts[1:] {
		s += fmt.Sprintf("x%v", p)
	}
	return s
}
