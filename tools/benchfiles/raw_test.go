package benchfiles

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRawFilesGiveBackWhatWasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.f32")
	values := []float32{1, -0.5, float32(math.Inf(1))}
	require.NoError(t, WriteRaw(t.Context(), path, values))
	back, err := ReadRaw(path, 3)
	require.NoError(t, err)
	require.Equal(t, values, back)
	_, err = ReadRaw(path, 4)
	require.ErrorContains(t, err, "holds 12 bytes, want 16 for 4 values")
	_, err = ReadRaw(path+"x", 4)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Error(t, WriteRaw(t.Context(), filepath.Join(path, "y"), values), "a folder that is none")
}

func TestOnlyMissingFilesAreMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	broken := errors.New("broken")
	require.ErrorIs(t, Missing(path, func() error { return broken }), broken)
	require.NoError(t, Missing(path, func() error { return os.WriteFile(path, nil, 0o666) }))
	require.NoError(t, Missing(path, func() error { return broken }))
}

func FuzzReadRaw(f *testing.F) {
	f.Add([]byte{0, 0, 128, 63}, 1)
	f.Add([]byte{0, 0, 128}, 1)
	f.Add([]byte{}, -1)
	f.Add([]byte{}, 1<<62)
	f.Fuzz(func(t *testing.T, data []byte, count int) {
		path := filepath.Join(t.TempDir(), "x.f32")
		require.NoError(t, os.WriteFile(path, data, 0o666))
		values, err := ReadRaw(path, count)
		if len(data)%4 != 0 || count != len(data)/4 {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.Len(t, values, count)
		for i, v := range values {
			if v == v {
				require.Equal(t, binary.LittleEndian.Uint32(data[4*i:]), math.Float32bits(v))
			}
		}
	})
}
