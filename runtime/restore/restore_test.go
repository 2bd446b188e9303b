package restore

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/experts/expertstest"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/router"
)

// Every kind of expert of the tiny pool.
var kinds = []int{0, 1, 11, 5, 6, 7}

func TestSizesThatNetworksRefuseAreReflected(t *testing.T) {
	m := tinyModel(t)
	r := restorer(t, m, expertstest.CPU(t), Config{})
	pool := experts.NewPool(m, r.backend, experts.Options{})
	defer func() { require.NoError(t, pool.Close()) }()
	for _, expert := range kinds {
		net, err := m.Config.Expert(expert)
		require.NoError(t, err)
		for _, size := range [][2]int{{1, 1}, {1, 9}, {70, 1}, {2, 3}, {3, 3}, {4, 7}, {12, 5}, {24, 24}, {25, 25}, {33, 21}} {
			t.Run(fmt.Sprintf("%s %d/%dx%d", net.Architecture(), expert, size[0], size[1]), func(t *testing.T) {
				w, h := size[0], size[1]
				img := noise(t, w, h, 3, 16)
				out, rep, err := r.Restore(context.Background(), img, Options{Override: only(expert)})
				require.NoError(t, err)
				require.Equal(t, [2]int{w, h}, [2]int{out.W, out.H})

				fh, fw, err := models.Fit(net, h, w)
				require.NoError(t, err)
				if fh == h && fw == w {
					require.Zero(t, rep.PaddedWidth+rep.PaddedHeight)
				} else {
					require.Equal(t, [2]int{fw, fh}, [2]int{rep.PaddedWidth, rep.PaddedHeight})
				}
				x := floats(t, img)
				in, y := make([]float32, fh*fw*3), make([]float32, fh*fw*3)
				for v := range fh {
					for u := range fw {
						sv, su := graph.ReflectLoop.Index(v, h), graph.ReflectLoop.Index(u, w)
						copy(in[(v*fw+u)*3:][:3], x[(sv*w+su)*3:][:3])
					}
				}
				lease, err := pool.Acquire(context.Background(), expert, 1, fh, fw)
				require.NoError(t, err)
				defer lease.Release()
				require.NoError(t, lease.Program.Run(context.Background(), [][]float32{in}, [][]float32{y}, backend.RunOptions{}))
				want, err := imaging.New(w, h, 3, 16)
				require.NoError(t, err)
				for v := range h {
					require.NoError(t, want.SetRGBFloat(y[v*fw*3:][:w*3], image.Rect(0, v, w, v+1)))
				}
				require.True(t, slices.Equal(want.Pix16, out.Pix16))
			})
		}
	}
}

func TestDepthGreyAndAlphaAreKept(t *testing.T) {
	m := tinyModel(t)
	r := restorer(t, m, expertstest.CPU(t), Config{})
	restore := func(img *imaging.Image) *imaging.Image {
		before := img.Clone()
		out, _, err := r.Restore(context.Background(), img, Options{Override: only(7)})
		require.NoError(t, err)
		require.Equal(t, before, img, "the input is left alone")
		require.Equal(t, [4]int{img.W, img.H, img.Channels, img.Depth}, [4]int{out.W, out.H, out.Channels, out.Depth})
		return out
	}
	rgb := noise(t, 40, 30, 3, 8)
	want := restore(rgb)

	deep, err := imaging.New(40, 30, 3, 16)
	require.NoError(t, err)
	for i, v := range rgb.Pix {
		deep.Pix16[i] = uint16(v) * 257
	}
	for i, v := range restore(deep).Pix16 {
		require.InDelta(t, want.Pix[i], float64(v)/257, 0.51)
	}

	rgba, err := imaging.New(40, 30, 4, 8)
	require.NoError(t, err)
	for i := range 40 * 30 {
		copy(rgba.Pix[4*i:], rgb.Pix[3*i:3*i+3])
		rgba.Pix[4*i+3] = uint8(i) | 1 // what lies under alpha 0 does not count
	}
	got := restore(rgba)
	for i := range 40 * 30 {
		require.Equal(t, want.Pix[3*i:3*i+3], got.Pix[4*i:4*i+3])
		require.Equal(t, uint8(i)|1, got.Pix[4*i+3])
	}

	grey, err := imaging.New(40, 30, 1, 16)
	require.NoError(t, err)
	asRGB, err := imaging.New(40, 30, 3, 16)
	require.NoError(t, err)
	for i := range grey.Pix16 {
		grey.Pix16[i] = uint16(i * 50)
		for c := range 3 {
			asRGB.Pix16[3*i+c] = grey.Pix16[i]
		}
	}
	colour, got := restore(asRGB), restore(grey)
	for i, v := range got.Pix16 {
		mean := (float64(colour.Pix16[3*i]) + float64(colour.Pix16[3*i+1]) + float64(colour.Pix16[3*i+2])) / 3
		if p := colour.Pix16[3*i : 3*i+3]; min(p[0], p[1], p[2]) > 0 && max(p[0], p[1], p[2]) < 65535 {
			require.InDelta(t, mean, v, 1.5)
		}
	}
}

func TestResultIsUprightAndTheEstimatorSeesItAsStored(t *testing.T) {
	m := tinyModel(t)
	r := restorer(t, m, expertstest.CPU(t), Config{})
	stored := noise(t, 40, 28, 3, 8)
	turned := stored.Clone()
	turned.Meta.Orientation = 6
	upright := turned.Oriented()

	ctx := context.Background()
	plain, err := r.Route(ctx, stored, router.Override{})
	require.NoError(t, err)
	out, rep, err := r.Restore(ctx, turned, Options{})
	require.NoError(t, err)
	require.Equal(t, plain.LeafProbs, rep.Decision.LeafProbs)
	require.Equal(t, [2]int{28, 40}, [2]int{rep.Width, rep.Height})
	want, _, err := r.Restore(ctx, upright, Options{Override: only(rep.Decision.Expert)})
	require.NoError(t, err)
	require.Equal(t, want.Pix, out.Pix)
	require.LessOrEqual(t, out.Meta.Orientation, 1)
}

func TestTilesMatchTheWholeImageWhereTheFilterIsLocal(t *testing.T) {
	const arch, args = models.NAFNetLocalName, `{"train_size":[1,3,4,4],"width":2,"enc_blk_nums":[1,1],"dec_blk_nums":[1,1]}` // a grid of 4
	m := oneExpert(t, arch, args)
	rng := rand.New(rand.NewPCG(3, 4))
	for range 30 {
		img := noise(t, 1+rng.IntN(150), 1+rng.IntN(150), 3, 16)
		f := &fake{compute: box(2)}
		r := restorer(t, m, f, Config{Lazy: true})
		whole, rep, err := r.Restore(context.Background(), img, Options{Override: only(0), Tile: TileOff})
		require.NoError(t, err)
		require.Equal(t, 1, rep.TilesX*rep.TilesY)
		require.Equal(t, 1, f.runs)

		overlap := 12 + rng.IntN(12) // the blend stays a quarter of it away from the edges
		tile := 2*overlap + 4 + rng.IntN(60)
		tiled, rep, err := r.Restore(context.Background(), img, Options{Override: only(0), Tile: tile, Overlap: overlap})
		require.NoError(t, err)
		require.Equal(t, 1+rep.TilesX*rep.TilesY, f.runs)
		require.LessOrEqual(t, rep.TileWidth, max(tile, 1))
		require.Equal(t, img.W > tile, rep.TilesX > 1, "%d wide in tiles of %d", img.W, tile)
		for i := range whole.Pix16 {
			require.InDelta(t, whole.Pix16[i], tiled.Pix16[i], 1)
		}
	}
}

func TestTiledNetworkMatchesTheWholeImage(t *testing.T) {
	// Windows of 6, 3 and 1 pixels at the three levels: the receptive field is
	// some 30 pixels to each side.
	m := oneExpert(t, models.NAFNetLocalName, `{"width":4,"enc_blk_nums":[1,1],"middle_blk_num":1,"dec_blk_nums":[1,1],"train_size":[1,3,4,4]}`)
	r := restorer(t, m, expertstest.CPU(t), Config{Lazy: true})
	for _, size := range [][2]int{{413, 301}, {302, 150}, {31, 405}} {
		img := noise(t, size[0], size[1], 3, 16)
		whole, _, err := r.Restore(context.Background(), img, Options{Override: only(0), Tile: TileOff})
		require.NoError(t, err)
		tiled, rep, err := r.Restore(context.Background(), img, Options{Override: only(0), Tile: 292, Overlap: 144})
		require.NoError(t, err)
		require.Greater(t, rep.TilesX*rep.TilesY, 1)
		worst := 0.0
		for i := range whole.Pix16 {
			worst = max(worst, math.Abs(float64(whole.Pix16[i])-float64(tiled.Pix16[i])))
		}
		require.LessOrEqual(t, worst, 4.0, "of 65535")
	}
}

func TestBandsBlendAsAWholeImageWould(t *testing.T) {
	m := oneExpert(t, models.NAFNetLocalName, `{"train_size":[1,3,4,4],"width":2,"enc_blk_nums":[1],"dec_blk_nums":[1]}`)
	// Each run darkens by its own factor, so that every seam would show.
	factor := func(run int) float32 { return 1 / (1 + float32(run)/3) }
	f := &fake{compute: func(run int, in, out []float32, _ graph.Shape) error {
		for i, v := range in {
			out[i] = factor(run) * v
		}
		return nil
	}}
	r := restorer(t, m, f, Config{Lazy: true})
	for _, size := range [][3]int{{97, 53, 20}, {64, 200, 30}, {201, 33, 16}, {30, 31, 14}} {
		f.runs = 0
		img := noise(t, size[0], size[1], 3, 16)
		out, rep, err := r.Restore(context.Background(), img, Options{Override: only(0), Tile: size[2], Overlap: 6})
		require.NoError(t, err)
		require.Greater(t, rep.TilesX, 1)

		pw, ph := max(rep.PaddedWidth, img.W), max(rep.PaddedHeight, img.H)
		y, err := newAxis(ph, size[2], 6, 2)
		require.NoError(t, err)
		x, err := newAxis(pw, size[2], 6, 2)
		require.NoError(t, err)
		in := floats(t, img)
		for row := range img.H {
			for col := range img.W {
				var share float64
				for ny := range y.origin {
					for nx := range x.origin {
						share += float64(y.weight(ny, row)) * float64(x.weight(nx, col)) * float64(factor(ny*len(x.origin)+nx))
					}
				}
				for c := range 3 {
					i := (row*img.W+col)*3 + c
					require.InDelta(t, share*float64(in[i])*65535, out.Pix16[i], 1.01, "at %d,%d", col, row)
				}
			}
		}
	}
}

func TestAutomaticTilesKeepWithinTheMemoryBound(t *testing.T) {
	m := oneExpert(t, models.NAFNetLocalName, `{"train_size":[1,3,4,4],"width":2,"enc_blk_nums":[1,1],"dec_blk_nums":[1,1]}`)
	img := noise(t, 700, 520, 3, 8)
	identity := func(_ int, in, out []float32, _ graph.Shape) error { copy(out, in); return nil }
	tileBefore := math.MaxInt
	for bound := int64(200_000_000); bound > 1_000_000; bound = bound * 3 / 4 {
		f := &fake{compute: identity}
		r := restorer(t, m, f, Config{Lazy: true, Memory: bound})
		out, rep, err := r.Restore(context.Background(), img, Options{Override: only(0)})
		if err != nil {
			require.ErrorIs(t, err, experts.ErrBudget)
			require.ErrorContains(t, err, "expert 0 (nafnet_local): over the memory budget: even in the smallest tiles it needs")
			require.Less(t, bound, int64(8_000_000), "tiles of 64 pixels take little")
			require.Zero(t, f.most)
			continue
		}
		host := int64(2 * 3 * 4 * rep.TileWidth * rep.TileHeight)
		if rep.TilesX*rep.TilesY > 1 {
			host += int64(3 * 4 * rep.TileHeight * 700)
		}
		require.LessOrEqual(t, f.most+host+imageBytes(img), bound)
		require.LessOrEqual(t, rep.TileWidth, tileBefore, "less memory, smaller tiles")
		tileBefore = rep.TileWidth
		require.Equal(t, img.Pix, out.Pix)
	}
	require.Less(t, tileBefore, 128, "small tiles were reached")
}

func TestGivenTilesMustFitTheBoundToo(t *testing.T) {
	m := oneExpert(t, models.NAFNetLocalName, `{"train_size":[1,3,4,4],"width":2}`)
	img := noise(t, 300, 200, 3, 8)
	r := restorer(t, m, &fake{compute: box(0)}, Config{Lazy: true, Memory: 8 << 20})
	for _, tile := range []int{TileOff, 190} {
		_, _, err := r.Restore(context.Background(), img, Options{Override: only(0), Tile: tile})
		require.ErrorIs(t, err, experts.ErrBudget, "tile %d", tile)
	}
	_, _, err := r.Restore(context.Background(), img, Options{Override: only(0), Tile: 64})
	require.NoError(t, err)
	_, _, err = r.Restore(context.Background(), img, Options{Override: only(0), Reserve: 100 << 20})
	require.ErrorContains(t, err, "of which 100 MiB are images")
}

func TestEstimatorMakesRoomForTheExpertAndComesBack(t *testing.T) {
	m := tinyModel(t)
	b := expertstest.CPU(t)
	img := noise(t, 64, 64, 3, 8)
	ctx := context.Background()
	free := restorer(t, m, b, Config{})
	want, rep, err := free.Restore(ctx, img, Options{Tile: TileOff})
	require.NoError(t, err)
	j := job{x: &axis{tile: 64, origin: []int{0}}, y: &axis{tile: 64, origin: []int{0}}}
	estimating := imageBytes(img) + free.charged + free.routing.Arena
	alone := max(estimating, imageBytes(img)) + 3*pageBytes
	for e := range m.Config.Experts { // any may be chosen
		mem, err := free.memory(e, 64, 64, experts.Variant{})
		require.NoError(t, err)
		alone = max(alone, imageBytes(img)+4*j.floats()+mem.Total()+3*pageBytes)
	}
	require.Positive(t, rep.Memory.Total())
	require.NotNil(t, free.estimator)

	tight := restorer(t, m, b, Config{Memory: alone, Lazy: true})
	for range 2 {
		got, rep, err := tight.Restore(ctx, img, Options{Tile: TileOff})
		require.NoError(t, err)
		require.True(t, slices.Equal(want.Pix, got.Pix))
		require.Equal(t, router.Automatic, rep.Decision.Mode)
		require.LessOrEqual(t, tight.host.Usage().Peak, alone)
	}
	_, _, err = restorer(t, m, b, Config{Memory: estimating / 2, Lazy: true}).Restore(ctx, img, Options{Tile: TileOff})
	require.ErrorIs(t, err, experts.ErrBudget)
}

func TestProgressGrowsToOne(t *testing.T) {
	m := oneExpert(t, models.NAFNetLocalName, `{"train_size":[1,3,4,4],"width":2}`)
	r := restorer(t, m, &fake{compute: box(0)}, Config{Lazy: true})
	for _, tile := range []int{TileOff, 40} {
		last := 0.0
		_, _, err := r.Restore(context.Background(), noise(t, 90, 70, 3, 8), Options{Override: only(0), Tile: tile, Progress: func(done float64) {
			require.Greater(t, done, last)
			last = done
		}})
		require.NoError(t, err)
		require.Equal(t, 1.0, last)
	}
}

func TestCancellationStopsBetweenTiles(t *testing.T) {
	m := oneExpert(t, models.NAFNetLocalName, `{"train_size":[1,3,4,4],"width":2}`)
	ctx, cancel := context.WithCancel(context.Background())
	f := &fake{compute: func(run int, in, out []float32, _ graph.Shape) error {
		if run == 2 {
			cancel()
		}
		return nil
	}}
	r := restorer(t, m, f, Config{Lazy: true})
	_, _, err := r.Restore(ctx, noise(t, 200, 200, 3, 8), Options{Override: only(0), Tile: 40})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 3, f.runs)
}

func TestOutputThatIsNotFiniteIsAnError(t *testing.T) {
	m := oneExpert(t, models.NAFNetLocalName, `{"train_size":[1,3,4,4],"width":2}`)
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		r := restorer(t, m, &fake{compute: func(run int, in, out []float32, _ graph.Shape) error {
			out[len(out)-1] = float32(bad)
			return nil
		}}, Config{Lazy: true})
		_, _, err := r.Restore(context.Background(), noise(t, 9, 9, 3, 8), Options{Override: only(0)})
		require.ErrorIs(t, err, backend.ErrNotFinite)
		require.ErrorContains(t, err, `expert 0 (nafnet_local): run nafnet_local: the network's output is not finite: 1 of 243 values of "restored"`)
	}
}

func TestBadOptionsAndImagesAreErrors(t *testing.T) {
	m := oneExpert(t, models.NAFNetLocalName, `{"train_size":[1,3,4,4],"width":2,"enc_blk_nums":[1,1,1],"dec_blk_nums":[1,1,1]}`)
	broken := errors.New("broken")
	r := restorer(t, m, &fake{compute: func(int, []float32, []float32, graph.Shape) error { return broken }}, Config{Lazy: true})
	img := noise(t, 200, 200, 3, 8)
	for _, c := range []struct {
		opt  Options
		want string
	}{
		{Options{Override: only(1)}, "expert 1: the pool has 0 to 0"},
		{Options{Override: only(0), Tile: -2}, "tile -2"},
		{Options{Override: only(0), Overlap: -1}, "overlap -1"},
		{Options{Override: only(0), Tile: 64, Overlap: 60}, "tiles of 64 pixels are too small for an overlap of 60"},
		{Options{Override: only(0), Tile: 4}, "too small"},
		{Options{Override: only(0), Tile: 64}, "tile at 0,0: broken"},
	} {
		_, _, err := r.Restore(context.Background(), img, c.opt)
		require.ErrorContains(t, err, c.want)
		require.LessOrEqual(t, strings.Count(err.Error(), "expert 0 ("), 1, err)
	}
	_, _, err := r.Restore(context.Background(), &imaging.Image{W: 3, H: 3, Channels: 3, Depth: 8}, Options{Override: only(0)})
	require.Error(t, err)
}

func TestSeveralGoroutinesShareARestorer(t *testing.T) {
	m := tinyModel(t)
	r := restorer(t, m, expertstest.CPU(t), Config{})
	img := noise(t, 30, 26, 3, 8)
	want, _, err := r.Restore(context.Background(), img, Options{})
	require.NoError(t, err)
	errs := make(chan error)
	const n = 6
	for range n {
		go func() {
			got, _, err := r.Restore(context.Background(), img, Options{})
			if err == nil && string(got.Pix) != string(want.Pix) {
				err = errors.New("another result")
			}
			errs <- err
		}()
	}
	for range n {
		require.NoError(t, <-errs)
	}
}
