package models

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/weights"
)

func TestArgumentsAreChecked(t *testing.T) {
	for _, c := range []struct{ arch, args, want string }{
		{"swinir", ``, `unknown architecture "swinir"`},
		{RestormerName, `{"dim"`, "unexpected EOF"},
		{RestormerName, `{} {}`, "more than one JSON value"},
		{RestormerName, `{"dims":48}`, `unknown field "dims"`},
		{RestormerName, `{"dim":"48"}`, "cannot unmarshal string"},
		{RestormerName, `{"dim":1e30}`, "cannot unmarshal number"},
		{RestormerName, `{"dim":0}`, "dim [0]: want 1 to 16384"},
		{RestormerName, `{"dim":1000000}`, "want 1 to 16384"},
		{RestormerName, `{"dim":9,"heads":[1,1,1,1]}`, "dim 9 is odd"},
		{RestormerName, `{"num_blocks":[1,2,3]}`, "num_blocks: 3 values, want 4"},
		{RestormerName, `{"num_blocks":[1,2,3,1000000000]}`, "want 0 to 1024"},
		{RestormerName, `{"num_blocks":[1,2,3,-1]}`, "want 0 to 1024"},
		{RestormerName, `{"num_refinement_blocks":-1}`, "want 0 to 1024"},
		{RestormerName, `{"heads":[1,2,4,7]}`, "level 4: 384 channels do not split into 7 heads"},
		{RestormerName, `{"heads":[0,2,4,8]}`, "heads"},
		{RestormerName, `{"ffn_expansion_factor":-2}`, "ffn_expansion_factor -2"},
		{RestormerName, `{"ffn_expansion_factor":1e300}`, "ffn_expansion_factor 1e+300"},
		{RestormerName, `{"dim":2,"heads":[1,1,1,1],"ffn_expansion_factor":0.2}`, "ffn_expansion_factor 0.2"},
		{RestormerName, `{"LayerNorm_type":"RMS"}`, `LayerNorm_type "RMS": want WithBias or BiasFree`},
		{RestormerName, `{"inp_channels":6}`, "inp_channels 6, out_channels 3: they are added"},
		{RestormerName, `{"inp_channels":4,"out_channels":4}`, "inp_channels 4"},
		{RestormerName, `{"range":[1,1]}`, "range [1 1]"},
		{RestormerName, `{"channel_order":"gbr"}`, `channel_order "gbr": want rgb or bgr`},
		{RestormerName, `{"size_multiple":-1}`, "size_multiple -1"},
		{RestormerName, `{"size_padding":"wrap"}`, `size_padding "wrap"`},
		{LoRARestormerName, `{"r":[8,8]}`, "r: 2 values, want 4"},
		{LoRARestormerName, `{"r":[8,8,8,0]}`, "r [8 8 8 0]"},
		{LoRARestormerName, `{"lora_alpha":[]}`, "lora_alpha: 0 values, want 4"},
		{LoRARestormerName, `{"dim":0}`, "dim"},
		{NAFNetName, `{"width":0}`, "width"},
		{NAFNetName, `{"enc_blk_nums":[1],"dec_blk_nums":[]}`, "1 encoder and 0 decoder levels"},
		{NAFNetName, `{"enc_blk_nums":[1,1,1,1,1,1,1,1,1],"dec_blk_nums":[1,1,1,1,1,1,1,1,1]}`, "at most 8"},
		{NAFNetName, `{"width":4096,"enc_blk_nums":[1,1,1],"dec_blk_nums":[1,1,1]}`, "width 4096 doubled 3 times"},
		{NAFNetName, `{"img_channel":2}`, "img_channel 2"},
		{BaselineName, `{"width":1}`, "width 1"},
		{BaselineName, `{"dw_expand":0}`, "dw_expand"},
		{NAFNetName, `{"fast_imp":true}`, "fast_imp is not supported"},
		{NAFNetName, `{"train_size":[1,3,256,256]}`, "train_size belongs to the local form"},
		{NAFNetLocalName, `{"train_size":[256,256]}`, "train_size: 2 values, want 4"},
		{NAFNetLocalName, `{"train_size":[1,3,0,256]}`, "train_size"},
		{NAFNetLocalName, `{"train_size":[1,3,256,2000000000]}`, "train_size"},
		{DehazeFormerName, `{"embed_dims":[1,2]}`, "embed_dims: 2 values, want 5"},
		{DehazeFormerName, `{"window_size":0}`, "window_size"},
		{DehazeFormerName, `{"window_size":100000}`, "window_size"},
		{DehazeFormerName, `{"out_chans":3}`, "only 3 and 4"},
		{DehazeFormerName, `{"mlp_ratios":[2,4,4,2,0]}`, "mlp_ratios"},
		{DehazeFormerName, `{"attn_ratio":[2,0,0,0,0]}`, "attn_ratio"},
		{DehazeFormerName, `{"attn_ratio":[0,0,0,-1,0]}`, "attn_ratio"},
		{DehazeFormerName, `{"conv_type":["DW","Conv","Conv","Conv","Conv"]}`, `conv_type "DW": want Conv or DWConv`},
		{DehazeFormerName, `{"num_heads":[5,4,6,1,1]}`, "stage 1: 48 channels do not split into 5 heads"},
		{DehazeFormerName, `{"embed_dims":[48,96,192,96,24]}`, "skips join stages 1 and 5"},
		{RetinexFormerName, `{"stage":2}`, "stage 2: only 1 is supported"},
		{RetinexFormerName, `{"n_feat":42}`, "n_feat 42 is no multiple of 4"},
		{RetinexFormerName, `{"n_feat":16384}`, "n_feat"},
		{RetinexFormerName, `{"num_blocks":[1]}`, "num_blocks: 1 values, want 3"},
		{RetinexFormerName, `{"out_channels":1}`, "only 3 and 3"},
	} {
		t.Run(c.arch+" "+c.args, func(t *testing.T) {
			_, err := New(c.arch, json.RawMessage(c.args))
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, c.arch)
		})
	}
}

func TestBuildSucceedsExactlyWhereCheckSideSaysSo(t *testing.T) {
	others := append(small[:len(small):len(small)], []struct{ name, arch, args string }{
		{"dehazeformer of window 8", DehazeFormerName, `{"embed_dims":[4,8,12,8,4],"depths":[2,2,2,1,1],"num_heads":[1,2,3,1,1],"attn_ratio":[0.5,0.5,0.5,0,0]}`},
		{"dehazeformer of window 7", DehazeFormerName, `{"window_size":7,"embed_dims":[4,8,12,8,4],"depths":[0,2,2,1,2],"num_heads":[1,2,3,1,1],"attn_ratio":[0.5,0.5,0.5,0,1]}`},
		{"dehazeformer of convolutions", DehazeFormerName, `{"embed_dims":[4,8,12,8,4],"depths":[1,1,1,1,1],"num_heads":[1,1,1,1,1],"attn_ratio":[0,0,0,0,0]}`},
		{"dehazeformer without a bottom", DehazeFormerName, `{"embed_dims":[4,8,12,8,4],"depths":[1,1,0,1,1],"num_heads":[1,1,1,1,1],"attn_ratio":[0,0,0,0,0]}`},
		{"nafnet without levels", NAFNetName, `{"width":4}`},
	}...)
	for _, c := range others {
		t.Run(c.name, func(t *testing.T) {
			n := network(t, c.arch, c.args)
			for side := 1; side <= 70; side++ {
				for _, other := range []int{1, 4, 5, 24, 25, 28, 64, side} {
					want := n.CheckSide(side) == nil && n.CheckSide(other) == nil
					for _, size := range [][2]int{{side, other}, {other, side}} {
						g, err := n.Build(nil, 1, size[0], size[1], Options{})
						require.Equal(t, want, err == nil, "%dx%d: %v", size[0], size[1], err)
						if err == nil {
							require.Equal(t, graph.Shape{N: 1, H: size[0], W: size[1], C: 3}, g.Outputs[0].Shape)
						}
					}
				}
				h, w, err := Fit(n, side, 64)
				require.NoError(t, err)
				require.NoError(t, n.CheckSide(h))
				require.GreaterOrEqual(t, h, side)
				require.Equal(t, 64, w)
				for s := side; s < h; s++ {
					require.Error(t, n.CheckSide(s), "%d is nearer than %d", s, h)
				}
			}
			for _, side := range []int{0, -1, -64} {
				require.Error(t, n.CheckSide(side))
				_, _, err := Fit(n, 64, side)
				require.ErrorContains(t, err, fmt.Sprintf("a side of %d pixels", side))
			}
		})
	}
}

func TestReleasedNetworksTakeTheSizesUpstreamTakes(t *testing.T) {
	for _, c := range []struct {
		arch      string
		refused   []int
		smallest  int
		alignment int
	}{
		{RestormerName, []int{1, 2, 3, 4}, 5, 1},
		{DehazeFormerName, []int{1, 4, 8, 16, 20, 24}, 25, 1},
		{RetinexFormerName, []int{1, 2, 3, 5, 63}, 4, 4},
		{NAFNetLocalName, nil, 1, 1},
	} {
		n := network(t, c.arch, ``)
		for _, side := range c.refused {
			require.Error(t, n.CheckSide(side), "%s: %d", c.arch, side)
		}
		for side := c.smallest; side < 100; side += c.alignment {
			require.NoError(t, n.CheckSide(side), "%s: %d", c.arch, side)
		}
		h, w, err := Fit(n, 1, 1000)
		require.NoError(t, err)
		require.Equal(t, c.smallest, h)
		require.Equal(t, 1000, w)
	}
}

// endless is a network that takes no side at all.
type endless struct{ Network }

func (endless) CheckSide(int) error { return fmt.Errorf("never") }

func TestFitGivesUp(t *testing.T) {
	_, _, err := Fit(endless{network(t, NAFNetName, ``)}, 8, 8)
	require.ErrorContains(t, err, "no side from 8 to 264 pixels fits: never")
}

func TestBatchEqualsImageByImage(t *testing.T) {
	const n, h, w = 3, 28, 32
	for _, c := range small {
		t.Run(c.name, func(t *testing.T) {
			net := network(t, c.arch, c.args)
			src := weightsOf(t, net, 1)
			x := images(2, n, h, w)
			batch := run(t, net, src, n, h, w, x, Options{})
			for i := range n {
				part := len(x) / n
				one := run(t, net, src, 1, h, w, x[i*part:(i+1)*part], Options{})
				require.Equal(t, one, batch[i*part:(i+1)*part], "image %d", i)
			}
		})
	}
}

func TestMergedLoRAEqualsUnmerged(t *testing.T) {
	for _, bias := range []string{"false", "true"} {
		net := network(t, LoRARestormerName, `{"dim":4,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,2,2,4],"r":[1,2,1,3],"lora_alpha":[2,4,1,6],"bias":`+bias+`}`)
		src := weightsOf(t, net, 3)
		x := images(4, 2, 13, 18)
		merged := run(t, net, src, 2, 13, 18, x, Options{})
		similar(t, merged, run(t, net, src, 2, 13, 18, x, Options{Unmerged: true}))

		// And both equal the plain network with the adapters added by hand.
		all, err := weights.MergeSource(src, func(_ string, rank int) (float64, error) { return float64(2 * rank), nil })
		require.NoError(t, err)
		plain := network(t, RestormerName, `{"dim":4,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,2,2,4],"bias":`+bias+`}`)
		twice := network(t, LoRARestormerName, `{"dim":4,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,2,2,4],"r":[1,2,1,3],"lora_alpha":[2,4,2,6],"bias":`+bias+`}`)
		similar(t, run(t, plain, all, 2, 13, 18, x, Options{}), run(t, twice, src, 2, 13, 18, x, Options{}))
	}
}

// The convolutions of small networks whose weight has no more values than the
// factors of its rank are stored whole; the others keep base and factors.
func TestLoRAIsDenseOnlyWhereThatIsSmaller(t *testing.T) {
	const args = `{"dim":4,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,2,2,4],"r":[2,1,1,1],"lora_alpha":[2,1,1,1],"dense_where_smaller":true}`
	net := network(t, LoRARestormerName, args)
	specs, err := Stored(net)
	require.NoError(t, err)
	dims := map[string][]int{}
	for _, s := range specs {
		dims[s.Name] = s.Dims
	}
	for name, d := range dims {
		module, ok := strings.CutSuffix(name, ".conv.weight")
		if !ok {
			continue
		}
		k, values, rank := d[2], d[0]*d[1]*d[2]*d[3], 1
		if strings.HasPrefix(module, "patch_embed") || strings.Contains(module, "level1") || module == "down1_2.body.0" ||
			strings.HasPrefix(module, "refinement") || module == "output" {
			rank = 2
		}
		cin, cout := d[1], d[0]
		if strings.HasSuffix(module, "dwconv") { // depthwise
			cin, cout = d[0], 1
		}
		if a := dims[module+".lora_A"]; a != nil {
			require.Equal(t, []int{rank * k, cin * k}, a, name)
			require.Equal(t, []int{cout * k, rank * k}, dims[module+".lora_B"], name)
			require.Less(t, rank*k*k*(cin+cout), values, name)
		} else {
			require.Nil(t, dims[module+".lora_B"], name)
			require.GreaterOrEqual(t, rank*k*k*(cin+cout), values, name)
		}
	}
	require.NotNil(t, dims["latent.0.attn.qkv.lora_A"])
	require.Nil(t, dims["latent.0.attn.qkv_dwconv.lora_A"])
	require.Nil(t, dims["patch_embed.proj.lora_A"])

	src, x := weightsOf(t, net, 3), images(4, 1, 13, 18)
	similar(t, run(t, net, src, 1, 13, 18, x, Options{}), run(t, net, src, 1, 13, 18, x, Options{Unmerged: true}))
}

func TestLayoutOfThePortsDoesNotChangeTheResult(t *testing.T) {
	for _, c := range small {
		net := network(t, c.arch, c.args)
		src := weightsOf(t, net, 5)
		s := graph.Shape{N: 2, H: 28, W: 32, C: 3}
		x := images(6, s.N, s.H, s.W)
		want := run(t, net, src, s.N, s.H, s.W, x, Options{})
		got := run(t, net, src, s.N, s.H, s.W, nchw(x, s), Options{Layout: graph.NCHW})
		require.Equal(t, nchw(want, s), got, c.name)
	}
}

func TestTracingDoesNotChangeTheResult(t *testing.T) {
	for _, c := range small {
		net := network(t, c.arch, c.args)
		src := weightsOf(t, net, 7)
		x := images(8, 1, 28, 32)
		traced := 0
		all := func(string) bool { traced++; return true }
		similar(t, run(t, net, src, 1, 28, 32, x, Options{}), run(t, net, src, 1, 28, 32, x, Options{Trace: all}))
		require.Positive(t, traced, c.name)
	}
}

func TestMissingAndMisshapenTensorsAreNamed(t *testing.T) {
	for _, c := range small {
		net := network(t, c.arch, c.args)
		specs, err := Stored(net)
		require.NoError(t, err)
		for _, victim := range []Spec{specs[0], specs[len(specs)/2], specs[len(specs)-1]} {
			if victim.Unused {
				continue
			}
			var rest []Spec
			for _, s := range specs {
				if s.Name != victim.Name {
					rest = append(rest, s)
				}
			}
			src := randomWeights(t, rest, 1)
			_, err := net.Build(src, 1, 32, 32, Options{})
			require.ErrorContains(t, err, victim.Name, c.name)
			var missing *weights.MissingError
			require.ErrorAs(t, err, &missing)

			odd, err := weights.FromFloat32(victim.Name, []int{1, 7}, make([]float32, 7))
			require.NoError(t, err)
			src.Set(odd)
			_, err = net.Build(src, 1, 32, 32, Options{})
			require.ErrorContains(t, err, victim.Name, c.name)
			require.ErrorContains(t, err, "[1 7]", c.name)
		}
	}
}

func TestEqualWeightsAreRecognisedAcrossGraphs(t *testing.T) {
	for _, c := range small {
		net := network(t, c.arch, c.args)
		src := weightsOf(t, net, 9)
		keys := func(h int, opt Options) map[any]string {
			g, err := net.Build(src, 1, h, 64, opt)
			require.NoError(t, err)
			found := map[any]string{}
			for _, p := range g.Params() {
				require.NotNil(t, p.Key, "%s: %s", c.name, p.Name)
				found[p.Key] = fmt.Sprint(p.Dims)
			}
			return found
		}
		require.Equal(t, keys(32, Options{}), keys(64, Options{}), c.name)
		if strings.HasPrefix(c.arch, "lora") {
			require.NotEqual(t, keys(32, Options{}), keys(32, Options{Unmerged: true}))
		}
	}
}
