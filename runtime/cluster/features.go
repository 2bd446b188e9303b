package cluster

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/mat"

	"unirestorer/weights"
)

// ReadFeatures reads a matrix of features, samples in rows, from a NumPy file (.npy) or a tensor of a safetensors file.
// tensor names that tensor; when it is empty the file must hold a single one of two dimensions.
func ReadFeatures(path, tensor string) (*mat.Dense, error) {
	var x *mat.Dense
	var err error
	switch strings.ToLower(filepath.Ext(path)) {
	case ".npy":
		var data []byte
		if data, err = os.ReadFile(path); err == nil {
			x, err = parseNPY(data)
		}
	case ".safetensors":
		x, err = readTensor(path, tensor)
	default:
		err = errors.New("neither .npy nor .safetensors")
	}
	if err == nil {
		err = checkPoints(x)
	}
	if err != nil {
		return nil, fmt.Errorf("features %s: %w", path, err)
	}
	return x, nil
}

func readTensor(path, name string) (*mat.Dense, error) {
	file, err := weights.OpenSafetensors(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if name == "" {
		for _, candidate := range file.Names() {
			t, err := file.Tensor(candidate)
			if err != nil {
				return nil, err
			}
			if len(t.Shape) == 2 {
				if name != "" {
					return nil, fmt.Errorf("tensors %q and %q both have two dimensions, name one", name, candidate)
				}
				name = candidate
			}
		}
		if name == "" {
			return nil, errors.New("no tensor of two dimensions")
		}
	}
	t, err := file.Tensor(name)
	if err != nil {
		return nil, err
	}
	if len(t.Shape) != 2 || t.NumElements() == 0 {
		return nil, fmt.Errorf("tensor %q has shape %v, not samples × features", name, t.Shape)
	}
	values, err := t.Float32()
	if err != nil {
		return nil, err
	}
	x := mat.NewDense(t.Shape[0], t.Shape[1], nil)
	for i, v := range values {
		x.RawMatrix().Data[i] = float64(v)
	}
	return x, nil
}

// npyHeader matches the three entries of a NumPy header, which is a Python dictionary in any order.
var (
	npyDescr   = regexp.MustCompile(`'descr'\s*:\s*'([^']*)'`)
	npyFortran = regexp.MustCompile(`'fortran_order'\s*:\s*(True|False)`)
	npyShape   = regexp.MustCompile(`'shape'\s*:\s*\(\s*(\d+)\s*,\s*(\d+)\s*,?\s*\)`)
)

// parseNPY reads a matrix of float32 or float64 in little-endian order from the bytes of a NumPy file of version 1 to 3
// (NumPy enhancement proposal 1).
func parseNPY(data []byte) (*mat.Dense, error) {
	header, body, err := splitNPY(data)
	if err != nil {
		return nil, err
	}
	descr, fortran, shape := npyDescr.FindSubmatch(header), npyFortran.FindSubmatch(header), npyShape.FindSubmatch(header)
	if descr == nil || fortran == nil {
		return nil, fmt.Errorf("NumPy header %.100q lacks its type or order", header)
	}
	if shape == nil {
		return nil, fmt.Errorf("NumPy header %.100q has no shape of two dimensions", header)
	}
	rows, errRows := strconv.Atoi(string(shape[1]))
	cols, errCols := strconv.Atoi(string(shape[2]))
	size := map[string]int{"<f4": 4, "<f8": 8}[string(descr[1])]
	switch {
	case size == 0:
		return nil, fmt.Errorf("NumPy type %.20q is neither <f4 nor <f8", descr[1])
	case errRows != nil || errCols != nil || rows < 1 || cols < 1 || rows > len(body)/size/cols || rows*cols*size != len(body):
		return nil, fmt.Errorf("NumPy shape %s × %s of %s does not fit the %d bytes there are", shape[1], shape[2], descr[1], len(body))
	}
	return npyMatrix(rows, cols, size, string(fortran[1]) == "True", body), nil
}

// splitNPY finds the header of a NumPy file and the values behind it.
func splitNPY(data []byte) (header, body []byte, err error) {
	const magic = "\x93NUMPY"
	if len(data) < 10 || string(data[:len(magic)]) != magic {
		return nil, nil, errors.New("not a NumPy file")
	}
	major := data[6]
	length, body := int(binary.LittleEndian.Uint16(data[8:])), data[10:]
	switch {
	case major == 1:
	case major <= 3 && len(data) >= 12:
		length, body = int(binary.LittleEndian.Uint32(data[8:])), data[12:]
	default:
		return nil, nil, fmt.Errorf("NumPy file of unknown version %d", major)
	}
	if length < 0 || length > len(body) {
		return nil, nil, fmt.Errorf("NumPy header of %d bytes in a file of %d", length, len(data))
	}
	return body[:length], body[length:], nil
}

// npyMatrix reads values of size bytes, by columns if fortran says so.
func npyMatrix(rows, cols, size int, fortran bool, body []byte) *mat.Dense {
	x := mat.NewDense(rows, cols, nil)
	for i := range rows * cols {
		row, col := i/cols, i%cols
		if fortran {
			row, col = i%rows, i/rows
		}
		if size == 4 {
			x.Set(row, col, float64(math.Float32frombits(binary.LittleEndian.Uint32(body[4*i:]))))
		} else {
			x.Set(row, col, math.Float64frombits(binary.LittleEndian.Uint64(body[8*i:])))
		}
	}
	return x
}

// ReadLabels reads the class of each sample, one a line; an empty line at the end is ignored.
func ReadLabels(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var labels []string
	lines := bufio.NewReader(bytes.NewReader(data))
	for {
		line, err := lines.ReadString('\n')
		if line = strings.TrimSpace(line); line != "" {
			labels = append(labels, line)
		} else if err == nil {
			return nil, fmt.Errorf("labels %s: line %d is empty", path, len(labels)+1)
		}
		if err == io.EOF {
			return labels, nil
		}
	}
}
