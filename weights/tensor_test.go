package weights

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/x448/float16"

	"unirestorer/weights/internal/blob"
)

func TestEveryNumericTypeConverts(t *testing.T) {
	le := binary.LittleEndian
	cases := []struct {
		dtype DType
		data  []byte
		want  []float32
	}{
		{F64, le.AppendUint64(le.AppendUint64(nil, math.Float64bits(0.1)), math.Float64bits(-1e300)), []float32{0.1, float32(math.Inf(-1))}},
		{F32, le.AppendUint32(nil, math.Float32bits(0.1)), []float32{0.1}},
		{F16, []byte{0x00, 0x3c, 0x01, 0x80}, []float32{1, -0x1p-24}},
		{BF16, []byte{0x80, 0x3f, 0x01, 0x80}, []float32{1, -0x1p-133}},
		{I64, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []float32{-1}},
		{U64, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []float32{0x1p64}},
		{I32, []byte{0xfe, 0xff, 0xff, 0xff}, []float32{-2}},
		{U32, []byte{0xff, 0xff, 0xff, 0xff}, []float32{0x1p32}},
		{I16, []byte{0xfd, 0xff}, []float32{-3}},
		{U16, []byte{0xfd, 0xff}, []float32{65533}},
		{I8, []byte{0xfc}, []float32{-4}},
		{U8, []byte{0xfc}, []float32{252}},
		{Bool, []byte{0, 1, 7}, []float32{0, 1, 1}},
		// Bits and values of the OCP specifications, and of the FNUZ variants in their defining paper.
		{F8E4M3, []byte{0x00, 0x38, 0x7e, 0xfe, 0x01, 0x08, 0x07}, []float32{0, 1, 448, -448, 0x1p-9, 0x1p-6, 0x1.cp-7}},
		{F8E5M2, []byte{0x3c, 0x7b, 0x7c, 0xfc, 0x01, 0x84}, []float32{1, 57344, float32(math.Inf(1)), float32(math.Inf(-1)), 0x1p-16, -0x1p-14}},
		{F8E8M0, []byte{127, 128, 0, 254}, []float32{1, 2, 0x1p-127, 0x1p127}},
		{F8E4M3FNUZ, []byte{0x40, 0x7f, 0x01, 0x00, 0xff}, []float32{1, 240, 0x1p-10, 0, -240}},
		{F8E5M2FNUZ, []byte{0x40, 0x7f, 0x01, 0x00}, []float32{1, 57344, 0x1p-17, 0}},
	}
	for _, c := range cases {
		t.Run(c.dtype.String(), func(t *testing.T) {
			x, err := NewTensor("x", c.dtype, []int{len(c.want)}, c.data)
			require.NoError(t, err)
			require.Equal(t, c.want, float32s(t, x))
			halves := make([]uint16, len(c.want))
			require.NoError(t, x.ReadFloat16(halves))
			for i, f := range c.want {
				require.Equal(t, float16.Fromfloat32(f).Bits(), halves[i])
			}
		})
	}
	nan := map[DType]byte{F8E4M3: 0x7f, F8E5M2: 0x7d, F8E8M0: 0xff, F8E4M3FNUZ: 0x80, F8E5M2FNUZ: 0x80}
	for d, b := range nan {
		x, err := NewTensor("x", d, nil, []byte{b})
		require.NoError(t, err)
		require.True(t, math.IsNaN(float64(float32s(t, x)[0])), "%s %#02x", d, b)
	}
}

// TestDoublesRoundOnceToHalf finds, for random doubles near ties, the nearest F16 by exact arithmetic.
func TestDoublesRoundOnceToHalf(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var values []float64
	for range 20_000 {
		h := uint16(r.IntN(0x7bff))
		a, b := float64(float16.Frombits(h).Float32()), float64(float16.Frombits(h+1).Float32())
		tie := (a + b) / 2
		values = append(values, tie, math.Nextafter(tie, a), math.Nextafter(tie, b), -math.Nextafter(tie, b))
	}
	values = append(values, 65519.999999999, 65520, 1e300, -1e300, math.Inf(1), 0x1p-25, math.Nextafter(0x1p-25, 1), 5e-324)
	data := make([]byte, 0, 8*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint64(data, math.Float64bits(v))
	}
	x, err := NewTensor("x", F64, []int{len(values)}, data)
	require.NoError(t, err)
	got := make([]uint16, len(values))
	require.NoError(t, x.ReadFloat16(got))
	for i, v := range values {
		require.Equal(t, nearestHalf(v), got[i], "%v", v)
	}
}

// TestDoublesRoundOnceToBrainFloat takes a value just above a tie, which rounding to float32 first would make the tie.
func TestDoublesRoundOnceToBrainFloat(t *testing.T) {
	data := binary.LittleEndian.AppendUint64(nil, math.Float64bits(1+0x1p-8+0x1p-40))
	x, err := NewTensor("x", F64, []int{1}, data)
	require.NoError(t, err)
	require.Equal(t, []float32{1 + 0x1p-7}, float32s(t, as(t, x, BF16)))
}

// nearestHalf searches the F16 values around v.
func nearestHalf(v float64) uint16 {
	sign := uint16(0)
	if math.Signbit(v) {
		sign, v = 0x8000, -v
	}
	if v >= 65520 {
		return sign | 0x7c00
	}
	start := float16.Fromfloat32(float32(v)).Bits()
	best, bestDistance := uint16(0), new(big.Float).SetInf(false)
	for h := max(int(start)-2, 0); h <= min(int(start)+2, 0x7bff); h++ {
		d := new(big.Float).SetPrec(2000).SetFloat64(float64(float16.Frombits(uint16(h)).Float32()))
		d.Sub(d, new(big.Float).SetFloat64(v)).Abs(d)
		if order := d.Cmp(bestDistance); order < 0 || order == 0 && h&1 == 0 {
			best, bestDistance = uint16(h), d
		}
	}
	return sign | best
}

func TestLengthsAndRangesAreChecked(t *testing.T) {
	x := tensorOf(t, "x", []float32{1, 2, 3}, 3)
	require.ErrorContains(t, x.ReadFloat32(make([]float32, 2)), `tensor "x": 3 values of shape [3] do not fit 2`)
	require.ErrorContains(t, x.ReadFloat16(make([]uint16, 4)), "do not fit 4")
	require.ErrorContains(t, x.ReadFloat32At(make([]float32, 2), 2), "are outside")
	require.ErrorContains(t, x.ReadFloat32At(make([]float32, 1), -1), "are outside")
	require.NoError(t, x.ReadFloat32At(nil, 3))
	_, err := FromFloat32("x", []int{2, 2}, make([]float32, 3))
	require.ErrorContains(t, err, "takes 16 bytes, not 12")
	_, err = NewTensor("x", F32, []int{-1}, nil)
	require.ErrorContains(t, err, "negative")
	_, err = NewTensor("x", F32, []int{math.MaxInt, 2}, nil)
	require.ErrorContains(t, err, "counted")
}

// TestLargeTensorsAreReadInChunks covers more than one chunk, with a last one that is not full.
func TestLargeTensorsAreReadInChunks(t *testing.T) {
	values := normal(1, chunkBytes/2+123, 1)
	x := tensorOf(t, "x", values, len(values))
	require.Equal(t, values, float32s(t, x))
	var out bytes.Buffer
	n, err := x.WriteTo(&out)
	require.NoError(t, err)
	require.Equal(t, x.NumBytes(), n)
	require.Equal(t, rawCopy(t, x), out.Bytes())

	narrow := as(t, x, F16)
	require.Equal(t, x.NumBytes()/2, narrow.NumBytes())
	want := make([]uint16, len(values))
	require.NoError(t, x.ReadFloat16(want))
	got := make([]uint16, len(values))
	require.NoError(t, narrow.ReadFloat16(got))
	require.Equal(t, want, got)
	data := rawCopy(t, narrow)
	require.Equal(t, want[len(want)-1], binary.LittleEndian.Uint16(data[len(data)-2:]))
}

func TestConversionsOfTensorsHaveTheirOwnKeys(t *testing.T) {
	x := tensorOf(t, "x", []float32{1, 2}, 2)
	require.Equal(t, as(t, x, F16).StorageKey(), as(t, x.WithName("y"), F16).StorageKey())
	require.NotEqual(t, as(t, x, F16).StorageKey(), as(t, x, BF16).StorageKey())
	require.NotEqual(t, as(t, x, F16).StorageKey(), x.StorageKey())
	require.Same(t, x, as(t, x, F32))
	require.Equal(t, []float32{1, 2}, float32s(t, as(t, x, BF16)))
	_, err := x.As(I32)
	require.ErrorContains(t, err, "F32 can't be converted to I32")
	_, err = as(t, x, F16).As(F4)
	require.Error(t, err)
}

// TestViewsGatherInRowMajorOrder compares random views with an element-by-element loop, for storages that are
// addressable and for those that are read.
func TestViewsGatherInRowMajorOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	storage := make([]byte, 4*500)
	for i := range 500 {
		binary.LittleEndian.PutUint32(storage[4*i:], math.Float32bits(float32(i)))
	}
	blobs := []*blob.Blob{
		blob.FromBytes("memory", storage),
		blob.New("reader", bytes.NewReader(storage), int64(len(storage)), nil),
	}
	tried := 0
	for tried < 3000 {
		rank := r.IntN(5)
		shape, strides := make([]int, rank), make([]int, rank)
		for i := range rank {
			shape[i], strides[i] = r.IntN(5), r.IntN(30)
		}
		if r.IntN(3) == 0 { // row-major in a random order of dimensions, as permute() makes it
			step := 1
			for _, i := range r.Perm(rank) {
				strides[i] = step
				step *= max(shape[i], 1)
			}
		}
		offset := r.IntN(20)
		s := &torchStorage{key: "0", dtype: F32, numel: 500, placed: true}
		view, err := newTorchTensor(s, offset, shape, strides)
		if err != nil {
			continue
		}
		tried++
		var want []float32
		var walk func(dim, at int)
		walk = func(dim, at int) {
			if dim == rank {
				want = append(want, float32(at))
				return
			}
			for i := range shape[dim] {
				walk(dim+1, at+i*strides[dim])
			}
		}
		walk(0, offset)
		for _, b := range blobs {
			x, err := view.tensor("x", b)
			require.NoError(t, err)
			require.Equal(t, len(want), x.NumElements())
			got := float32s(t, x)
			for i := range want {
				require.Equal(t, want[i], got[i], "shape %v strides %v", shape, strides)
			}
			if first := len(want) / 3; first < len(want) {
				part := make([]float32, len(want)-first)
				require.NoError(t, x.ReadFloat32At(part, first))
				require.Equal(t, want[first:], part)
			}
		}
	}
}

func TestViewsOutsideTheirStorageAreRefused(t *testing.T) {
	s := &torchStorage{key: "7", dtype: F32, numel: 12}
	cases := map[string]struct {
		offset         int
		shape, strides []int
		message        string
	}{
		"one too far":     {1, []int{3, 4}, []int{4, 1}, "reach outside storage"},
		"offset":          {12, nil, nil, "reach outside storage"},
		"long stride":     {0, []int{2}, []int{12}, "reach outside storage"},
		"rank mismatch":   {0, []int{3}, []int{1, 1}, "different lengths"},
		"index overflow":  {0, []int{3}, []int{math.MaxInt}, "further than can be counted"},
		"index sum":       {0, []int{2, 2}, []int{math.MaxInt, math.MaxInt}, "further than can be counted"},
		"element count":   {0, []int{1 << 40, 1 << 40}, []int{0, 0}, "more elements than can be counted"},
		"byte count":      {0, []int{1 << 62}, []int{0}, "more bytes than can be counted"},
		"absurdly large":  {0, []int{1 << 40}, []int{0}, "repeats the 12 elements"},
		"offset overflow": {math.MaxInt, []int{2}, []int{1}, "reach outside storage"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := newTorchTensor(s, c.offset, c.shape, c.strides)
			require.ErrorContains(t, err, c.message)
		})
	}
	// Large but bounded: described without being made.
	view, err := newTorchTensor(s, 0, []int{1 << 28}, []int{0})
	require.NoError(t, err)
	s.placed = true
	x, err := view.tensor("x", blob.FromBytes("memory", make([]byte, 48)))
	require.NoError(t, err)
	require.EqualValues(t, 1<<30, x.NumBytes())
	// An empty view may have any offset.
	empty, err := newTorchTensor(s, 99, []int{0, 3}, []int{3, 1})
	require.NoError(t, err)
	x, err = empty.tensor("x", blob.FromBytes("memory", make([]byte, 48)))
	require.NoError(t, err)
	require.Empty(t, float32s(t, x))
}

func TestMissingTensorNamesFileAndNeighbours(t *testing.T) {
	x := tensorOf(t, "", []float32{1}, 1)
	m := NewMap(x.WithName("encoder.0.conv.weight"), x.WithName("encoder.0.conv.bias"), x.WithName("encoder.1.conv.weight"), x.WithName("other"))
	sub := Prefix(Prefix(m, "encoder."), "0.")
	require.Equal(t, []string{"conv.weight", "conv.bias"}, sub.Names())
	found, err := sub.Tensor("conv.bias")
	require.NoError(t, err)
	require.Equal(t, "encoder.0.conv.bias", found.Name)

	_, err = sub.Tensor("conv.wieght")
	var missing *MissingError
	require.True(t, errors.As(err, &missing))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, "encoder.0.conv.wieght", missing.Name)
	require.Equal(t, []string{"encoder.0.conv.weight", "encoder.1.conv.weight", "encoder.0.conv.bias"}[:2], missing.near()[:2])
	require.ErrorContains(t, err, `no tensor "encoder.0.conv.wieght"; near it: ["encoder.0.conv.weight"`)
	_, err = m.Tensor("nothing like it")
	require.EqualError(t, err, `no tensor "nothing like it"`)

	s, err := openBytes(safetensorsBytes(`{"weight":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}`, nil))
	require.NoError(t, err)
	_, err = s.Tensor("weights")
	require.EqualError(t, err, `memory: no tensor "weights"; near it: ["weight"]`)
}

func TestMapReplacesByName(t *testing.T) {
	m := NewMap(tensorOf(t, "a", []float32{1}, 1), tensorOf(t, "b", []float32{2}, 1))
	m.Set(tensorOf(t, "a", []float32{3}, 1))
	require.Equal(t, []string{"a", "b"}, m.Names())
	x, err := m.Tensor("a")
	require.NoError(t, err)
	require.Equal(t, []float32{3}, float32s(t, x))
	names := m.Names()
	names[0] = "changed"
	require.Equal(t, []string{"a", "b"}, m.Names())
}

func TestDTypeNames(t *testing.T) {
	for d := F64; d < dtypeCount; d++ {
		parsed, err := parseDType(d.String())
		require.NoError(t, err)
		require.Equal(t, d, parsed)
		require.Positive(t, d.bits())
	}
	_, err := parseDType("invalid")
	require.Error(t, err)
	require.Equal(t, 0, F4.Size())
	require.Equal(t, 8, C64.Size())
	require.Equal(t, fmt.Sprintf("DType(%d)", dtypeCount), dtypeCount.String())
}
