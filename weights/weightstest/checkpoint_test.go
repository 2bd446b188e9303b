package weightstest_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/weights"
	"unirestorer/weights/weightstest"
)

func TestCheckpointReadsBackAsSpecified(t *testing.T) {
	for _, root := range []string{"params", "state_dict", ""} {
		path := filepath.Join(t.TempDir(), "model.pth")
		specs := []weightstest.Spec{
			{Name: "values", DType: weights.F16, Shape: []int{2}, Data: []byte{0, 0x3c, 0, 0xc0}},
			{Name: "zeros", DType: weights.F32, Shape: []int{300, 1000}},
			{Name: "shared", DType: weights.F16, Shape: []int{2, 1}, SameAs: "values"},
			{Name: "scalar", DType: weights.I64, Data: []byte("\x05\x00\x00\x00\x01\x00\x00\x00")},
			{Name: "empty", DType: weights.F32, Shape: []int{0, 3}},
		}
		require.NoError(t, weightstest.WriteSparseCheckpoint(path, root, specs))
		c, err := weights.OpenCheckpoint(path, weights.CheckpointOptions{})
		require.NoError(t, err)
		defer c.Close()
		require.Equal(t, root, c.RootKey())
		require.NoError(t, c.Verify(context.Background()))
		keys := make(map[string]weights.StorageKey)
		for i, name := range c.Names() {
			require.Equal(t, specs[i].Name, name)
			x, err := c.Tensor(name)
			require.NoError(t, err)
			require.Equal(t, specs[i].DType, x.DType)
			require.Len(t, x.Shape, len(specs[i].Shape))
			keys[name] = x.StorageKey()
		}
		require.Equal(t, keys["values"], keys["shared"])
		x, err := c.Tensor("shared")
		require.NoError(t, err)
		values, err := x.Float32()
		require.NoError(t, err)
		require.Equal(t, []float32{1, -2}, values)
	}
	path := filepath.Join(t.TempDir(), "bad.pth")
	bad := []weightstest.Spec{{Name: "a", DType: weights.F32, Shape: []int{2}, SameAs: "b"}}
	require.ErrorContains(t, weightstest.WriteSparseCheckpoint(path, "", bad), "can't share")
	bad = []weightstest.Spec{{Name: "a", DType: weights.F32, Shape: []int{2}, Data: []byte{1}}}
	require.ErrorContains(t, weightstest.WriteSparseCheckpoint(path, "", bad), "1 bytes of data instead of 8")
}

// TestCheckpointOfTheReleasedSizeOpensQuicklyInLittleMemory uses as many tensors, and as many bytes in one zip64
// file, as the released model.pth.
func TestCheckpointOfTheReleasedSizeOpensQuicklyInLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a sparse file of 4.9 GB")
	}
	const tensors, bytes = 18_471, 4_900_000_000
	path := filepath.Join(t.TempDir(), "model.pth")
	specs := make([]weightstest.Spec, tensors)
	for i := range specs {
		specs[i] = weightstest.Spec{
			Name:  fmt.Sprintf("l2_experts.%d.encoder_level1.%d.attn.project_out.weight", i%23, i),
			DType: weights.F32,
			Shape: []int{bytes / tensors / 4 / 16, 16, 1, 1},
		}
	}
	last := &specs[tensors-1]
	last.Shape = []int{2}
	last.Data = []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0x40}
	require.NoError(t, weightstest.WriteSparseCheckpoint(path, "params", specs))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Greater(t, info.Size(), int64(1)<<32)

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := time.Now()
	c, err := weights.OpenCheckpoint(path, weights.CheckpointOptions{})
	took := time.Since(begin)
	require.NoError(t, err)
	defer c.Close()
	runtime.ReadMemStats(&after)
	require.Len(t, c.Names(), tensors)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(200<<20))
	require.Less(t, took, 5*time.Second)
	t.Logf("opened in %v with %d MiB allocated", took, (after.TotalAlloc-before.TotalAlloc)>>20)

	x, err := c.Tensor(last.Name)
	require.NoError(t, err)
	values, err := x.Float32()
	require.NoError(t, err)
	require.Equal(t, []float32{1, 2}, values)
}
