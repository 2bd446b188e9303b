package models

import (
	"fmt"
	"slices"

	"unirestorer/graph"
	"unirestorer/weights"
)

// Baseline is the network that arXiv 2204.04676 starts from, in upstream's
// Baseline_arch.Baseline: NAFNet's U-Net with GELU where NAFNet has gates, and
// a channel attention with a bottleneck and a sigmoid.
type Baseline struct {
	Channels  int   `json:"img_channel"`
	Width     int   `json:"width"`
	MiddleNum int   `json:"middle_blk_num"`
	EncNums   []int `json:"enc_blk_nums"`
	DecNums   []int `json:"dec_blk_nums"`
	// DWExpand and FFNExpand are the widths inside a block's two halves, in
	// multiples of its channels.
	DWExpand  int `json:"dw_expand"`
	FFNExpand int `json:"ffn_expand"`
	Ports
}

// BaselineName is Baseline's name in configurations.
const BaselineName = "nafnet_baseline"

func init() {
	Register(Architecture{
		Name:    BaselineName,
		Default: func() Network { return &Baseline{Channels: 3, Width: 16, MiddleNum: 1, DWExpand: 1, FFNExpand: 2} },
		Probes:  []string{"intro.weight", "middle_blks.0.se.1.weight"},
		Infer:   func(s *shapes, _ Hints) Network { return s.baseline() },
		Sizes: []Size{
			{Name: "baseline-sidd-32", Args: siddArgs(32)},
			{Name: "baseline-sidd-64", Args: siddArgs(64)},
			{Name: "baseline-gopro-32", Args: nafnetArgs(32, 28)},
			{Name: "baseline-gopro-64", Args: nafnetArgs(64, 28)},
		},
		Small: `{"width":8,"enc_blk_nums":[1],"middle_blk_num":1,"dec_blk_nums":[1]}`,
	})
}

// Architecture implements Network.
func (*Baseline) Architecture() string { return BaselineName }

// unet is the frame that Baseline shares with NAFNet.
func (b *Baseline) unet() *NAFNet {
	return &NAFNet{Channels: b.Channels, Width: b.Width, MiddleNum: b.MiddleNum, EncNums: b.EncNums, DecNums: b.DecNums, Ports: b.Ports}
}

func (b *Baseline) check() error {
	return all(b.unet().check(), within("dw_expand", 16, b.DWExpand), within("ffn_expand", 16, b.FFNExpand), b.squeezes())
}

// squeezes reports a bottleneck without channels.
func (b *Baseline) squeezes() error {
	if b.Width*b.DWExpand < 2 {
		return fmt.Errorf("width %d leaves nothing of the channel attention's bottleneck", b.Width)
	}
	return nil
}

func (b *Baseline) channels() (in, out int) { return b.Channels, b.Channels }

// CheckSide implements Network: zero padding takes any side.
func (b *Baseline) CheckSide(side int) error { return b.unet().CheckSide(side) }

// Grid implements Network.
func (b *Baseline) Grid() int { return b.unet().Grid() }

// Build implements Network.
func (b *Baseline) Build(src weights.Source, batch, h, w int, opt Options) (*graph.Graph, error) {
	l := newLoader(BaselineName, src, opt)
	n := nafnetBuilder{NAFNet: b.unet(), loader: l}
	n.blocks = baselineBuilder{b, n}.block
	return n.build(batch, h, w, opt)
}

type baselineBuilder struct {
	*Baseline
	nafnetBuilder
}

func (b baselineBuilder) block(path string, _ int, x *graph.Tensor) *graph.Tensor {
	c := x.Shape.C
	wide := c * b.DWExpand
	t := b.conv(path+".conv1", graph.Conv{X: x, Norm: b.norm(path+".norm1", c)}, wide, 1)
	t, mean := b.DepthwisePool(path+".conv2", graph.Depthwise{
		X: t, Weight: b.param(path+".conv2.weight", wide, 1, 3, 3), Bias: b.param(path+".conv2.bias", wide), Act: graph.GELU,
	})
	s := b.squeeze(path+".se", mean)
	beta := b.param(path+".beta", 1, c, 1, 1)
	x = b.conv(path+".conv3", graph.Conv{X: t, InScale: s, Scale: beta, Residual: x}, c, 1)

	t = b.conv(path+".conv4", graph.Conv{X: x, Norm: b.norm(path+".norm2", c), Act: graph.GELU}, c*b.FFNExpand, 1)
	gamma := b.param(path+".gamma", 1, c, 1, 1)
	x = b.conv(path+".conv5", graph.Conv{X: t, Scale: gamma, Residual: x}, c, 1)
	b.Trace(path, x, graph.NCHW)
	return x
}

// squeeze is the channel attention's factors: two 1×1 convolutions of the mean,
// ReLU between, and a sigmoid, σ(z) being the first of softmax(z, 0).
func (b baselineBuilder) squeeze(path string, mean *graph.Tensor) *graph.Tensor {
	c := mean.Shape.C
	hidden := c / 2
	t := b.conv(path+".1", graph.Conv{X: mean, Act: graph.ReLU}, hidden, 1)
	below := func(kind string, p *graph.Param, dims ...int) *graph.Param {
		return derived(p.Name, "zeros below "+kind, dims, func(dst []float32, src [][]float32) error {
			clear(dst[copy(dst, src[0]):])
			return nil
		}, p)
	}
	logits := b.Conv(path+".3", graph.Conv{
		X:      t,
		Weight: below("weight", b.param(path+".3.weight", c, hidden, 1, 1), 2*c, hidden),
		Bias:   below("bias", b.param(path+".3.bias", c), 2*c),
	})
	b.Counted(logits, int64(mean.Shape.N)*int64(c)*int64(hidden))
	level := func(name string, v float32) *graph.Tensor {
		x := b.Depthwise(path+name, graph.Depthwise{
			X: mean, Weight: constant(path+name+".weight", []int{c, 1, 1, 1}, make([]float32, c)),
			Bias: constant(path+name+".bias", []int{c}, slices.Repeat([]float32{v}, c)),
		})
		b.Counted(x, 0)
		return x
	}
	return b.SelectiveKernel(path+".4", graph.SelectiveKernel{A: level(".one", 1), B: level(".zero", 0), Logits: logits})
}

func (s *shapes) baseline() *Baseline {
	n := s.nafnet()
	const block = "middle_blks.0."
	width := s.dim(block+"conv1.weight", 1)
	return &Baseline{
		Channels: n.Channels, Width: n.Width, MiddleNum: n.MiddleNum, EncNums: n.EncNums, DecNums: n.DecNums,
		DWExpand: s.dim(block+"conv1.weight", 0) / width, FFNExpand: s.dim(block+"conv4.weight", 0) / width,
	}
}
