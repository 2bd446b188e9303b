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
			require.ErrorIs(t, err, errSecond, "%s then %s", f, g)
			_, err = OpenReader(bytes.NewBuffer(both), Limits{})
			require.ErrorIs(t, err, errSecond)
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

// FuzzSecond looks for the end of any bytes' first picture: what is in front of it alone must end there too, with nothing
// behind, and a picture behind it must be found.
func FuzzSecond(f *testing.F) {
	for _, data := range sources(f) {
		if len(data) < 20000 {
			f.Add(data)
			f.Add(append(bytes.Clone(data), data...))
		}
	}
	f.Add([]byte("GIF89a\x02\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x02\x00\x01\x00\x00\x02\x02D\n\x00;"))
	behind := encoded(f, noise(f, 3, 2, 3, 8), EncodeOptions{Format: PNG})
	f.Fuzz(func(t *testing.T, data []byte) {
		format, err := sniff(data)
		if err != nil {
			return
		}
		if err := checkAlone(data, format); err != nil {
			require.ErrorIs(t, err, errSecond)
		}
		end := pictureEnd(data, format)
		require.GreaterOrEqual(t, end, 0)
		if end == 0 || end > len(data) {
			return
		}
		one := bytes.Clone(data[:end])
		require.NoError(t, checkAlone(one, format))
		if again := pictureEnd(one, format); again != 0 { // a length in the header says nothing where the file ends with it
			require.Equal(t, end, again)
		}
		require.ErrorIs(t, checkAlone(append(one, behind...), format), errSecond)
	})
}
