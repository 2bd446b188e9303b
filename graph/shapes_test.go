package graph

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// kit builds operations over tensors of given extents.
type kit struct{ *Builder }

func newKit() kit { return kit{NewBuilder("test", nil)} }

// in is a tensor of an extent.
func (k kit) in(n, h, w, c int) *Tensor {
	return k.Add("in", &Import{Shape: Shape{n, h, w, c}})[0]
}

// param is a parameter without values.
func param(dims ...int) *Param { return NewParam("p", dims, nil, nil) }

func layerNorm(c int) *Norm { return &Norm{Weight: param(c), Bias: param(c), Eps: 1e-5} }

func TestShapeErrorsSayWhatIsWrong(t *testing.T) {
	k := newKit()
	x := k.in(2, 8, 6, 4) // what most operations read
	square := param(4, 4, 1, 1)
	for _, c := range []struct {
		name string
		op   Op
		want string
	}{
		{"import/zero extent", &Import{Shape: Shape{1, 0, 2, 3}}, "every extent must be positive"},
		{"import/too many elements", &Import{Shape: Shape{1 << 20, 1 << 20, 1 << 20, 1 << 20}}, "more than 1099511627776 elements"},

		{"conv/no weight", &Conv{X: x}, "either a weight or a dynamic weight"},
		{"conv/two weights", &Conv{X: x, Weight: square, Dynamic: k.in(2, 1, 4, 4)}, "either a weight or a dynamic weight"},
		{"conv/weight of three dimensions", &Conv{X: x, Weight: param(4, 4, 1)}, "want [Cout Cin KH KW] or [Cout Cin]"},
		{"conv/weight of other channels", &Conv{X: x, Weight: param(4, 5, 1, 1)}, "want [Cout 4 KH KW] for 4 input channels in 1 groups"},
		{"conv/weight without filters", &Conv{X: x, Weight: param(0, 4, 1, 1)}, `"p" [0 4 1 1]`},
		{"conv/groups do not divide", &Conv{X: x, Weight: param(3, 1, 3, 3), Groups: 3}, "4 input channels in 3 groups"},
		{"conv/window too large", &Conv{X: x, Weight: param(4, 4, 9, 9)}, "a 9x9 window does not fit 2x8x6x4 padded by 0"},
		{"conv/negative stride", &Conv{X: x, Weight: square, Stride: -1}, "stride -1"},
		{"conv/negative padding", &Conv{X: x, Weight: square, Pad: -1}, "padding -1"},
		{"conv/negative groups", &Conv{X: x, Weight: square, Groups: -1}, "groups -1"},
		{"conv/reflection too wide", &Conv{X: x, Weight: param(4, 4, 15, 15), Pad: 7, PadMode: Reflect}, "reflection of 7,7 pixels needs a side longer than that, have 6"},
		{"conv/bias", &Conv{X: x, Weight: square, Bias: param(5)}, `bias is "p" [5], want 4 values`},
		{"conv/scale", &Conv{X: x, Weight: square, Scale: param(5)}, `scale is "p" [5], want 4 values`},
		{"conv/scale after a gate", &Conv{X: x, Weight: square, Gate: SimpleGate, Scale: param(4)}, "want 2 values"},
		{"conv/odd gate", &Conv{X: x, Weight: param(3, 4), Gate: GELUGate}, "a gate needs an even number of channels, have 3"},
		{"conv/activation and gate", &Conv{X: x, Weight: square, Act: ReLU, Gate: SimpleGate}, "activation relu and gate simple exclude each other"},
		{"conv/shuffle", &Conv{X: x, Weight: param(6, 4), Shuffle: 2}, "6 channels are no multiple of 4"},
		{"conv/unshuffle", &Conv{X: x, Weight: square, Shuffle: -4}, "pixel unshuffle by 4: 8x6 is no multiple"},
		{"conv/shuffle by -1", &Conv{X: x, Weight: square, Shuffle: -1}, "pixel shuffle by -1"},
		{"conv/residual", &Conv{X: x, Weight: square, Residual: k.in(2, 8, 6, 5)}, "residual is 2x8x6x5, the result 2x8x6x4"},
		{"conv/second input", &Conv{X: x, X2: k.in(2, 8, 7, 4), Weight: param(4, 8)}, "differ in more than channels"},
		{"conv/second input and norm", &Conv{X: x, X2: x, Weight: param(4, 8), Norm: layerNorm(4)}, "two inputs exclude groups, normalisation"},
		{"conv/norm weight", &Conv{X: x, Weight: square, Norm: layerNorm(5)}, `normalisation over 4 channels: weight is "p" [5]`},
		{"conv/norm without bias", &Conv{X: x, Weight: square, Norm: &Norm{Weight: param(4), Eps: 1}}, "bias is missing"},
		{"conv/norm epsilon", &Conv{X: x, Weight: square, Norm: &Norm{Kind: BiasFree, Weight: param(4)}}, "epsilon 0 is not positive"},
		{"conv/input scale", &Conv{X: x, Weight: square, InScale: k.in(2, 9, 1, 4)}, "input scale 2x9x1x4 does not fit input"},
		{"conv/input affine", &Conv{X: x, Weight: square, InAffine: k.in(2, 1, 1, 4)}, "input affine is 2x1x1x4, want 2x1x2x4"},
		{"conv/output affine", &Conv{X: x, Weight: square, OutAffine: k.in(2, 1, 2, 5)}, "output affine is 2x1x2x5, want 2x1x2x4"},
		{"conv/dynamic weight of another batch", &Conv{X: x, Dynamic: k.in(1, 1, 4, 4)}, "dynamic weight 1x1x4x4 does not fit"},
		{"conv/dynamic weight with padding", &Conv{X: x, Dynamic: k.in(2, 1, 4, 4), Pad: 1}, "plain 1x1 convolution"},
		{"conv/low rank without factors", &Conv{X: x, Weight: square, LowRank: &LowRank{}}, "both factors"},
		{"conv/low rank factors", &Conv{X: x, Weight: square, LowRank: &LowRank{Down: param(2, 5, 1, 1), Up: param(4, 2)}}, "low-rank factors are"},
		{"conv/gram with a gate", &Conv{X: x, Weight: param(12, 4), Gram: &Gram{4, 2}, Gate: SimpleGate}, "gram excludes"},
		{"conv/gram without values", &Conv{X: x, Weight: param(8, 4), Gram: &Gram{4, 2}}, "8 result channels hold no values"},
		{"conv/gram heads", &Conv{X: x, Weight: param(12, 4), Gram: &Gram{4, 3}}, "4 channels do not split into 3 heads"},

		{"depthwise/no weight", &Depthwise{X: x}, "weight is missing"},
		{"depthwise/even window", &Depthwise{X: x, Weight: param(4, 1, 2, 2)}, "with K odd"},
		{"depthwise/weight of other channels", &Depthwise{X: x, Weight: param(5, 1, 3, 3)}, "want [4 1 K K]"},
		{"depthwise/oblong window", &Depthwise{X: x, Weight: param(4, 1, 3, 5)}, "want [4 1 K K]"},
		{"depthwise/bias", &Depthwise{X: x, Weight: param(4, 1, 3, 3), Bias: param(3)}, "want 4 values"},
		{"depthwise/residual", &Depthwise{X: x, Weight: param(4, 1, 3, 3), Gate: SimpleGate, Residual: x}, "residual is 2x8x6x4, the result 2x8x6x2"},
		{"depthwise/activation and gate", &Depthwise{X: x, Weight: param(4, 1, 3, 3), Act: GELU, Gate: GELUGate}, "exclude each other"},
		{"depthwise/gram and pool", &Depthwise{X: x, Weight: param(4, 1, 3, 3), Gram: &Gram{1, 1}, Pool: true}, "gram excludes gate, pool and residual"},
		{"depthwise/gram of all channels", &Depthwise{X: x, Weight: param(4, 1, 3, 3), Gram: &Gram{2, 1}}, "hold no values"},

		{"fold/gram", &Fold{Gram: k.in(2, 2, 3, 4)}, "is not square"},
		{"fold/temperature", &Fold{Gram: k.in(2, 2, 3, 3), Temperature: param(3)}, "want 2 values"},
		{"fold/projection", &Fold{Gram: k.in(2, 2, 3, 3), Temperature: param(2, 1, 1), Proj: param(6, 5)}, "want [Cout 6]"},

		{"window attention/window", &WindowAttention{QKV: x}, "window 0 with shift 0"},
		{"window attention/shift", &WindowAttention{QKV: x, Window: 4, Shift: 4}, "window 4 with shift 4"},
		{"window attention/heads", &WindowAttention{QKV: x, Window: 4, Heads: 1}, "4 channels do not split into q, k and v of 1 heads"},
		{"window attention/bias", &WindowAttention{QKV: k.in(1, 8, 8, 6), Window: 4, Heads: 2}, "bias is missing, want [2 16 16]"},
		{"window attention/small image", &WindowAttention{QKV: k.in(1, 8, 3, 6), Window: 8, Heads: 2, Bias: param(2, 64, 64)}, "needs a side longer than that, have 3"},
		{"attention/not tokens", &Attention{QKV: k.in(1, 2, 5, 6), Heads: 1}, "height must be 1"},
		{"attention/heads", &Attention{QKV: k.in(1, 1, 5, 6), Heads: 0}, "do not split"},

		{"pool/second input", &Pool{X: x, X2: k.in(2, 8, 6, 3)}, "differ"},
		{"pool/window", &Pool{X: x, WindowW: -1}, "negative window"},
		{"norm/none", &ChannelNorm{X: x}, "no normalisation given"},
		{"norm/weight", &ChannelNorm{X: x, Norm: layerNorm(3)}, "weight is"},
		{"rescale norm/parameters", &RescaleNorm{X: x, Weight: param(4), Eps: 1}, "1 of 6 parameters given"},
		{"rescale norm/channels", &RescaleNorm{X: x, Weight: param(4), Bias: param(4), ScaleWeight: param(4), ScaleBias: param(4), ShiftWeight: param(4), ShiftBias: param(3), Eps: 1}, "want 4 values"},
		{"rescale norm/epsilon", &RescaleNorm{X: x, Weight: param(4), Bias: param(4), ScaleWeight: param(4), ScaleBias: param(4), ShiftWeight: param(4), ShiftBias: param(4)}, "epsilon 0"},

		{"pad/negative", &Pad{X: x, Top: -1}, "negative padding"},
		{"pad/reflection", &Pad{X: x, Right: 6, Mode: Reflect}, "have 6"},
		{"pad/overflow", &Pad{X: x, Right: 1 << 62, Bottom: 1 << 62}, "more than"},
		{"crop/outside", &Crop{X: x, Y: 3, H: 6, W: 6}, "rectangle 6x6 at (3,0) is not inside 2x8x6x4"},
		{"crop/empty", &Crop{X: x, H: 0, W: 6}, "rectangle 0x6"},
		{"concat/extents", &Concat{x, k.in(2, 8, 5, 4)}, "differ in more than channels"},
		{"tokens/positions", &Tokens{X: x, Class: param(4), Pos: param(48, 4)}, "want [4] and [49 4]"},
		{"tokens/class", &Tokens{X: x, Pos: param(49, 4)}, "class token is missing"},

		{"mul-add/factor", &MulAdd{A: x, B: k.in(2, 8, 6, 1), C: x}, "inputs 2x8x6x4 and 2x8x6x1 differ"},
		{"mul-add/summand", &MulAdd{A: x, C: k.in(1, 8, 6, 4)}, "differ"},
		{"soft reconstruction/coefficients", &SoftReconstruction{X: x, KB: x}, "coefficients are 2x8x6x4, want 2x8x6x5"},
		{"selective kernel/branches", &SelectiveKernel{A: x, B: k.in(2, 8, 6, 5), Logits: k.in(2, 1, 1, 8)}, "differ"},
		{"selective kernel/logits", &SelectiveKernel{A: x, B: x, Logits: k.in(2, 1, 1, 4)}, "logits are 2x1x1x4, want 2x1x1x8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.NoError(t, k.Err(), "the inputs themselves")
			b := *k.Builder // an error sticks to this copy only
			b.Add("node", c.op)
			require.ErrorContains(t, b.Err(), c.want)
			require.ErrorContains(t, b.Err(), `node "node" (`+c.op.Kind()+`)`)
		})
	}
}

func TestResultsHaveTheShapesOfTheirDefinition(t *testing.T) {
	k := newKit()
	x := k.in(2, 8, 6, 4)
	for _, c := range []struct {
		name string
		op   Op
		want []Shape
	}{
		{"stride", &Conv{X: x, Weight: param(5, 4, 4, 4), Stride: 2, Pad: 1}, []Shape{{2, 4, 3, 5}}},
		{"rest of a stride", &Conv{X: x, Weight: param(5, 4, 3, 3), Stride: 4}, []Shape{{2, 2, 1, 5}}},
		{"shuffle", &Conv{X: x, Weight: param(12, 4, 3, 3), Pad: 1, Shuffle: 2}, []Shape{{2, 16, 12, 3}}},
		{"unshuffle", &Conv{X: x, Weight: param(3, 4, 3, 3), Pad: 1, Shuffle: -2}, []Shape{{2, 4, 3, 12}}},
		{"gate", &Conv{X: x, Weight: param(6, 4), Gate: SimpleGate}, []Shape{{2, 8, 6, 3}}},
		{"two inputs", &Conv{X: x, X2: k.in(2, 8, 6, 3), Weight: param(5, 7)}, []Shape{{2, 8, 6, 5}}},
		{"groups", &Conv{X: x, Weight: param(6, 2, 5, 5), Pad: 2, Groups: 2}, []Shape{{2, 8, 6, 6}}},
		{"dynamic weight", &Conv{X: x, Dynamic: k.in(2, 1, 7, 4)}, []Shape{{2, 8, 6, 7}}},
		{"gram", &Conv{X: x, Weight: param(13, 4), Gram: &Gram{4, 2}}, []Shape{{2, 8, 6, 5}, {2, 2, 2, 2}}},
		{"depthwise gram", &Depthwise{X: k.in(2, 8, 6, 12), Weight: param(12, 1, 3, 3), Gram: &Gram{4, 1}}, []Shape{{2, 8, 6, 4}, {2, 1, 4, 4}}},
		{"depthwise pool", &Depthwise{X: x, Weight: param(4, 1, 5, 5), Gate: GELUGate, Pool: true}, []Shape{{2, 8, 6, 2}, {2, 1, 1, 2}}},
		{"fold", &Fold{Gram: k.in(2, 3, 2, 2), Temperature: param(3), Proj: param(5, 6, 1, 1)}, []Shape{{2, 1, 5, 6}}},
		{"window attention", &WindowAttention{QKV: k.in(2, 8, 6, 12), Bias: param(2, 16, 16), Heads: 2, Window: 4, Shift: 2}, []Shape{{2, 8, 6, 4}}},
		{"attention", &Attention{QKV: k.in(2, 1, 5, 12), Heads: 2}, []Shape{{2, 1, 5, 4}}},
		{"pool", &Pool{X: x}, []Shape{{2, 1, 1, 4}}},
		{"pool in a window", &Pool{X: x, WindowH: 3, WindowW: 100}, []Shape{{2, 6, 1, 4}}},
		{"rescale norm", &RescaleNorm{X: x, Weight: param(4), Bias: param(4), ScaleWeight: param(4), ScaleBias: param(4), ShiftWeight: param(4), ShiftBias: param(4), Eps: 1}, []Shape{{2, 1, 2, 4}, {2, 1, 2, 4}}},
		{"tokens", &Tokens{X: x, Class: param(4), Pos: param(49, 4)}, []Shape{{2, 1, 49, 4}}},
		{"pad", &Pad{X: x, Top: 1, Left: 2, Bottom: 3, Right: 4}, []Shape{{2, 12, 12, 4}}},
		{"crop", &Crop{X: x, Y: 1, X0: 2, H: 3, W: 4}, []Shape{{2, 3, 4, 4}}},
		{"concat", &Concat{x, k.in(2, 8, 6, 1)}, []Shape{{2, 8, 6, 5}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []Shape
			for _, out := range k.Add(c.name, c.op) {
				got = append(got, out.Shape)
			}
			require.NoError(t, k.Err())
			require.Equal(t, c.want, got)
		})
	}
}

func TestPadIndexReadsInsideAndMirrors(t *testing.T) {
	for n := 1; n < 8; n++ {
		for i := -3 * n; i < 4*n; i++ {
			inside := i >= 0 && i < n
			for _, mode := range []PadMode{Zero, Reflect, ReflectLoop, Replicate} {
				got := mode.Index(i, n)
				if inside {
					require.Equal(t, i, got, "%v keeps %d of %d", mode, i, n)
					continue
				}
				if mode == Zero {
					require.Equal(t, -1, got)
					continue
				}
				require.GreaterOrEqual(t, got, 0)
				require.Less(t, got, n, "%v of %d in %d", mode, i, n)
			}
			require.Equal(t, min(max(i, 0), n-1), Replicate.Index(i, n))
			// Mirrors stand in the first and in the last pixel.
			require.Equal(t, ReflectLoop.Index(-i, n), ReflectLoop.Index(i, n))
			require.Equal(t, ReflectLoop.Index(2*(n-1)-i, n), ReflectLoop.Index(i, n))
			if i > -n && i < 2*n-1 {
				require.Equal(t, ReflectLoop.Index(i, n), Reflect.Index(i, n))
			}
		}
	}
}
