package restore

import (
	"image"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/degrade"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/experts/expertstest"
	"unirestorer/runtime/imaging"
	"unirestorer/weights/nano"
)

// nanoModel is the built-in model.
func nanoModel(t testing.TB) *experts.Model {
	t.Helper()
	m, err := experts.OpenModelFS(nano.Name, nano.Files())
	require.NoError(t, err)
	return m
}

// photo is a part of a photo, as it is, hazy, or with its left half dark.
func photo(t testing.TB, kind string, w, h int) *imaging.Image {
	t.Helper()
	img, err := imaging.DecodeFile("../../testdata/photos/clean.png", imaging.Limits{})
	require.NoError(t, err)
	img, err = img.Resize(w, h)
	require.NoError(t, err)
	switch kind {
	case "half dark":
		for i := range img.Pix {
			if i/img.Channels%w < w/2 {
				img.Pix[i] = uint8(float64(img.Pix[i])*0.12 + 0.5)
			}
		}
	case "hazy":
		pic, err := degrade.NewImage(w, h)
		require.NoError(t, err)
		require.NoError(t, img.RGBFloat(pic.Pix, img.Bounds()))
		spec, err := degrade.ParseSpec("haze:0.7")
		require.NoError(t, err)
		pic, err = degrade.Apply(t.Context(), pic, spec)
		require.NoError(t, err)
		require.NoError(t, img.SetRGBFloat(pic.Pix, img.Bounds()))
	}
	return img
}

func decibels(a, b *imaging.Image) float64 {
	var sum float64
	for i := range a.Pix {
		d := float64(a.Pix[i]) - float64(b.Pix[i])
		sum += d * d
	}
	return 10 * math.Log10(255*255/max(sum/float64(len(a.Pix)), 1e-9))
}

// TestTilesMatchNetworksThatLookAtTheWholeImage compares tiles with the whole for every kind of statistic: Gram matrices of
// convolutions of both sorts, RescaleNorm, pooled means. With UNIRESTORER_TEST_LONG it is every expert of the built-in
// model on larger pictures.
func TestTilesMatchNetworksThatLookAtTheWholeImage(t *testing.T) {
	m := nanoModel(t)
	r := restorer(t, m, expertstest.CPU(t), Config{Lazy: true})
	w, h, kinds, all := 200, 136, []string{"half dark"}, []int{5, 10}
	if os.Getenv("UNIRESTORER_TEST_LONG") != "" {
		w, h, kinds, all = 500, 380, []string{"half dark", "hazy"}, nil
		for e := range m.Config.Experts {
			all = append(all, e)
		}
	} else if testing.Short() {
		all = []int{5}
	}
	for _, kind := range kinds {
		img := photo(t, kind, w, h)
		for _, e := range all {
			opt := Options{Override: only(e), NoGuard: true, Tile: TileOff}
			whole, rep, err := r.Restore(t.Context(), img, opt)
			require.NoError(t, err)
			require.Zero(t, rep.Passes)
			opt.Tile = 128
			tiled, rep, err := r.Restore(t.Context(), img, opt)
			require.NoError(t, err)
			require.Greater(t, rep.TilesX*rep.TilesY, 1)
			db := decibels(whole, tiled)
			t.Logf("%s, expert %d %s: %.1f dB in %.1f passes", kind, e, rep.Expert, db, rep.Passes)
			require.Greater(t, db, 45.0)
			require.Greater(t, rep.Passes, 1.0)
		}
	}
}

// TestTilesMatchNetworksOfReleasedSizes compares tiles with the whole for one network of each architecture of the released
// pool, with random weights.
func TestTilesMatchNetworksOfReleasedSizes(t *testing.T) {
	if os.Getenv("UNIRESTORER_TEST_LONG") == "" {
		t.Skip("UNIRESTORER_TEST_LONG is not set: runs large networks for minutes")
	}
	c := models.Released()
	src, err := models.RandomWeights(c, 1)
	require.NoError(t, err)
	r := restorer(t, &experts.Model{Config: c, Source: src, Path: "released"}, expertstest.CPU(t), Config{Lazy: true})
	seen := map[string]bool{}
	for e, x := range c.Experts {
		if seen[x.Architecture] {
			continue
		}
		seen[x.Architecture] = true
		t.Run(x.Architecture, func(t *testing.T) {
			for _, kind := range []string{"half dark", "hazy"} {
				img := photo(t, kind, 200, 136)
				opt := Options{Override: only(e), NoGuard: true, Tile: TileOff}
				whole, _, err := r.Restore(t.Context(), img, opt)
				require.NoError(t, err)
				opt.Tile = 128
				tiled, rep, err := r.Restore(t.Context(), img, opt)
				require.NoError(t, err)
				db := decibels(whole, tiled)
				t.Logf("%s, expert %d %s: %.1f dB in %.1f passes, %.1f dB from the picture", kind, e, rep.Expert, db, rep.Passes, decibels(whole, img))
				require.Greater(t, db, 35.0)
			}
		})
	}
	require.Len(t, seen, 5)
}

// TestStatisticsOfPartsAreThoseOfTheWhole joins the statistics of two halves of what a layer of each kind reads and
// compares them with the whole's, on any network: those of its first layers, that nothing else has changed.
func TestStatisticsOfPartsAreThoseOfTheWhole(t *testing.T) {
	for arch, args := range map[string]string{
		models.RestormerName: `{"dim":8,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,1,2,2]}`, models.NAFNetName: `{"width":4}`,
		models.RetinexFormerName: `{"n_feat":8,"num_blocks":[1,1,1]}`,
		models.DehazeFormerName:  `{"embed_dims":[8,16,16,16,8],"depths":[1,1,1,1,1],"num_heads":[1,2,2,1,1]}`,
	} {
		t.Run(arch, func(t *testing.T) {
			m := oneExpert(t, arch, args)
			b := expertstest.CPU(t)
			const h, w = 64, 128
			img := noise(t, w, h, 3, 8)
			for y := range h { // the halves differ
				for x := range w / 2 * 3 {
					img.Pix[y*w*3+x] /= 5
				}
			}
			g, err := m.Config.BuildExpert(m.Source, 0, 1, h, w, models.Options{})
			require.NoError(t, err)
			var names []string
			for _, s := range g.Statistics() {
				names = append(names, s.Name)
			}
			require.NotEmpty(t, names)
			observed, err := g.Observed(names)
			require.NoError(t, err)
			in := floats(t, img)
			want := outputs(t, b, observed, [][]float32{in})

			given, err := g.Given(names)
			require.NoError(t, err)
			got := outputs(t, b, given, append([][]float32{in}, want[1:]...))
			require.InDeltaSlice(t, want[0], got[0], 1e-5, "with its own statistics the network computes the same")

			corrected, err := g.Corrected(names)
			require.NoError(t, err)
			offsets := make([][]float32, len(names))
			for i := range offsets {
				offsets[i] = make([]float32, len(want[i+1]))
			}
			got = outputs(t, b, corrected, append([][]float32{in}, offsets...))
			for i := range want {
				require.InDeltaSlice(t, want[i], got[i], 1e-5, "without corrections nothing changes")
			}
			for i := range offsets {
				for k, v := range want[i+1] {
					offsets[i][k] = -2 * v
				}
			}
			got = outputs(t, b, corrected, append([][]float32{in}, offsets...))
			require.False(t, slices.Equal(want[0], got[0]))
			require.InDeltaSlice(t, outputs(t, b, given, append([][]float32{in}, got[1:]...))[0], got[0], 1e-5, "what is shown is what was used")

			var gather *graph.Gather
			for _, core := range []image.Rectangle{image.Rect(0, 0, w/2, h), image.Rect(w/2, 0, w, h)} {
				part, joined, err := g.Gathered(names, core)
				require.NoError(t, err)
				if gather == nil {
					gather = joined
				}
				gather.Add(outputs(t, b, part, append([][]float32{in}, want[1:]...)), core.Dx()*core.Dy())
			}
			joined, err := gather.Values()
			require.NoError(t, err)
			require.Len(t, joined, len(names))
			for i, name := range names {
				require.InDeltaSlice(t, want[i+1], joined[name], 2e-3, name)
			}
		})
	}
}

func TestPiecesAreSpreadEvenly(t *testing.T) {
	for _, c := range []struct{ rows, columns, n int }{{1, 1, 1}, {3, 5, 15}, {20, 30, 38}, {1, 100, 8}, {100, 1, 8}, {17, 23, 25}, {7, 7, 12}} {
		all := spread(c.rows, c.columns, c.n)
		require.LessOrEqual(t, len(all), c.n+c.rows)
		require.GreaterOrEqual(t, len(all), c.n/2)
		seen := map[image.Point]bool{}
		var x, y float64
		for _, p := range all {
			require.False(t, seen[p])
			seen[p] = true
			require.True(t, p.In(image.Rect(0, 0, c.columns, c.rows)))
			x, y = x+(float64(p.X)+0.5)/float64(c.columns), y+(float64(p.Y)+0.5)/float64(c.rows)
		}
		if len(all) > 1 {
			require.InDelta(t, 0.5, x/float64(len(all)), 0.12, c)
			require.InDelta(t, 0.5, y/float64(len(all)), 0.12, c)
		}
	}
	require.Len(t, spread(4, 4, 16), 16)
}

// TestADeviceTakesAndShowsStatistics gives a simulated device the statistics of the CPU and compares what it makes of them,
// and what it says of statistics itself.
func TestADeviceTakesAndShowsStatistics(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates three networks")
	}
	for arch, args := range map[string]string{
		models.RestormerName:    `{"dim":8,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,1,2,2]}`,
		models.NAFNetName:       `{"width":8}`,
		models.DehazeFormerName: `{"embed_dims":[8,8,8,8,8],"depths":[0,0,1,0,0],"num_heads":[1,1,1,1,1]}`,
	} {
		t.Run(arch, func(t *testing.T) {
			m := oneExpert(t, arch, args)
			sim, _ := simulated(t, 1<<30)
			img := noise(t, 32, 32, 3, 8)
			g, err := m.Config.BuildExpert(m.Source, 0, 1, 32, 32, models.Options{})
			require.NoError(t, err)
			var names []string
			for _, s := range g.Statistics() {
				names = append(names, s.Name)
			}
			observed, err := g.Observed(names)
			require.NoError(t, err)
			given, err := g.Given(names)
			require.NoError(t, err)
			in := floats(t, img)
			host := outputs(t, expertstest.CPU(t), observed, [][]float32{in})
			device := outputs(t, sim, observed, [][]float32{in})
			for i, name := range names {
				requireNear(t, host[i+1], device[i+1], name)
			}
			got := outputs(t, sim, given, append([][]float32{in}, host[1:]...))
			requireNear(t, host[0], got[0], "restored")
			half := make([][]float32, 0, len(names)+1)
			half = append(half, in)
			for _, v := range host[1:] { // other statistics, another picture
				other := make([]float32, len(v))
				for i := range v {
					other[i] = v[i] / 2
				}
				half = append(half, other)
			}
			require.NotEqual(t, got[0], outputs(t, sim, given, half)[0])
		})
	}
}

// outputs runs a graph once.
func outputs(t testing.TB, b backend.Backend, g *graph.Graph, in [][]float32) [][]float32 {
	t.Helper()
	p, err := b.Compile(t.Context(), g)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	var out [][]float32
	for _, o := range g.Outputs {
		out = append(out, make([]float32, o.Shape.Elems()))
	}
	require.NoError(t, p.Run(t.Context(), in, out, backend.RunOptions{}))
	return out
}

// requireNear allows for half precision.
func requireNear(t testing.TB, want, got []float32, name string) {
	t.Helper()
	most := 0.0
	for _, v := range want {
		most = max(most, math.Abs(float64(v)))
	}
	require.InDeltaSlice(t, want, got, 0.02*most, name)
}
