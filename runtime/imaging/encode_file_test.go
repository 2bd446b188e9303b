package imaging

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEncodeFileFollowsTheExtension(t *testing.T) {
	dir := t.TempDir()
	img := noise(t, 6, 5, 3, 8)
	for name, f := range map[string]Format{"a.png": PNG, "b.jpg": JPEG, "c.tif": TIFF, "d.webp": WebP, "e.bmp": BMP} {
		path := filepath.Join(dir, name)
		require.NoError(t, EncodeFile(context.Background(), path, img, EncodeOptions{}))
		got, err := DecodeFile(path, Limits{})
		require.NoError(t, err)
		require.Equal(t, f, got.Meta.Format)
	}
	require.ErrorContains(t, EncodeFile(context.Background(), filepath.Join(dir, "f.gif"), img, EncodeOptions{}), ".gif")
}
