package ptxsim_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// grid16 describes 40 by 20 floats with boxes of 16 by 8.
func grid16(b device.Buffer) ptxsim.TensorMap {
	return ptxsim.TensorMap{
		Type: ptxsim.TensorF32, Rank: 2, Address: uint64(b.Ptr), Dims: [5]uint64{40, 20}, Strides: [4]uint64{160}, Box: [5]uint32{16, 8}, Steps: [5]uint32{1, 1},
	}
}

// mapOf encodes a map.
func (r *rig) mapOf(m ptxsim.TensorMap) []byte {
	b, err := m.Encode()
	require.NoError(r.t, err)
	require.Len(r.t, b, ptxsim.TensorMapSize)
	return b
}

// mapped passes a map of 800 floats and room for n.
func mapped(n int) func(r *rig, a *device.Args) {
	return func(r *rig, a *device.Args) {
		a.Struct(64, r.mapOf(grid16(r.floatsOf(800))))
		if n > 0 {
			a.Buf(r.alloc(4 * n))
		}
	}
}

var tensors = []plant{
	{"box", ptxsim.AsyncHazard, 1, 32, func(r *rig, a *device.Args) { mapped(256)(r, a); a.I32(4).I32(3) }},
	{"bytes_of_a_box", ptxsim.Deadlock, 1, 32, mapped(128)},
	{"put", ptxsim.ProxyFence, 1, 32, func(r *rig, a *device.Args) { mapped(0)(r, a); a.I32(-2).I32(15) }},
	{"add", ptxsim.GlobalRace, 2, 32, mapped(0)},
	{"map_in_memory", ptxsim.TensorMapMisuse, 1, 32, func(r *rig, a *device.Args) {
		first := r.mapOf(grid16(r.floatsOf(800)))
		broken := r.mapOf(grid16(r.floatsOf(800)))
		broken[20]++
		a.Buf(r.upload(append(first, broken...))).Buf(r.alloc(4 * 128))
	}},
	{"box_off_its_place", ptxsim.Misaligned, 1, 32, mapped(128)},
}

func TestDefectsOfTensorCopiesAreFoundAndTheirTwinsAreNot(t *testing.T) {
	findPlants(t, "tensor", tensors)
}

func TestBoxesOfTensorsLieWhereTheMapSays(t *testing.T) {
	for _, swizzle := range []int{0, 64, 128} {
		for _, steps := range [][5]uint32{{1, 1}, {2, 3}} {
			for _, at := range [][2]int{{0, 0}, {4, 3}, {-5, -2}, {30, 16}, {-40, 0}, {100, 100}} {
				r := newRig(t, ptxsim.Options{}, "tensor", sample(t, "tensor.ptx"))
				m := grid16(r.floatsOf(800))
				m.Swizzle, m.Steps = swizzle, steps
				if steps[0] > 1 {
					m.Box = [5]uint32{16 * steps[0], 8 * steps[1]}
				}
				if swizzle == 128 {
					m.NaN = true
				}
				if steps[0] > 1 && swizzle == 64 || int(m.Box[0])*4 > swizzle && swizzle != 0 {
					continue
				}
				var a device.Args
				a.Struct(64, r.mapOf(m)).Buf(r.alloc(4 * 256)).I32(int32(at[0])).I32(int32(at[1])).I32(0)
				require.NoError(t, r.launch("box", device.D1(1), device.D1(32), 0, &a))
				got := fromWords[float32](r.bytes(r.last))
				pitch := max(64, swizzle)
				for y := range 8 {
					for x := range 16 {
						gx, gy := at[0]+x*int(steps[0]), at[1]+y*int(steps[1])
						byteAt := y*pitch + 4*x
						if swizzle != 0 {
							byteAt ^= byteAt >> 7 & (swizzle/16 - 1) << 4
						}
						v := got[byteAt/4]
						switch {
						case gx >= 0 && gx < 40 && gy >= 0 && gy < 20:
							require.Equal(t, float32(40*gy+gx), v, "swizzle %d, %v, element %d,%d", swizzle, at, x, y)
						case m.NaN:
							require.NotEqual(t, v, v)
						default:
							require.Zero(t, v)
						}
					}
				}
			}
		}
	}
}

func TestStoredBoxesLeaveTheRestAlone(t *testing.T) {
	r := newRig(t, ptxsim.Options{}, "tensor", sample(t, "tensor.ptx"))
	buffer := r.floatsOf(800)
	run := func(kernel string, grid int, x, y int32) {
		var a device.Args
		a.Struct(64, r.mapOf(grid16(buffer)))
		if kernel == "put" {
			a.I32(x).I32(y)
		}
		require.NoError(t, r.launch(kernel, device.D1(grid), device.D1(32), 0, a.I32(0)))
	}
	run("put", 1, 30, 15)
	want := make([]float32, 800)
	for i := range want {
		want[i] = float32(i)
		if x, y := i%40-30, i/40-15; x >= 0 && x < 16 && y >= 0 && y < 8 {
			want[i] = float32(16*y + x + 1)
		}
	}
	require.Equal(t, want, fromWords[float32](r.bytes(buffer)))
	run("add", 2, 0, 0)
	for i := range want {
		if x, y := i%40, i/40; x < 16 && y < 8 {
			want[i] += 2 * float32(16*y+x+1)
		}
	}
	require.Equal(t, want, fromWords[float32](r.bytes(buffer)))
}

func TestAHaloIsZeroOutside(t *testing.T) {
	r := newRig(t, ptxsim.Options{}, "tensor", sample(t, "tensor.ptx"))
	v := make([]uint16, 8*4*2)
	for i := range v {
		v[i] = uint16(i + 1)
	}
	m := ptxsim.TensorMap{
		Type: ptxsim.TensorU16, Rank: 3, Address: uint64(r.upload(words(v)).Ptr), Dims: [5]uint64{8, 4, 2}, Strides: [4]uint64{16, 64},
		Box: [5]uint32{8, 6, 4}, Steps: [5]uint32{1, 1, 1},
	}
	var a device.Args
	a.Struct(64, r.mapOf(m)).Buf(r.alloc(2 * 192)).I32(0)
	require.NoError(t, r.launch("halo", device.D1(1), device.D1(32), 0, &a))
	for i, got := range fromWords[uint16](r.bytes(r.last)) {
		x, y, z := i%8, i/8%6-1, i/48-1
		want := uint16(0)
		if y >= 0 && y < 4 && z >= 0 && z < 2 {
			want = uint16(x + 8*y + 32*z + 1)
		}
		require.Equal(t, want, got, "element %d", i)
	}
}

func TestTensorMapsAreRefusedAsTheDriverDoes(t *testing.T) {
	for name, spoil := range map[string]func(m *ptxsim.TensorMap){
		"address":         func(m *ptxsim.TensorMap) { m.Address += 8 },
		"dimensions":      func(m *ptxsim.TensorMap) { m.Rank = 6 },
		"0 elements":      func(m *ptxsim.TensorMap) { m.Dims[1] = 0 },
		"stride":          func(m *ptxsim.TensorMap) { m.Strides[0] = 164 },
		"box":             func(m *ptxsim.TensorMap) { m.Box[1] = 257 },
		"step":            func(m *ptxsim.TensorMap) { m.Steps[0] = 9 },
		"multiple of 16":  func(m *ptxsim.TensorMap) { m.Box[0] = 3 },
		"more than":       func(m *ptxsim.TensorMap) { m.Swizzle = 32 },
		"filled with NaN": func(m *ptxsim.TensorMap) { m.NaN, m.Type = true, ptxsim.TensorS32 },
	} {
		m := grid16(device.Buffer{Ptr: 0x7f0000000000, Size: 3200})
		require.NoError(t, m.Check())
		spoil(&m)
		_, err := m.Encode()
		require.ErrorContains(t, err, name)
	}
}
