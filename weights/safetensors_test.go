package weights

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSafetensorsReadsWhatTheHeaderSays(t *testing.T) {
	header := `{"__metadata__":{"format":"pt","é":"ü"},` +
		`"b":{"dtype":"F16","shape":[2],"data_offsets":[8,12]},` +
		`"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},` +
		`"scalar":{"shape":[],"data_offsets":[12,16],"dtype":"I32"},` +
		`"empty":{"dtype":"F64","shape":[3,0],"data_offsets":[16,16]},` +
		`"six":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[16,19]}}   `
	values := "\x00\x00\x80\x3f\x00\x00\x00\xc0" + "\x00\x3c\x00\xc0" + "\x07\x00\x00\x00" + "abc"
	s, err := openBytes(safetensorsBytes(header, []byte(values)))
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b", "scalar", "empty", "six"}, s.Names())
	require.Equal(t, map[string]string{"format": "pt", "é": "ü"}, s.Metadata())
	want := map[string][]float32{"a": {1, -2}, "b": {1, -2}, "scalar": {7}, "empty": {}}
	for name, values := range want {
		x, err := s.Tensor(name)
		require.NoError(t, err)
		require.Equal(t, values, float32s(t, x), name)
	}
	six, err := s.Tensor("six")
	require.NoError(t, err)
	require.Equal(t, "abc", string(rawCopy(t, six)))
	require.ErrorContains(t, six.ReadFloat32(make([]float32, 4)), "F6_E2M3 can't be converted")
	scalar, err := s.Tensor("scalar")
	require.NoError(t, err)
	require.Equal(t, []int{}, scalar.Shape)
}

func TestDamagedSafetensorsAreErrors(t *testing.T) {
	tensor := func(fields string) string { return `{"t":{` + fields + `}}` }
	cases := map[string]struct {
		file    []byte
		message string
	}{
		"nothing":             {nil, "0 bytes are too few"},
		"seven bytes":         {make([]byte, 7), "7 bytes are too few"},
		"length beyond file":  {binary.LittleEndian.AppendUint64(nil, 100), "header of 100 bytes in a file of 8"},
		"length beyond limit": {binary.LittleEndian.AppendUint64(nil, 1<<63), "at most 100000000"},
		"no header":           {make([]byte, 8), "unexpected EOF"},
		"not JSON":            {safetensorsBytes(`{"t":oops}`, nil), "header: JSON at byte"},
		"array":               {safetensorsBytes(`[]`, nil), "[ instead of {"},
		"cut":                 {safetensorsBytes(`{"t":{"dtype":"F32"`, nil), "unexpected EOF"},
		"text after":          {safetensorsBytes(`{} x`, nil), "text after the end"},
		"two values":          {safetensorsBytes(`{}{}`, nil), "text after the end"},
		"not UTF-8":           {safetensorsBytes("{\"\xff\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}", nil), "invalid UTF-8"},
		"repeated name": {safetensorsBytes(`{"t":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},`+
			`"\u0074":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, make([]byte, 4)), `key "t" appears twice`},
		"repeated field":    {safetensorsBytes(tensor(`"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]`), nil), `key "dtype" appears twice`},
		"repeated metadata": {safetensorsBytes(`{"__metadata__":{"a":"1","a":"2"}}`, nil), `key "a" appears twice`},
		"metadata number":   {safetensorsBytes(`{"__metadata__":{"a":1}}`, nil), "1 instead of a string"},
		"unknown field":     {safetensorsBytes(tensor(`"dtype":"F32","shape":[0],"data_offsets":[0,0],"x":1`), nil), `unknown field "x"`},
		"missing field":     {safetensorsBytes(tensor(`"dtype":"F32","shape":[0]`), nil), "are needed"},
		"unknown dtype":     {safetensorsBytes(tensor(`"dtype":"F33","shape":[0],"data_offsets":[0,0]`), nil), `tensor "t": unknown dtype "F33"`},
		"one offset":        {safetensorsBytes(tensor(`"dtype":"F32","shape":[0],"data_offsets":[0]`), nil), "two data_offsets are needed"},
		"three offsets":     {safetensorsBytes(tensor(`"dtype":"F32","shape":[0],"data_offsets":[0,0,0]`), nil), "more than two"},
		"negative":          {safetensorsBytes(tensor(`"dtype":"F32","shape":[-1],"data_offsets":[0,0]`), nil), "-1 is not a whole number"},
		"fraction":          {safetensorsBytes(tensor(`"dtype":"F32","shape":[1.0],"data_offsets":[0,4]`), make([]byte, 4)), "1.0 is not a whole number"},
		"exponent":          {safetensorsBytes(tensor(`"dtype":"F32","shape":[1e0],"data_offsets":[0,4]`), make([]byte, 4)), "1e0 is not a whole number"},
		"too large":         {safetensorsBytes(tensor(`"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]`), nil), "is not a whole number"},
		"shape overflow":    {safetensorsBytes(tensor(`"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,0]`), nil), "can be counted"},
		"byte overflow":     {safetensorsBytes(tensor(`"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]`), nil), "can be counted"},
		"rank":              {safetensorsBytes(tensor(`"dtype":"F32","shape":[`+strings.Repeat("1,", 64)+`1],"data_offsets":[0,4]`), nil), "more than 64 dimensions"},
		"part of a byte":    {safetensorsBytes(tensor(`"dtype":"F4","shape":[3],"data_offsets":[0,1]`), make([]byte, 1)), "not a whole number of bytes"},
		"wrong size":        {safetensorsBytes(tensor(`"dtype":"F32","shape":[2],"data_offsets":[0,4]`), make([]byte, 4)), "takes 8 bytes, data_offsets [0, 4] give 4"},
		"backwards":         {safetensorsBytes(tensor(`"dtype":"F32","shape":[1],"data_offsets":[4,0]`), make([]byte, 4)), "give -4"},
		"outside":           {safetensorsBytes(tensor(`"dtype":"F32","shape":[2],"data_offsets":[0,8]`), make([]byte, 4)), "ends at byte 8, the file has 4"},
		"trailing bytes":    {safetensorsBytes(tensor(`"dtype":"F32","shape":[1],"data_offsets":[0,4]`), make([]byte, 5)), "tensors end at byte 4, the file has 5"},
		"gap in front":      {safetensorsBytes(tensor(`"dtype":"F32","shape":[1],"data_offsets":[4,8]`), make([]byte, 8)), "leaves a gap after byte 0"},
		"overlap": {safetensorsBytes(`{"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"u":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}`,
			make([]byte, 6)), `tensor "u": starts at byte 2 inside the one before`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s, err := openBytes(c.file)
			require.ErrorContains(t, err, c.message)
			require.ErrorContains(t, err, "safetensors file memory: ")
			require.Nil(t, s)
		})
	}
}

// everyDType returns a tensor of each type.
func everyDType(t *testing.T) []*Tensor {
	t.Helper()
	var tensors []*Tensor
	for d := F64; d < dtypeCount; d++ {
		data := make([]byte, d.bits()) // eight elements
		for i := range data {
			data[i] = byte(i*7 + int(d))
		}
		x, err := NewTensor("t."+d.String(), d, []int{2, 4}, data)
		require.NoError(t, err)
		tensors = append(tensors, x)
	}
	empty, err := NewTensor("empty <&> \"é\"", F32, []int{0, 5}, nil)
	require.NoError(t, err)
	scalar, err := NewTensor("scalar", I64, nil, []byte("01234567"))
	require.NoError(t, err)
	return append(tensors, empty, scalar)
}

func TestSafetensorsRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.safetensors")
	tensors := everyDType(t)
	metadata := map[string]string{"format": "pt", "source": "<model.pth> & \"é\""}
	require.NoError(t, WriteSafetensors(context.Background(), path, tensors, metadata))

	f, err := Open(path)
	require.NoError(t, err)
	defer f.Close()
	require.Equal(t, metadata, f.Metadata())
	require.Equal(t, path, f.Path())
	require.Equal(t, FormatSafetensors, f.Format())
	require.Len(t, f.Names(), len(tensors))
	for _, want := range tensors {
		got, err := f.Tensor(want.Name)
		require.NoError(t, err)
		require.Equal(t, want.DType, got.DType)
		require.Len(t, got.Shape, len(want.Shape))
		require.Equal(t, rawCopy(t, want), rawCopy(t, got), want.Name)
		if size := int64(want.DType.Size()); size > 0 {
			require.Zero(t, got.StorageKey().offset%size, "%s is not aligned", want.Name)
		}
	}
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Zero(t, binary.LittleEndian.Uint64(data)%8, "the header is not padded")
}

func TestFailedWriteLeavesTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "model.safetensors")
	good := tensorOf(t, "a", []float32{1}, 1)
	require.NoError(t, WriteSafetensors(context.Background(), path, []*Tensor{good}, nil))
	before, err := os.ReadFile(path)
	require.NoError(t, err)

	closed, err := OpenCheckpoint(filepath.Join("testdata", "pth_formats", "zip_params.pth"), CheckpointOptions{})
	require.NoError(t, err)
	gone, err := closed.Tensor("conv.weight")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	cases := map[string]struct {
		ctx      context.Context
		tensors  []*Tensor
		metadata map[string]string
		message  string
	}{
		"source closed": {context.Background(), []*Tensor{good, gone}, nil, fs.ErrClosed.Error()},
		"cancelled":     {cancelled, []*Tensor{good}, nil, context.Canceled.Error()},
		"same name":     {context.Background(), []*Tensor{good, good}, nil, "used twice"},
		"reserved name": {context.Background(), []*Tensor{good.WithName("__metadata__")}, nil, "reserved"},
		"bad name":      {context.Background(), []*Tensor{good.WithName("\xff")}, nil, "not valid UTF-8"},
		"bad metadata":  {context.Background(), []*Tensor{good}, map[string]string{"a": "\xff"}, "not valid UTF-8"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := WriteSafetensors(c.ctx, path, c.tensors, c.metadata)
			require.ErrorContains(t, err, c.message)
			require.ErrorContains(t, err, path)
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, before, after)
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, entries, 1, "a temporary file is left")
		})
	}
}

func TestFileCutShortWhileOpenIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.safetensors")
	x := tensorOf(t, "big", make([]float32, 1<<20), 1<<20)
	require.NoError(t, WriteSafetensors(context.Background(), path, []*Tensor{x}, nil))
	s, err := OpenSafetensors(path)
	require.NoError(t, err)
	defer s.Close()
	y, err := s.Tensor("big")
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, 4096))
	require.ErrorIs(t, y.ReadFloat32(make([]float32, 1<<20)), io.ErrUnexpectedEOF)
	_, err = y.WriteTo(io.Discard)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, _, err = y.Raw()
	require.ErrorContains(t, err, `tensor "big"`)
}

func TestGoldenSafetensorsAgreeWithTheirConversion(t *testing.T) {
	path := goldens(t, "lora_restormer", "weights.safetensors")
	s, err := OpenSafetensors(path)
	require.NoError(t, err)
	defer s.Close()
	require.NotEmpty(t, s.Names())
	for _, name := range s.Names() {
		x, err := s.Tensor(name)
		require.NoError(t, err)
		values := float32s(t, x)
		// The file stores F16 only where that is exact.
		back := float32s(t, as(t, as(t, x, F32), x.DType))
		require.Equal(t, values, back, name)
	}
}

func TestNewSafetensorsReadsOnDemand(t *testing.T) {
	data := safetensorsBytes(`{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, []byte("\x00\x00\x80\x3f\x00\x00\x00\x40"))
	s, err := NewSafetensors("embedded", strings.NewReader(string(data)), int64(len(data)))
	require.NoError(t, err)
	x, err := s.Tensor("t")
	require.NoError(t, err)
	require.Equal(t, []float32{1, 2}, float32s(t, x))
	require.Equal(t, data[len(data)-8:], rawCopy(t, x))
}

func FuzzSafetensors(f *testing.F) {
	f.Add(safetensorsBytes(`{"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}`, make([]byte, 4)))
	f.Add(safetensorsBytes(`{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"b":{"dtype":"F4","shape":[2,2],"data_offsets":[0,2]}}  `, make([]byte, 2)))
	for d := F64; d < dtypeCount; d++ {
		f.Add(safetensorsBytes(fmt.Sprintf(`{"t":{"dtype":"%s","shape":[8],"data_offsets":[0,%d]}}`, d, d.bits()), make([]byte, d.bits())))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := openBytes(data)
		if err != nil {
			return
		}
		exercise(t, s)
		var total int64
		for _, name := range s.Names() {
			x, err := s.Tensor(name)
			require.NoError(t, err)
			total += x.NumBytes()
		}
		require.LessOrEqual(t, total, int64(len(data)))
	})
}
