package pools_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/convert"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/experts/expertstest"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/pools"
	"unirestorer/runtime/quality"
	"unirestorer/runtime/restore"
	"unirestorer/runtime/router"
	"unirestorer/weights"
	"unirestorer/weights/nano"
)

const (
	singles  = "../../testdata/singles"
	adapters = "../../testdata/adapters"
)

func single(name string) string { return filepath.Join(singles, name, "model.pth") }

func builtIn(t testing.TB) *experts.Model {
	t.Helper()
	m, err := experts.OpenModelFS(nano.Name, nano.Files())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

// pool is an empty pool in a new folder, opened.
func pool(t testing.TB, router *experts.Model) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "pool")
	require.NoError(t, pools.New(context.Background(), dir, router))
	return dir
}

// change opens a pool for do.
func change(t testing.TB, dir string, do func(p *pools.Pool) error) error {
	t.Helper()
	p, err := pools.Open(dir)
	require.NoError(t, err)
	err = do(p)
	require.NoError(t, p.Close())
	return err
}

func add(t testing.TB, dir string, x pools.Expert) {
	t.Helper()
	require.NoError(t, change(t, dir, func(p *pools.Pool) error {
		_, err := p.Add(context.Background(), x)
		return err
	}))
}

func opened(t testing.TB, dir string) *experts.Model {
	t.Helper()
	m, err := experts.OpenModel(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

func run(t testing.TB, m *experts.Model, b backend.Backend, img *imaging.Image, c restore.Config, o router.Override) (*imaging.Image, restore.Report) {
	t.Helper()
	r, err := restore.New(context.Background(), m, b, c)
	require.NoError(t, err)
	out, rep, err := r.Restore(context.Background(), img, restore.Options{Override: o})
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return out, rep
}

func picture(t testing.TB, parts ...string) *imaging.Image {
	t.Helper()
	img, err := imaging.DecodeFile(filepath.Join(parts...), imaging.Limits{})
	require.NoError(t, err)
	return img
}

func furthest(t testing.TB, a, b *imaging.Image) int {
	t.Helper()
	require.Len(t, b.Pix, len(a.Pix))
	worst := 0
	for i := range a.Pix {
		worst = max(worst, int(a.Pix[i])-int(b.Pix[i]), int(b.Pix[i])-int(a.Pix[i]))
	}
	return worst
}

func expert(t testing.TB, m *experts.Model, name string) router.Override {
	t.Helper()
	n, err := m.Config.FindExpert(name)
	require.NoError(t, err)
	return router.Override{Expert: &n}
}

func TestAdaptersAsTheWorldWritesThemGiveTheSamePictureInEveryMode(t *testing.T) {
	dir := pool(t, nil)
	add(t, dir, pools.Expert{Path: single("restormer_rain"), Name: "base", Kinds: []string{"rain"}})
	for name, path := range map[string]string{"peft": "peft", "peft_rslora": "peft_rslora", "kohya": "kohya/adapter.safetensors"} {
		require.NoError(t, change(t, dir, func(p *pools.Pool) error {
			a, err := p.AddLoRA(context.Background(), pools.AdapterExpert{
				Expert: pools.Expert{Path: filepath.Join(adapters, path), Name: name, Kinds: []string{"rain"}}, Base: "base",
			})
			require.NoError(t, err)
			require.Equal(t, 42, a.Layers)
			return nil
		}))
	}
	m := opened(t, dir)
	in := picture(t, singles, "restormer_rain", "in.png")
	for _, name := range []string{"peft", "peft_rslora", "kohya"} {
		want := picture(t, adapters, name, "expected.png")
		for _, mode := range []experts.Adapters{experts.Merged, experts.Switched, experts.Unmerged} {
			got, _ := run(t, m, expertstest.CPU(t), in, restore.Config{Adapters: mode}, expert(t, m, name))
			require.LessOrEqual(t, furthest(t, got, want), 1, "%s %s", name, mode)
		}
		plain, _ := run(t, m, expertstest.CPU(t), in, restore.Config{}, expert(t, m, "base"))
		require.Greater(t, furthest(t, plain, want), 1, "the adapter matters")
	}
	// Adapters share their base, on disk too.
	require.Less(t, sizeOf(t, dir), 3*sizeOf(t, single("restormer_rain")))
	i, err := m.Config.FindExpert("peft")
	require.NoError(t, err)
	g, err := m.Config.BuildExpert(m.Source, i, 1, 64, 64, models.Options{Unmerged: true})
	require.NoError(t, err)
	branches := 0
	for _, n := range g.Nodes {
		if c, ok := n.Op.(*graph.Conv); ok && c.LowRank != nil {
			branches++
		}
	}
	require.Greater(t, branches, 20, "as branches beside the base")
}

func sizeOf(t testing.TB, path string) int64 {
	t.Helper()
	var n int64
	require.NoError(t, filepath.Walk(path, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			n += info.Size()
		}
		return err
	}))
	return n
}

func TestAdaptersThatAreNoneAreRefusedByName(t *testing.T) {
	dir := pool(t, nil)
	add(t, dir, pools.Expert{Path: single("restormer_rain"), Name: "base", Kinds: []string{"rain"}})
	before := sizeOf(t, dir)
	for path, want := range map[string]string{
		"refuse_dora":                    "use_dora (DoRA) is not supported",
		"refuse_wrong_layer":             `"base_model.model.encoder_level9.0.attn.qkv.lora_A.weight" fits no layer of the base`,
		"peft/adapter_model.safetensors": "give the folder that holds it",
		"nothing":                        "no such file",
	} {
		err := change(t, dir, func(p *pools.Pool) error {
			_, err := p.AddLoRA(context.Background(), pools.AdapterExpert{
				Expert: pools.Expert{Path: filepath.Join(adapters, path), Name: "x", Kinds: []string{"rain"}}, Base: "base",
			})
			return err
		})
		require.ErrorContains(t, err, want, path)
	}
	require.Equal(t, before, sizeOf(t, dir))
}

func TestOtherKindsOfAdaptersAreRefusedByName(t *testing.T) {
	net, err := models.New(models.RestormerName, json.RawMessage(`{"dim":8,"num_blocks":[1,1,2,1],"num_refinement_blocks":1}`))
	require.NoError(t, err)
	for suffix, want := range map[string]string{
		"hada_w1_a": "LoHa", "lokr_w1": "LoKr", "dora_scale": "DoRA", "oft_blocks": "OFT", "lora_mid.weight": "lora_mid", "scaled": "belongs to no adapter of a layer",
	} {
		file := filepath.Join(t.TempDir(), "adapter.safetensors")
		var all []*weights.Tensor
		for name, dims := range map[string][]int{"lora_down.weight": {2, 8, 1, 1}, "lora_up.weight": {24, 2, 1, 1}, suffix: {2, 2}} {
			n := 1
			for _, d := range dims {
				n *= d
			}
			x, err := weights.FromFloat32("lora_unet_encoder_level1_0_attn_qkv."+name, dims, make([]float32, n))
			require.NoError(t, err)
			all = append(all, x)
		}
		require.NoError(t, weights.WriteSafetensors(context.Background(), file, all, nil))
		_, _, err := pools.ReadAdapter(file, net, 0)
		require.ErrorContains(t, err, want)
	}
}

// Several patterns may match a layer: the first in the file counts, as for PEFT.
func TestFirstPatternOfTheFileCounts(t *testing.T) {
	net, err := models.New(models.RestormerName, json.RawMessage(`{"dim":8,"num_blocks":[1,1,1,1],"num_refinement_blocks":1}`))
	require.NoError(t, err)
	scales := func(config string) map[string]float64 {
		a, f, err := pools.ReadAdapter(randomAdapter(t, net, 1, config), net, 0)
		require.NoError(t, err)
		defer f.Close()
		all := map[string]float64{}
		for _, l := range a.Layers {
			all[l.Name] = l.Scale
		}
		return all
	}
	s := scales(`{"peft_type":"LORA","r":9,"lora_alpha":2,"rank_pattern":{"qkv":2,".*":2,"latent.*":7},"alpha_pattern":{"qkv":4,"latent.0.attn.qkv":8,"^encoder_level1.0.attn.project_out":6,"level1.0.ffn.project_out":10}}`)
	require.Equal(t, 2.0, s["latent.0.attn.qkv"])
	require.Equal(t, 3.0, s["encoder_level1.0.attn.project_out"])
	require.Equal(t, 1.0, s["encoder_level1.0.ffn.project_out"], "the pattern does not begin after a dot")
	require.Equal(t, 1.0, s["output"])
	for config, want := range map[string]string{
		`{"peft_type":"LORA","rank_pattern":{"(":2}}`: "missing closing", `{"peft_type":"LORA","rank_pattern":[2]}`: "is no object",
		`{"peft_type":"LORA","alpha_pattern":{"a":"b"}}`: "cannot unmarshal", `{"peft_type":"LORA","r":2,"rank_pattern":{"latent.0.attn.qkv":3}}`: "says 3",
	} {
		_, _, err := pools.ReadAdapter(randomAdapter(t, net, 1, config), net, 0)
		require.ErrorContains(t, err, want)
	}
}

// What is whole, doubled or not finite is no adapter.
func TestFilesThatOnlyLookLikeAdaptersAreRefused(t *testing.T) {
	dir := pool(t, nil)
	add(t, dir, pools.Expert{Path: single("restormer_rain"), Name: "base", Kinds: []string{"rain"}})
	tensor := func(name string, dims []int, value float32) *weights.Tensor {
		n := 1
		for _, d := range dims {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = value
		}
		x, err := weights.FromFloat32(name, dims, v)
		require.NoError(t, err)
		return x
	}
	const layer = "encoder_level1.0.attn.qkv"
	folder := func(all ...*weights.Tensor) string {
		dir := t.TempDir()
		require.NoError(t, weights.WriteSafetensors(context.Background(), filepath.Join(dir, "adapter_model.safetensors"), all, nil))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "adapter_config.json"), []byte(`{"peft_type":"LORA","r":2,"lora_alpha":2}`), 0o666))
		return dir
	}
	nan := float32(math.NaN())
	a, b := tensor(layer+".lora_A.weight", []int{2, 8, 1, 1}, 1), tensor(layer+".lora_B.weight", []int{24, 2, 1, 1}, 1)
	for want, path := range map[string]string{
		"only whole tensors; pool add adds a whole network": single("restormer_rain"),
		"adapt one layer":                        folder(a, b, tensor(layer+".lora_A.default.weight", []int{2, 8, 1, 1}, 1), tensor(layer+".lora_B.default.weight", []int{24, 2, 1, 1}, 1)),
		`"output.weight" twice`:                  folder(a, b, tensor("output.weight", []int{3, 16, 3, 3}, 1), tensor("output.modules_to_save.weight", []int{3, 16, 3, 3}, 1)),
		`lora_B.weight": value 0 of 48 is NaN`:   folder(a, tensor(layer+".lora_B.weight", []int{24, 2, 1, 1}, nan)),
		`"output.weight": value 0 of 432 is NaN`: folder(a, b, tensor("output.weight", []int{3, 16, 3, 3}, nan)),
	} {
		err := change(t, dir, func(p *pools.Pool) error {
			_, err := p.AddLoRA(context.Background(), pools.AdapterExpert{Expert: pools.Expert{Path: path, Name: "x", Kinds: []string{"rain"}}, Base: "base"})
			return err
		})
		require.ErrorContains(t, err, want)
	}
	_, err := pools.Open(single("restormer_rain"))
	require.ErrorContains(t, err, "is a file, not a model folder")
}

// randomAdapter writes a PEFT folder with an adapter of every dense layer.
func randomAdapter(t testing.TB, net models.Network, seed uint64, config string) string {
	t.Helper()
	specs, err := models.Stored(net)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(seed, 1))
	var all []*weights.Tensor
	put := func(name string, dims ...int) {
		n := 1
		for _, d := range dims {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64()) / 10
		}
		x, err := weights.FromFloat32(name, dims, v)
		require.NoError(t, err)
		all = append(all, x)
	}
	const r = 2
	for _, s := range specs {
		layer, ok := cutWeight(s.Name)
		if !ok || len(s.Dims) < 2 || s.Dims[1] == 1 || s.Unused || len(s.Dims) == 3 {
			continue
		}
		put("base_model.model."+layer+".lora_A.weight", append([]int{r}, s.Dims[1:]...)...)
		up := []int{s.Dims[0], r}
		if len(s.Dims) == 4 {
			up = append(up, 1, 1)
		}
		put("base_model.model."+layer+".lora_B.weight", up...)
	}
	require.NotEmpty(t, all)
	dir := t.TempDir()
	require.NoError(t, weights.WriteSafetensors(context.Background(), filepath.Join(dir, "adapter_model.safetensors"), all, nil))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "adapter_config.json"), []byte(config), 0o666))
	return dir
}

func cutWeight(name string) (string, bool) {
	const w = ".weight"
	if len(name) <= len(w) || name[len(name)-len(w):] != w {
		return "", false
	}
	return name[:len(name)-len(w)], true
}

func TestAdaptersOfEveryArchitectureAgreeMergedAndAsBranches(t *testing.T) {
	for _, name := range []string{"nafnet_baseline", "dehazeformer", "retinexformer", "restormer_gray"} {
		dir := pool(t, nil)
		add(t, dir, pools.Expert{Path: single(name), Name: "base", Kinds: []string{"any"}})
		for i, seed := range []uint64{1, 2} {
			require.NoError(t, change(t, dir, func(p *pools.Pool) error {
				net, err := p.Config().Expert(1)
				require.NoError(t, err)
				_, err = p.AddLoRA(context.Background(), pools.AdapterExpert{
					Expert: pools.Expert{Path: randomAdapter(t, net, seed, `{"peft_type":"LORA","r":2,"lora_alpha":2}`), Name: []string{"one", "two"}[i], Kinds: []string{"any"}},
					Base:   "base",
				})
				return err
			}), name)
		}
		m := opened(t, dir)
		in := picture(t, singles, name, "in.png")
		for _, x := range []string{"one", "two"} {
			want, _ := run(t, m, expertstest.CPU(t), in, restore.Config{}, expert(t, m, x))
			for _, mode := range []experts.Adapters{experts.Switched, experts.Unmerged} {
				got, _ := run(t, m, expertstest.CPU(t), in, restore.Config{Adapters: mode}, expert(t, m, x))
				require.LessOrEqual(t, furthest(t, got, want), 1, "%s %s", name, mode)
			}
		}
	}
}

func TestPoolsRouteEachKindToItsOwnExpert(t *testing.T) {
	dir := pool(t, builtIn(t))
	kinds := map[string]string{"rain": "restormer_rain", "noise": "restormer_denoise", "haze": "dehazeformer", "lowlight": "retinexformer"}
	for kind, file := range kinds {
		add(t, dir, pools.Expert{Path: single(file), Name: kind, Kinds: []string{kind}})
	}
	m := opened(t, dir)
	c := m.Config
	for _, leaf := range c.Tree.Leaves {
		for level, e := range leaf.Experts {
			want := "none"
			for kind := range kinds {
				if c.Experts[e].Name == kind {
					want = kind
				}
			}
			require.Equal(t, want, c.Experts[e].Name)
			if _, has := kinds[leaf.Kinds[0]]; has {
				require.Equal(t, leaf.Kinds[0], c.Experts[e].Name, "level %d", level)
			}
		}
	}
	rain := picture(t, "../../testdata/photos/rain.png")
	_, rep := run(t, m, expertstest.CPU(t), rain, restore.Config{}, router.Override{})
	require.Equal(t, "rain", rep.Expert)
	require.Empty(t, rep.Notes)
	// What has no expert stays as it is, and the report says so.
	clean := picture(t, "../../testdata/photos/clean.png")
	out, rep := run(t, m, expertstest.CPU(t), clean, restore.Config{}, router.Override{})
	require.Equal(t, "none", rep.Expert)
	require.Contains(t, rep.Notes, "the pool has no expert for clean: the picture is left as it is")
	require.Equal(t, clean.Pix, out.Pix)
	// A coarse expert stands in.
	add(t, dir, pools.Expert{Path: single("nafnet"), Name: "all", Kinds: []string{"any"}, Level: "coarse"})
	_, rep = run(t, opened(t, dir), expertstest.CPU(t), clean, restore.Config{}, router.Override{})
	require.Equal(t, "all", rep.Expert)
	require.Contains(t, rep.Notes, "the pool has no expert for clean: all stands in")
}

// Experts of the built-in model, each by itself in a file as authors publish
// networks, make a pool again.
func TestFoldersOfFourKindsAreRestoredEachByItsOwnNetwork(t *testing.T) {
	ctx := context.Background()
	nano := builtIn(t)
	dir, folders := pool(t, nano), t.TempDir()
	kinds := map[string]string{"rain": "fine-7-rain", "noise": "fine-8-noise", "haze": "fine-5-haze", "lowlight": "fine-0-lowlight"}
	for kind, from := range kinds {
		n, err := nano.Config.FindExpert(from)
		require.NoError(t, err)
		path := filepath.Join(t.TempDir(), kind+".safetensors")
		f, err := os.Create(path)
		require.NoError(t, err)
		require.NoError(t, convert.WriteExpert(ctx, f, nano, n, false))
		require.NoError(t, f.Close())
		add(t, dir, pools.Expert{Path: path, Kinds: []string{kind}})
	}
	spoilt(t, folders, slices.Sorted(maps.Keys(kinds)), 0, 3)
	r, err := restore.New(ctx, opened(t, dir), expertstest.CPU(t), restore.Config{})
	require.NoError(t, err)
	defer r.Close()
	photo := picture(t, "../../testdata/photos/clean.png")
	for kind := range kinds {
		gain := 0.0
		for i := range 3 {
			in := picture(t, folders, kind, fmt.Sprint(i, ".png"))
			out, rep, err := r.Restore(ctx, in, restore.Options{})
			require.NoError(t, err)
			require.Equal(t, kind, rep.Expert, "picture %d", i)
			clean := inBytes(t, partOf(t, photo, i))
			before, err := quality.PSNR(in, clean)
			require.NoError(t, err)
			after, err := quality.PSNR(out, clean)
			require.NoError(t, err)
			gain += (after - before) / 3
		}
		require.Greater(t, gain, 2.0, kind)
	}
}

func TestExpertsComeAndGo(t *testing.T) {
	dir := pool(t, nil)
	ctx := context.Background()
	add(t, dir, pools.Expert{Path: single("restormer_rain"), Name: "a", Kinds: []string{"rain"}})
	one := sizeOf(t, dir)
	add(t, dir, pools.Expert{Path: single("restormer_rain"), Name: "b", Kinds: []string{"snow"}})
	require.Less(t, sizeOf(t, dir), one+one/4, "equal tensors are stored once")
	add(t, dir, pools.Expert{Path: single("nafnet"), Name: "c", Kinds: []string{"blur"}, Level: "middle"})
	require.NoError(t, change(t, dir, func(p *pools.Pool) error {
		_, err := p.AddLoRA(ctx, pools.AdapterExpert{Expert: pools.Expert{Path: filepath.Join(adapters, "peft"), Name: "d", Kinds: []string{"rain"}}, Base: "b"})
		return err
	}))
	for _, c := range []struct{ name, want string }{
		{"b", `"b" is the base of "d"`}, {"none", "stays"}, {"x", `no expert is called "x"`},
	} {
		require.ErrorContains(t, change(t, dir, func(p *pools.Pool) error { return p.Remove(ctx, c.name) }), c.want)
	}
	require.NoError(t, change(t, dir, func(p *pools.Pool) error { return p.Remove(ctx, "a") }))
	m := opened(t, dir)
	require.Equal(t, 1, *m.Config.Experts[3].Base)
	got, _ := run(t, m, expertstest.CPU(t), picture(t, singles, "restormer_rain", "in.png"), restore.Config{}, expert(t, m, "d"))
	require.LessOrEqual(t, furthest(t, got, picture(t, adapters, "peft", "expected.png")), 1)
	// Without a router, the only expert for a kind is found by naming the kind.
	r, err := restore.New(ctx, m, expertstest.CPU(t), restore.Config{})
	require.NoError(t, err)
	defer r.Close()
	_, _, err = r.Restore(ctx, picture(t, singles, "nafnet", "in.png"), restore.Options{})
	require.ErrorIs(t, err, models.ErrUnrouted)
	leaves, err := router.Instruct(&m.Config.Tree, []string{"blur"})
	require.NoError(t, err)
	_, rep, err := r.Restore(ctx, picture(t, singles, "nafnet", "in.png"), restore.Options{Override: router.Override{Leaves: leaves}})
	require.NoError(t, err)
	require.Equal(t, "c", rep.Expert)
}

func TestBadAdditionsChangeNothing(t *testing.T) {
	dir := pool(t, builtIn(t))
	add(t, dir, pools.Expert{Path: single("nafnet"), Name: "a", Kinds: []string{"noise"}})
	before, err := os.ReadFile(filepath.Join(dir, "config.json"))
	require.NoError(t, err)
	for _, c := range []struct {
		x    pools.Expert
		want string
	}{
		{pools.Expert{Path: single("nafnet"), Kinds: []string{"fog"}}, `kind "fog": the router knows`},
		{pools.Expert{Path: single("nafnet")}, "no kind given"},
		{pools.Expert{Path: single("nafnet"), Name: "A", Kinds: []string{"noise"}}, `an expert called "a" already`},
		{pools.Expert{Path: single("nafnet"), Name: "7", Kinds: []string{"noise"}}, `name "7"`},
		{pools.Expert{Path: single("nafnet"), Name: "../x", Kinds: []string{"noise"}}, `name "../x"`},
		{pools.Expert{Path: single("nafnet"), Name: "b", Kinds: []string{"noise"}, Level: "finest"}, `level "finest"`},
		{pools.Expert{Path: filepath.Join(singles, "README.md"), Kinds: []string{"noise"}}, "neither a safetensors file"},
		{pools.Expert{Path: "none.pth", Kinds: []string{"noise"}}, "no such file"},
	} {
		err := change(t, dir, func(p *pools.Pool) error {
			_, err := p.Add(context.Background(), c.x)
			return err
		})
		require.ErrorContains(t, err, c.want)
	}
	after, err := os.ReadFile(filepath.Join(dir, "config.json"))
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))
	require.ErrorContains(t, pools.New(context.Background(), dir, nil), "exists and is not empty")
}

func TestLinkedFilesAreWatched(t *testing.T) {
	data, err := os.ReadFile(single("nafnet_baseline"))
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "net.pth")
	require.NoError(t, os.WriteFile(file, data, 0o666))
	dir := pool(t, nil)
	add(t, dir, pools.Expert{Path: file, Kinds: []string{"noise"}, Link: true})
	require.Less(t, sizeOf(t, dir), int64(10_000))
	m := opened(t, dir)
	got, _ := run(t, m, expertstest.CPU(t), picture(t, singles, "nafnet_baseline", "in.png"), restore.Config{}, router.Override{})
	require.LessOrEqual(t, furthest(t, got, picture(t, singles, "nafnet_baseline", "expected.png")), 1)
	// Touched, it is the same file; changed, it is not.
	later := time.Now().Add(time.Hour)
	require.NoError(t, os.Chtimes(file, later, later))
	opened(t, dir)
	data[len(data)-2000] ^= 1
	require.NoError(t, os.WriteFile(file, data, 0o666))
	_, err = experts.OpenModel(dir)
	require.ErrorContains(t, err, "has changed")
	require.NoError(t, os.Remove(file))
	_, err = experts.OpenModel(dir)
	require.ErrorContains(t, err, "no such file")
}

func FuzzAdapterConfig(f *testing.F) {
	for _, name := range []string{"peft", "peft_rslora", "refuse_dora"} {
		data, err := os.ReadFile(filepath.Join(adapters, name, "adapter_config.json"))
		require.NoError(f, err)
		f.Add(data)
	}
	net, err := models.New(models.RestormerName, json.RawMessage(`{"dim":8,"num_blocks":[1,1,2,1],"num_refinement_blocks":1}`))
	require.NoError(f, err)
	tensors, err := os.ReadFile(filepath.Join(adapters, "peft", "adapter_model.safetensors"))
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, config []byte) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "adapter_config.json"), config, 0o666))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), tensors, 0o666))
		_, file, err := pools.ReadAdapter(dir, net, 0)
		if err == nil {
			require.NoError(t, file.Close())
		}
	})
}
