package ptxsim_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// referenceTexture is a texture of one channel by the formulas of the CUDA C++ Programming Guide, section 10.
type referenceTexture struct {
	size       []int
	texels     []float32
	linear     bool
	normalized bool
	mode       ptxsim.AddressMode
}

// texel is the value at a place, outside of the texture too.
func (t *referenceTexture) texel(at []int) float64 {
	index := 0
	for i := len(at) - 1; i >= 0; i-- {
		n, v := t.size[i], at[i]
		switch {
		case v >= 0 && v < n:
		case t.mode == ptxsim.AddressBorder:
			return 0
		case t.normalized && t.mode == ptxsim.AddressWrap:
			for v < 0 {
				v += n
			}
			v %= n
		case t.normalized && t.mode == ptxsim.AddressMirror:
			for v < 0 || v >= n {
				if v < 0 {
					v = -v - 1
				} else {
					v = 2*n - 1 - v
				}
			}
		case v < 0:
			v = 0
		default:
			v = n - 1
		}
		index = index*n + v
	}
	return float64(t.texels[index])
}

func (t *referenceTexture) sample(x []float32) float64 {
	var at [3]int
	var share [3]float64
	for i := range t.size {
		v := float64(x[i])
		if t.normalized {
			v *= float64(t.size[i])
		}
		if t.linear {
			v -= 0.5
		}
		at[i] = int(math.Floor(v))
		share[i] = math.Round((v-math.Floor(v))*256) / 256
	}
	if !t.linear {
		return t.texel(at[:len(t.size)])
	}
	sum := 0.0
	for corner := range 1 << len(t.size) {
		place, weight := at, 1.0
		for i := range t.size {
			if corner>>i&1 == 1 {
				place[i]++
				weight *= share[i]
			} else {
				weight *= 1 - share[i]
			}
		}
		sum += weight * t.texel(place[:len(t.size)])
	}
	return sum
}

func TestTexturesAreSampledAsTheGuideSays(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	const n = 64
	for _, size := range [][]int{{7}, {7, 5}, {4, 3, 5}} {
		for mode := ptxsim.AddressWrap; mode <= ptxsim.AddressBorder; mode++ {
			for options := range 4 {
				ref := &referenceTexture{size: size, linear: options&1 != 0, normalized: options&2 != 0, mode: mode}
				d := ptxsim.Texture{Type: ptxsim.TensorF32, Channels: 1, Dims: len(size), Linear: ref.linear, Normalized: ref.normalized, Address: mode}
				count := 1
				for i, s := range size {
					d.Size[i] = s
					count *= s
				}
				for range count {
					ref.texels = append(ref.texels, rng.Float32())
				}
				at := make([]float32, 3*n)
				for i := range at {
					if at[i] = rng.Float32()*24 - 8; ref.normalized {
						at[i] = rng.Float32()*6 - 2
					}
				}
				r := newRig(t, ptxsim.Options{}, "texture", sample(t, "texture.ptx"))
				handle, err := r.dev.NewTexture(r.upload(words(ref.texels)), d)
				require.NoError(t, err)
				y := r.alloc(4 * n)
				kernel := []string{"sample1", "sample2", "sample3"}[len(size)-1]
				require.NoError(t, r.launch(kernel, device.D1(1), device.D1(n), 0, new(device.Args).I64(int64(handle)).Buf(r.upload(words(at))).Buf(y)))
				for i, got := range fromWords[float32](r.bytes(y)) {
					require.InDelta(t, ref.sample(at[3*i:]), got, 2e-3, "%v at %v", ref, at[3*i:][:3])
				}
			}
		}
	}
}

func TestTexelsOfOtherKinds(t *testing.T) {
	r := newRig(t, ptxsim.Options{}, "texture", sample(t, "texture.ptx"))
	texture := func(b []byte, d ptxsim.Texture) *device.Args {
		handle, err := r.dev.NewTexture(r.upload(b), d)
		require.NoError(t, err)
		return new(device.Args).I64(int64(handle))
	}
	y := r.alloc(32 * 16)
	bytes := make([]byte, 64)
	for i := range bytes {
		bytes[i] = byte(200 + i)
	}
	require.NoError(t, r.launch("fetch", device.D1(1), device.D1(32), 0,
		texture(bytes, ptxsim.Texture{Type: ptxsim.TensorU8, Signed: true, Channels: 1, Dims: 1, Size: [3]int{20}}).Buf(y).I32(-4)))
	for i, got := range fromWords[int32](r.bytes(y))[:32] {
		want := int32(0)
		if i >= 4 && i < 24 {
			want = int32(int8(bytes[i-4]))
		}
		require.Equal(t, want, got, "texel %d", i-4)
	}
	require.NoError(t, r.launch("pixels", device.D1(1), device.D1(4), 0,
		texture(bytes, ptxsim.Texture{Type: ptxsim.TensorU8, Channels: 4, Dims: 2, Size: [3]int{4, 3}, AsFloat: true}).Buf(y)))
	for i, got := range fromWords[float32](r.bytes(y))[:16] {
		require.InDelta(t, float32(bytes[16+i])/255, got, 1e-6)
	}
	halves4 := halves([]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	require.NoError(t, r.launch("gathers", device.D1(1), device.D1(2), 0,
		texture(halves4, ptxsim.Texture{Type: ptxsim.TensorF16, Channels: 1, Dims: 2, Size: [3]int{4, 4}}).Buf(y)))
	require.Equal(t, []float32{5, 6, 2, 1, 6, 7, 3, 2}, fromWords[float32](r.bytes(y))[:8])
	layers := []float32{1, 2, 3, 4, 10, 20, 30, 40}
	at := r.upload(words([]float32{0, 0, 0, 1, 1, 0, 1, 0, 1, 0, 1, 7, 0, 0, -3}))
	require.NoError(t, r.launch("layered", device.D1(1), device.D1(5), 0,
		texture(words(layers), ptxsim.Texture{Type: ptxsim.TensorF32, Channels: 1, Dims: 2, Size: [3]int{2, 2}, Layers: 2}).Buf(at).Buf(y)))
	require.Equal(t, []float32{1, 4, 20, 30, 1}, fromWords[float32](r.bytes(y))[:5])
}

func TestSurfacesAreReadAndWritten(t *testing.T) {
	r := newRig(t, ptxsim.Options{}, "texture", sample(t, "texture.ptx"))
	surface := func(b device.Buffer, d ptxsim.Texture) int64 {
		handle, err := r.dev.NewTexture(b, d)
		require.NoError(t, err)
		return int64(handle)
	}
	x := []float32{1, 2, 3, 4, 5, 6}
	to := r.alloc(24)
	a, b := ptxsim.Texture{Type: ptxsim.TensorF32, Channels: 1, Dims: 2, Size: [3]int{3, 2}}, ptxsim.Texture{Type: ptxsim.TensorF32, Channels: 1, Dims: 2, Size: [3]int{2, 3}}
	require.NoError(t, r.launch("turn", device.D1(1), device.D2(3, 2), 0, new(device.Args).I64(surface(r.upload(words(x)), a)).I64(surface(to, b))))
	require.Equal(t, []float32{1, 4, 2, 5, 3, 6}, fromWords[float32](r.bytes(to)))

	pixels := []uint32{10, 11, 12}
	out := r.alloc(4 * 2 * 5)
	a = ptxsim.Texture{Type: ptxsim.TensorU8, Channels: 4, Dims: 2, Size: [3]int{3, 1}}
	b = ptxsim.Texture{Type: ptxsim.TensorU8, Channels: 4, Dims: 2, Size: [3]int{5, 2}}
	require.NoError(t, r.launch("shifted", device.D1(1), device.D1(7), 0, new(device.Args).I64(surface(r.upload(words(pixels)), a)).I64(surface(out, b))))
	require.Equal(t, []uint32{10, 10, 10, 11, 12, 0, 0, 10, 11, 12}, fromWords[uint32](r.bytes(out)))
}

func TestMisuseOfTexturesIsFound(t *testing.T) {
	floats := ptxsim.Texture{Type: ptxsim.TensorF32, Channels: 1, Dims: 1, Size: [3]int{32}}
	plane := ptxsim.Texture{Type: ptxsim.TensorF32, Channels: 1, Dims: 2, Size: [3]int{2, 2}}
	for _, c := range []struct {
		name, kernel string
		kind         ptxsim.Kind
		args         func(r *rig, texture func(ptxsim.Texture) int64) *device.Args
	}{
		{"an address instead of a handle", "fetch", ptxsim.TextureMisuse, func(r *rig, _ func(ptxsim.Texture) int64) *device.Args {
			return new(device.Args).Buf(r.alloc(128)).Buf(r.alloc(128)).I32(0)
		}},
		{"integers of floats", "fetch", ptxsim.TextureMisuse, func(r *rig, texture func(ptxsim.Texture) int64) *device.Args {
			return new(device.Args).I64(texture(floats)).Buf(r.alloc(128)).I32(0)
		}},
		{"one dimension for two", "sample2", ptxsim.TextureMisuse, func(r *rig, texture func(ptxsim.Texture) int64) *device.Args {
			return new(device.Args).I64(texture(floats)).Buf(r.upload(make([]byte, 3*128))).Buf(r.alloc(128))
		}},
		{"outside of a surface", "turn", ptxsim.OutOfBounds, func(r *rig, texture func(ptxsim.Texture) int64) *device.Args {
			return new(device.Args).I64(texture(plane)).I64(texture(plane))
		}},
		{"memory that the kernel writes", "written", ptxsim.NonCoherent, func(r *rig, texture func(ptxsim.Texture) int64) *device.Args {
			return new(device.Args).I64(texture(floats)).Buf(r.last).Buf(r.alloc(128))
		}},
		{"memory that nobody wrote", "sample1", ptxsim.Uninitialised, func(r *rig, _ func(ptxsim.Texture) int64) *device.Args {
			handle, err := r.dev.NewTexture(r.alloc(128), floats)
			require.NoError(t, err)
			return new(device.Args).I64(int64(handle)).Buf(r.upload(make([]byte, 3*128))).Buf(r.alloc(128))
		}},
		{"freed memory", "sample1", ptxsim.OutOfBounds, func(r *rig, texture func(ptxsim.Texture) int64) *device.Args {
			handle := texture(floats)
			require.NoError(t, r.dev.Free(r.last))
			return new(device.Args).I64(handle).Buf(r.upload(make([]byte, 3*128))).Buf(r.alloc(128))
		}},
	} {
		r := newRig(t, ptxsim.Options{}, "texture", sample(t, "texture.ptx"))
		err := r.launch(c.kernel, device.D1(1), device.D1(32), 0, c.args(r, func(d ptxsim.Texture) int64 {
			handle, err := r.dev.NewTexture(r.upload(make([]byte, d.Bytes())), d)
			require.NoError(t, err)
			return int64(handle)
		}))
		var found *ptxsim.FindingsError
		require.ErrorAs(t, err, &found, c.name)
		require.Equal(t, c.kind, found.Findings[0].Kind, c.name)
	}
}

func TestTexturesThatCannotBeAreRefused(t *testing.T) {
	dev, err := ptxsim.New(ptxsim.Options{})
	require.NoError(t, err)
	b, err := dev.Alloc(64)
	require.NoError(t, err)
	good := ptxsim.Texture{Type: ptxsim.TensorF32, Channels: 1, Dims: 2, Size: [3]int{4, 4}}
	_, err = dev.NewTexture(b, good)
	require.NoError(t, err)
	_, err = dev.NewTexture(device.Buffer{Ptr: b.Ptr + 16, Size: 48}, ptxsim.Texture{Type: ptxsim.TensorF32, Channels: 1, Dims: 1, Size: [3]int{4}})
	require.ErrorContains(t, err, "multiple of 512")
	for want, change := range map[string]func(d *ptxsim.Texture){
		"68 bytes in a buffer of 64":      func(d *ptxsim.Texture) { d.Dims, d.Size[0] = 1, 17 },
		"channels of type":                func(d *ptxsim.Texture) { d.Type = ptxsim.TensorF64 },
		"3 channels":                      func(d *ptxsim.Texture) { d.Channels = 3 },
		"4 dimensions":                    func(d *ptxsim.Texture) { d.Dims = 4 },
		"0 texels in dimension 1":         func(d *ptxsim.Texture) { d.Size[1] = 0 },
		"integers cannot be interpolated": func(d *ptxsim.Texture) { d.Type, d.Linear = ptxsim.TensorU8, true },
		"only integers of 8 and 16 bits":  func(d *ptxsim.Texture) { d.AsFloat = true },
		"-1 layers":                       func(d *ptxsim.Texture) { d.Layers = -1 },
		"16777216 texels in dimension 0":  func(d *ptxsim.Texture) { d.Size[0] = 1 << 24 },
	} {
		d := good
		change(&d)
		_, err := dev.NewTexture(b, d)
		require.ErrorContains(t, err, want)
	}
}
