package weights

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func flip(t testing.TB, path string, fromEnd int) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	raw[len(raw)-fromEnd] ^= 1
	require.NoError(t, os.WriteFile(path, raw, 0o666))
}

// TestFlippedBitsAreFoundAtFirstUse flips one bit of a folder's last tensor.
func TestFlippedBitsAreFoundAtFirstUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model")
	makeFolder(t, path, FolderOptions{}, tensorOf(t, "a", []float32{1, 2, 3}, 3), tensorOf(t, "b", []float32{4, 5}, 2))
	shard := filepath.Join(path, "model-00001-of-00001.safetensors")
	flip(t, shard, 1)
	f, err := OpenFolder(path)
	require.NoError(t, err)
	defer f.Close()
	a, err := f.Tensor("a")
	require.NoError(t, err)
	v, err := a.Float32()
	require.NoError(t, err, "its own values are what they were")
	require.Equal(t, []float32{1, 2, 3}, v)
	b, err := f.Tensor("b")
	require.NoError(t, err)
	for range 2 {
		_, err = b.Float32()
		require.ErrorContains(t, err, `tensor "b"`)
		require.ErrorContains(t, err, "damaged")
	}
	_, _, err = b.Raw()
	require.ErrorContains(t, err, `tensor "b"`)
	require.ErrorContains(t, f.Verify(ctx), `the file is damaged in "b"`)

	// Of folders of earlier versions the whole shard is compared.
	raw, err := os.ReadFile(filepath.Join(path, "tensors.json"))
	require.NoError(t, err)
	var index map[string]any
	require.NoError(t, json.Unmarshal(raw, &index))
	delete(index, "crc32c")
	raw, err = json.Marshal(index)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(path, "tensors.json"), raw, 0o666))
	old, err := OpenFolderFS("embedded", os.DirFS(path))
	require.NoError(t, err)
	defer old.Close()
	a, err = old.Tensor("a")
	require.NoError(t, err)
	_, err = a.Float32()
	require.ErrorContains(t, err, `tensor "a"`)
	require.ErrorContains(t, err, "its SHA-256 is")
	flip(t, shard, 1)
	whole, err := OpenFolder(path)
	require.NoError(t, err)
	defer whole.Close()
	b, err = whole.Tensor("b")
	require.NoError(t, err)
	v, err = b.Float32()
	require.NoError(t, err)
	require.Equal(t, []float32{4, 5}, v)
}

func BenchmarkDigests(b *testing.B) {
	path := filepath.Join(b.TempDir(), "model")
	makeFolder(b, path, FolderOptions{}, tensorOf(b, "a", make([]float32, 4<<20), 4<<20))
	f, err := OpenFolder(path)
	require.NoError(b, err)
	defer f.Close()
	x := f.byName["a"].content.(*checked).content.(*contiguous)
	b.Run("crc32c", func(b *testing.B) {
		b.SetBytes(x.bytes)
		for b.Loop() {
			require.NoError(b, checkTensor(x, f.index.CRC32C["a"]))
		}
	})
	b.Run("sha256", func(b *testing.B) {
		b.SetBytes(x.bytes)
		for b.Loop() {
			require.NoError(b, checkShard(x.file, f.index.Shards[0]))
		}
	})
}
