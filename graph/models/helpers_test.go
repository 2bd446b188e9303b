package models

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/graph/reference"
	"unirestorer/weights"
)

// small are networks of every architecture that run in a moment.
var small = []struct{ name, arch, args string }{
	{"restormer with bias", RestormerName, `{"dim":4,"num_blocks":[1,2,1,1],"num_refinement_blocks":1,"heads":[1,2,2,4],"ffn_expansion_factor":2.66,"bias":true}`},
	{"restormer bias free", RestormerName, `{"dim":4,"num_blocks":[1,1,1,1],"num_refinement_blocks":0,"heads":[1,2,2,4],"LayerNorm_type":"BiasFree"}`},
	{"lora restormer", LoRARestormerName, `{"dim":4,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,2,2,4],"r":[1,2,1,3],"lora_alpha":[2,4,1,6],"bias":true}`},
	{"restormer grey", RestormerName, `{"dim":4,"num_blocks":[1,1,1,1],"num_refinement_blocks":0,"heads":[1,2,2,4],"inp_channels":1,"out_channels":1}`},
	{"baseline", BaselineName, `{"width":4,"enc_blk_nums":[1,2],"middle_blk_num":1,"dec_blk_nums":[1,1]}`},
	{"dehazeformer depthwise", DehazeFormerName, `{"window_size":4,"embed_dims":[4,8,12,8,4],"depths":[2,1,2,1,1],"num_heads":[1,2,3,1,1],"attn_ratio":[0.5,0,1,0,0],"conv_type":["DWConv","DWConv","DWConv","DWConv","Conv"],"range":[-1,1],"channel_order":"bgr"}`},
	{"retinexformer padded", RetinexFormerName, `{"n_feat":8,"num_blocks":[1,1,1],"size_multiple":4}`},
	{"nafnet", NAFNetName, `{"width":4,"enc_blk_nums":[1,2],"middle_blk_num":1,"dec_blk_nums":[1,1]}`},
	{"nafnet local", NAFNetLocalName, `{"width":4,"enc_blk_nums":[1,1],"middle_blk_num":1,"dec_blk_nums":[1,1],"train_size":[1,3,12,16]}`},
	{"dehazeformer", DehazeFormerName, `{"window_size":4,"embed_dims":[4,8,12,8,4],"depths":[2,2,2,1,1],"num_heads":[1,2,3,1,1],"attn_ratio":[0.5,0.5,1,0,0]}`},
	{"retinexformer", RetinexFormerName, `{"n_feat":8,"num_blocks":[1,1,1]}`},
}

func network(t testing.TB, arch, args string) Network {
	t.Helper()
	n, err := New(arch, json.RawMessage(args))
	require.NoError(t, err)
	return n
}

// randomWeights draws values for everything a checkpoint stores, of the
// variance that layers keep.
func randomWeights(t testing.TB, specs []Spec, seed uint64) *weights.Map {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 7))
	m := weights.NewMap()
	for _, s := range specs {
		fanIn := 1.0
		for _, d := range s.Dims[min(1, len(s.Dims)):] {
			fanIn *= float64(d)
		}
		v := make([]float32, s.Elems())
		for i := range v {
			v[i] = float32(rng.NormFloat64() / math.Sqrt(fanIn))
			if len(s.Dims) < 2 {
				v[i] = 1 + v[i]/4 // scales, variances
			}
		}
		x, err := weights.FromFloat32(s.Name, s.Dims, v)
		require.NoError(t, err)
		m.Set(x)
	}
	return m
}

// weightsOf draws weights for a network.
func weightsOf(t testing.TB, n Network, seed uint64) *weights.Map {
	t.Helper()
	specs, err := Stored(n)
	require.NoError(t, err)
	return randomWeights(t, specs, seed)
}

// run computes a network with the reference interpreter.
func run(t testing.TB, net Network, src weights.Source, n, h, w int, x []float32, opt Options) []float32 {
	t.Helper()
	g, err := net.Build(src, n, h, w, opt)
	require.NoError(t, err)
	out, err := reference.Run(g, [][]float32{x})
	require.NoError(t, err)
	i, err := g.Output("restored")
	require.NoError(t, err)
	return out[i]
}

func images(seed uint64, n, h, w int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 3))
	x := make([]float32, n*h*w*3)
	for i := range x {
		x[i] = rng.Float32()
	}
	return x
}

// similar requires results that differ by rounding only.
func similar(t testing.TB, want, got []float32) {
	t.Helper()
	d := graphtest.Compare(got, want)
	require.Less(t, d.MaxAbs, 1e-4*max(1, d.Peak), "%v", d)
	require.Greater(t, d.Peak, 0.0)
}

// nchw reorders an N×H×W×C image.
func nchw(x []float32, s graph.Shape) []float32 {
	out := make([]float32, 0, len(x))
	for n := range s.N {
		for c := range s.C {
			for p := range s.H * s.W {
				out = append(out, x[(n*s.H*s.W+p)*s.C+c])
			}
		}
	}
	return out
}
