package verify

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/cpu"
)

func TestNetworksWithPicturesAreCases(t *testing.T) {
	b, err := cpu.New(cpu.Options{})
	require.NoError(t, err)
	defer b.Close()
	dir := filepath.Join("..", "..", "testdata", "singles", "nafnet_baseline")
	r, err := Run(context.Background(), b, dir, Options{})
	require.NoError(t, err)
	require.True(t, r.OK)
	require.Equal(t, "nafnet_baseline", r.Architecture)
	// The degraded picture is not what comes out.
	wrong := t.TempDir()
	for from, to := range map[string]string{"model.pth": "model.pth", "in.png": "in.png"} {
		data, err := os.ReadFile(filepath.Join(dir, from))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(wrong, to), data, 0o666))
		if to == "in.png" {
			require.NoError(t, os.WriteFile(filepath.Join(wrong, pictureOut), data, 0o666))
		}
	}
	r, err = Run(context.Background(), b, wrong, Options{})
	require.NoError(t, err)
	require.False(t, r.OK)
}
