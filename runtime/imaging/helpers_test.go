package imaging

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// noise returns an image of random samples.
func noise(t testing.TB, w, h, channels, depth int) *Image {
	t.Helper()
	img, err := New(w, h, channels, depth)
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(uint64(w), uint64(h*channels*depth)))
	for i := range img.Pix {
		img.Pix[i] = uint8(r.Uint32())
	}
	for i := range img.Pix16 {
		img.Pix16[i] = uint16(r.Uint32())
	}
	return img
}

func encoded(t testing.TB, img *Image, opts EncodeOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, Encode(&b, img, opts))
	return b.Bytes()
}

func decoded(t testing.TB, data []byte) *Image {
	t.Helper()
	img, err := Decode(bytes.NewReader(data), Limits{})
	require.NoError(t, err)
	return img
}
