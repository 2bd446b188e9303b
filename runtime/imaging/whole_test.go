package imaging

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCutFilesAreNotWhole(t *testing.T) {
	img := &Image{W: 40, H: 30, Channels: 3, Depth: 8, Pix: make([]uint8, 40*30*3)}
	for i := range img.Pix {
		img.Pix[i] = uint8(i * i >> 3)
	}
	for _, f := range []Format{PNG, JPEG, WebP, TIFF, BMP} {
		var b bytes.Buffer
		require.NoError(t, Encode(&b, img, EncodeOptions{Format: f}))
		path := filepath.Join(t.TempDir(), "x")
		require.NoError(t, os.WriteFile(path, b.Bytes(), 0o666))
		require.NoError(t, CheckWhole(path), f)
		for _, n := range []int{0, 10, b.Len() / 2, b.Len() - 20} {
			require.NoError(t, os.WriteFile(path, b.Bytes()[:n], 0o666))
			require.Error(t, CheckWhole(path), "%s of %d bytes", f, n)
		}
	}
}
