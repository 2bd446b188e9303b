package models

import (
	"fmt"

	"unirestorer/graph"
	"unirestorer/weights"
)

// Restormer is the transformer of arXiv 2111.09881 in upstream's
// restormer_arch.Restormer: a U-Net of four levels whose blocks attend across
// channels. The arguments carry upstream's names.
type Restormer struct {
	InChannels       int     `json:"inp_channels"`
	OutChannels      int     `json:"out_channels"`
	Dim              int     `json:"dim"`
	NumBlocks        []int   `json:"num_blocks"`
	RefinementBlocks int     `json:"num_refinement_blocks"`
	Heads            []int   `json:"heads"`
	Expansion        float64 `json:"ffn_expansion_factor"`
	Bias             bool    `json:"bias"`
	LayerNorm        string  `json:"LayerNorm_type"`
	DualPixelTask    bool    `json:"dual_pixel_task"`
	Ports
}

// RestormerName is Restormer's name in configurations.
const RestormerName = "restormer"

func init() {
	Register(Architecture{
		Name:    RestormerName,
		Default: func() Network { return defaultRestormer() },
		Probes:  []string{"encoder_level1.0.attn.temperature"},
		Infer: func(s *shapes, _ Hints) Network {
			r := s.restormer("")
			return &r
		},
		Sizes: []Size{
			{Name: "restormer-gray", Args: `{"inp_channels":1,"out_channels":1,"LayerNorm_type":"BiasFree"}`},
			{Name: "restormer-dual-pixel", Args: `{"inp_channels":6,"dual_pixel_task":true}`},
			{Name: "restormer-nano", Args: `{"dim":16,"num_blocks":[1,1,1,2],"num_refinement_blocks":1,"heads":[1,2,4,8]}`, Peer: true},
			{Name: "restormer", Args: `{}`, Pool: true, Peer: true},
			{Name: "restormer-biasfree", Args: `{"LayerNorm_type":"BiasFree"}`},
		},
		Small: `{"dim":8,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,1,2,2]}`,
	})
}

const restormerMultiple = 8

func defaultRestormer() *Restormer {
	return &Restormer{
		InChannels: 3, OutChannels: 3, Dim: 48,
		NumBlocks: []int{4, 6, 6, 8}, RefinementBlocks: 4, Heads: []int{1, 2, 4, 8},
		Expansion: 2.66, LayerNorm: "WithBias",
	}
}

// Architecture implements Network.
func (r *Restormer) Architecture() string { return RestormerName }

func (r *Restormer) check() error {
	if err := all(length("num_blocks", r.NumBlocks, 4), length("heads", r.Heads, 4)); err != nil {
		return err
	}
	if err := all(
		within("dim", maxWidth, r.Dim), within("heads", maxWidth, r.Heads...),
		blockCounts("num_blocks", r.NumBlocks...), blockCounts("num_refinement_blocks", r.RefinementBlocks),
	); err != nil {
		return err
	}
	for i, h := range r.Heads {
		if (r.Dim<<i)%h != 0 {
			return fmt.Errorf("level %d: %d channels do not split into %d heads", i+1, r.Dim<<i, h)
		}
	}
	switch {
	case !picturesIn(r.InChannels) || r.OutChannels != 1 && r.OutChannels != 3:
		return fmt.Errorf("inp_channels %d, out_channels %d: want 1 or 3, or 6 for two pictures, in, and 1 or 3 out", r.InChannels, r.OutChannels)
	case !r.DualPixelTask && r.InChannels != r.OutChannels:
		return fmt.Errorf("inp_channels %d, out_channels %d: they are added; only with dual_pixel_task may they differ", r.InChannels, r.OutChannels)
	case r.LayerNorm != "WithBias" && r.LayerNorm != "BiasFree":
		return fmt.Errorf("LayerNorm_type %q: want WithBias or BiasFree", r.LayerNorm)
	case r.Dim%2 != 0:
		return fmt.Errorf("dim %d is odd", r.Dim)
	case !(r.Expansion > 0) || float64(r.Dim)*r.Expansion < 1 || r.Expansion > 64:
		return fmt.Errorf("ffn_expansion_factor %g", r.Expansion)
	}
	return r.Ports.check()
}

func (r *Restormer) channels() (in, out int) { return r.InChannels, r.OutChannels }

// picturesIn tells whether a network can take that many channels: grey, RGB or
// two RGB pictures.
func picturesIn(channels int) bool { return channels == 1 || channels == 3 || channels == 6 }

// CheckSide implements Network: reflection to a multiple of 8 needs more
// pixels than it adds.
func (r *Restormer) CheckSide(n int) error {
	_, err := r.reflected(n, restormerMultiple)
	return err
}

// Grid implements Network.
func (r *Restormer) Grid() int { return r.grid(restormerMultiple) }

// Build implements Network.
func (r *Restormer) Build(src weights.Source, n, h, w int, opt Options) (*graph.Graph, error) {
	return r.build(newLoader(RestormerName, src, opt), plainConvs{}, n, h, w, opt)
}

// convs gives the convolutions of a Restormer their weights; LoRA adapters
// hide behind it. level is upstream's index of the adapter's rank.
type convs interface {
	// weight is the weight of a convolution, with the low-rank branch to add.
	weight(l *loader, path string, level int, dims ...int) (*graph.Param, *graph.LowRank)
	// merged is the weight with any adapter added.
	merged(l *loader, path string, level int, dims ...int) *graph.Param
	// bias is the name of a convolution's bias.
	bias(path string) string
}

type plainConvs struct{}

func (plainConvs) weight(l *loader, path string, _ int, dims ...int) (*graph.Param, *graph.LowRank) {
	return l.param(path+".weight", dims...), nil
}

func (plainConvs) bias(path string) string { return path + ".bias" }

func (plainConvs) merged(l *loader, path string, _ int, dims ...int) *graph.Param {
	return l.param(path+".weight", dims...)
}

// restormerBuilder carries what every part of a Restormer needs.
type restormerBuilder struct {
	*Restormer
	*loader
	convs convs
}

func (r *Restormer) build(l *loader, c convs, n, h, w int, opt Options) (*graph.Graph, error) {
	b := restormerBuilder{r, l, c}
	in := l.photo(r, n, h, w, opt)
	h, w = in.Shape.H, in.Shape.W
	x := l.padTo(in, restormerMultiple, graph.Reflect)

	e1 := b.conv("patch_embed.proj", 0, graph.Conv{X: x, Pad: 1}, r.Dim, 3, r.Bias)
	l.Trace("patch_embed", e1, graph.NCHW)
	embedded := e1
	e1 = b.level("encoder_level1", 0, e1, r.NumBlocks[0], r.Heads[0])
	e2 := b.level("encoder_level2", 1, b.down("down1_2", 0, e1), r.NumBlocks[1], r.Heads[1])
	e3 := b.level("encoder_level3", 2, b.down("down2_3", 1, e2), r.NumBlocks[2], r.Heads[2])
	latent := b.level("latent", 3, b.down("down3_4", 2, e3), r.NumBlocks[3], r.Heads[3])

	d3 := b.reduce("reduce_chan_level3", 2, b.up("up4_3", 3, latent), e3)
	d3 = b.level("decoder_level3", 2, d3, r.NumBlocks[2], r.Heads[2])
	d2 := b.reduce("reduce_chan_level2", 1, b.up("up3_2", 2, d3), e2)
	d2 = b.level("decoder_level2", 1, d2, r.NumBlocks[1], r.Heads[1])
	d1 := l.Concat("cat1", b.up("up2_1", 1, d2), e1)
	d1 = b.level("decoder_level1", 0, d1, r.NumBlocks[0], r.Heads[0])
	d1 = b.level("refinement", 0, d1, r.RefinementBlocks, r.Heads[0])

	if r.DualPixelTask {
		d1 = b.conv("skip_conv", 0, graph.Conv{X: embedded, Residual: d1}, 2*r.Dim, 1, r.Bias)
	}
	if l.Traces("output") {
		l.Trace("output", b.conv("output", 0, graph.Conv{X: d1, Pad: 1}, r.OutChannels, 3, r.Bias), graph.NCHW)
	}
	output := graph.Conv{X: d1, Pad: 1}
	if !r.DualPixelTask {
		output.Residual = x
	}
	y := b.conv("output", 0, output, r.OutChannels, 3, r.Bias)
	return l.restored(l.Crop("crop", graph.Crop{X: y, H: h, W: w}), opt)
}

// conv adds a k×k convolution to cout channels; c brings its input and what is
// fused around it.
func (b restormerBuilder) conv(path string, level int, c graph.Conv, cout, k int, bias bool) *graph.Tensor {
	c.Weight, c.LowRank = b.convs.weight(b.loader, path, level, cout, c.CIn(), k, k)
	if bias {
		c.Bias = b.param(b.convs.bias(path), cout)
	}
	return b.Conv(path, c)
}

func (b restormerBuilder) down(path string, level int, x *graph.Tensor) *graph.Tensor {
	t := b.conv(path+".body.0", level, graph.Conv{X: x, Pad: 1, Shuffle: -2}, x.Shape.C/2, 3, false)
	b.Trace(path, t, graph.NCHW)
	return t
}

func (b restormerBuilder) up(path string, level int, x *graph.Tensor) *graph.Tensor {
	t := b.conv(path+".body.0", level, graph.Conv{X: x, Pad: 1, Shuffle: 2}, x.Shape.C*2, 3, false)
	b.Trace(path, t, graph.NCHW)
	return t
}

// reduce halves the channels of the upsampled features and the skip together.
func (b restormerBuilder) reduce(path string, level int, up, skip *graph.Tensor) *graph.Tensor {
	t := b.conv(path, level, graph.Conv{X: up, X2: skip}, skip.Shape.C, 1, b.Bias)
	b.Trace(path, t, graph.NCHW)
	return t
}

func (b restormerBuilder) level(path string, level int, x *graph.Tensor, blocks, heads int) *graph.Tensor {
	for i := range blocks {
		x = b.block(fmt.Sprintf("%s.%d", path, i), level, x, heads)
	}
	b.Trace(path, x, graph.NCHW)
	return x
}

func (b restormerBuilder) block(path string, level int, x *graph.Tensor, heads int) *graph.Tensor {
	x = b.attention(path, level, x, heads)
	x = b.feedForward(path, level, x)
	b.Trace(path, x, graph.NCHW)
	return x
}

func (b restormerBuilder) norm(path string, c int) *graph.Norm {
	n := &graph.Norm{Kind: graph.BiasFree, Weight: b.param(path+".body.weight", c), Eps: 1e-5}
	if b.LayerNorm == "WithBias" {
		n.Kind, n.Bias = graph.LayerNorm, b.param(path+".body.bias", c)
	}
	return n
}

// attention is x + MDTA(norm1(x)), multi-Dconv head transposed attention.
func (b restormerBuilder) attention(path string, level int, x *graph.Tensor, heads int) *graph.Tensor {
	c, attn := x.Shape.C, path+".attn"
	norm := b.norm(path+".norm1", c)
	if b.Traces(path + ".norm1") {
		b.Trace(path+".norm1", b.ChannelNorm(path+".norm1", graph.ChannelNorm{X: x, Norm: norm}), graph.NCHW)
	}
	qkv := b.conv(attn+".qkv", level, graph.Conv{X: x, Norm: norm}, 3*c, 1, b.Bias)
	dw := graph.Depthwise{X: qkv, Gram: &graph.Gram{C: c, Heads: heads}}
	dw.Weight = b.convs.merged(b.loader, attn+".qkv_dwconv", level, 3*c, 1, 3, 3)
	if b.Bias {
		dw.Bias = b.param(b.convs.bias(attn+".qkv_dwconv"), 3*c)
	}
	v, gram := b.DepthwiseGram(attn+".qkv_dwconv", dw)
	fold := b.Fold(attn+".fold", graph.Fold{
		Gram:        gram,
		Temperature: b.param(attn+".temperature", heads, 1, 1),
		Proj:        b.convs.merged(b.loader, attn+".project_out", level, c, c, 1, 1),
	})
	out := graph.Conv{X: v, Dynamic: fold}
	if b.Bias {
		out.Bias = b.param(b.convs.bias(attn+".project_out"), c)
	}
	if b.Traces(attn) {
		b.Trace(attn, b.Conv(attn, out), graph.NCHW)
	}
	out.Residual = x
	return b.Conv(attn+".project_out", out)
}

// feedForward is x + GDFN(norm2(x)), the gated-Dconv feed-forward network.
func (b restormerBuilder) feedForward(path string, level int, x *graph.Tensor) *graph.Tensor {
	c, ffn := x.Shape.C, path+".ffn"
	hidden := int(float64(c) * b.Expansion)
	norm := b.norm(path+".norm2", c)
	if b.Traces(path + ".norm2") {
		b.Trace(path+".norm2", b.ChannelNorm(path+".norm2", graph.ChannelNorm{X: x, Norm: norm}), graph.NCHW)
	}
	t := b.conv(ffn+".project_in", level, graph.Conv{X: x, Norm: norm}, 2*hidden, 1, b.Bias)
	dw := graph.Depthwise{X: t, Gate: graph.GELUGate}
	dw.Weight = b.convs.merged(b.loader, ffn+".dwconv", level, 2*hidden, 1, 3, 3)
	if b.Bias {
		dw.Bias = b.param(b.convs.bias(ffn+".dwconv"), 2*hidden)
	}
	t = b.Depthwise(ffn+".dwconv", dw)
	if b.Traces(ffn) {
		b.Trace(ffn, b.conv(ffn+".project_out", level, graph.Conv{X: t}, c, 1, b.Bias), graph.NCHW)
	}
	return b.conv(ffn+".project_out", level, graph.Conv{X: t, Residual: x}, c, 1, b.Bias)
}

// restormer reads the arguments off the shapes; infix stands between a
// convolution's path and "weight".
func (s *shapes) restormer(infix string) Restormer {
	conv := func(path string) string { return path + infix + ".weight" }
	dim := s.dim(conv("patch_embed.proj"), 0)
	r := Restormer{
		InChannels: s.dim(conv("patch_embed.proj"), 1), OutChannels: s.dim(conv("output"), 0), Dim: dim, LayerNorm: "BiasFree",
		DualPixelTask:    s.has(conv("skip_conv")),
		RefinementBlocks: s.count("refinement.%d.attn.temperature"),
		Bias:             s.has("output" + infix + ".bias"),
	}
	if s.has("encoder_level1.0.norm1.body.bias") {
		r.LayerNorm = "WithBias"
	}
	var hidden, width []int
	for i, level := range []string{"encoder_level1", "encoder_level2", "encoder_level3", "latent"} {
		r.NumBlocks = append(r.NumBlocks, s.count(level+".%d.attn.temperature"))
		r.Heads = append(r.Heads, s.dim(level+".0.attn.temperature", 0))
		width = append(width, dim<<i)
		hidden = append(hidden, s.dim(conv(level+".0.ffn.project_in"), 0)/2)
	}
	var err error
	if r.Expansion, err = expansion(width, hidden); err != nil && s.err == nil {
		s.err = err
	}
	return r
}
