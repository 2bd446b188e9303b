package weights

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/weights/internal/blob"
)

// goldens returns the path of a golden file computed by the original implementation, or skips the test.
func goldens(t testing.TB, parts ...string) string {
	t.Helper()
	path := filepath.Join(append([]string{"..", "..", "shared", "goldens"}, parts...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("golden data is not here: %v", err)
	}
	return path
}

// normal returns reproducible values of a normal distribution.
func normal(seed uint64, n int, scale float64) []float32 {
	r := rand.New(rand.NewPCG(seed, 17))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64() * scale)
	}
	return out
}

func tensorOf(t testing.TB, name string, values []float32, shape ...int) *Tensor {
	t.Helper()
	x, err := FromFloat32(name, shape, values)
	require.NoError(t, err)
	return x
}

func as(t testing.TB, x *Tensor, d DType) *Tensor {
	t.Helper()
	y, err := x.As(d)
	require.NoError(t, err)
	return y
}

func float32s(t testing.TB, x *Tensor) []float32 {
	t.Helper()
	values, err := x.Float32()
	require.NoError(t, err)
	return values
}

// rawCopy returns the tensor's bytes.
func rawCopy(t testing.TB, x *Tensor) []byte {
	t.Helper()
	data, release, err := x.Raw()
	require.NoError(t, err)
	defer release()
	return append([]byte{}, data...)
}

// safetensorsBytes puts a header before values.
func safetensorsBytes(header string, values []byte) []byte {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(out, header...), values...)
}

func openBytes(data []byte) (*Safetensors, error) {
	return openSafetensors(blob.FromBytes("memory", data))
}

// exercise reads every tensor of a source in every way, for the fuzz tests: whatever the file says, that must end
// in values or an error, and reading small tensors must agree with reading their parts.
func exercise(t *testing.T, src Source) {
	t.Helper()
	for _, name := range src.Names() {
		x, err := src.Tensor(name)
		require.NoError(t, err)
		require.Equal(t, name, x.Name)
		n := x.NumElements()
		if n > 1<<16 {
			continue
		}
		raw, release, err := x.Raw()
		if err == nil {
			require.Len(t, raw, int(x.NumBytes()))
			release()
		}
		values := make([]float32, n)
		if err := x.ReadFloat32(values); err != nil {
			continue
		}
		if n > 1 {
			part := make([]float32, n-1)
			require.NoError(t, x.ReadFloat32At(part, 1))
			for i := range part {
				require.Equal(t, math.Float32bits(values[i+1]), math.Float32bits(part[i]))
			}
		}
		require.NoError(t, x.ReadFloat16(make([]uint16, n)))
	}
}

func blobOf(data []byte) *blob.Blob { return blob.FromBytes("memory", data) }
