package models

import (
	"errors"
	"fmt"

	"unirestorer/graph"
	"unirestorer/weights"
)

// promptIR is the all-in-one network of arXiv 2306.13090 in upstream's
// net.model.PromptIR: a Restormer whose decoder is told, before each of three
// levels, what it restores by a prompt that the features choose.
type promptIR struct {
	InChannels       int     `json:"inp_channels"`
	OutChannels      int     `json:"out_channels"`
	Dim              int     `json:"dim"`
	NumBlocks        []int   `json:"num_blocks"`
	RefinementBlocks int     `json:"num_refinement_blocks"`
	Heads            []int   `json:"heads"`
	Expansion        float64 `json:"ffn_expansion_factor"`
	Bias             bool    `json:"bias"`
	LayerNorm        string  `json:"LayerNorm_type"`
	// Decoder must be true, as every released network has it: upstream's forward
	// fails without.
	Decoder bool `json:"decoder"`

	// Upstream writes the following out; they stand in the order of the levels.

	// PromptLen is the number of components, PromptDims are their channels and
	// PromptSizes their sides.
	PromptLen   int   `json:"prompt_len"`
	PromptDims  []int `json:"prompt_dims"`
	PromptSizes []int `json:"prompt_sizes"`
	// Reduced are the channels of chnl_reduce3, which inference does not use.
	Reduced int `json:"chnl_reduce3_out"`
	Ports
}

// promptIRName is PromptIR's name in configurations.
const promptIRName = "promptir"

func init() {
	Register(Architecture{
		Name:    promptIRName,
		Default: func() Network { return defaultPromptIR() },
		Probes:  []string{"prompt1.prompt_param", "encoder_level1.0.attn.temperature"},
		Infer: func(s *shapes, h Hints) Network {
			p := s.promptIR()
			if h.Single { // as its authors' test program does
				p.Multiple = restormerMultiple
			}
			return p
		},
		Sizes: []Size{{Name: "promptir", Args: `{}`}},
		Small: `{"dim":8,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,1,2,2],"prompt_dims":[8,8,16],"prompt_sizes":[8,4,4],"chnl_reduce3_out":8}`,
	})
}

func defaultPromptIR() *promptIR {
	r := defaultRestormer()
	return &promptIR{
		InChannels: r.InChannels, OutChannels: r.OutChannels, Dim: r.Dim, NumBlocks: r.NumBlocks, RefinementBlocks: r.RefinementBlocks,
		Heads: r.Heads, Expansion: r.Expansion, LayerNorm: r.LayerNorm, Decoder: true,
		PromptLen: 5, PromptDims: []int{64, 128, 320}, PromptSizes: []int{64, 32, 16}, Reduced: 256,
	}
}

// Architecture implements Network.
func (*promptIR) Architecture() string { return promptIRName }

// restormer is the network without its prompts.
func (p *promptIR) restormer() *Restormer {
	return &Restormer{
		InChannels: p.InChannels, OutChannels: p.OutChannels, Dim: p.Dim, NumBlocks: p.NumBlocks, RefinementBlocks: p.RefinementBlocks,
		Heads: p.Heads, Expansion: p.Expansion, Bias: p.Bias, LayerNorm: p.LayerNorm, Ports: p.Ports,
	}
}

func (p *promptIR) check() error {
	if err := all(
		p.restormer().check(), length("prompt_dims", p.PromptDims, 3), length("prompt_sizes", p.PromptSizes, 3),
		within("prompt_len", maxWidth, p.PromptLen), within("prompt_dims", maxWidth, p.PromptDims...),
		within("prompt_sizes", maxPromptSide, p.PromptSizes...), within("chnl_reduce3_out", maxWidth, p.Reduced),
	); err != nil {
		return err
	}
	if !p.Decoder {
		return errors.New("decoder false: the network runs with its prompts only")
	}
	for n := range 3 {
		if c := p.features(n) + p.PromptDims[n]; c%p.Heads[2] != 0 {
			return fmt.Errorf("noise_level%d: %d channels do not split into %d heads", n+1, c, p.Heads[2])
		}
	}
	return nil
}

// maxPromptSide bounds the sides of prompt components.
const maxPromptSide = 1 << 10

// features are the channels that prompt n+1 is put behind.
func (p *promptIR) features(n int) int { return p.Dim * [3]int{2, 4, 8}[n] }

func (p *promptIR) channels() (in, out int) { return p.InChannels, p.OutChannels }

// CheckSide implements Network: the network itself does not pad.
func (p *promptIR) CheckSide(n int) error { return p.unpadded(n, restormerMultiple) }

// Grid implements Network.
func (p *promptIR) Grid() int { return p.grid(restormerMultiple) }

// Build implements Network.
func (p *promptIR) Build(src weights.Source, n, h, w int, opt Options) (*graph.Graph, error) {
	l := newLoader(promptIRName, src, opt)
	r := p.restormer()
	b := promptBuilder{p, restormerBuilder{r, l, plainConvs{}}}
	x := l.photo(p, n, h, w, opt)
	d := p.Dim

	e1 := b.conv("patch_embed.proj", 0, graph.Conv{X: x, Pad: 1}, d, 3, p.Bias)
	l.Trace("patch_embed", e1, graph.NCHW)
	e1 = b.level("encoder_level1", 0, e1, p.NumBlocks[0], p.Heads[0])
	e2 := b.level("encoder_level2", 1, b.down("down1_2", 0, e1), p.NumBlocks[1], p.Heads[1])
	e3 := b.level("encoder_level3", 2, b.down("down2_3", 1, e2), p.NumBlocks[2], p.Heads[2])
	latent := b.level("latent", 3, b.down("down3_4", 2, e3), p.NumBlocks[3], p.Heads[3])

	latent = b.interact(3, latent, 4*d)
	d3 := b.reduce("reduce_chan_level3", 2, b.up("up4_3", 3, latent), e3)
	d3 = b.level("decoder_level3", 2, d3, p.NumBlocks[2], p.Heads[2])
	d3 = b.interact(2, d3, 4*d)
	d2 := b.reduce("reduce_chan_level2", 1, b.up("up3_2", 2, d3), e2)
	d2 = b.level("decoder_level2", 1, d2, p.NumBlocks[1], p.Heads[1])
	d2 = b.interact(1, d2, 2*d)
	d1 := l.Concat("cat1", b.up("up2_1", 1, d2), e1)
	d1 = b.level("decoder_level1", 0, d1, p.NumBlocks[0], p.Heads[0])
	d1 = b.level("refinement", 0, d1, p.RefinementBlocks, p.Heads[0])
	b.leftovers()

	if l.Traces("output") {
		l.Trace("output", b.conv("output", 0, graph.Conv{X: d1, Pad: 1}, p.OutChannels, 3, p.Bias), graph.NCHW)
	}
	return l.restored(b.conv("output", 0, graph.Conv{X: d1, Pad: 1, Residual: x}, p.OutChannels, 3, p.Bias), opt)
}

type promptBuilder struct {
	*promptIR
	restormerBuilder
}

// interact puts the prompt behind the features and lets a transformer block and
// a 1×1 convolution make cout channels of both.
func (b promptBuilder) interact(n int, x *graph.Tensor, cout int) *graph.Tensor {
	t := b.Concat(fmt.Sprintf("cat_prompt%d", n), x, b.prompt(n, x))
	t = b.block(fmt.Sprintf("noise_level%d", n), n, t, b.promptIR.Heads[2])
	path := fmt.Sprintf("reduce_noise_level%d", n)
	t = b.conv(path, n, graph.Conv{X: t}, cout, 1, b.promptIR.Bias)
	b.Trace(path, t, graph.NCHW)
	return t
}

// prompt is what the mean of the features chooses of the components, in the
// features' size.
func (b promptBuilder) prompt(n int, x *graph.Tensor) *graph.Tensor {
	path := fmt.Sprintf("prompt%d", n)
	count, c, side := b.PromptLen, b.PromptDims[n-1], b.PromptSizes[n-1]
	components := b.param(path+".prompt_param", 1, count, c, side, side)
	mean := b.Pool(path+".mean", graph.Pool{X: x})
	logits := b.Conv(path+".linear_layer", graph.Conv{
		X: mean, Weight: b.param(path+".linear_layer.weight", count, x.Shape.C), Bias: b.param(path+".linear_layer.bias", count),
	})
	b.Trace(path+".linear_layer", logits, graph.NCHW)
	t := b.Prompt(path+".prompt_param", graph.Prompt{Logits: logits, Components: channelsLast(components, count, c, side, side)})
	t = b.Resize(path+".resize", graph.Resize{X: t, H: x.Shape.H, W: x.Shape.W, Like: x})
	b.Trace(path+".conv3x3:input", t, graph.NCHW)
	t = b.conv(path+".conv3x3", n, graph.Conv{X: t, Pad: 1}, c, 3, false)
	b.Trace(path, t, graph.NCHW)
	return t
}

// leftovers notes what released files hold besides.
func (b promptBuilder) leftovers() {
	d, p := b.promptIR.Dim, b.PromptDims
	for _, c := range []struct {
		path      string
		cout, cin int
	}{
		{"chnl_reduce1", p[0], p[0]}, {"chnl_reduce2", p[1], p[1]}, {"chnl_reduce3", b.Reduced, p[2]},
		{"reduce_noise_channel_1", d, d + p[0]}, {"reduce_noise_channel_2", 2 * d, 2*d + p[1]}, {"reduce_noise_channel_3", 4 * d, 4*d + b.Reduced},
	} {
		b.unused(c.path+".weight", c.cout, c.cin, 1, 1)
		if b.promptIR.Bias {
			b.unused(c.path+".bias", c.cout)
		}
	}
}

// channelsLast is planes [n, c, h, w], whatever unit dimensions stand before, as
// [n, h, w, c].
func channelsLast(p *graph.Param, n, c, h, w int) *graph.Param {
	return derived(p.Name, "channels last", []int{n, h, w, c}, func(dst []float32, src [][]float32) error {
		plane := h * w
		for i := range n {
			for j := range c {
				for k, v := range src[0][(i*c+j)*plane:][:plane] {
					dst[(i*plane+k)*c+j] = v
				}
			}
		}
		return nil
	}, p)
}

func (s *shapes) promptIR() *promptIR {
	r := s.restormer("")
	p := &promptIR{
		InChannels: r.InChannels, OutChannels: r.OutChannels, Dim: r.Dim, NumBlocks: r.NumBlocks, RefinementBlocks: r.RefinementBlocks,
		Heads: r.Heads, Bias: r.Bias, LayerNorm: r.LayerNorm, Decoder: true,
		PromptLen: s.dim("prompt1.prompt_param", 1), Reduced: defaultPromptIR().Reduced,
	}
	if s.has("chnl_reduce3.weight") {
		p.Reduced = s.dim("chnl_reduce3.weight", 0)
	}
	var width, hidden []int
	for i, level := range []string{"encoder_level1", "encoder_level2", "encoder_level3", "latent"} {
		width = append(width, p.Dim<<i)
		hidden = append(hidden, s.dim(level+".0.ffn.project_in.weight", 0)/2)
	}
	for n := range 3 {
		path := fmt.Sprintf("prompt%d.prompt_param", n+1)
		p.PromptDims, p.PromptSizes = append(p.PromptDims, s.dim(path, 2)), append(p.PromptSizes, s.dim(path, 3))
		width = append(width, p.features(n)+p.PromptDims[n])
		hidden = append(hidden, s.dim(fmt.Sprintf("noise_level%d.ffn.project_in.weight", n+1), 0)/2)
	}
	var err error
	if p.Expansion, err = expansion(width, hidden); err != nil {
		s.fail(err)
	}
	return p
}
