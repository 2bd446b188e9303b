package imaging

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestASecondPictureInAStreamIsAnError(t *testing.T) {
	img := smooth(t, 40, 30, 3)
	for _, f := range []Format{PNG, JPEG, WebP, BMP} {
		for _, g := range []Format{PNG, JPEG, TIFF, BMP} {
			both := append(encoded(t, img, EncodeOptions{Format: f}), encoded(t, img, EncodeOptions{Format: g})...)
			_, err := OpenReader(bytes.NewReader(both), Limits{})
			require.ErrorIs(t, err, ErrSecond, "%s then %s", f, g)
			_, err = OpenReader(bytes.NewBuffer(both), Limits{})
			require.ErrorIs(t, err, ErrSecond)
			_, err = Open(both, Limits{}) // in a file it is what editors and cameras leave
			require.NoError(t, err)
		}
		for _, behind := range [][]byte{{0}, []byte("BM"), bytes.Repeat([]byte{0}, 100), {0xff, 0xd8}} {
			_, err := OpenReader(bytes.NewReader(append(encoded(t, img, EncodeOptions{Format: f}), behind...)), Limits{})
			require.NoError(t, err, "%s with %q behind", f, behind)
		}
	}
	// A camera's index of several pictures in one file: they belong together.
	one := encoded(t, img, EncodeOptions{Format: JPEG})
	mpf := append(append(bytes.Clone(one[:2]), 0xff, 0xe2, 0, 8, 'M', 'P', 'F', 0, 'I', 'I'), one[2:]...)
	_, err := OpenReader(bytes.NewReader(append(mpf, one...)), Limits{})
	require.NoError(t, err)
}
