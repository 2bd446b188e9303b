package imaging

import (
	"fmt"
	"image"
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// referenceAxis resizes one axis of a single band with the filter written out, no tables and no fixed point, so that it
// may differ from Pillow by rounding only.
func referenceAxis(in []float64, out int) []float64 {
	scale := float64(len(in)) / float64(out)
	grow := math.Max(scale, 1)
	res := make([]float64, out)
	for o := range res {
		sum, norm := 0.0, 0.0
		for j, v := range in {
			x := math.Abs((float64(j) + 0.5 - (float64(o)+0.5)*scale) / grow)
			w := 0.0
			if x < 1 {
				w = 1.5*x*x*x - 2.5*x*x + 1
			} else if x < 2 {
				w = -0.5*x*x*x + 2.5*x*x - 4*x + 2
			}
			sum += w * v
			norm += w
		}
		res[o] = math.Min(math.Max(math.Floor(sum/norm+0.5), 0), 255)
	}
	return res
}

func TestResizeMatchesTheFilterFormula(t *testing.T) {
	for _, c := range [][3]int{{50, 20, 1}, {20, 50, 2}, {7, 224, 3}, {300, 3, 4}, {1, 9, 5}} {
		src := noise(t, c[0], 1, 1, 8)
		row := make([]float64, c[0])
		for i, v := range src.Pix {
			row[i] = float64(v)
		}
		got, err := src.Resize(c[1], 1)
		require.NoError(t, err)
		column := noise(t, c[0], 1, 1, 8)
		column.W, column.H = 1, c[0]
		upright, err := column.Resize(1, c[1])
		require.NoError(t, err)
		require.Equal(t, got.Pix, upright.Pix, "the passes are the same filter")
		for i, want := range referenceAxis(row, c[1]) {
			require.InDelta(t, want, float64(got.Pix[i]), 1, "position %d of %v", i, c)
		}
	}
}

// TestPartEqualsWhole is what lets the estimator compute the middle only.
func TestPartEqualsWhole(t *testing.T) {
	for _, c := range []struct{ w, h, channels, toW, toH int }{
		{61, 47, 3, 83, 64}, {61, 47, 4, 41, 32}, {9, 200, 1, 16, 355}, {200, 9, 2, 355, 16}, {64, 80, 3, 64, 80},
	} {
		for _, palette := range []bool{false, true} {
			src := noise(t, c.w, c.h, c.channels, 8)
			src.Palette = palette
			whole := src.resizePart(c.toW, c.toH, image.Rect(0, 0, c.toW, c.toH))
			r := image.Rect(c.toW/5, c.toH/3, c.toW/5+7, c.toH/3+5)
			part := src.resizePart(c.toW, c.toH, r)
			n := c.channels
			for y := range 5 {
				lo := ((r.Min.Y+y)*c.toW + r.Min.X) * n
				require.Equal(t, whole.Pix[lo:lo+7*n], part.Pix[y*7*n:(y+1)*7*n], "%+v palette %v row %d", c, palette, y)
			}
		}
	}
}

func TestExtremeShapesStayWithinMemory(t *testing.T) {
	const size = 224
	for _, s := range [][2]int{{1, 1}, {1, 5000}, {5000, 1}, {1, 200000}, {200000, 3}, {3, 2}} {
		for _, palette := range []bool{false, true} {
			t.Run(fmt.Sprintf("%dx%d palette %v", s[0], s[1], palette), func(t *testing.T) {
				img := noise(t, s[0], s[1], 3, 8)
				img.Palette = palette
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				got, err := estimatorImage(img, EstimatorView{Size: size})
				runtime.ReadMemStats(&after)
				require.NoError(t, err)
				require.Equal(t, [2]int{size, size}, [2]int{got.W, got.H})
				require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20))
			})
		}
	}
}

func TestExtremeShapeEqualsWholeResize(t *testing.T) {
	img := noise(t, 2, 300, 3, 8)
	whole, err := img.Resize(16, 2400)
	require.NoError(t, err)
	middle, err := whole.CenterCrop(16, 16)
	require.NoError(t, err)
	got, err := estimatorImage(img, EstimatorView{Size: 16})
	require.NoError(t, err)
	requirePixels(t, middle, got, 0)
}

func TestSixteenBitsResizeAsTheirHighByte(t *testing.T) {
	for channels := 1; channels <= 4; channels++ {
		deep := noise(t, 31, 22, channels, 16)
		flat := noise(t, 31, 22, channels, 8)
		for i, v := range deep.Pix16 {
			flat.Pix[i] = uint8(v >> 8)
		}
		want, err := flat.Resize(14, 45)
		require.NoError(t, err)
		got, err := deep.Resize(14, 45)
		require.NoError(t, err)
		requirePixels(t, want, got, 0)
	}
}

func TestCenterCropRoundsHalfToEven(t *testing.T) {
	for _, c := range [][3]int{{10, 4, 3}, {9, 4, 2}, {7, 4, 2}, {5, 4, 0}, {4, 4, 0}, {11, 4, 4}} {
		img := noise(t, c[0], 1, 1, 8)
		got, err := img.CenterCrop(c[1], 1)
		require.NoError(t, err)
		require.Equal(t, img.Pix[c[2]:c[2]+c[1]], got.Pix, "%v", c)
	}
	_, err := noise(t, 3, 3, 1, 8).CenterCrop(4, 1)
	require.ErrorContains(t, err, "cannot crop 4×1 from 3×3")
}

func TestEstimatorRefusesBadArguments(t *testing.T) {
	img := noise(t, 3, 3, 3, 8)
	one := [3]float32{1, 1, 1}
	for _, size := range []int{0, -1, 1 << 20} {
		_, err := EstimatorInput(img, EstimatorView{Size: size}, one, one)
		require.ErrorContains(t, err, "estimator size")
	}
	_, err := EstimatorInput(img, EstimatorView{Size: 8}, one, [3]float32{1, 0, 1})
	require.ErrorContains(t, err, "standard deviation 0 of channel 1")
	_, err = img.Resize(0, 4)
	require.ErrorContains(t, err, "0×4")
	_, err = img.Resize(math.MaxInt/2, math.MaxInt/2)
	require.ErrorContains(t, err, "memory")
}

func BenchmarkEstimatorImage24MP(b *testing.B) {
	img, err := New(6000, 4000, 3, 8)
	require.NoError(b, err)
	for b.Loop() {
		_, err := estimatorImage(img, EstimatorView{Size: 224})
		require.NoError(b, err)
	}
}
