package models

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/weights"
)

// poolHints are those of the released pool, whose NAFNets are local ones.
var poolHints = Hints{TrainSize: 256}

// zeros stores tensors of the given shapes; only shapes are read.
func zeros(t testing.TB, specs []Spec) *weights.Map {
	t.Helper()
	m := weights.NewMap()
	for _, s := range specs {
		x, err := weights.NewTensor(s.Name, weights.F32, s.Dims, make([]byte, 4*s.Elems()))
		require.NoError(t, err)
		m.Set(x)
	}
	return m
}

func TestArgumentsAreReadOffTheShapes(t *testing.T) {
	for _, c := range []struct{ arch, args string }{
		{RestormerName, `{}`},
		{RestormerName, `{"LayerNorm_type":"BiasFree"}`},
		{RestormerName, `{"dim":6,"num_blocks":[1,2,3,1],"num_refinement_blocks":0,"heads":[3,2,1,6],"ffn_expansion_factor":1.7,"bias":true}`},
		{RestormerName, `{"dim":4,"num_blocks":[2,1,1,1],"heads":[1,1,1,1],"ffn_expansion_factor":4}`},
		{LoRARestormerName, `{"dim":4,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,2,2,4],"r":[1,2,3,4],"lora_alpha":[2,4,6,8]}`},
		{LoRARestormerName, `{"dim":8,"num_blocks":[1,2,1,1],"num_refinement_blocks":1,"heads":[1,2,2,4],"LayerNorm_type":"BiasFree","bias":true}`},
		{NAFNetLocalName, `{"width":3,"enc_blk_nums":[1,2],"middle_blk_num":0,"dec_blk_nums":[3,1]}`},
		{NAFNetLocalName, `{"width":5,"enc_blk_nums":[],"middle_blk_num":2,"dec_blk_nums":[]}`},
		{NAFNetLocalName, `{"width":64,"enc_blk_nums":[1,1,1,28],"middle_blk_num":1,"dec_blk_nums":[1,1,1,1]}`},
		{DehazeFormerName, `{}`},
		{DehazeFormerName, `{"window_size":5,"embed_dims":[7,9,12,9,7],"mlp_ratios":[1.3,2,0.34,4,1],"depths":[3,2,7,1,2],"num_heads":[7,3,2,1,7],"attn_ratio":[0.3333333333333333,0.5,0.42857142857142855,0,1]}`},
		{RestormerName, `{"inp_channels":1,"out_channels":1}`},
		{RestormerName, `{"inp_channels":6,"dual_pixel_task":true}`},
		{RestormerName, `{"inp_channels":6,"dual_pixel_task":true,"bias":true,"LayerNorm_type":"BiasFree"}`},
		{BaselineName, `{"width":6,"enc_blk_nums":[1,2],"middle_blk_num":1,"dec_blk_nums":[3,1]}`},
		{BaselineName, `{"width":4,"middle_blk_num":2,"enc_blk_nums":[1],"dec_blk_nums":[1],"img_channel":1,"dw_expand":2,"ffn_expand":3}`},
		{BaselineLocalName, `{"width":4,"enc_blk_nums":[1],"dec_blk_nums":[1]}`},
		{NAFNetLocalName, `{"width":4,"img_channel":1,"enc_blk_nums":[1],"dec_blk_nums":[1]}`},
		{DehazeFormerName, dehazeArgs(24, "[4,4,4,2,2]", "[0,0.5,1,0,0]", dwConv)},
		{RetinexFormerName, `{}`},
		{RetinexFormerName, `{"n_feat":12,"num_blocks":[3,1,2]}`},
	} {
		t.Run(c.arch+" "+c.args, func(t *testing.T) {
			want, err := New(c.arch, json.RawMessage(c.args))
			require.NoError(t, err)
			specs, err := Stored(want)
			require.NoError(t, err)
			hints := poolHints
			if c.arch == BaselineName {
				hints = Hints{}
			}
			arch, args, err := Recognise(zeros(t, specs), hints)
			require.NoError(t, err)
			require.Equal(t, c.arch, arch)
			got, err := New(arch, args)
			require.NoError(t, err)
			require.Equal(t, describe(t, want), describe(t, got))
			if c.arch != DehazeFormerName { // its heads say nothing in stages without attention
				require.Equal(t, want, got)
			}
		})
	}
}

// describe is all that shows of a network: its tensors and its work.
func describe(t testing.TB, n Network) string {
	specs, err := Stored(n)
	require.NoError(t, err)
	h, w, err := Fit(n, 64, 64)
	require.NoError(t, err)
	g, err := n.Build(nil, 1, h, w, Options{})
	require.NoError(t, err)
	return fmt.Sprint(specs, g.Cost(), len(g.Nodes))
}

func TestRandomDehazeFormersRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 60 {
		var depths, heads, dims []int
		var attn, mlp []float64
		for i := range 5 {
			depths = append(depths, 1+rng.IntN(12))
			heads = append(heads, 1)
			dims = append(dims, 1+rng.IntN(20))
			if i >= 3 {
				dims[i] = dims[4-i]
			}
			attn = append(attn, rng.Float64())
			mlp = append(mlp, 1+4*rng.Float64())
		}
		args, err := json.Marshal(map[string]any{"window_size": 2 + rng.IntN(7), "embed_dims": dims, "mlp_ratios": mlp, "depths": depths, "num_heads": heads, "attn_ratio": attn})
		require.NoError(t, err)
		want, err := New(DehazeFormerName, args)
		require.NoError(t, err)
		specs, err := Stored(want)
		require.NoError(t, err)
		arch, found, err := Recognise(zeros(t, specs), poolHints)
		require.NoError(t, err)
		got, err := New(arch, found)
		require.NoError(t, err)
		wantSpecs, err := Stored(want)
		require.NoError(t, err)
		gotSpecs, err := Stored(got)
		require.NoError(t, err)
		require.Equal(t, wantSpecs, gotSpecs, "%s", args)
	}
}

func TestAttentionRatiosSurviveEveryDepth(t *testing.T) {
	for depth := 1; depth <= 64; depth++ {
		for attending := range depth + 1 {
			ratio := attentionRatio(attending, depth)
			require.LessOrEqual(t, ratio, 1.0)
			n := 0
			for i := range depth {
				if float64(i) >= float64(depth)-ratio*float64(depth) {
					n++
				}
			}
			require.Equal(t, attending, n, "of %d blocks", depth)
		}
	}
}

func TestExpansionFactorIsTheShortestThatFits(t *testing.T) {
	hidden := func(width []int, f float64) (h []int) {
		for _, w := range width {
			h = append(h, int(float64(w)*f))
		}
		return h
	}
	rng := rand.New(rand.NewPCG(1, 1))
	factors := []float64{2.66, 1, 2, 3, 4, 0.5, 1.5, 2.5, 2.667, 1.3333, 8.0 / 3, math.Pi}
	for range 500 {
		factors = append(factors, float64(50+rng.IntN(400))/100, 0.3+5*rng.Float64())
	}
	for _, f := range factors {
		for _, dim := range []int{2, 4, 6, 16, 24, 32, 48, 64, 180} {
			width := []int{dim, 2 * dim, 4 * dim, 8 * dim}
			if int(float64(dim)*f) == 0 {
				continue
			}
			got, err := expansion(width, hidden(width, f))
			require.NoError(t, err, "%g of %v", f, width)
			require.Equal(t, hidden(width, f), hidden(width, got))
			require.LessOrEqual(t, len(fmt.Sprint(got)), len(fmt.Sprint(f)), "%g for %g at %d", got, f, dim)
		}
	}
	released := []int{48, 96, 192, 384}
	got, err := expansion(released, hidden(released, 2.66))
	require.NoError(t, err)
	require.Equal(t, 2.66, got)
	_, err = expansion([]int{10, 20}, []int{10, 40})
	require.ErrorContains(t, err, "no expansion factor turns widths [10 20] into [10 40]")
}

func TestTensorsOfNoKnownNetworkAreRefused(t *testing.T) {
	none := weights.NewMap()
	_, _, err := Recognise(none, Hints{})
	require.ErrorContains(t, err, "belong to no known architecture")

	// Recognised, and then incomplete.
	for _, probe := range []string{
		"patch_embed.proj.lora_A", "encoder_level1.0.attn.temperature", "intro.weight", "patch_merge1.proj.weight", "body.0.denoiser.embedding.weight",
	} {
		arch, args, err := Recognise(zeros(t, []Spec{{Name: probe, Dims: []int{8}}}), poolHints)
		if err == nil {
			_, err = New(arch, args)
		}
		if err == nil {
			net, _ := New(arch, args)
			_, err = net.Build(zeros(t, []Spec{{Name: probe, Dims: []int{8}}}), 1, 64, 64, Options{})
		}
		require.Error(t, err, probe)
	}
}

// The dual-pixel network has one tensor more than one of six channels would have.
func TestOneTensorTellsNetworksApart(t *testing.T) {
	stored := func(args string) []Spec {
		net, err := New(RestormerName, json.RawMessage(args))
		require.NoError(t, err)
		specs, err := Stored(net)
		require.NoError(t, err)
		return specs
	}
	check := func(specs []Spec) error {
		src := zeros(t, specs)
		arch, args, err := Recognise(src, Hints{Single: true})
		if err != nil {
			return err
		}
		net, err := New(arch, args)
		if err != nil {
			return err
		}
		return CheckStored(net, src)
	}
	const small = `"dim":8,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,1,2,2]`
	dual := stored(`{"inp_channels":6,"dual_pixel_task":true,` + small + `}`)
	require.NoError(t, check(dual))
	one := slices.DeleteFunc(slices.Clone(dual), func(s Spec) bool { return s.Name == "skip_conv.weight" })
	require.Len(t, one, len(dual)-1)
	require.Error(t, check(one))
	// A head's width that does not divide names its tensor.
	odd := slices.Clone(stored(`{` + small + `}`))
	for i, s := range odd {
		if s.Name == "latent.0.attn.temperature" {
			odd[i].Dims = []int{3, 1, 1}
		}
	}
	require.ErrorContains(t, check(odd), "heads")
}

func TestHintsOverrideWhatWasFound(t *testing.T) {
	net, err := New(NAFNetLocalName, json.RawMessage(`{"width":4}`))
	require.NoError(t, err)
	specs, err := Stored(net)
	require.NoError(t, err)
	src := zeros(t, specs)
	_, args, err := Recognise(src, Hints{TrainSize: 64})
	require.NoError(t, err)
	require.Contains(t, string(args), `"train_size":[1,3,64,64]`)
	_, args, err = Recognise(src, Hints{Args: map[string]json.RawMessage{NAFNetLocalName: json.RawMessage(`{"train_size":[1,3,8,9]}`)}, TrainSize: 1})
	require.NoError(t, err)
	require.Contains(t, string(args), `"train_size":[1,3,8,9]`)
	require.Contains(t, string(args), `"width":4`)
	_, _, err = Recognise(src, Hints{Args: map[string]json.RawMessage{NAFNetLocalName: json.RawMessage(`[1]`)}, TrainSize: 1})
	require.ErrorContains(t, err, "argument overrides")
}
