package models

import (
	"fmt"

	"unirestorer/graph"
	"unirestorer/weights"
)

// baselineNet is the network that arXiv 2204.04676 starts from, in upstream's
// Baseline_arch.Baseline: NAFNet's U-Net with GELU where NAFNet has gates, and
// a channel attention with a bottleneck and a sigmoid. BaselineLocal averages
// over a local window as NAFNetLocal does.
type baselineNet struct {
	Channels  int   `json:"img_channel"`
	Width     int   `json:"width"`
	MiddleNum int   `json:"middle_blk_num"`
	EncNums   []int `json:"enc_blk_nums"`
	DecNums   []int `json:"dec_blk_nums"`
	// DWExpand and FFNExpand are the widths inside a block's two halves, in
	// multiples of its channels.
	DWExpand  int `json:"dw_expand"`
	FFNExpand int `json:"ffn_expand"`
	// TrainSize is N, C, H, W of the training patches; BaselineLocal only.
	TrainSize []int `json:"train_size,omitempty"`
	// FastImp is upstream's approximate pooling, which is not supported.
	FastImp bool `json:"fast_imp,omitempty"`
	Ports

	local bool
}

// BaselineName and BaselineLocalName are Baseline's names in configurations,
// without and with local windows.
const (
	BaselineName      = "nafnet_baseline"
	BaselineLocalName = "nafnet_baseline_local"
)

// baselineProbes are tensors of both forms: no tensor tells them apart.
var baselineProbes = []string{"intro.weight", "middle_blks.0.se.1.weight"}

func init() {
	Register(Architecture{
		Name:    BaselineName,
		Default: func() Network { return defaultBaseline(false) },
		Probes:  baselineProbes,
		Infer:   func(s *shapes, _ Hints) Network { return s.baseline() },
		Sizes:   publishedSizes("baseline"),
		Small:   `{"width":8,"enc_blk_nums":[1],"middle_blk_num":1,"dec_blk_nums":[1]}`,
	})
	Register(Architecture{
		Name:    BaselineLocalName,
		Default: func() Network { return defaultBaseline(true) },
		Probes:  baselineProbes,
		Asked:   func(h Hints) bool { return h.TrainSize != 0 },
		Infer: func(s *shapes, h Hints) Network {
			b := s.baseline()
			b.local, b.TrainSize = true, []int{1, 3, h.TrainSize, h.TrainSize}
			return b
		},
		Small: `{"width":8,"enc_blk_nums":[1],"middle_blk_num":1,"dec_blk_nums":[1],"train_size":[1,3,16,16]}`,
	})
}

func defaultBaseline(local bool) *baselineNet {
	b := &baselineNet{Channels: 3, Width: 16, MiddleNum: 1, DWExpand: 1, FFNExpand: 2, local: local}
	if local {
		b.TrainSize = []int{1, 3, 256, 256}
	}
	return b
}

// Architecture implements Network.
func (b *baselineNet) Architecture() string {
	if b.local {
		return BaselineLocalName
	}
	return BaselineName
}

// unet is the frame that Baseline shares with NAFNet.
func (b *baselineNet) unet() *nafNet {
	return &nafNet{
		Channels: b.Channels, Width: b.Width, MiddleNum: b.MiddleNum, EncNums: b.EncNums, DecNums: b.DecNums,
		TrainSize: b.TrainSize, FastImp: b.FastImp, Ports: b.Ports, local: b.local,
	}
}

func (b *baselineNet) check() error {
	return all(b.unet().check(), within("dw_expand", 16, b.DWExpand), within("ffn_expand", 16, b.FFNExpand), b.squeezes())
}

// squeezes reports a bottleneck without channels.
func (b *baselineNet) squeezes() error {
	if b.Width*b.DWExpand < 2 {
		return fmt.Errorf("width %d leaves nothing of the channel attention's bottleneck", b.Width)
	}
	return nil
}

func (b *baselineNet) channels() (in, out int) { return b.Channels, b.Channels }

// CheckSide implements Network: zero padding takes any side.
func (b *baselineNet) CheckSide(side int) error { return b.unet().CheckSide(side) }

// Grid implements Network.
func (b *baselineNet) Grid() int { return b.unet().Grid() }

// Build implements Network.
func (b *baselineNet) Build(src weights.Source, batch, h, w int, opt Options) (*graph.Graph, error) {
	l := newLoader(b.Architecture(), src, opt)
	n := nafnetBuilder{nafNet: b.unet(), loader: l}
	n.blocks = baselineBuilder{b, n}.block
	return n.build(batch, h, w, opt)
}

type baselineBuilder struct {
	*baselineNet
	nafnetBuilder
}

func (b baselineBuilder) block(path string, level int, x *graph.Tensor) *graph.Tensor {
	c := x.Shape.C
	wide := c * b.DWExpand
	t := b.conv(path+".conv1", graph.Conv{X: x, Norm: b.norm(path+".norm1", c)}, wide, 1)
	t, mean := b.pooled(path+".conv2", path+".se.0", level, graph.Depthwise{
		X: t, Weight: b.param(path+".conv2.weight", wide, 1, 3, 3), Bias: b.param(path+".conv2.bias", wide), Act: graph.GELU,
	})
	s := b.squeeze(path+".se", mean, t)
	beta := b.param(path+".beta", 1, c, 1, 1)
	x = b.conv(path+".conv3", graph.Conv{X: t, InScale: s, Scale: beta, Residual: x}, c, 1)

	t = b.conv(path+".conv4", graph.Conv{X: x, Norm: b.norm(path+".norm2", c), Act: graph.GELU}, c*b.FFNExpand, 1)
	gamma := b.param(path+".gamma", 1, c, 1, 1)
	x = b.conv(path+".conv5", graph.Conv{X: t, Scale: gamma, Residual: x}, c, 1)
	b.Trace(path, x, graph.NCHW)
	return x
}

// squeeze is the channel attention's factors for y: two 1×1 convolutions of its
// means, ReLU between, and a sigmoid.
func (b baselineBuilder) squeeze(path string, mean, y *graph.Tensor) *graph.Tensor {
	c := mean.Shape.C
	t := b.squeezed(path+".1", graph.Conv{X: mean, Act: graph.ReLU}, c/2, y)
	factors := b.Sigmoid(path+".4", b.squeezed(path+".3", graph.Conv{X: t}, c, y))
	b.traceWindow(path, factors, y)
	return factors
}

func (s *shapes) baseline() *baselineNet {
	n := s.nafnet()
	const block = "middle_blks.0."
	width := s.dim(block+"conv1.weight", 1)
	return &baselineNet{
		Channels: n.Channels, Width: n.Width, MiddleNum: n.MiddleNum, EncNums: n.EncNums, DecNums: n.DecNums,
		DWExpand: s.dim(block+"conv1.weight", 0) / width, FFNExpand: s.dim(block+"conv4.weight", 0) / width,
	}
}
