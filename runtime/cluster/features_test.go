package cluster

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"
)

// npy builds a NumPy file.
func npy(version byte, header string, values any) []byte {
	var b bytes.Buffer
	b.WriteString("\x93NUMPY")
	b.Write([]byte{version, 0})
	if version == 1 {
		_ = binary.Write(&b, binary.LittleEndian, uint16(len(header)))
	} else {
		_ = binary.Write(&b, binary.LittleEndian, uint32(len(header)))
	}
	b.WriteString(header)
	_ = binary.Write(&b, binary.LittleEndian, values)
	return b.Bytes()
}

func TestNumPyFilesAreRead(t *testing.T) {
	want := mat.NewDense(2, 3, []float64{1, 2, 3, 4, 5, 6})
	for name, data := range map[string][]byte{
		"float64":       npy(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }   \n", []float64{1, 2, 3, 4, 5, 6}),
		"float32":       npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n", []float32{1, 2, 3, 4, 5, 6}),
		"Fortran order": npy(2, "{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3), }\n", []float64{1, 4, 2, 5, 3, 6}),
		"version 3":     npy(3, "{'shape':(2,3),'fortran_order':False,'descr':'<f4'}", []float32{1, 2, 3, 4, 5, 6}),
	} {
		x, err := parseNPY(data)
		require.NoError(t, err, name)
		require.Equal(t, want, x, name)
	}
}

func TestBadNumPyFilesAreErrors(t *testing.T) {
	good := "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }\n"
	for message, data := range map[string][]byte{
		"not a NumPy file":        []byte("PK\x03\x04 something"),
		"unknown version 9":       npy(9, good, []float64{1, 2}),
		"lacks its type":          npy(1, "{}", []float64{1, 2}),
		"no shape of two":         npy(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", []float64{1, 2}),
		"neither <f4 nor <f8":     npy(1, "{'descr': '>f8', 'fortran_order': False, 'shape': (1, 2), }", []float64{1, 2}),
		"does not fit the 8":      npy(1, good, []float64{1}),
		"does not fit the 24":     npy(1, good, []float64{1, 2, 3}),
		"does not fit the 0":      npy(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 2), }", []float64{}),
		"header of 65535 bytes":   append([]byte("\x93NUMPY\x01\x00\xff\xff"), good...),
		"99999999999999999999999": npy(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999999, 2), }", []float64{1}),
		"4611686018427387904":     npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }", []float32{}),
	} {
		_, err := parseNPY(data)
		require.ErrorContains(t, err, message)
	}
}

func FuzzParseNPY(f *testing.F) {
	f.Add(npy(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }\n", []float64{1, 2}))
	f.Add(npy(2, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 1), }\n", []float32{1, 2}))
	f.Add(npy(3, "{'shape': (0, 0)", []float32{}))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := parseNPY(data)
		if err != nil {
			return
		}
		rows, cols := x.Dims()
		require.Positive(t, rows*cols)
		require.LessOrEqual(t, rows*cols*4, len(data))
	})
}

// safetensors builds a file with one F32 tensor for each name.
func safetensors(tensors map[string][]int, order ...string) []byte {
	header, offset := "{", 0
	for i, name := range order {
		size := 4
		for _, n := range tensors[name] {
			size *= n
		}
		if i > 0 {
			header += ","
		}
		shape := ""
		for j, n := range tensors[name] {
			if j > 0 {
				shape += ","
			}
			shape += fmt.Sprint(n)
		}
		header += fmt.Sprintf(`%q:{"dtype":"F32","shape":[%s],"data_offsets":[%d,%d]}`, name, shape, offset, offset+size)
		offset += size
	}
	header += "}"
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, uint64(len(header)))
	b.WriteString(header)
	for i := range offset / 4 {
		_ = binary.Write(&b, binary.LittleEndian, float32(i))
	}
	return b.Bytes()
}

func TestFeaturesAreReadFromFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, data, 0o644))
		return path
	}
	one := write("one.safetensors", safetensors(map[string][]int{"bias": {2}, "f": {2, 2}}, "bias", "f"))
	x, err := ReadFeatures(one, "")
	require.NoError(t, err)
	require.Equal(t, mat.NewDense(2, 2, []float64{2, 3, 4, 5}), x)

	two := write("two.safetensors", safetensors(map[string][]int{"a": {1, 2}, "b": {2, 2}}, "a", "b"))
	_, err = ReadFeatures(two, "")
	require.ErrorContains(t, err, `"a" and "b" both`)
	x, err = ReadFeatures(two, "a")
	require.NoError(t, err)
	require.Equal(t, mat.NewDense(1, 2, []float64{0, 1}), x)

	for message, c := range map[string][2]string{
		"no tensor":        {two, "c"},
		"has shape [2]":    {one, "bias"},
		"neither .npy nor": {write("x.txt", nil), ""},
		"no such file":     {filepath.Join(dir, "none.npy"), ""},
		"not a NumPy file": {write("x.npy", []byte("text")), ""},
		"safetensors":      {write("bad.safetensors", []byte("text")), ""},
		"two dimensions":   {write("flat.safetensors", safetensors(map[string][]int{"a": {3}}, "a")), ""},
		"is +Inf":          {write("inf.npy", npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), }", uint32(0x7f800000))), ""},
	} {
		_, err := ReadFeatures(c[0], c[1])
		require.ErrorContains(t, err, message)
		require.ErrorContains(t, err, c[0])
	}
}

func TestLabelsAreReadByLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "labels.txt")
	for text, want := range map[string][]string{
		"rain\nsnow:0.5\n": {"rain", "snow:0.5"},
		"rain\r\nsnow":     {"rain", "snow"},
		"":                 nil,
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		labels, err := ReadLabels(path)
		require.NoError(t, err)
		require.Equal(t, want, labels)
	}
	require.NoError(t, os.WriteFile(path, []byte("a\n\nb\n"), 0o644))
	_, err := ReadLabels(path)
	require.ErrorContains(t, err, "line 2 is empty")
}
