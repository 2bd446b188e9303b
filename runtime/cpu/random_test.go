package cpu

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/graph/reference"
	"unirestorer/runtime/cpu/simd"
)

// randomConv adds a convolution of random shape with random parts around it.
func randomConv(t *testing.T, rng *rand.Rand, k *graph.Builder) *graph.Tensor {
	pick := func(from ...int) int { return from[rng.IntN(len(from))] }
	param := func(dims ...int) *graph.Param {
		n := 1
		for _, d := range dims {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64()) * 0.2
		}
		p, err := graph.Const("p", dims, v)
		require.NoError(t, err)
		return p
	}
	in := func(name string, s graph.Shape) *graph.Tensor { return k.Input(name, s, graph.NHWC) }

	groups := pick(1, 1, 1, 2, 3)
	cin := groups * (1 + rng.IntN(36))
	cout := groups * 4 * (1 + rng.IntN(30))
	size := pick(1, 1, 2, 3, 3, 4, 5)
	s := graph.Shape{N: pick(1, 1, 2), H: size + rng.IntN(14), W: size + rng.IntN(40), C: cin}
	c := graph.Conv{X: in("x", s), Groups: groups, Stride: 1 + rng.IntN(3), Weight: param(cout, cin/groups, size, size)}
	if size > 1 {
		c.Pad = rng.IntN(size)
		c.PadMode = []graph.PadMode{graph.Zero, graph.Reflect, graph.ReflectLoop, graph.Replicate}[rng.IntN(4)]
		if c.Pad >= min(s.H, s.W) {
			c.PadMode = graph.ReflectLoop
		}
	} else if groups == 1 {
		c.Stride = 1
	}
	maybe := func() bool { return rng.IntN(3) == 0 }
	if maybe() {
		c.Bias = param(cout)
	}
	if maybe() {
		c.Norm = &graph.Norm{Kind: graph.BiasFree, Weight: param(cin), Eps: 1e-5}
	}
	if maybe() {
		c.InScale = in("scale", graph.Shape{N: s.N, H: 1 + rng.IntN(s.H), W: 1 + rng.IntN(s.W), C: cin})
	}
	if maybe() && groups == 1 {
		r := 1 + rng.IntN(120)
		c.LowRank = &graph.LowRank{Down: param(r, cin, size, size), Up: param(cout, r), Scale: 0.5}
	}
	out := cout
	switch rng.IntN(4) {
	case 0:
		c.Act = graph.Activation(rng.IntN(4))
	case 1:
		c.Gate, out = graph.Gate(1+rng.IntN(2)), cout/2
	}
	if maybe() {
		c.Scale = param(out)
	}
	h, w := c.ConvExtent()
	r := graph.Shape{N: s.N, H: h, W: w, C: out}
	if maybe() && out%4 == 0 {
		c.Shuffle = 2
		r = graph.Shape{N: s.N, H: 2 * h, W: 2 * w, C: out / 4}
	}
	if maybe() {
		c.Residual = in("residual", r)
	}
	return k.Conv("conv", c)
}

func TestRandomConvolutionsMatchInterpreter(t *testing.T) {
	backends := map[simd.ISA]*Backend{}
	for _, isa := range simd.Available() {
		backends[isa] = newBackend(t, Options{Threads: 2, ISA: &isa})
	}
	seeds := uint64(80)
	if raceDetector {
		seeds = 6
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 9))
		k := graph.NewBuilder(fmt.Sprint("seed ", seed), nil)
		k.Output("y", randomConv(t, rng, k), graph.NHWC)
		g, err := k.Build()
		require.NoError(t, err)
		inputs := graphtest.RandomInputs(g, seed)
		want, err := reference.Run(g, inputs)
		require.NoError(t, err)
		for isa, b := range backends {
			d := graphtest.Compare(run(t, compile(t, b, g), inputs)[0], want[0])
			require.LessOrEqual(t, d.MaxAbs, tolerance*max(d.Peak, 1), "%s, %v: %v", g.Name, isa, d)
		}
	}
}
