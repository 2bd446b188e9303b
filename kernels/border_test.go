package kernels_test

import (
	"encoding/binary"
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/kernels"
	"unirestorer/runtime/device"
	"unirestorer/runtime/imaging"
)

func randomImage(t testing.TB, rng *rand.Rand, w, h, channels, depth int) *imaging.Image {
	t.Helper()
	img, err := imaging.New(w, h, channels, depth)
	require.NoError(t, err)
	for i := range img.Pix {
		img.Pix[i] = uint8(rng.IntN(256))
	}
	for i := range img.Pix16 {
		img.Pix16[i] = uint16(rng.IntN(1 << 16))
	}
	return img
}

func (r *rig) picture(img *imaging.Image) kernels.Picture {
	r.Helper()
	p := kernels.Picture{Height: img.H, Width: img.W, Channels: img.Channels, Depth: img.Depth}
	if img.Depth == 8 {
		p.Buffer = r.upload(img.Pix)
		return p
	}
	var b []byte
	for _, v := range img.Pix16 {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	p.Buffer = r.upload(b)
	return p
}

// samples reads a picture back into an image of its size.
func (r *rig) samples(p kernels.Picture) *imaging.Image {
	r.Helper()
	img, err := imaging.New(p.Width, p.Height, p.Channels, p.Depth)
	require.NoError(r, err)
	b := r.download(p.Buffer, p.Height*p.Width*p.Channels*p.Depth/8)
	copy(img.Pix, b)
	for i := range img.Pix16 {
		img.Pix16[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return img
}

func eachPicture(t *testing.T, test func(t *testing.T, channels, depth int)) {
	for _, depth := range []int{8, 16} {
		for channels := 1; channels <= 4; channels++ {
			t.Run(fmt.Sprintf("%d channels of %d bits", channels, depth), func(t *testing.T) { test(t, channels, depth) })
		}
	}
}

// severalRows has blocks take several rows, as those of pictures of more rows than a grid has.
func severalRows(l kernels.Launch, err error) (kernels.Launch, error) {
	l.Shape.Grid.Y = min(l.Shape.Grid.Y, 3)
	return l, err
}

func TestDecodedRectanglesEqualTheHosts(t *testing.T) {
	eachPicture(t, func(t *testing.T, channels, depth int) {
		r := newRig(t)
		img := randomImage(t, newRand(1), 37, 21, channels, depth)
		whole := make([]float32, img.W*img.H*3)
		require.NoError(t, img.RGBFloat(whole, img.Bounds()))
		p := r.picture(img)
		// Within the image, beyond the right and bottom edge, and several times around.
		for _, rect := range []image.Rectangle{image.Rect(0, 0, 37, 21), image.Rect(5, 2, 30, 9), image.Rect(24, 16, 56, 24), image.Rect(-80, -50, 100, 1)} {
			y := r.unwritten(1, rect.Dy(), rect.Dx(), 3)
			r.run(severalRows(kernels.DecodeImage(p, y, rect.Min.Y, rect.Min.X)))
			var want []float32
			for row := rect.Min.Y; row < rect.Max.Y; row++ {
				for col := rect.Min.X; col < rect.Max.X; col++ {
					at := graph.ReflectLoop.Index(row, img.H)*img.W + graph.ReflectLoop.Index(col, img.W)
					want = append(want, whole[3*at:3*at+3]...)
				}
			}
			require.Equal(t, rounded(want), r.read(y), "%v", rect)
		}
	})
}

// edgeValues are where clamping and rounding go wrong: halves between stored values, borders, and what is not a number.
func edgeValues(rng *rand.Rand, n int) []float32 {
	v := normals(rng, n, 0.5, 0.4)
	for i, e := range []float64{0, 1, -0.0001, 1.001, math.NaN(), math.Inf(1), math.Inf(-1), 0.5, 0.25, 0.5 / 255, 1.5 / 255, 2.5 / 255, 127.5 / 255} {
		v[(i*7)%n] = float32(e)
	}
	return v
}

func TestEncodedRectanglesEqualTheHosts(t *testing.T) {
	eachPicture(t, func(t *testing.T, channels, depth int) {
		for _, canvas := range []bool{false, true} {
			r, rng := newRig(t), newRand(2)
			const h, w = 9, 300
			before := randomImage(t, rng, w+5, h+3, channels, depth)
			img := r.picture(before)
			v := edgeValues(rng, h*w*3)
			x := kernels.Tensor{N: 1, H: h, W: w, Layout: kernels.Plain(3)}
			rect := kernels.Rectangle{SourceY: 1, SourceX: 2, Y: 3, X: 4, Height: h - 2, Width: w - 3}
			if canvas {
				var four []float32
				for i := 0; i < len(v); i += 3 {
					four = append(four, v[i], v[i+1], v[i+2], 0)
				}
				r.run(severalRows(kernels.EncodeCanvas(kernels.Canvas{Buffer: r.floats(four), Height: h, Width: w}, img, rect)))
			} else {
				v = rounded(v)
				x.Buffer = r.rows(v, x.Layout)
				r.run(severalRows(kernels.EncodeImage(x, img, rect)))
			}
			var part []float32
			for y := range rect.Height {
				part = append(part, v[((rect.SourceY+y)*w+rect.SourceX)*3:][:rect.Width*3]...)
			}
			require.NoError(t, before.SetRGBFloat(part, image.Rect(rect.X, rect.Y, rect.X+rect.Width, rect.Y+rect.Height)))
			got := r.samples(img)
			require.Equal(t, before.Pix, got.Pix)
			require.Equal(t, before.Pix16, got.Pix16)
		}
	})
}

func TestEveryStoredValueSurvivesDecodingAndEncoding(t *testing.T) {
	r := newRig(t)
	img := randomImage(t, newRand(3), 256, 2, 3, 8)
	for i := range 256 {
		img.Pix[3*i] = uint8(i)
	}
	x := r.unwritten(1, img.H, img.W, 3)
	r.run(kernels.DecodeImage(r.picture(img), x, 0, 0))
	out := kernels.Picture{Buffer: r.alloc(len(img.Pix)), Height: img.H, Width: img.W, Channels: 3, Depth: 8}
	r.run(kernels.EncodeImage(x, out, kernels.Rectangle{Height: img.H, Width: img.W}))
	require.Equal(t, img.Pix, r.samples(out).Pix)
}

// side places tile i of those that begin at origins, with transitions of the given width in the middle of the overlaps.
func side(origins []int, length, width, i int) kernels.TileSide {
	s := kernels.TileSide{Origin: origins[i], Length: length, First: origins[i], End: origins[i] + length, HalfWidth: float32(width) / 2}
	centre := func(i int) float32 { return float32(origins[i+1]+origins[i]+length) / 2 }
	if i > 0 {
		s.Before, s.Rise = true, centre(i-1)
		s.First = max(s.First, int(s.Rise-s.HalfWidth))
	}
	if i+1 < len(origins) {
		s.Behind, s.Fall = true, centre(i)
		s.End = min(s.End, int(s.Fall+s.HalfWidth)+1)
	}
	return s
}

func TestBlendedTilesOfOneImageGiveThatImage(t *testing.T) {
	r := newRig(t)
	const h, w, tileH, tileW, first = 40, 300, 24, 140, 0
	ys, xs := []int{0, 16}, []int{0, 80, 160}
	v := normals(newRand(4), h*w*3, 0.5, 0.3)
	c := kernels.Canvas{Buffer: r.floats(make([]float32, h*w*4)), Height: h, Width: w, First: first}
	for i, y := range ys {
		for j, x := range xs {
			var part []float32
			for row := range tileH {
				part = append(part, v[((y+row)*w+x)*3:][:tileW*3]...)
			}
			tile := kernels.Tensor{Buffer: r.rows(part, kernels.Plain(3)), N: 1, H: tileH, W: tileW, Layout: kernels.Plain(3)}
			r.run(kernels.BlendTile(tile, c, side(ys, tileH, 4, i), side(xs, tileW, 13, j)))
		}
	}
	got := r.singles(c.Buffer, h*w*4)
	for i := range h * w {
		for ch := range 3 {
			require.InDelta(t, v[3*i+ch], got[4*i+ch], 1e-6)
		}
		require.Zero(t, got[4*i+3])
	}
}

// One tile of ones shows its weights: zero up to the rise, one in the middle, linear between.
func TestTileWeightsAreRamps(t *testing.T) {
	r := newRig(t)
	const h, w, first = 20, 64, 100
	ones := make([]float32, h*w*3)
	for i := range ones {
		ones[i] = 1
	}
	tile := kernels.Tensor{Buffer: r.rows(ones, kernels.Plain(3)), N: 1, H: h, W: w, Layout: kernels.Plain(3)}
	c := kernels.Canvas{Buffer: r.floats(make([]float32, 40*100*4)), Height: 40, Width: 100, First: first}
	vertical := kernels.TileSide{Origin: 110, Length: h, First: 112, End: 130, Before: true, Rise: 115, HalfWidth: 2.5}
	horizontal := kernels.TileSide{Origin: 20, Length: w, First: 21, End: 82, Before: true, Rise: 30.5, Behind: true, Fall: 70, HalfWidth: 6.5}
	r.run(kernels.BlendTile(tile, c, vertical, horizontal))
	got := r.singles(c.Buffer, 40*100*4)
	ramp := func(centre, half float64, at int) float64 {
		return min(max((float64(at)+0.5-centre+half)/(2*half), 0), 1)
	}
	for y := range 40 {
		for x := range 100 {
			want := 0.0
			if y+first >= vertical.First && y+first < vertical.End && x >= horizontal.First && x < horizontal.End {
				want = ramp(115, 2.5, y+first) * ramp(30.5, 6.5, x) * (1 - ramp(70, 6.5, x))
			}
			require.InDelta(t, want, got[(y*100+x)*4], 1e-6, "(%d,%d)", y, x)
		}
	}
}

func TestResizeEqualsTheEstimatorsInput(t *testing.T) {
	mean, deviation := [3]float32{0.48145466, 0.4578275, 0.40821073}, [3]float32{0.26862954, 0.26130258, 0.27577711}
	for _, s := range []struct {
		w, h, channels, depth, size int
		nearest                     bool
	}{
		{w: 61, h: 47, channels: 3, depth: 8, size: 16}, {w: 47, h: 200, channels: 3, depth: 8, size: 24},
		{w: 20, h: 13, channels: 3, depth: 8, size: 33}, {w: 16, h: 16, channels: 3, depth: 8, size: 16},
		{w: 16, h: 31, channels: 3, depth: 8, size: 16}, {w: 61, h: 47, channels: 1, depth: 8, size: 16},
		{w: 50, h: 47, channels: 4, depth: 8, size: 20}, {w: 20, h: 30, channels: 2, depth: 8, size: 25},
		{w: 61, h: 47, channels: 3, depth: 16, size: 16}, {w: 33, h: 47, channels: 4, depth: 16, size: 16},
		{w: 1, h: 1, channels: 3, depth: 8, size: 5}, {w: 300, h: 5, channels: 3, depth: 8, size: 9},
		{w: 61, h: 47, channels: 3, depth: 8, size: 16, nearest: true}, {w: 19, h: 120, channels: 4, depth: 8, size: 40, nearest: true},
	} {
		t.Run(fmt.Sprintf("%+v", s), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			img := randomImage(t, newRand(5), s.w, s.h, s.channels, s.depth)
			img.Palette = s.nearest
			want, err := imaging.EstimatorInput(img, imaging.EstimatorView{Size: s.size}, mean, deviation)
			require.NoError(t, err)

			short, long := min(s.w, s.h), max(s.w, s.h)
			w, h := s.size, s.size*long/short
			if s.w > s.h {
				w, h = h, w
			}
			plan, err := kernels.Resize{
				Image: r.picture(img), Height: h, Width: w, Size: s.size, Alpha: s.channels%2 == 0, Nearest: s.nearest, Mean: mean, Deviation: deviation,
				Top: int(math.RoundToEven(float64(h-s.size) / 2)), Left: int(math.RoundToEven(float64(w-s.size) / 2)),
			}.Plan()
			require.NoError(t, err)
			y := r.unwritten(1, s.size, s.size, 3)
			launches, err := plan.Launches(r.alloc(plan.TapBytes), r.alloc(plan.RowBytes), y)
			require.NoError(t, err)
			for _, l := range launches {
				r.run(l, nil)
			}
			require.Equal(t, rounded(want), r.read(y))
		})
	}
}

func TestLaunchersRefuseWhatDoesNotFit(t *testing.T) {
	r, rng := newRig(t), newRand(6)
	x, _ := r.fresh(rng, 1, 8, 8, 3)
	wide, _ := r.fresh(rng, 1, 8, 8, 24)
	img := r.picture(randomImage(t, rng, 8, 8, 3, 8))
	short := x
	short.Buffer.Size--
	odd := x
	odd.Buffer.Ptr += 2
	canvas := kernels.Canvas{Buffer: r.alloc(8 * 8 * 16), Height: 8, Width: 8}
	whole := kernels.TileSide{Length: 8, End: 8}
	resize := kernels.Resize{Image: img, Height: 8, Width: 8, Size: 8, Deviation: [3]float32{1, 1, 1}}
	for message, launch := range map[string]func() (kernels.Launch, error){
		"holds":       func() (kernels.Launch, error) { return kernels.MulAdd(short, kernels.Tensor{}, x, x) },
		"not aligned": func() (kernels.Launch, error) { return kernels.MulAdd(odd, kernels.Tensor{}, x, x) },
		"is missing": func() (kernels.Launch, error) {
			return kernels.MulAdd(kernels.Tensor{N: 1, H: 8, W: 8, Layout: x.Layout}, x, x, x)
		},
		"the result 1x8x8x3": func() (kernels.Launch, error) { return kernels.MulAdd(wide, kernels.Tensor{}, x, x) },
		"one channel more":   func() (kernels.Launch, error) { return kernels.SoftReconstruction(x, x, x) },
		"logits are":         func() (kernels.Launch, error) { return kernels.SelectiveKernel(x, x, x, kernels.Tensor{}, x, r.flag()) },
		"longer than that": func() (kernels.Launch, error) {
			return kernels.WindowAttention(wide, r.unwritten(1, 8, 8, 8), img.Buffer, 1, 12, 6, r.flag())
		},
		"in 3 heads":       func() (kernels.Launch, error) { return kernels.Attention(wide, r.unwritten(1, 8, 8, 8), 3, r.flag()) },
		"window of 9 rows": func() (kernels.Launch, error) { return kernels.WindowSums(x, kernels.Tensor{}, 9, x.Buffer) },
		"not inside":       func() (kernels.Launch, error) { return kernels.Crop(x, x, 1, 0) },
		"reflection by":    func() (kernels.Launch, error) { return kernels.Pad(x, r.unwritten(1, 16, 8, 3), 8, 0, kernels.Reflect) },
		"epsilon": func() (kernels.Launch, error) {
			return kernels.ChannelNorm(x, x, kernels.BiasFree, x.Buffer, device.Buffer{}, 0)
		},
		"bits": func() (kernels.Launch, error) {
			return kernels.DecodeImage(kernels.Picture{Buffer: x.Buffer, Height: 8, Width: 8, Channels: 3, Depth: 9}, x, 0, 0)
		},
		"does not fit": func() (kernels.Launch, error) {
			return kernels.EncodeImage(x, img, kernels.Rectangle{X: 1, Height: 8, Width: 8})
		},
		"want one image of 3": func() (kernels.Launch, error) {
			return kernels.EncodeImage(wide, img, kernels.Rectangle{Height: 8, Width: 8})
		},
		"tile reaches": func() (kernels.Launch, error) {
			c := canvas
			c.First = 1
			return kernels.BlendTile(x, c, whole, whole)
		},
		"crop of": func() (kernels.Launch, error) {
			bad := resize
			bad.Top = 1
			_, err := bad.Plan()
			return kernels.Launch{}, err
		},
		"no alpha": func() (kernels.Launch, error) {
			bad := resize
			bad.Alpha = true
			_, err := bad.Plan()
			return kernels.Launch{}, err
		},
		"holds 16 bytes": func() (kernels.Launch, error) {
			plan, err := resize.Plan()
			require.NoError(t, err)
			l, err := plan.Launches(r.alloc(16), r.alloc(plan.RowBytes), x)
			require.Empty(t, l)
			return kernels.Launch{}, err
		},
		"in rows of 8, 8 and 11": func() (kernels.Launch, error) {
			return kernels.Route(1, kernels.RouteOptions{Leaves: 2, Levels: 3, LeafPitch: 8, LevelPitch: 8, OutPitch: 11}, x.Buffer)
		},
	} {
		t.Run(message, func(t *testing.T) {
			_, err := launch()
			require.ErrorContains(t, err, message)
		})
	}
}
