package degrade

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// scene is a picture of shades, an edge and texture in the levels of a file.
func scene(t testing.TB, w, h int) *Image {
	t.Helper()
	img, err := NewImage(w, h)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(3, 4))
	for y := range h {
		for x := range w {
			for c := range 3 {
				v := 0.2 + 0.5*float64(x)/float64(w) + 0.1*float64(c) + 0.04*rng.Float64()
				if (x/11+y/7+c*(x/3))%3 == 0 {
					v -= 0.15
				}
				img.Pix[(y*w+x)*3+c] = float32(toByte(float32(v))) / 255
			}
		}
	}
	return img
}

func squares(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		d := float64(a[i] - b[i])
		sum += d * d
	}
	return sum / float64(len(a))
}

func TestSavingAsJPEGLosesAsMuchAsAnEncoderDoes(t *testing.T) {
	img := scene(t, 64, 48)
	rgba := image.NewRGBA(image.Rect(0, 0, 64, 48))
	for i := 0; i < 64*48; i++ {
		rgba.SetRGBA(i%64, i/64, color.RGBA{toByte(img.Pix[3*i]), toByte(img.Pix[3*i+1]), toByte(img.Pix[3*i+2]), 255})
	}
	for _, quality := range []int{50, 75, 90} {
		saved, err := Saving{{Quality: quality}}.Apply(t.Context(), img)
		require.NoError(t, err)
		var file bytes.Buffer
		require.NoError(t, jpeg.Encode(&file, rgba, &jpeg.Options{Quality: quality}))
		decoded, err := jpeg.Decode(&file)
		require.NoError(t, err)
		other := make([]float32, len(img.Pix))
		for i := 0; i < 64*48; i++ {
			r, g, b, _ := decoded.At(i%64, i/64).RGBA()
			other[3*i], other[3*i+1], other[3*i+2] = float32(r>>8)/255, float32(g>>8)/255, float32(b>>8)/255
		}
		lost, theirs := squares(img.Pix, saved.Pix), squares(img.Pix, other)
		require.InDelta(t, 0, 10*math.Log10(lost/theirs), 1.5, "decibels at quality %d", quality)
		full, err := Saving{{Quality: quality, Full: true}}.Apply(t.Context(), img)
		require.NoError(t, err)
		require.Less(t, squares(img.Pix, full.Pix), lost, "colour at full resolution")
	}
}

func TestSavingResizesAndSharpens(t *testing.T) {
	img := scene(t, 61, 40)
	small, err := Saving{{Scale: 0.5}}.Apply(t.Context(), img)
	require.NoError(t, err)
	require.Equal(t, []int{31, 20}, []int{small.W, small.H})
	mean := func(v []float32) float64 {
		sum := 0.0
		for _, x := range v {
			sum += float64(x)
		}
		return sum / float64(len(v))
	}
	require.InDelta(t, mean(img.Pix), mean(small.Pix), 0.01)

	flat := &Image{W: 40, H: 30, Pix: make([]float32, 40*30*3)}
	for i := range flat.Pix {
		flat.Pix[i] = 100.0 / 255
	}
	for _, s := range []Saving{{{Scale: 0.37}}, {{Sharpen: 1, Radius: 1.2}}, {{Quality: 60}}} {
		out, err := s.Apply(t.Context(), flat)
		require.NoError(t, err)
		for _, v := range out.Pix {
			require.InDelta(t, 100.0/255, v, 1.01/255, "a plain picture stays plain: %+v", s)
		}
	}

	sharp, err := Saving{{Sharpen: 1, Radius: 1}}.Apply(t.Context(), img)
	require.NoError(t, err)
	variation := func(m *Image) (sum float64) {
		for i := 3; i < len(m.Pix); i++ {
			sum += math.Abs(float64(m.Pix[i] - m.Pix[i-3]))
		}
		return sum
	}
	require.Greater(t, variation(sharp), 1.3*variation(img))
	require.Equal(t, scene(t, 61, 40).Pix, img.Pix, "the picture itself stays as it is")
}

func TestSavingsDrawnAreOnesThatCanBeApplied(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	img := scene(t, 48, 48)
	compressed, resized := 0, 0
	for range 300 {
		s := DrawSaving(rng, 0.4)
		require.GreaterOrEqual(t, s.Scale(), 0.4)
		out, err := s.Apply(t.Context(), img)
		require.NoError(t, err)
		require.NoError(t, out.check())
		if n := len(s); n > 0 && s[n-1].Quality > 0 {
			compressed++
			require.GreaterOrEqual(t, s[n-1].Quality, 60)
		}
		if s.Scale() < 1 {
			resized++
		}
		for _, step := range s.Without() {
			require.Zero(t, step.Quality)
		}
	}
	require.InDelta(t, 0.875*300, compressed, 30)
	require.InDelta(t, 0.5*300, resized, 40)
	for _, bad := range []Saving{{{}}, {{Scale: 1.5}}, {{Scale: math.NaN()}}, {{Sharpen: 1}}, {{Sharpen: 1, Radius: 1e9}}} {
		_, err := bad.Apply(t.Context(), img)
		require.ErrorContains(t, err, "saving")
	}
}
