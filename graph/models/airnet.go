package models

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"unirestorer/graph"
	"unirestorer/weights"
)

// airNet is the all-in-one network of CVPR 2022 (Li et al., "All-In-One Image
// Restoration for Unknown Corruption") in upstream's net.model.AirNet: features
// of a degradation encoder steer the deformable convolutions and the affine maps
// of a restorer at full resolution. What the encoder makes of them in training,
// for its contrastive loss, does not reach the picture and is not computed.
type airNet struct {
	Features        int   `json:"n_feats"`
	Groups          int   `json:"n_groups"`
	Blocks          int   `json:"n_blocks"`
	Kernel          int   `json:"kernel_size"`
	EncoderChannels []int `json:"encoder_channels"`
	// EncoderDim and Batch are the sides of the queue of training: EncoderDim and
	// EncoderDim·Batch.
	EncoderDim int `json:"dim"`
	Batch      int `json:"batch_size"`
	Ports
}

// airNetName is AirNet's name in configurations.
const airNetName = "airnet"

const (
	airnetEncoder = "E.E.encoder_q"
	airnetPre     = airnetEncoder + ".E_pre"
	batchNormEps  = 1e-5
)

func init() {
	Register(Architecture{
		Name:    airNetName,
		Default: func() Network { return defaultAirNet() },
		Probes:  []string{"R.body.0.body.0.dgm1.dcn.conv_offset_mask.weight"},
		Infer:   func(s *shapes, _ Hints) Network { return s.airNet() },
		Sizes:   []Size{{Name: "airnet", Args: `{}`}},
		Small:   `{"n_feats":8,"n_groups":1,"n_blocks":1,"encoder_channels":[8,8,8],"dim":8,"batch_size":1}`,
		Stage: func(node string) string {
			if parts := strings.Split(node, "."); len(parts) > 3 && strings.HasPrefix(node, "R.body.") {
				return strings.Join(parts[:3], ".") // a group
			}
			return blockStage(node)
		},
	})
}

func defaultAirNet() *airNet {
	return &airNet{Features: 64, Groups: 5, Blocks: 5, Kernel: 3, EncoderChannels: []int{64, 128, 256}, EncoderDim: 256, Batch: 5}
}

// Architecture implements Network.
func (*airNet) Architecture() string { return airNetName }

func (a *airNet) check() error {
	if err := all(
		length("encoder_channels", a.EncoderChannels, 3), within("n_feats", maxWidth, a.Features),
		within("n_groups", maxBlocks, a.Groups), blockCounts("n_blocks", a.Blocks), within("encoder_channels", maxWidth, a.EncoderChannels...),
		within("dim", maxWidth, a.EncoderDim), within("batch_size", maxWidth, a.Batch),
	); err != nil {
		return err
	}
	switch {
	case a.Kernel != 3:
		return fmt.Errorf("kernel_size %d: only 3 is supported", a.Kernel)
	case a.EncoderChannels[0] != a.Features:
		return fmt.Errorf("encoder_channels %v: the first must be n_feats, %d", a.EncoderChannels, a.Features)
	}
	return a.Ports.check()
}

// CheckSide implements Network: zero padding takes any side.
func (a *airNet) CheckSide(n int) error {
	_, err := a.side(n)
	return err
}

// Grid implements Network.
func (a *airNet) Grid() int { return a.grid(1) }

// Build implements Network.
func (a *airNet) Build(src weights.Source, n, h, w int, opt Options) (*graph.Graph, error) {
	l := newLoader(airNetName, src, opt)
	b := airnetBuilder{a, l}
	x := l.photo(a, n, h, w, opt)
	inter := b.encode(x)
	head := b.conv("R.head.0", graph.Conv{X: x}, a.Features)
	l.Trace("R.head", head, graph.NCHW)
	r := head
	for g := range a.Groups {
		r = b.group(fmt.Sprintf("R.body.%d", g), r, inter)
	}
	last := fmt.Sprintf("R.body.%d", a.Groups)
	r = b.traced(last, last, graph.Conv{X: r, Residual: head}, a.Features)
	y := b.conv("R.tail.0", graph.Conv{X: r}, 3)
	l.Trace("R.tail", y, graph.NCHW)
	b.leftovers()
	return l.restored(y, opt)
}

type airnetBuilder struct {
	*airNet
	*loader
}

// conv is a 3×3 convolution with bias to cout channels.
func (b airnetBuilder) conv(path string, c graph.Conv, cout int) *graph.Tensor {
	c.Pad = 1
	c.Weight, c.Bias = b.param(path+".weight", cout, c.CIn(), 3, 3), b.param(path+".bias", cout)
	return b.Conv(path, c)
}

// traced is conv, whose result is traced without residual and activation.
func (b airnetBuilder) traced(path, name string, c graph.Conv, cout int) *graph.Tensor {
	if b.Traces(name) {
		bare := graph.Conv{X: c.X}
		b.Trace(name, b.conv(path, bare, cout), graph.NCHW)
	}
	return b.conv(path, c, cout)
}

// leaky is LeakyReLU by itself.
func (b airnetBuilder) leaky(path string, x *graph.Tensor) *graph.Tensor {
	c := x.Shape.C
	y := b.Depthwise(path+".act", graph.Depthwise{
		X: x, Weight: constant(path+".one", []int{c, 1, 1, 1}, slices.Repeat([]float32{1}, c)), Act: graph.LeakyReLU,
	})
	b.Counted(y, 0)
	return y
}

// encode is the encoder's first residual block, whose batch norms are part of
// its convolutions.
func (b airnetBuilder) encode(x *graph.Tensor) *graph.Tensor {
	c := b.EncoderChannels[0]
	shortcut := b.normed(airnetPre+".shortcut", 0, graph.Conv{X: x}, c, 1)
	b.Trace(airnetPre+".shortcut", shortcut, graph.NCHW)
	t := b.normed(airnetPre+".backbone", 0, graph.Conv{X: x, Act: graph.LeakyReLU}, c, 3)
	if b.Traces(airnetPre + ".backbone") {
		b.Trace(airnetPre+".backbone", b.normed(airnetPre+".backbone", 3, graph.Conv{X: t}, c, 3), graph.NCHW)
	}
	inter := b.leaky(airnetPre, b.normed(airnetPre+".backbone", 3, graph.Conv{X: t, Residual: shortcut}, c, 3))
	b.Trace(airnetPre, inter, graph.NCHW)
	return inter
}

// normed is convolution i of a sequence with the batch norm behind it.
func (b airnetBuilder) normed(path string, i int, c graph.Conv, cout, k int) *graph.Tensor {
	conv, norm := fmt.Sprintf("%s.%d", path, i), fmt.Sprintf("%s.%d", path, i+1)
	weight := b.param(conv+".weight", cout, c.CIn(), k, k)
	gamma, beta := b.param(norm+".weight", cout), b.param(norm+".bias", cout)
	mean, variance := b.buffer(norm+".running_mean", cout), b.buffer(norm+".running_var", cout)
	factor := func(gamma, variance []float32, i int) float64 {
		return float64(gamma[i]) / math.Sqrt(float64(variance[i])+batchNormEps)
	}
	c.Weight = derived(weight.Name, "batch norm", weight.Dims, func(dst []float32, src [][]float32) error {
		per := len(dst) / cout
		for j, v := range src[0] {
			dst[j] = float32(float64(v) * factor(src[1], src[2], j/per))
		}
		return nil
	}, weight, gamma, variance)
	c.Bias = derived(beta.Name, "batch norm", beta.Dims, func(dst []float32, src [][]float32) error {
		for j, v := range src[0] {
			dst[j] = float32(float64(v) - float64(src[2][j])*factor(src[1], src[3], j))
		}
		return nil
	}, beta, gamma, mean, variance)
	c.Pad = k / 2
	return b.Conv(conv, c)
}

func (b airnetBuilder) group(path string, x, inter *graph.Tensor) *graph.Tensor {
	t := x
	for i := range b.Blocks {
		t = b.block(fmt.Sprintf("%s.body.%d", path, i), t, inter)
	}
	t = b.conv(fmt.Sprintf("%s.body.%d", path, b.Blocks), graph.Conv{X: t, Residual: x}, b.Features)
	b.Trace(path, t, graph.NCHW)
	return t
}

// block is upstream's DGB, a degradation-guided block.
func (b airnetBuilder) block(path string, x, inter *graph.Tensor) *graph.Tensor {
	t := b.guided(path+".dgm1", x, inter)
	t = b.traced(path+".conv1", path+".conv1", graph.Conv{X: t, Act: graph.LeakyReLU}, b.Features)
	t = b.guided(path+".dgm2", t, inter)
	t = b.traced(path+".conv2", path+".conv2", graph.Conv{X: t, Residual: x}, b.Features)
	b.Trace(path, t, graph.NCHW)
	return t
}

// guided is upstream's DGM, x + dcn(x) + (x·γ + β), with the activation behind
// it: the sum is taken as x·(1+γ) + (β + dcn).
func (b airnetBuilder) guided(path string, x, inter *graph.Tensor) *graph.Tensor {
	c, dcn, sft := b.Features, path+".dcn", path+".sft"
	offsets := b.conv(dcn+".conv_offset_mask", graph.Conv{X: x, X2: inter}, 27)
	b.Trace(dcn+".conv_offset_mask", offsets, graph.NCHW)
	sampled := b.DeformConv(dcn, graph.DeformConv{X: x, Offsets: offsets, Weight: b.param(dcn+".weight", c, c, 3, 3)})
	b.Trace(dcn, sampled, graph.NCHW)
	two := func(path string, second graph.Conv) *graph.Tensor {
		second.X = b.Conv(path+".0", graph.Conv{X: inter, Weight: b.param(path+".0.weight", c, c, 1, 1), Act: graph.LeakyReLU})
		second.Weight = b.param(path+".2.weight", c, c, 1, 1)
		return b.Conv(path+".2", second)
	}
	if b.Traces(sft + ".conv_gamma") {
		b.Trace(sft+".conv_gamma", two(sft+".conv_gamma", graph.Conv{}), graph.NCHW)
	}
	if b.Traces(sft) {
		b.Trace(sft, b.MulAdd(sft, x, two(sft+".conv_gamma", graph.Conv{}), two(sft+".conv_beta", graph.Conv{})), graph.NCHW)
	}
	gamma := two(sft+".conv_gamma", graph.Conv{Bias: constant(sft+".one", []int{c}, slices.Repeat([]float32{1}, c))})
	beta := two(sft+".conv_beta", graph.Conv{Residual: sampled})
	t := b.MulAdd(path, x, gamma, beta)
	b.Trace(path, t, graph.NCHW)
	return b.leaky(path, t)
}

// leftovers notes what released files hold of training; counters of batches are
// left out.
func (b airnetBuilder) leftovers() {
	c := b.EncoderChannels
	conv := func(path string, cout, cin, k int) {
		b.unused(path+".weight", cout, cin, k, k)
	}
	norm := func(path string, c int) {
		b.unused(path+".weight", c)
		b.unused(path+".bias", c)
		b.unusedBuffer(path+".running_mean", c)
		b.unusedBuffer(path+".running_var", c)
	}
	residual := func(path string, cin, cout int) {
		conv(path+".backbone.0", cout, cin, 3)
		norm(path+".backbone.1", cout)
		conv(path+".backbone.3", cout, cout, 3)
		norm(path+".backbone.4", cout)
		conv(path+".shortcut.0", cout, cin, 1)
		norm(path+".shortcut.1", cout)
	}
	const momentum = "E.E.encoder_k"
	residual(momentum+".E_pre", 3, c[0])
	for _, encoder := range []string{airnetEncoder, momentum} {
		residual(encoder+".E.0", c[0], c[1])
		residual(encoder+".E.1", c[1], c[2])
		for _, i := range []int{0, 2} {
			cin := b.EncoderDim
			if i == 0 {
				cin = c[2]
			}
			b.unused(fmt.Sprintf("%s.mlp.%d.weight", encoder, i), b.EncoderDim, cin)
			b.unused(fmt.Sprintf("%s.mlp.%d.bias", encoder, i), b.EncoderDim)
		}
	}
	b.unusedBuffer("E.E.queue", b.EncoderDim, b.EncoderDim*b.Batch)
	b.unusedBuffer("E.E.queue_ptr", 1)
}

func (s *shapes) airNet() *airNet {
	a := defaultAirNet()
	a.Features = s.dim("R.head.0.weight", 0)
	a.Groups = s.count("R.body.%d.body.0.dgm1.dcn.weight")
	a.Blocks = s.count("R.body.0.body.%d.dgm1.dcn.weight")
	a.EncoderChannels[0] = s.dim(airnetPre+".backbone.0.weight", 0)
	for i := range 2 { // of training
		if name := fmt.Sprintf("%s.E.%d.backbone.0.weight", airnetEncoder, i); s.has(name) {
			a.EncoderChannels[i+1] = s.dim(name, 0)
		}
	}
	if name := airnetEncoder + ".mlp.0.weight"; s.has(name) {
		a.EncoderDim = s.dim(name, 0)
	}
	if s.has("E.E.queue") {
		a.Batch = max(s.dim("E.E.queue", 1)/a.EncoderDim, 1)
	}
	return a
}
