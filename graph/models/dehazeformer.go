package models

import (
	"fmt"
	"math"
	"strconv"

	"unirestorer/graph"
	"unirestorer/weights"
)

// dehazeFormer is the transformer of arXiv 2204.03883 in upstream's
// dehazeformer_arch.DehazeFormer: five stages of convolution blocks and window
// attention with RescaleNorm and a soft reconstruction at the end.
type dehazeFormer struct {
	InChannels  int       `json:"in_chans"`
	OutChannels int       `json:"out_chans"`
	Window      int       `json:"window_size"`
	EmbedDims   []int     `json:"embed_dims"`
	MLPRatios   []float64 `json:"mlp_ratios"`
	Depths      []int     `json:"depths"`
	Heads       []int     `json:"num_heads"`
	AttnRatio   []float64 `json:"attn_ratio"`
	ConvType    []string  `json:"conv_type"`
	Ports
}

// DehazeFormerName is DehazeFormer's name in configurations.
const DehazeFormerName = "dehazeformer"

func init() {
	Register(Architecture{
		Name:    DehazeFormerName,
		Default: func() Network { return defaultDehazeFormer() },
		Probes:  []string{"patch_merge1.proj.weight"},
		Infer: func(s *shapes, h Hints) Network {
			d := s.dehazeFormer()
			if h.Single { // its authors' pictures, unlike the pool's
				d.Range = []float64{-1, 1}
			}
			return &d
		},
		Sizes: []Size{
			{Name: "dehazeformer-t", Args: dehazeArgs(24, "[4,4,4,2,2]", "[0,0.5,1,0,0]", dwConv)},
			{Name: "dehazeformer-s-dwconv", Args: dehazeArgs(24, "[8,8,8,4,4]", "[0.25,0.5,0.75,0,0]", dwConv)},
			{Name: "dehazeformer-b", Args: dehazeArgs(24, "[16,16,16,8,8]", "[0.25,0.5,0.75,0,0]", dwConv)},
			{Name: "dehazeformer-d", Args: dehazeArgs(24, "[32,32,32,16,16]", "[0.25,0.5,0.75,0,0]", dwConv)},
			{Name: "dehazeformer-w", Args: dehazeArgs(48, "[16,16,16,8,8]", "[0.25,0.5,0.75,0,0]", dwConv)},
			{Name: "dehazeformer-m", Args: dehazeArgs(24, "[12,12,12,6,6]", "[0.25,0.5,0.75,0,0]", "Conv")},
			{Name: "dehazeformer-s", Args: `{"embed_dims":[24,48,96,48,24],"depths":[8,8,8,4,4]}`, Peer: true},
			{Name: "dehazeformer", Args: `{}`, Pool: true, Peer: true},
		},
		Small: `{"embed_dims":[8,16,16,16,8],"depths":[1,1,1,1,1],"num_heads":[1,2,2,1,1]}`,
	})
}

// dehazeArgs are the arguments of a released size.
func dehazeArgs(width int, depths, ratios, conv string) string {
	return fmt.Sprintf(`{"embed_dims":[%d,%d,%d,%d,%d],"depths":%s,"attn_ratio":%s,"conv_type":["%[8]s","%[8]s","%[8]s","%[8]s","%[8]s"]}`,
		width, 2*width, 4*width, 2*width, width, depths, ratios, conv)
}

// dehazeMultiple is upstream's patch_size: both downsamplings together.
const dehazeMultiple = 4

// biasHidden is the width of the network behind the attention bias.
const biasHidden = 256

func defaultDehazeFormer() *dehazeFormer {
	return &dehazeFormer{
		InChannels: 3, OutChannels: 4, Window: 8,
		EmbedDims: []int{48, 96, 192, 96, 48}, MLPRatios: []float64{2, 4, 4, 2, 2},
		Depths: []int{16, 16, 16, 12, 12}, Heads: []int{2, 4, 6, 1, 1},
		AttnRatio: []float64{1. / 4, 1. / 2, 3. / 4, 0, 0},
		ConvType:  []string{"Conv", "Conv", "Conv", "Conv", "Conv"},
	}
}

// Architecture implements Network.
func (d *dehazeFormer) Architecture() string { return DehazeFormerName }

func (d *dehazeFormer) check() error {
	if err := all(
		length("embed_dims", d.EmbedDims, 5), length("mlp_ratios", d.MLPRatios, 5), length("depths", d.Depths, 5),
		length("num_heads", d.Heads, 5), length("attn_ratio", d.AttnRatio, 5), length("conv_type", d.ConvType, 5),
	); err != nil {
		return err
	}
	if err := all(
		within("embed_dims", maxWidth, d.EmbedDims...), within("num_heads", maxWidth, d.Heads...),
		blockCounts("depths", d.Depths...), within("window_size", 64, d.Window),
	); err != nil {
		return err
	}
	if d.InChannels != 3 || d.OutChannels != 4 {
		return fmt.Errorf("%d input and %d output channels: only 3 and 4 are supported", d.InChannels, d.OutChannels)
	}
	for i, c := range d.EmbedDims {
		switch r := d.MLPRatios[i]; {
		case !(r > 0) || r > 64 || float64(c)*r < 1:
			return fmt.Errorf("mlp_ratios %v", d.MLPRatios)
		case !(d.AttnRatio[i] >= 0 && d.AttnRatio[i] <= 1):
			return fmt.Errorf("attn_ratio %v: want 0 to 1", d.AttnRatio)
		case d.ConvType[i] != "Conv" && d.ConvType[i] != dwConv:
			return fmt.Errorf("conv_type %q: want Conv or %s", d.ConvType[i], dwConv)
		case d.attends(i, d.Depths[i]-1) && c%d.Heads[i] != 0:
			return fmt.Errorf("stage %d: %d channels do not split into %d heads", i+1, c, d.Heads[i])
		}
	}
	if d.EmbedDims[0] != d.EmbedDims[4] || d.EmbedDims[1] != d.EmbedDims[3] {
		return fmt.Errorf("embed_dims %v: skips join stages 1 and 5, 2 and 4", d.EmbedDims)
	}
	return d.Ports.check()
}

// attends tells whether a block has attention: the last ones of a stage do.
func (d *dehazeFormer) attends(stage, block int) bool {
	depth := float64(d.Depths[stage])
	return float64(block) >= depth-d.AttnRatio[stage]*depth
}

// shift of a block's windows.
func (d *dehazeFormer) shift(block int) int {
	if block%2 == 0 {
		return 0
	}
	return d.Window / 2
}

// CheckSide implements Network: all reflections need more pixels than they
// add, at every stage.
func (d *dehazeFormer) CheckSide(n int) error {
	n, err := d.reflected(n, dehazeMultiple)
	if err != nil {
		return err
	}
	for stage, scale := range []int{1, 2, 4, 2, 1} {
		side := n / scale
		if side <= d.radius(stage) && d.Depths[stage] > 0 {
			return fmt.Errorf("stage %d: %d pixels cannot be padded by reflection", stage+1, side)
		}
		for block := range d.Depths[stage] {
			if !d.attends(stage, block) {
				continue
			}
			a := graph.WindowAttention{Window: d.Window, Shift: d.shift(block)}
			if before, after := a.Padding(side); before >= side || after >= side {
				return fmt.Errorf("stage %d: %d pixels cannot be padded by %d and %d for windows of %d", stage+1, side, before, after, d.Window)
			}
		}
	}
	return nil
}

// dwConv is the conv_type whose convolution is 5×5 and depthwise.
const dwConv = "DWConv"

// radius is how far the convolutions of a stage reach.
func (d *dehazeFormer) radius(stage int) int {
	if d.ConvType[stage] == dwConv {
		return dwRadius
	}
	return 1
}

const dwRadius = 2

// Grid implements Network: windows at the lowest resolution.
func (d *dehazeFormer) Grid() int { return d.grid(dehazeMultiple * d.Window) }

// Build implements Network.
func (d *dehazeFormer) Build(src weights.Source, n, h, w int, opt Options) (*graph.Graph, error) {
	l := newLoader(DehazeFormerName, src, opt)
	b := dehazeBuilder{d, l}
	in := l.photo(d, n, h, w, opt)
	h, w = in.Shape.H, in.Shape.W
	image := l.padTo(in, dehazeMultiple, graph.Reflect)

	x := b.conv3("patch_embed.proj", graph.Conv{X: image}, d.EmbedDims[0])
	l.Trace("patch_embed", x, graph.NCHW)
	s1 := b.stage(0, x)
	s2 := b.stage(1, b.merge("patch_merge1", s1, d.EmbedDims[1]))
	x = b.stage(2, b.merge("patch_merge2", s2, d.EmbedDims[2]))
	x = b.stage(3, b.fuse("fusion1", b.split("patch_split1", x, d.EmbedDims[3]), b.skip("skip2", s2)))
	x = b.stage(4, b.fuse("fusion2", b.split("patch_split2", x, d.EmbedDims[4]), b.skip("skip1", s1)))

	kb := b.conv3("patch_unembed.proj.0", graph.Conv{X: x}, d.OutChannels)
	l.Trace("patch_unembed", kb, graph.NCHW)
	y := l.SoftReconstruction("reconstruct", image, kb)
	return l.restored(l.Crop("crop", graph.Crop{X: y, H: h, W: w}), opt)
}

type dehazeBuilder struct {
	*dehazeFormer
	*loader
}

func (b dehazeBuilder) conv(path string, c graph.Conv, cout, k int) *graph.Tensor {
	c.Weight = b.param(path+".weight", cout, c.CIn(), k, k)
	c.Bias = b.param(path+".bias", cout)
	return b.Conv(path, c)
}

func (b dehazeBuilder) conv3(path string, c graph.Conv, cout int) *graph.Tensor {
	c.Pad, c.PadMode = 1, graph.Reflect
	return b.conv(path, c, cout, 3)
}

func (b dehazeBuilder) merge(path string, x *graph.Tensor, cout int) *graph.Tensor {
	x = b.conv(path+".proj", graph.Conv{X: x, Stride: 2}, cout, 2)
	b.Trace(path, x, graph.NCHW)
	return x
}

func (b dehazeBuilder) split(path string, x *graph.Tensor, cout int) *graph.Tensor {
	x = b.conv(path+".proj.0", graph.Conv{X: x, Shuffle: 2}, 4*cout, 1)
	b.Trace(path, x, graph.NCHW)
	return x
}

func (b dehazeBuilder) skip(path string, x *graph.Tensor) *graph.Tensor {
	x = b.conv(path, graph.Conv{X: x}, x.Shape.C, 1)
	b.Trace(path, x, graph.NCHW)
	return x
}

// fuse is SK([up, skip]) + up.
func (b dehazeBuilder) fuse(path string, up, skip *graph.Tensor) *graph.Tensor {
	c := up.Shape.C
	hidden := max(c/8, 4)
	t := b.Add(path+".pool", &graph.Pool{X: up, X2: skip})[0]
	t = b.Conv(path+".mlp.0", graph.Conv{X: t, Weight: b.param(path+".mlp.0.weight", hidden, c, 1, 1), Act: graph.ReLU})
	t = b.Conv(path+".mlp.2", graph.Conv{X: t, Weight: b.param(path+".mlp.2.weight", 2*c, hidden, 1, 1)})
	sk := graph.SelectiveKernel{A: up, B: skip, Logits: t}
	if b.Traces(path) {
		b.Trace(path, b.SelectiveKernel(path, sk), graph.NCHW)
	}
	sk.Residual = up
	return b.SelectiveKernel(path, sk)
}

func (b dehazeBuilder) stage(i int, x *graph.Tensor) *graph.Tensor {
	path := fmt.Sprintf("layer%d", i+1)
	for block := range b.Depths[i] {
		p := fmt.Sprintf("%s.blocks.%d", path, block)
		switch {
		case b.attends(i, block):
			x = b.attention(p, i, block, x)
		case b.ConvType[i] == dwConv:
			v := b.conv(p+".attn.V", graph.Conv{X: x}, x.Shape.C, 1)
			x = b.conv(p+".attn.proj", graph.Conv{X: b.depthwise(p+".attn.conv", v), Residual: x}, x.Shape.C, 1)
			b.Trace(p+".attn", x, graph.NCHW)
		default:
			x = b.convBranch(p+".attn", x, x)
			b.Trace(p+".attn", x, graph.NCHW)
		}
		hidden := int(float64(x.Shape.C) * b.MLPRatios[i])
		t := b.conv(p+".mlp.mlp.0", graph.Conv{X: x, Act: graph.ReLU}, hidden, 1)
		x = b.conv(p+".mlp.mlp.2", graph.Conv{X: t, Residual: x}, x.Shape.C, 1)
		b.Trace(p, x, graph.NCHW)
	}
	b.Trace(path, x, graph.NCHW)
	return x
}

// convBranch is residual + conv3x3(relu(conv3x3(x))).
func (b dehazeBuilder) convBranch(path string, x, residual *graph.Tensor) *graph.Tensor {
	c := x.Shape.C
	t := b.conv3(path+".conv.0", graph.Conv{X: x, Act: graph.ReLU}, c)
	return b.conv3(path+".conv.2", graph.Conv{X: t, Residual: residual}, c)
}

// depthwise is a 5×5 convolution of every channel, padded by reflection.
func (b dehazeBuilder) depthwise(path string, x *graph.Tensor) *graph.Tensor {
	const r = dwRadius
	s := x.Shape
	t := b.Pad(path+".pad", graph.Pad{X: x, Top: r, Left: r, Bottom: r, Right: r, Mode: graph.Reflect})
	t = b.Depthwise(path, graph.Depthwise{
		X: t, Weight: b.param(path+".weight", s.C, 1, 2*r+1, 2*r+1), Bias: b.param(path+".bias", s.C),
	})
	return b.Crop(path+".crop", graph.Crop{X: t, Y: r, X0: r, H: s.H, W: s.W})
}

// attention is x + proj(window attention + conv(V))·rescale + rebias on the
// normalised x.
func (b dehazeBuilder) attention(path string, stage, block int, x *graph.Tensor) *graph.Tensor {
	c, attn, norm := x.Shape.C, path+".attn", path+".norm1"
	before, after := b.RescaleNorm(norm, graph.RescaleNorm{
		X:      x,
		Weight: b.param(norm+".weight", 1, c, 1, 1), Bias: b.param(norm+".bias", 1, c, 1, 1),
		ScaleWeight: b.param(norm+".meta1.weight", c, 1, 1, 1), ScaleBias: b.param(norm+".meta1.bias", c),
		ShiftWeight: b.param(norm+".meta2.weight", c, 1, 1, 1), ShiftBias: b.param(norm+".meta2.bias", c),
		Eps: 1e-5,
	})
	b.traceNorm(norm, x, before, after)

	vw, vb := b.param(attn+".V.weight", c, c, 1, 1), b.param(attn+".V.bias", c)
	qkw, qkb := b.param(attn+".QK.weight", 2*c, c, 1, 1), b.param(attn+".QK.bias", 2*c)
	qkv := b.Conv(attn+".QKV", graph.Conv{
		X: x, InAffine: before,
		Weight: stack(attn+".QKV.weight", qkw, vw), Bias: stack(attn+".QKV.bias", qkb, vb),
	})
	v := b.Conv(attn+".V", graph.Conv{X: x, InAffine: before, Weight: vw, Bias: vb})
	b.Counted(v, 0) // counted in QKV
	t := b.WindowAttention(attn+".attn", graph.WindowAttention{
		QKV: qkv, Bias: b.relativeBias(attn+".attn", b.Heads[stage]),
		Heads: b.Heads[stage], Window: b.Window, Shift: b.shift(block),
	})
	// Upstream evaluates the bias network for every pair of tokens in every run.
	pairs := int64(b.Window * b.Window * b.Window * b.Window)
	b.Counted(t, pairs*biasHidden*int64(2+b.Heads[stage]))
	if b.ConvType[stage] == dwConv {
		t = b.Sum(attn+".sum", b.depthwise(attn+".conv", v), t)
	} else {
		t = b.convBranch(attn, v, t)
	}
	if b.Traces(attn) {
		b.Trace(attn, b.conv(attn+".proj", graph.Conv{X: t}, c, 1), graph.NCHW)
	}
	return b.conv(attn+".proj", graph.Conv{X: t, OutAffine: after, Residual: x}, c, 1)
}

// traceNorm traces RescaleNorm's three results: the normalised features, which
// no node holds, the rescale and the rebias.
func (b dehazeBuilder) traceNorm(name string, x, before, after *graph.Tensor) {
	if !b.Traces(name + "#0") {
		return
	}
	c := x.Shape.C
	eye := graph.NewParam(name+".identity", []int{c, c}, fmt.Sprintf("identity %d", c), func(dst []float32) error {
		clear(dst)
		for i := range c {
			dst[i*c+i] = 1
		}
		return nil
	})
	b.Trace(name+"#0", b.Conv(name, graph.Conv{X: x, InAffine: before, Weight: eye}), graph.NCHW)
	for i := range 2 {
		row := b.Crop(name, graph.Crop{X: after, X0: i, H: 1, W: 1})
		b.Trace(fmt.Sprintf("%s#%d", name, i+1), row, graph.NCHW)
	}
}

// relativeBias is the attention bias [heads, ws², ws²]: a small network of the
// signed logarithm of each pair's offset, the same for every window.
func (b dehazeBuilder) relativeBias(path string, heads int) *graph.Param {
	ws := b.Window
	t := ws * ws
	b.unusedBuffer(path+".relative_positions", t, t, 2)
	w0, b0 := b.param(path+".meta.0.weight", biasHidden, 2), b.param(path+".meta.0.bias", biasHidden)
	w2, b2 := b.param(path+".meta.2.weight", heads, biasHidden), b.param(path+".meta.2.bias", heads)
	return derived(path+".bias", fmt.Sprintf("relative bias %d", ws), []int{heads, t, t}, func(dst []float32, src [][]float32) error {
		relativeBias(dst, ws, heads, src)
		return nil
	}, w0, b0, w2, b2)
}

func relativeBias(dst []float32, ws, heads int, src [][]float32) {
	w0, b0, w2, b2 := src[0], src[1], src[2], src[3]
	t := ws * ws
	hidden := make([]float64, len(b0))
	// The bias depends on the offset alone: (2·ws-1)² evaluations.
	for dy := 1 - ws; dy < ws; dy++ {
		for dx := 1 - ws; dx < ws; dx++ {
			y, x := signedLog(dy), signedLog(dx)
			for i := range hidden {
				hidden[i] = math.Max(0, float64(w0[2*i])*y+float64(w0[2*i+1])*x+float64(b0[i]))
			}
			for h := range heads {
				sum := float64(b2[h])
				for i, v := range hidden {
					sum += float64(w2[h*len(hidden)+i]) * v
				}
				for qy := max(0, dy); qy < ws+min(0, dy); qy++ {
					for qx := max(0, dx); qx < ws+min(0, dx); qx++ {
						q, k := qy*ws+qx, (qy-dy)*ws+qx-dx
						dst[(h*t+q)*t+k] = float32(sum)
					}
				}
			}
		}
	}
}

func signedLog(d int) float64 {
	return math.Copysign(math.Log1p(math.Abs(float64(d))), float64(d))
}

func (s *shapes) dehazeFormer() dehazeFormer {
	d := dehazeFormer{InChannels: 3, OutChannels: s.dim("patch_unembed.proj.0.weight", 0), Window: 8}
	for i := 1; i <= 5; i++ {
		layer := fmt.Sprintf("layer%d.blocks.", i)
		depth := s.count(layer + "%d.mlp.mlp.0.weight")
		width := s.dim(layer+"0.mlp.mlp.0.weight", 1)
		attending, heads, kind := 0, 1, "Conv"
		for b := range depth {
			if s.has(layer + strconv.Itoa(b) + ".attn.conv.weight") {
				kind = dwConv
			}
			if block := layer + strconv.Itoa(b); s.has(block + ".attn.QK.weight") {
				attending++
				heads = s.dim(block+".attn.attn.meta.2.weight", 0)
				if positions := block + ".attn.attn.relative_positions"; s.has(positions) {
					d.Window = int(math.Round(math.Sqrt(float64(s.dim(positions, 0)))))
				}
			}
		}
		d.Depths = append(d.Depths, depth)
		d.EmbedDims = append(d.EmbedDims, width)
		d.Heads = append(d.Heads, heads)
		ratio, err := expansion([]int{width}, []int{s.dim(layer+"0.mlp.mlp.0.weight", 0)})
		if err != nil && s.err == nil {
			s.err = err
		}
		d.MLPRatios = append(d.MLPRatios, ratio)
		d.AttnRatio = append(d.AttnRatio, attentionRatio(attending, depth))
		d.ConvType = append(d.ConvType, kind)
	}
	return d
}

// attentionRatio is the ratio for which the network's rule, that block i of
// depth attends if i ≥ depth-ratio·depth, makes the last attending blocks
// attend. The quotient itself may round to one block less.
func attentionRatio(attending, depth int) float64 {
	if depth == 0 {
		return 0
	}
	d := float64(depth)
	ratio := float64(attending) / d
	for float64(depth-attending) < d-ratio*d {
		ratio = math.Nextafter(ratio, 1)
	}
	return ratio
}
