package ptxsim_test

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// rig is a simulated device with a loaded module.
type rig struct {
	t   *testing.T
	dev *ptxsim.Device
	str device.Stream
	mod device.Module

	last device.Buffer // allocated last
}

// newRig loads PTX text on a new device.
func newRig(t *testing.T, opt ptxsim.Options, name string, ptx []byte) *rig {
	t.Helper()
	dev, err := ptxsim.New(opt)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dev.Close()) })
	str, err := dev.NewStream()
	require.NoError(t, err)
	mod, err := dev.LoadModule(name, ptx)
	require.NoError(t, err)
	return &rig{t: t, dev: dev, str: str, mod: mod}
}

func sample(t *testing.T, name string) []byte {
	t.Helper()
	p, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return p
}

// upload copies data to a buffer of its own.
func (r *rig) upload(data []byte) device.Buffer {
	b := r.alloc(len(data))
	require.NoError(r.t, r.str.CopyHtoD(b, data))
	return b
}

func (r *rig) alloc(n int) device.Buffer {
	b, err := r.dev.Alloc(int64(n))
	require.NoError(r.t, err)
	r.last = b
	return b
}

func (r *rig) bytes(b device.Buffer) []byte {
	p := make([]byte, b.Size)
	require.NoError(r.t, r.str.CopyDtoH(p, b))
	return p
}

// launch runs a kernel and returns its error.
func (r *rig) launch(name string, grid, block device.Dim3, shared int, args *device.Args) error {
	f, err := r.mod.Function(name)
	require.NoError(r.t, err)
	if shared > 48<<10 {
		require.NoError(r.t, f.SetMaxDynamicShared(shared))
	}
	return r.str.Launch(context.Background(), f, device.Shape{Grid: grid, Block: block, Shared: shared}, args)
}

// words converts 4-byte values to bytes and back.
func words[T uint16 | uint32 | int32 | float32](v []T) []byte {
	out := make([]byte, 0, 4*len(v))
	for _, x := range v {
		switch x := any(x).(type) {
		case uint16:
			out = binary.LittleEndian.AppendUint16(out, x)
		case uint32:
			out = binary.LittleEndian.AppendUint32(out, x)
		case int32:
			out = binary.LittleEndian.AppendUint32(out, uint32(x))
		case float32:
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(x))
		}
	}
	return out
}

func fromWords[T uint16 | uint32 | int32 | float32](p []byte) []T {
	var one T
	size := binary.Size(one)
	out := make([]T, len(p)/size)
	for i := range out {
		var word [4]byte
		copy(word[:], p[size*i:][:size])
		b := binary.LittleEndian.Uint32(word[:])
		switch q := any(&out[i]).(type) {
		case *uint16:
			*q = uint16(b)
		case *uint32:
			*q = b
		case *int32:
			*q = int32(b)
		case *float32:
			*q = math.Float32frombits(b)
		}
	}
	return out
}

// halfBits and halfValue convert halves by definition, independently of the simulator.
func halfValue(h uint16) float64 {
	s, e, m := 1.0, int(h>>10&31), float64(h&0x3ff)
	if h>>15 != 0 {
		s = -1
	}
	switch e {
	case 0:
		return s * math.Ldexp(m, -24)
	case 31:
		if m != 0 {
			return math.NaN()
		}
		return s * math.Inf(1)
	}
	return s * math.Ldexp(1024+m, e-25)
}

// halfBits returns the half nearest to v, by search over all of them (ties to even).
func halfBits(v float64) uint16 {
	if v != v {
		return 0x7fff
	}
	sign := uint16(0)
	if math.Signbit(v) {
		sign, v = 0x8000, -v
	}
	if v >= 65520 {
		return sign | 0x7c00
	}
	i, _ := slices.BinarySearchFunc(positiveHalves, v, func(a, b float64) int {
		switch {
		case a < b:
			return -1
		case a > b:
			return 1
		}
		return 0
	})
	if i == len(positiveHalves) {
		return sign | uint16(i-1)
	}
	if i > 0 {
		up, down := positiveHalves[i]-v, v-positiveHalves[i-1]
		if down < up || down == up && i%2 == 1 {
			i--
		}
	}
	return sign | uint16(i)
}

var positiveHalves = func() []float64 {
	out := make([]float64, 0x7c00)
	for i := range out {
		out[i] = halfValue(uint16(i))
	}
	return out
}()

func halves(v []float64) []byte {
	var out []byte
	for _, x := range v {
		out = binary.LittleEndian.AppendUint16(out, halfBits(x))
	}
	return out
}

func fromHalves(p []byte) []float64 {
	out := make([]float64, len(p)/2)
	for i := range out {
		out[i] = halfValue(binary.LittleEndian.Uint16(p[2*i:]))
	}
	return out
}

// normals returns n normally distributed values rounded to half.
func normals(rng *rand.Rand, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = halfValue(halfBits(rng.NormFloat64()))
	}
	return out
}

// seeds are the schedules that every sample runs under.
var seeds = []int64{0, 1, 77}

func TestElementwiseSamples(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, seed := range seeds {
		r := newRig(t, ptxsim.Options{Seed: seed}, "elementwise", sample(t, "elementwise.ptx"))
		const n = 1000
		x := normals(rng, 2*n)
		bx, by := r.upload(halves(x)), r.alloc(4*n)
		var a device.Args
		require.NoError(t, r.launch("gelu_half2", device.D1(3), device.D1(128), 0, a.Buf(bx).Buf(by).F32(1.5).F32(-0.25).I32(n)))
		for i, got := range fromHalves(r.bytes(by)) {
			v := 1.5*x[i] - 0.25
			want := 0.5 * v * (1 + math.Erf(v*math.Sqrt2/2))
			require.InDelta(t, want, got, 1e-3*math.Max(1, math.Abs(want)), "element %d", i)
		}

		u, v := make([]float32, 4*n), make([]float32, 4*n)
		for i := range u {
			u[i], v[i] = rng.Float32(), rng.Float32()
		}
		bu, bv := r.upload(words(u)), r.upload(words(v))
		require.NoError(t, r.launch("saxpy", device.D1((n+255)/256), device.D1(256), 0, a.Reset().Buf(bu).Buf(bv).F32(3).I32(n)))
		for i, got := range fromWords[float32](r.bytes(bv)) {
			require.Equal(t, float32(math.FMA(3, float64(u[i]), float64(v[i]))), got)
		}

		ints := make([]int32, n)
		for i := range ints {
			ints[i] = rng.Int32N(2000) - 1000
		}
		bi, bo := r.upload(words(ints)), r.alloc(4*n)
		p := binary.LittleEndian.AppendUint32(nil, math.Float32bits(0.5))
		p = binary.LittleEndian.AppendUint32(p, 3)
		p = binary.LittleEndian.AppendUint32(p, uint32(halfBits(1.25)))
		require.NoError(t, r.launch("by_value", device.D1(8), device.D1(128), 0, a.Reset().Buf(bi).Buf(bo).Struct(4, p).I32(n)))
		for i, got := range fromWords[float32](r.bytes(bo)) {
			require.Equal(t, 0.5*float32(ints[i]<<3)+1.25, got)
		}
	}
}

func TestReductionSamples(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, seed := range seeds {
		r := newRig(t, ptxsim.Options{Seed: seed}, "reduce", sample(t, "reduce.ptx"))
		const rows, n = 7, 777
		x := make([]float32, rows*n)
		sums, total := make([]float64, rows), 0.0
		for i := range x {
			x[i] = rng.Float32() - 0.3
			sums[i/n] += float64(x[i])
			total += float64(x[i])
		}
		bx, by := r.upload(words(x)), r.alloc(4*rows)
		var a device.Args
		require.NoError(t, r.launch("row_sum", device.D1(rows), device.D1(256), 0, a.Buf(bx).Buf(by).I32(n)))
		for i, got := range fromWords[float32](r.bytes(by)) {
			require.InDelta(t, sums[i], got, 1e-3)
		}

		part, out := r.alloc(4*9), r.alloc(4)
		count := r.upload(make([]byte, 4))
		require.NoError(t, r.launch("last_block_sum", device.D1(9), device.D1(128), 0, a.Reset().Buf(bx).Buf(part).Buf(count).Buf(out).I32(rows*n)))
		require.InDelta(t, total, fromWords[float32](r.bytes(out))[0], 1e-2)

		pixels := make([]byte, 5000)
		var want [256]uint32
		for i := range pixels {
			pixels[i] = byte(rng.NormFloat64()*30 + 128)
			want[pixels[i]]++
		}
		bp, bh := r.upload(pixels), r.upload(make([]byte, 1024))
		require.NoError(t, r.launch("histogram", device.D1(5), device.D1(192), 0, a.Reset().Buf(bp).Buf(bh).I32(int32(len(pixels)))))
		require.Equal(t, want[:], fromWords[uint32](r.bytes(bh)))
	}
}

func TestTensorCoreProductSample(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, c := range []struct {
		file    string
		m, n, k int
		seed    int64
	}{{"gemm.ptx", 64, 64, 32, 0}, {"gemm.ptx", 100, 72, 152, 0}, {"gemm.ptx", 65, 66, 40, 5}, {"gemm_sm90.ptx", 128, 64, 96, 9}} {
		r := newRig(t, ptxsim.Options{Seed: c.seed}, c.file, sample(t, c.file))
		a, b := normals(rng, c.m*c.k), normals(rng, c.n*c.k)
		ba, bb, bc := r.upload(halves(a)), r.upload(halves(b)), r.alloc(2*c.m*c.n)
		var args device.Args
		err := r.launch("gemm", device.D2((c.n+63)/64, (c.m+63)/64), device.D1(128), 2*3*128*40,
			args.Buf(ba).Buf(bb).Buf(bc).I32(int32(c.m)).I32(int32(c.n)).I32(int32(c.k)))
		require.NoError(t, err)
		for i, got := range fromHalves(r.bytes(bc)) {
			want := 0.0
			for k := range c.k {
				want += a[i/c.n*c.k+k] * b[i%c.n*c.k+k]
			}
			require.InDelta(t, want, got, 1e-3*(1+math.Abs(want)), "row %d column %d", i/c.n, i%c.n)
		}
		ctr := r.dev.LastReport().Counters
		require.Equal(t, uint64((c.m+63)/64*((c.n+63)/64)*64*64*((c.k+31)/32*32)), ctr.TensorMACs)
		require.Zero(t, ctr.Matrix.Conflicts)
	}
}

func TestDivergentControlFlowSamples(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, seed := range seeds {
		r := newRig(t, ptxsim.Options{Seed: seed}, "control", sample(t, "control.ptx"))
		const n = 300
		x := make([]int32, n)
		for i := range x {
			x[i] = rng.Int32N(10000)
		}
		bx, b1, b2 := r.upload(words(x)), r.alloc(4*n), r.alloc(4*n)
		var a device.Args
		require.NoError(t, r.launch("collatz", device.D1(3), device.D1(128), 0, a.Buf(bx).Buf(b1).Buf(b2).I32(n)))
		steps, odd := fromWords[int32](r.bytes(b1)), fromWords[int32](r.bytes(b2))
		for i := range x {
			v, s, o := x[i], int32(0), int32(0)
			for v > 1 {
				s++
				if v%2 == 0 {
					v /= 2
					continue
				}
				o++
				v = 3*v + 1
				if s > 200 {
					break
				}
			}
			require.Equal(t, [2]int32{s, o}, [2]int32{steps[i], odd[i]}, "start %d", x[i])
		}

		require.NoError(t, r.launch("median", device.D1(3), device.D1(128), 0, a.Reset().Buf(bx).Buf(b1).I32(n)))
		for i, got := range fromWords[int32](r.bytes(b1)) {
			var w []int32
			for j := range 9 {
				w = append(w, x[(i+j)%n])
			}
			slices.Sort(w)
			require.Equal(t, w[4]+w[x[i]&7], got)
		}

		coef := []float32{1, 0.5, 2, 0.25}
		if seed != 0 {
			coef[2] = -1
		}
		fx := make([]float32, n)
		for i := range fx {
			fx[i] = rng.Float32()
		}
		bf, bc := r.upload(words(fx)), r.upload(words(coef))
		require.NoError(t, r.launch("calls", device.D1(3), device.D1(128), 0, a.Reset().Buf(bf).Buf(bc).Buf(b1).I32(n).I32(4)))
		poly := func(x float32, terms int) float32 {
			v := float32(0)
			for _, c := range coef[:terms] {
				if c < 0 {
					return -v
				}
				v = float32(math.FMA(float64(v), float64(x), float64(c)))
			}
			return v
		}
		for i, got := range fromWords[float32](r.bytes(b1)) {
			want := poly(fx[i], 4)
			if i%3 == 0 {
				want += poly(want, 3)
			}
			require.InDelta(t, want, got, 1e-5*math.Abs(float64(want))+1e-6)
		}

		require.NoError(t, r.launch("dispatch", device.D1(3), device.D1(128), 0, a.Reset().Buf(bx).Buf(b1).I32(n)))
		for i, got := range fromWords[int32](r.bytes(b1)) {
			require.Equal(t, dispatch(x[i]), got)
		}
	}
}

func dispatch(v int32) int32 {
	switch v & 7 {
	case 0:
		return v * 3
	case 1:
		return v - 7
	case 2:
		return v ^ 0x55
	case 3:
		return -v
	case 4:
		return v << 2
	case 5:
		return v / 3
	}
	n := int32(0)
	if v&7 == 6 {
		for b := uint32(v); b != 0; b &= b - 1 {
			n++
		}
		return n
	}
	for b := uint32(v); n < 32 && b>>31 == 0; b <<= 1 {
		n++
	}
	return n
}

func TestBarrierSamples(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	for _, seed := range seeds {
		r := newRig(t, ptxsim.Options{Seed: seed}, "barriers", sample(t, "barriers.ptx"))
		x := make([]float32, 32*9)
		for i := range x {
			x[i] = rng.Float32()
		}
		bx, by := r.upload(words(x)), r.alloc(4*len(x))
		var a device.Args
		require.NoError(t, r.launch("ring", device.D1(1), device.D1(64), 0, a.Buf(bx).Buf(by).I32(9)))
		for i, got := range fromWords[float32](r.bytes(by)) {
			require.Equal(t, 2*x[i/32*32+31-i%32], got)
		}

		const w, h = 18, 16
		require.NoError(t, r.launch("transpose", device.D2(1, 1), device.D2(32, 8), 0, a.Reset().Buf(bx).Buf(by).I32(w).I32(h)))
		for i, got := range fromWords[float32](r.bytes(by)) {
			require.Equal(t, x[i%h*w+i/h], got)
		}
		require.Zero(t, r.dev.LastReport().Counters.Conflicts())

		ints := make([]int32, 256)
		for i := range ints {
			ints[i] = rng.Int32N(100)
		}
		bi, bo := r.upload(words(ints)), r.alloc(4*len(ints))
		require.NoError(t, r.launch("warp_scan", device.D1(2), device.D1(128), 0, a.Reset().Buf(bi).Buf(bo)))
		sum := int32(0)
		for i, got := range fromWords[int32](r.bytes(bo)) {
			if i%32 == 0 {
				sum = 0
			}
			sum += ints[i]
			require.Equal(t, sum, got)
		}
	}
}
