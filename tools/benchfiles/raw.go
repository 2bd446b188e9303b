package benchfiles

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"

	"unirestorer/weights/atomicfile"
)

// WriteRaw writes values as little-endian float32. The file appears whole or not at all.
func WriteRaw(ctx context.Context, path string, values []float32) error {
	data := make([]byte, 0, 4*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return atomicfile.Write(ctx, path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// ReadRaw reads a file that holds count little-endian float32 values and nothing else.
func ReadRaw(path string, count int) ([]float32, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size()%4 != 0 || info.Size()/4 != int64(count) {
		return nil, fmt.Errorf("%s holds %d bytes, want %d for %d values", path, info.Size(), 4*int64(count), count)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != info.Size() {
		return nil, fmt.Errorf("%s changed while it was read", path)
	}
	values := make([]float32, count)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return values, nil
}
