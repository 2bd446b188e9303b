package ptxsim_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// pixelMap describes two images of 7 by 5 pixels of 16 channels for a filter of 3 by 3 with a padding of 1.
func pixelMap(b device.Buffer) ptxsim.TensorMap {
	return ptxsim.TensorMap{
		Type: ptxsim.TensorU16, Rank: 4, Address: uint64(b.Ptr), Dims: [5]uint64{16, 7, 5, 2}, Strides: [4]uint64{32, 7 * 32, 35 * 32},
		Box: [5]uint32{16, 12}, Steps: [5]uint32{1, 1, 1, 1}, Im2col: true, Lower: [3]int{-1, -1}, Upper: [3]int{-1, -1},
	}
}

// TestPixelsInIm2colModeAreThoseOfAConvolution compares with the padded neighbours of pixels counted one after the other.
func TestPixelsInIm2colModeAreThoseOfAConvolution(t *testing.T) {
	r := newRig(t, ptxsim.Options{}, "tensor", sample(t, "tensor.ptx"))
	v := make([]uint16, 16*7*5*2)
	for i := range v {
		v[i] = uint16(i + 1)
	}
	x := r.upload(words(v))
	for _, stride := range []int{1, 2} {
		across, down := (7+stride-1)/stride, (5+stride-1)/stride
		for _, first := range []int{0, 3, across*down - 5, 2*across*down - 4} { // an output pixel
			for tap := range 9 {
				m := pixelMap(x)
				m.Steps = [5]uint32{1, uint32(stride), uint32(stride), 1}
				dx, dy := tap%3, tap/3
				place := func(i int) (ox, oy, n int) { return i % across, i / across % down, i / (across * down) }
				ox, oy, n := place(first)
				var a device.Args
				a.Struct(64, r.mapOf(m)).Buf(r.alloc(2 * 12 * 16)).I32(0).I32(int32(ox*stride - 1)).I32(int32(oy*stride - 1)).I32(int32(n))
				require.NoError(t, r.launch("im2col", device.D1(1), device.D1(32), 0, a.I32(int32(dx)).I32(int32(dy)).I32(0)))
				for i, got := range fromWords[uint16](r.bytes(r.last)) {
					ox, oy, n := place(first + i/16)
					px, py := ox*stride-1+dx, oy*stride-1+dy
					want := uint16(0)
					if px >= 0 && px < 7 && py >= 0 && py < 5 && n < 2 {
						want = v[((n*5+py)*7+px)*16+i%16]
					}
					require.Equal(t, want, got, "stride %d, pixel %d, tap %d, value %d", stride, first, tap, i)
				}
			}
		}
	}
}

func TestPixelsAreStoredInIm2colMode(t *testing.T) {
	r := newRig(t, ptxsim.Options{}, "tensor", sample(t, "tensor.ptx"))
	x := r.upload(make([]byte, 2*16*7*5*2))
	m := pixelMap(x)
	m.Lower, m.Upper = [3]int{}, [3]int{}
	var a device.Args
	require.NoError(t, r.launch("col2im", device.D1(1), device.D1(32), 0, a.Struct(64, r.mapOf(m)).I32(4).I32(4).I32(0)))
	for i, got := range fromWords[uint16](r.bytes(x)) {
		want := uint16(0)
		if p := i/16 - 32; p >= 0 && p < 12 {
			want = uint16(1000 + i - 32*16)
		}
		require.Equal(t, want, got, "value %d", i)
	}
}

func TestMisuseOfIm2colMapsIsFound(t *testing.T) {
	im2col := func(bug int32, change func(m *ptxsim.TensorMap)) error {
		r := newRig(t, ptxsim.Options{}, "tensor", sample(t, "tensor.ptx"))
		m := pixelMap(r.upload(make([]byte, 2*16*7*5*2)))
		change(&m)
		var a device.Args
		a.Struct(64, r.mapOf(m)).Buf(r.alloc(2 * 12 * 16)).I32(0).I32(-1).I32(-1).I32(0).I32(0).I32(0).I32(bug)
		return r.launch("im2col", device.D1(1), device.D1(32), 0, &a)
	}
	require.NoError(t, im2col(0, func(*ptxsim.TensorMap) {}))
	var found *ptxsim.FindingsError
	require.ErrorAs(t, im2col(1, func(*ptxsim.TensorMap) {}), &found, "no wait")
	require.Equal(t, ptxsim.AsyncHazard, found.Findings[0].Kind)
	require.ErrorAs(t, im2col(0, func(m *ptxsim.TensorMap) {
		*m = ptxsim.TensorMap{Type: m.Type, Rank: 4, Address: m.Address, Dims: m.Dims, Strides: m.Strides, Box: [5]uint32{16, 4, 3, 1}, Steps: m.Steps}
	}), &found, "a tiled map")
	require.Equal(t, ptxsim.TensorMapMisuse, found.Findings[0].Kind)
	require.ErrorAs(t, im2col(0, func(m *ptxsim.TensorMap) { m.Box[1] = 11 }), &found, "fewer bytes than expected")
	require.Equal(t, ptxsim.Deadlock, found.Findings[0].Kind)
	for want, spoil := range map[string]func(m *ptxsim.TensorMap){
		"2 dimensions in im2col mode":       func(m *ptxsim.TensorMap) { m.Rank = 2 },
		"1025 pixels":                       func(m *ptxsim.TensorMap) { m.Box[1] = 1025 },
		"corners -129 and -1":               func(m *ptxsim.TensorMap) { m.Lower[0] = -129 },
		"has no pixels in dimension 2":      func(m *ptxsim.TensorMap) { m.Upper[1] = -7 },
		"not in im2col mode":                func(m *ptxsim.TensorMap) { m.Im2col, m.Box = false, [5]uint32{16, 1, 1, 1} },
		"a step of 9":                       func(m *ptxsim.TensorMap) { m.Steps[1] = 9 },
		"a stride of 33":                    func(m *ptxsim.TensorMap) { m.Strides[0] = 33 },
		"box has 0 elements of dimension 0": func(m *ptxsim.TensorMap) { m.Box[0] = 0 },
	} {
		m := pixelMap(device.Buffer{Ptr: 0x7f0000000000, Size: 3200})
		require.NoError(t, m.Check())
		spoil(&m)
		_, err := m.Encode()
		require.ErrorContains(t, err, want)
	}
}
