package imaging

import (
	"bytes"
	"image"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func psnr(a, b []uint8) float64 {
	sum := 0.0
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		sum += d * d
	}
	if sum == 0 {
		return math.Inf(1)
	}
	return 10 * math.Log10(255*255*float64(len(a))/sum)
}

// smooth is a colourful picture that a JPEG holds well.
func smooth(t testing.TB, w, h, channels int) *Image {
	img, err := New(w, h, channels, 8)
	require.NoError(t, err)
	for y := range h {
		for x := range w {
			for c := range channels {
				v := 128 + 60*math.Sin(float64(x+3*c*y)/17) + 50*math.Cos(float64(y*(c+1)-x)/23)
				img.Pix[(y*w+x)*channels+c] = uint8(min(max(v, 0), 255))
			}
		}
	}
	return img
}

// TestJPEGIsReadBackByAnotherDecoder writes odd sizes, both chroma resolutions and all kinds of pixels, and reads them with
// the standard library.
func TestJPEGIsReadBackByAnotherDecoder(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {7, 9}, {8, 8}, {16, 17}, {65, 33}, {200, 3}} {
		for _, channels := range []int{1, 2, 3, 4} {
			for _, chroma := range []Chroma{chroma444, chroma420} {
				for _, q := range []int{1, 50, 95, 100} {
					src := smooth(t, size[0], size[1], channels)
					data := encoded(t, src, EncodeOptions{Format: JPEG, Quality: q, Chroma: chroma})
					m, err := jpeg.Decode(bytes.NewReader(data))
					require.NoError(t, err)
					require.Equal(t, image.Pt(size[0], size[1]), m.Bounds().Size())
					if ycc, ok := m.(*image.YCbCr); ok && size[0] > 8 {
						want := image.YCbCrSubsampleRatio444
						if chroma == chroma420 {
							want = image.YCbCrSubsampleRatio420
						}
						require.Equal(t, want, ycc.SubsampleRatio)
					}
					if q == 100 && channels&1 == 1 && chroma == chroma444 {
						require.Greater(t, psnr(src.Pix, decoded(t, data).Pix), 45.0, "%v %d", size, channels)
					}
				}
			}
		}
	}
}

// TestJPEGOfNoiseStaysWithinTheFormat writes the longest codes there are.
func TestJPEGOfNoiseStaysWithinTheFormat(t *testing.T) {
	for _, channels := range []int{1, 3} {
		src := noise(t, 130, 70, channels, 8)
		for i := range src.Pix { // extremes give the largest coefficients
			if src.Pix[i] > 127 {
				src.Pix[i] = 255
			} else {
				src.Pix[i] = 0
			}
		}
		back := decoded(t, encoded(t, src, EncodeOptions{Format: JPEG, Quality: 100}))
		require.Greater(t, psnr(src.Pix, back.Pix), 35.0)
	}
}

// TestJPEGIsAsSmallAsLibjpegs compares with the standard library, whose tables are the standard's examples.
func TestJPEGIsAsSmallAsLibjpegs(t *testing.T) {
	photo := golden(t, "420.jpg")
	for _, q := range []int{75, 95} {
		var b bytes.Buffer
		require.NoError(t, jpeg.Encode(&b, flattenedRGBA(photo), &jpeg.Options{Quality: q}))
		ours := encoded(t, photo, EncodeOptions{Format: JPEG, Quality: q, Chroma: chroma420, OmitMetadata: true})
		require.Less(t, len(ours), b.Len())
		require.Greater(t, psnr(photo.Pix, decoded(t, ours).Pix), psnr(photo.Pix, decoded(t, b.Bytes()).Pix)-0.1)
	}
}

// TestHuffmanCodesObeyTheFormat makes codes for skewed counts, whose best trees are far deeper than 16.
func TestHuffmanCodesObeyTheFormat(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		var counts [256]int
		for s := range 1 + r.IntN(256) {
			counts[s] = 1 + r.IntN(5)
			if round%2 == 0 {
				counts[s] = 1 << min(s, 50)
			}
		}
		c := newJPEGCode(&counts)
		space, n := 0, 0
		for length, k := range c.lengths {
			space += k << (16 - length)
			n += k
		}
		require.Less(t, space, 1<<16, "the code of all ones is free")
		require.Equal(t, n, len(c.symbols))
		for s, k := range counts {
			require.Equal(t, k > 0, c.size[s] > 0)
			require.LessOrEqual(t, c.size[s], uint8(16))
		}
	}
}

func TestChromaFollowsTheSource(t *testing.T) {
	ratio := func(data []byte) image.YCbCrSubsampleRatio {
		m, err := jpeg.Decode(bytes.NewReader(data))
		require.NoError(t, err)
		return m.(*image.YCbCr).SubsampleRatio
	}
	png := smooth(t, 40, 40, 3)
	full, half := encoded(t, png, EncodeOptions{Format: JPEG}), encoded(t, png, EncodeOptions{Format: JPEG, Chroma: chroma420})
	require.Equal(t, image.YCbCrSubsampleRatio444, ratio(full))
	require.Equal(t, image.YCbCrSubsampleRatio420, ratio(half))
	require.Equal(t, image.YCbCrSubsampleRatio444, ratio(encoded(t, decoded(t, full).Clone(), EncodeOptions{})))
	require.Equal(t, image.YCbCrSubsampleRatio420, ratio(encoded(t, decoded(t, half), EncodeOptions{})))
	require.Equal(t, image.YCbCrSubsampleRatio444, ratio(encoded(t, decoded(t, half), EncodeOptions{Chroma: chroma444})))
}

func BenchmarkJPEG(b *testing.B) {
	data, err := os.ReadFile("testdata/golden/420.jpg")
	require.NoError(b, err)
	photo, err := decodeBytes(data, Limits{})
	require.NoError(b, err)
	big := newLike(photo.W*8, photo.H*8, 3, 8)
	for y := range big.H {
		for x := range big.W {
			copy(big.Pix[3*(y*big.W+x):][:3], photo.Pix[3*(y%photo.H*photo.W+x%photo.W):])
		}
	}
	b.Run("standard library", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, jpeg.Encode(&bytes.Buffer{}, flattenedRGBA(big), &jpeg.Options{Quality: 95}))
		}
	})
	for name, c := range map[string]Chroma{"420": chroma420, "444": chroma444} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				require.NoError(b, Encode(&bytes.Buffer{}, big, EncodeOptions{Format: JPEG, Chroma: c}))
			}
		})
	}
}
