package convert_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/convert"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/experts/expertstest"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/platform"
	"unirestorer/runtime/restore"
	"unirestorer/weights"
)

const singles = "../../testdata/singles"

// restoreWith restores a picture with a model, by its own choice of expert.
func restoreWith(t testing.TB, m *experts.Model, b backend.Backend, img *imaging.Image, opt restore.Options) *imaging.Image {
	t.Helper()
	r, err := restore.New(context.Background(), m, b, restore.Config{})
	require.NoError(t, err)
	out, _, err := r.Restore(context.Background(), img, opt)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return out
}

// furthest is the largest difference of two 8-bit pictures.
func furthest(t testing.TB, a, b *imaging.Image) int {
	t.Helper()
	require.Equal(t, []int{a.W, a.H, a.Channels, 8, 8}, []int{b.W, b.H, b.Channels, a.Depth, b.Depth})
	worst := 0
	for i := range a.Pix {
		worst = max(worst, int(a.Pix[i])-int(b.Pix[i]), int(b.Pix[i])-int(a.Pix[i]))
	}
	return worst
}

func picture(t testing.TB, parts ...string) *imaging.Image {
	t.Helper()
	img, err := imaging.DecodeFile(filepath.Join(parts...), imaging.Limits{})
	require.NoError(t, err)
	return img
}

func open(t testing.TB, path string, args string) *experts.Model {
	t.Helper()
	m, err := convert.Open(context.Background(), path, convert.OpenOptions{Args: json.RawMessage(args)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

func TestNetworksAsTheirAuthorsPublishThemRestore(t *testing.T) {
	cases, err := os.ReadDir(singles)
	require.NoError(t, err)
	ran := 0
	for _, c := range cases {
		if !c.IsDir() {
			continue
		}
		ran++
		t.Run(c.Name(), func(t *testing.T) {
			dir := filepath.Join(singles, c.Name())
			m := open(t, filepath.Join(dir, "model.pth"), "")
			got := restoreWith(t, m, expertstest.CPU(t), picture(t, dir, "in.png"), restore.Options{})
			require.LessOrEqual(t, furthest(t, got, picture(t, dir, "expected.png")), 1)
		})
	}
	require.Equal(t, 7, ran)
}

// expected_local.png is the authors' BaselineLocal for patches of 20×28 pixels,
// with channel attention made strong enough that its window matters: weights of
// se ×8, beta ×30.
func TestBaselinesAverageOverLocalWindowsWhenAsked(t *testing.T) {
	path := rewritten(t, "nafnet_baseline", func(x *weights.Tensor) *weights.Tensor {
		by := float32(1)
		switch {
		case strings.Contains(x.Name, ".se.") && strings.HasSuffix(x.Name, "weight"):
			by = 8
		case strings.HasSuffix(x.Name, ".beta"):
			by = 30
		}
		v := make([]float32, x.NumElements())
		require.NoError(t, x.ReadFloat32(v))
		for i := range v {
			v[i] *= by
		}
		y, err := weights.FromFloat32(x.Name, x.Shape, v)
		require.NoError(t, err)
		return y
	})
	dir := filepath.Join(singles, "nafnet_baseline")
	in, want := picture(t, dir, "in.png"), picture(t, dir, "expected_local.png")
	local := open(t, path, `{"train_size":[1,3,20,28]}`)
	require.Equal(t, models.BaselineLocalName, local.Config.Experts[0].Architecture)
	require.LessOrEqual(t, furthest(t, restoreWith(t, local, expertstest.CPU(t), in, restore.Options{}), want), 1)
	require.Greater(t, furthest(t, restoreWith(t, open(t, path, ""), expertstest.CPU(t), in, restore.Options{}), want), 5, "the window matters")
	named := open(t, path, `{"architecture":"nafnet_baseline_local"}`)
	require.Contains(t, string(named.Config.Experts[0].Args), `"train_size":[1,3,256,256]`)
}

func TestPublishedNetworksRunOnTheSimulatedDevice(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates whole networks")
	}
	b, err := platform.Open("sim", platform.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close()) }()
	for _, name := range []string{"nafnet_baseline", "dehazeformer"} {
		dir := filepath.Join(singles, name)
		got := restoreWith(t, open(t, filepath.Join(dir, "model.pth"), ""), b, picture(t, dir, "in.png"), restore.Options{})
		require.LessOrEqual(t, furthest(t, got, picture(t, dir, "expected.png")), 2, name)
	}
}

// rewritten stores the tensors of a case under other names; a nil tensor leaves
// one out.
func rewritten(t testing.TB, name string, change func(x *weights.Tensor) *weights.Tensor) string {
	t.Helper()
	f, err := weights.Open(filepath.Join(singles, name, "model.pth"))
	require.NoError(t, err)
	defer f.Close()
	var all []*weights.Tensor
	for _, n := range f.Names() {
		x, err := f.Tensor(n)
		require.NoError(t, err)
		if x = change(x); x != nil {
			all = append(all, x)
		}
	}
	path := filepath.Join(t.TempDir(), "net.safetensors")
	require.NoError(t, weights.WriteSafetensors(context.Background(), path, all, nil))
	return path
}

func TestPrefixesOfTrainingProgramsDoNotMatter(t *testing.T) {
	for _, prefix := range []string{"", "module.", "net.", "generator.", "params_ema.", "_orig_mod.module.", "model.net_g."} {
		path := rewritten(t, "nafnet_baseline", func(x *weights.Tensor) *weights.Tensor { return x.WithName(prefix + x.Name) })
		m := open(t, path, "")
		require.Equal(t, models.BaselineName, m.Config.Experts[0].Architecture)
		require.Equal(t, prefix, m.Config.Experts[0].Prefix)
	}
}

func TestAveragedWeightsArePreferred(t *testing.T) {
	f, err := weights.Open(filepath.Join(singles, "nafnet_baseline", "model.pth"))
	require.NoError(t, err)
	defer f.Close()
	var all []*weights.Tensor
	for _, prefix := range []string{"params.", "params_ema."} {
		for _, n := range f.Names() {
			x, err := f.Tensor(n)
			require.NoError(t, err)
			all = append(all, x.WithName(prefix+n))
		}
	}
	path := filepath.Join(t.TempDir(), "net.safetensors")
	require.NoError(t, weights.WriteSafetensors(context.Background(), path, all, nil))
	require.Equal(t, "params_ema.", open(t, path, "").Config.Experts[0].Prefix)
}

func TestNetworkArgumentsSayWhatTensorsDoNot(t *testing.T) {
	path := filepath.Join(singles, "nafnet", "model.pth")
	require.Equal(t, models.NAFNetName, open(t, path, "").Config.Experts[0].Architecture)
	local := open(t, path, `{"train_size":64}`)
	require.Equal(t, models.NAFNetLocalName, local.Config.Experts[0].Architecture)
	require.Contains(t, string(local.Config.Experts[0].Args), `"train_size":[1,3,64,64]`)
	require.Contains(t, string(open(t, path, `{"architecture":"nafnet_local"}`).Config.Experts[0].Args), `"train_size":[1,3,256,256]`)

	haze := filepath.Join(singles, "dehazeformer")
	in := picture(t, haze, "in.png")
	wrong := restoreWith(t, open(t, filepath.Join(haze, "model.pth"), `{"range":[0,1]}`), expertstest.CPU(t), in, restore.Options{})
	require.Greater(t, furthest(t, wrong, picture(t, haze, "expected.png")), 1)

	for args, want := range map[string]string{
		`{"architecture":"swinir"}`:      `unknown architecture "swinir"`,
		`{"architecture":"restormer"}`:   `the tensors are no restormer: there is no "encoder_level1.0.attn.temperature"`,
		`{"widht":8}`:                    `unknown field "widht"`,
		`{"width":16}`:                   `tensor "intro.weight" has shape [8 3 3 3], but [16 3 3 3] goes with the others`,
		`{"range":[1,0]}`:                "range [1 0]",
		`{"train_size":[1,2]}`:           "train_size",
		`[]`:                             "want a JSON object",
		`{"architecture":"dehazeformer"`: "want a JSON object",
	} {
		_, err := convert.Open(context.Background(), path, convert.OpenOptions{Args: json.RawMessage(args)})
		require.ErrorContains(t, err, want, args)
	}
	_, err := convert.Open(context.Background(), t.TempDir(), convert.OpenOptions{Args: json.RawMessage(`{}`)})
	require.ErrorContains(t, err, "a model folder holds its own")
}

// A network is never taken for another that it is merely like.
func TestEveryTensorCounts(t *testing.T) {
	for _, name := range []string{"nafnet_baseline", "restormer_rain", "dehazeformer", "retinexformer"} {
		f, err := weights.Open(filepath.Join(singles, name, "model.pth"))
		require.NoError(t, err)
		names := f.Names()
		require.NoError(t, f.Close())
		for i, gone := range names {
			if i%7 != 0 || strings.HasSuffix(gone, "relative_positions") {
				continue
			}
			path := rewritten(t, name, func(x *weights.Tensor) *weights.Tensor {
				if x.Name == gone {
					return nil
				}
				return x
			})
			_, err := convert.Open(context.Background(), path, convert.OpenOptions{})
			require.Error(t, err, "%s without %s", name, gone)
		}
		extra := rewritten(t, name, func(x *weights.Tensor) *weights.Tensor {
			if x.Name == names[len(names)-1] {
				return x.WithName("extra." + x.Name)
			}
			return x
		})
		_, err = convert.Open(context.Background(), extra, convert.OpenOptions{})
		require.Error(t, err)
		// Shapes go round among the tensors.
		next := map[string]string{}
		for i, n := range names {
			next[n] = names[(i+5)%len(names)]
		}
		shuffled := rewritten(t, name, func(x *weights.Tensor) *weights.Tensor { return x.WithName(next[x.Name]) })
		_, err = convert.Open(context.Background(), shuffled, convert.OpenOptions{})
		require.Error(t, err, "%s shuffled", name)
	}
}

func TestNearMissesNameWhatIsMissing(t *testing.T) {
	path := rewritten(t, "restormer_rain", func(x *weights.Tensor) *weights.Tensor {
		if x.Name == "encoder_level1.0.attn.temperature" {
			return nil
		}
		return x
	})
	_, err := convert.Open(context.Background(), path, convert.OpenOptions{})
	require.ErrorContains(t, err, `most names are those of a restormer, but there is no "encoder_level1.0.attn.temperature"`)
	path = rewritten(t, "restormer_rain", func(x *weights.Tensor) *weights.Tensor {
		if x.Name == "latent.0.norm1.body.bias" {
			return nil
		}
		return x
	})
	_, err = convert.Open(context.Background(), path, convert.OpenOptions{})
	require.ErrorContains(t, err, `no tensor "latent.0.norm1.body.bias"`)
	require.ErrorContains(t, err, "--net-args")
}

func TestOfficialSizesBuildAndRun(t *testing.T) {
	for _, a := range models.Architectures() {
		for _, size := range a.Sizes {
			net, err := models.New(a.Name, json.RawMessage(size.Args))
			require.NoError(t, err, size.Name)
			h, w, err := models.Fit(net, 96, 64)
			require.NoError(t, err)
			g, err := net.Build(nil, 1, h, w, models.Options{})
			require.NoError(t, err, size.Name)
			in, out := models.PortChannels(net)
			require.Equal(t, in, g.Inputs[0].Shape.C, size.Name)
			require.Equal(t, out, g.Outputs[0].Shape.C, size.Name)
			if !testing.Short() {
				runsAtRandom(t, net, size.Name)
			}
		}
	}
}

// runsAtRandom runs a network with random weights on a small picture.
func runsAtRandom(t *testing.T, net models.Network, name string) {
	t.Helper()
	args, err := json.Marshal(net)
	require.NoError(t, err)
	c := (&convert.Single{Architecture: net.Architecture(), Args: args}).Pool(name)
	src, err := models.RandomWeights(c, 1)
	require.NoError(t, err)
	h, w, err := models.Fit(net, 32, 32)
	require.NoError(t, err)
	g, err := c.BuildExpert(src, 0, 1, h, w, models.Options{})
	require.NoError(t, err)
	p, err := expertstest.CPU(t).Compile(context.Background(), g)
	require.NoError(t, err)
	x, y := make([]float32, g.Inputs[0].Shape.Elems()), make([]float32, g.Outputs[0].Shape.Elems())
	for i := range x {
		x[i] = float32(i%7) / 7
	}
	require.NoError(t, p.Run(context.Background(), [][]float32{x}, [][]float32{y}, backend.RunOptions{}), name)
	require.NoError(t, p.Close())
	require.NotZero(t, y[len(y)/2])
}

// dualPixel is a network of two pictures with random weights.
func dualPixel(t testing.TB) *experts.Model {
	t.Helper()
	args := json.RawMessage(`{"inp_channels":6,"dual_pixel_task":true,"dim":8,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,1,2,2]}`)
	c := (&convert.Single{Architecture: models.RestormerName, Args: args}).Pool("dual")
	src, err := models.RandomWeights(c, 3)
	require.NoError(t, err)
	m, err := experts.NewModel("dual", c, src, nil)
	require.NoError(t, err)
	return m
}

func TestTwoPicturesGoIn(t *testing.T) {
	m, b := dualPixel(t), expertstest.CPU(t)
	left := picture(t, singles, "nafnet", "in.png")
	right := left.Clone()
	for i := range right.Pix {
		right.Pix[i] = 255 - right.Pix[i]
	}
	both := restoreWith(t, m, b, left, restore.Options{Second: right})
	require.NotZero(t, furthest(t, both, restoreWith(t, m, b, left, restore.Options{Second: left})), "the second picture matters")
	require.NotZero(t, furthest(t, both, restoreWith(t, m, b, right, restore.Options{Second: left})), "the order matters")
	r, err := restore.New(context.Background(), m, b, restore.Config{})
	require.NoError(t, err)
	defer r.Close()
	_, _, err = r.Restore(context.Background(), left, restore.Options{})
	require.ErrorContains(t, err, "the network takes 2 pictures at a time")
	other := picture(t, singles, "retinexformer", "in.png")
	_, _, err = r.Restore(context.Background(), left, restore.Options{Second: other})
	require.ErrorContains(t, err, "the second picture has 70×54 pixels, the first 77×50")
}

func FuzzSingleNetworkHeads(f *testing.F) {
	data, err := os.ReadFile(filepath.Join(singles, "nafnet_baseline", "model.pth"))
	require.NoError(f, err)
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "net.pth")
		require.NoError(t, os.WriteFile(path, data, 0o666))
		m, err := convert.Open(context.Background(), path, convert.OpenOptions{})
		if err == nil {
			require.Len(t, m.Config.Experts, 1)
			require.NoError(t, m.Close())
		}
	})
}

// What tensors do not tell survives a round through a file of our own.
func TestExportedExpertsComeBackAsTheyWere(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct{ name, args string }{
		{"nafnet", `{"train_size":32}`}, {"dehazeformer", ""}, {"dehazeformer", `{"range":[0,1]}`}, {"restormer_gray", ""},
	} {
		m := open(t, filepath.Join(singles, c.name, "model.pth"), c.args)
		path := filepath.Join(t.TempDir(), "x.safetensors")
		f, err := os.Create(path)
		require.NoError(t, err)
		require.NoError(t, convert.WriteExpert(ctx, f, m, 0, false))
		require.NoError(t, f.Close())
		again := open(t, path, "")
		want, err := m.Config.Expert(0)
		require.NoError(t, err)
		got, err := again.Config.Expert(0)
		require.NoError(t, err)
		require.Equal(t, want, got)
		in := picture(t, singles, c.name, "in.png")
		require.Zero(t, furthest(t, restoreWith(t, m, expertstest.CPU(t), in, restore.Options{}), restoreWith(t, again, expertstest.CPU(t), in, restore.Options{})))
	}
	// An expert of a pool has pictures in 0..1, unlike its authors' networks.
	pool := (&convert.Single{Architecture: models.DehazeFormerName, Args: json.RawMessage(`{"embed_dims":[8,16,16,16,8],"depths":[1,1,1,1,1],"num_heads":[1,2,2,1,1]}`)}).Pool("p")
	src, err := models.RandomWeights(pool, 1)
	require.NoError(t, err)
	m, err := experts.NewModel("p", pool, src, nil)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "x.safetensors")
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, convert.WriteExpert(ctx, f, m, 0, false))
	require.NoError(t, f.Close())
	require.NotContains(t, string(open(t, path, "").Config.Experts[0].Args), "range")
}
