package models

import (
	"errors"
	"fmt"

	"unirestorer/graph"
	"unirestorer/weights"
)

// nafNet is the network of arXiv 2204.04676 in upstream's nafnet_arch.NAFNet,
// and NAFNetLocal, whose channel attention averages over a local window as
// large as in training (TLC, arXiv 2112.04491), when Local is set.
type nafNet struct {
	Channels  int   `json:"img_channel"`
	Width     int   `json:"width"`
	MiddleNum int   `json:"middle_blk_num"`
	EncNums   []int `json:"enc_blk_nums"`
	DecNums   []int `json:"dec_blk_nums"`
	// TrainSize is N, C, H, W of the training patches; NAFNetLocal only.
	TrainSize []int `json:"train_size"`
	// FastImp is upstream's approximate pooling, which is not supported.
	FastImp bool `json:"fast_imp"`
	Ports

	local bool
}

// NAFNetName and NAFNetLocalName are NAFNet's names in configurations, without
// and with local windows.
const (
	NAFNetName      = "nafnet"
	NAFNetLocalName = "nafnet_local"
)

// nafnetProbes are tensors of both forms: no tensor tells them apart.
var nafnetProbes = []string{"intro.weight"}

func init() {
	Register(Architecture{
		Name:    NAFNetName,
		Default: func() Network { return defaultNAFNet(false) },
		Probes:  nafnetProbes,
		Infer: func(s *shapes, _ Hints) Network {
			n := s.nafnet()
			return &n
		},
		Sizes: publishedSizes("nafnet"),
		Small: `{"width":8,"enc_blk_nums":[1],"middle_blk_num":1,"dec_blk_nums":[1]}`,
	})
	Register(Architecture{
		Name:    NAFNetLocalName,
		Default: func() Network { return defaultNAFNet(true) },
		Probes:  nafnetProbes,
		Asked:   func(h Hints) bool { return h.TrainSize != 0 },
		Infer: func(s *shapes, h Hints) Network {
			n := s.nafnet()
			n.local, n.TrainSize = true, []int{1, 3, h.TrainSize, h.TrainSize}
			return &n
		},
		Sizes: []Size{
			{Name: "nafnet-nano", Args: nafnetArgs(16, 2), Peer: true},
			{Name: "nafnet-32", Args: nafnetArgs(32, 28), Peer: true},
			{Name: "nafnet", Args: nafnetArgs(64, 28), Pool: true, Peer: true},
		},
		Small: `{"width":8,"enc_blk_nums":[1],"middle_blk_num":1,"dec_blk_nums":[1],"train_size":[1,3,16,16]}`,
	})
}

// publishedSizes are those of the networks that NAFNet's authors publish.
func publishedSizes(name string) []Size {
	return []Size{
		{Name: name + "-sidd-32", Args: siddArgs(32)},
		{Name: name + "-sidd-64", Args: siddArgs(64)},
		{Name: name + "-gopro-32", Args: nafnetArgs(32, 28)},
		{Name: name + "-gopro-64", Args: nafnetArgs(64, 28)},
	}
}

// siddArgs are those of the networks that remove the noise of SIDD's pictures.
func siddArgs(width int) string {
	return fmt.Sprintf(`{"width":%d,"enc_blk_nums":[2,2,4,8],"middle_blk_num":12,"dec_blk_nums":[2,2,2,2]}`, width)
}

// nafnetArgs are those of the networks that deblur GoPro's pictures and of the
// pool: one block a level but for blocks ones at the lowest resolution.
func nafnetArgs(width, blocks int) string {
	return fmt.Sprintf(`{"width":%d,"enc_blk_nums":[1,1,1,%d],"middle_blk_num":1,"dec_blk_nums":[1,1,1,1]}`, width, blocks)
}

func defaultNAFNet(local bool) *nafNet {
	n := &nafNet{Channels: 3, Width: 16, MiddleNum: 1, local: local}
	if local {
		n.TrainSize = []int{1, 3, 256, 256}
	}
	return n
}

// Architecture implements Network.
func (n *nafNet) Architecture() string {
	if n.local {
		return NAFNetLocalName
	}
	return NAFNetName
}

func (n *nafNet) check() error {
	if err := all(
		within("width", maxWidth, n.Width), blockCounts("middle_blk_num", n.MiddleNum),
		blockCounts("enc_blk_nums", n.EncNums...), blockCounts("dec_blk_nums", n.DecNums...),
	); err != nil {
		return err
	}
	switch {
	case n.Channels != 1 && n.Channels != 3:
		return fmt.Errorf("img_channel %d: want 1 or 3", n.Channels)
	case len(n.EncNums) != len(n.DecNums) || len(n.EncNums) > 8:
		return fmt.Errorf("%d encoder and %d decoder levels: want as many of both, at most 8", len(n.EncNums), len(n.DecNums))
	case n.Width<<len(n.EncNums) > maxWidth:
		return fmt.Errorf("width %d doubled %d times", n.Width, len(n.EncNums))
	case n.FastImp:
		return fmt.Errorf("fast_imp is not supported")
	case !n.local && n.TrainSize != nil:
		return errors.New("train_size belongs to the local form")
	}
	if n.local {
		if err := length("train_size", n.TrainSize, 4); err != nil {
			return err
		}
		if err := within("train_size", 1<<16, n.TrainSize...); err != nil {
			return err
		}
	}
	return n.Ports.check()
}

func (n *nafNet) channels() (in, out int) { return n.Channels, n.Channels }

// CheckSide implements Network: zero padding takes any side.
func (n *nafNet) CheckSide(side int) error {
	_, err := n.side(side)
	return err
}

// Grid implements Network.
func (n *nafNet) Grid() int { return n.grid(n.multiple()) }

// multiple is what the network pads sides to.
func (n *nafNet) multiple() int { return 1 << len(n.EncNums) }

// window is the local window at a level whose features are 1/2^level of the
// image: 1.5 times the training patch at level 0, scaled with the features of
// a training patch. Without locality it is 0, the whole image.
func (n *nafNet) window(level int) (h, w int) {
	if !n.local {
		return 0, 0
	}
	side := func(train int) int {
		base := train * 3 / 2
		multiple := 1 << len(n.EncNums)
		features := (train + missing(train, multiple)) >> level
		return features * base / train
	}
	return side(n.TrainSize[2]), side(n.TrainSize[3])
}

// Build implements Network.
func (n *nafNet) Build(src weights.Source, batch, h, w int, opt Options) (*graph.Graph, error) {
	b := nafnetBuilder{nafNet: n, loader: newLoader(n.Architecture(), src, opt)}
	b.blocks = b.block
	return b.build(batch, h, w, opt)
}

func (b nafnetBuilder) build(batch, h, w int, opt Options) (*graph.Graph, error) {
	n, l := b.nafNet, b.loader
	in := l.photo(n, batch, h, w, opt)
	h, w = in.Shape.H, in.Shape.W
	image := l.padTo(in, n.multiple(), graph.Zero)

	x := b.conv("intro", graph.Conv{X: image, Pad: 1}, n.Width, 3)
	l.Trace("intro", x, graph.NCHW)
	var skips []*graph.Tensor
	for i, blocks := range n.EncNums {
		x = b.level(fmt.Sprintf("encoders.%d", i), i, x, blocks)
		skips = append(skips, x)
		path := fmt.Sprintf("downs.%d", i)
		x = b.conv(path, graph.Conv{X: x, Stride: 2}, 2*x.Shape.C, 2)
		l.Trace(path, x, graph.NCHW)
	}
	x = b.level("middle_blks", len(n.EncNums), x, n.MiddleNum)
	for i, blocks := range n.DecNums {
		level := len(n.EncNums) - 1 - i
		path := fmt.Sprintf("ups.%d", i)
		up := graph.Conv{X: x, Weight: l.param(path+".0.weight", 2*x.Shape.C, x.Shape.C, 1, 1), Shuffle: 2}
		if l.Traces(path) {
			l.Trace(path, l.Conv(path, up), graph.NCHW)
		}
		up.Residual = skips[level]
		x = b.level(fmt.Sprintf("decoders.%d", i), level, l.Conv(path, up), blocks)
	}
	if l.Traces("ending") {
		l.Trace("ending", b.conv("ending", graph.Conv{X: x, Pad: 1}, n.Channels, 3), graph.NCHW)
	}
	y := b.conv("ending", graph.Conv{X: x, Pad: 1, Residual: image}, n.Channels, 3)
	return l.restored(l.Crop("crop", graph.Crop{X: y, H: h, W: w}), opt)
}

type nafnetBuilder struct {
	*nafNet
	*loader
	// blocks adds a block at a level.
	blocks func(path string, level int, x *graph.Tensor) *graph.Tensor
}

func (b nafnetBuilder) conv(path string, c graph.Conv, cout, k int) *graph.Tensor {
	c.Weight = b.param(path+".weight", cout, c.CIn(), k, k)
	c.Bias = b.param(path+".bias", cout)
	return b.Conv(path, c)
}

func (b nafnetBuilder) level(path string, level int, x *graph.Tensor, blocks int) *graph.Tensor {
	for i := range blocks {
		x = b.blocks(fmt.Sprintf("%s.%d", path, i), level, x)
	}
	b.Trace(path, x, graph.NCHW)
	return x
}

func (b nafnetBuilder) norm(path string, c int) *graph.Norm {
	return &graph.Norm{Weight: b.param(path+".weight", c), Bias: b.param(path+".bias", c), Eps: 1e-6}
}

func (b nafnetBuilder) block(path string, level int, x *graph.Tensor) *graph.Tensor {
	c := x.Shape.C
	norm := b.norm(path+".norm1", c)
	if b.Traces(path + ".norm1") {
		b.Trace(path+".norm1", b.ChannelNorm(path+".norm1", graph.ChannelNorm{X: x, Norm: norm}), graph.NCHW)
	}
	t := b.conv(path+".conv1", graph.Conv{X: x, Norm: norm}, 2*c, 1)
	t, s := b.attention(path, level, t)
	beta := b.param(path+".beta", 1, c, 1, 1)
	x = b.conv(path+".conv3", graph.Conv{X: t, InScale: s, Scale: beta, Residual: x}, c, 1)

	t = b.conv(path+".conv4", graph.Conv{X: x, Norm: b.norm(path+".norm2", c), Gate: graph.SimpleGate}, 2*c, 1)
	gamma := b.param(path+".gamma", 1, c, 1, 1)
	x = b.conv(path+".conv5", graph.Conv{X: t, Scale: gamma, Residual: x}, c, 1)
	b.Trace(path, x, graph.NCHW)
	return x
}

// attention is the gated depthwise convolution and the channel attention's
// factors for its result.
func (b nafnetBuilder) attention(path string, level int, t *graph.Tensor) (y, factors *graph.Tensor) {
	wide := t.Shape.C
	dw := graph.Depthwise{X: t, Weight: b.param(path+".conv2.weight", wide, 1, 3, 3), Bias: b.param(path+".conv2.bias", wide)}
	if b.Traces(path + ".conv2") {
		b.Trace(path+".conv2", b.Depthwise(path+".conv2", dw), graph.NCHW)
	}
	dw.Gate = graph.SimpleGate
	gated, pooled := b.pooled(path+".conv2", path+".sca.0", level, dw)
	factors = b.squeezed(path+".sca.1", graph.Conv{X: pooled}, wide/2, gated)
	b.traceWindow(path+".sca", factors, gated)
	return gated, factors
}

// pooled is a depthwise convolution and the means of its result over the local
// window, or over the image.
func (b nafnetBuilder) pooled(path, pool string, level int, dw graph.Depthwise) (y, mean *graph.Tensor) {
	wh, ww := b.window(level)
	if s := dw.X.Shape; !b.local || wh >= s.H && ww >= s.W {
		y, mean = b.DepthwisePool(path, dw)
	} else {
		y = b.Depthwise(path, dw)
		mean = b.Pool(pool, graph.Pool{X: y, WindowH: wh, WindowW: ww})
	}
	b.traceWindow(pool, mean, y)
	return y, mean
}

// squeezed is a 1×1 convolution of what a channel attention has of y. Upstream
// convolves after replicating the border of a local window's means, which gives
// the same values at every pixel.
func (b nafnetBuilder) squeezed(path string, c graph.Conv, cout int, y *graph.Tensor) *graph.Tensor {
	t := b.conv(path, c, cout, 1)
	if s := c.X.Shape; b.local && s.Pixels() > s.N {
		b.Counted(t, int64(y.Shape.Pixels())*int64(s.C)*int64(cout))
	}
	return t
}

// traceWindow traces the result of a sliding window with its border
// replicated to the size of its input, as upstream holds it.
func (b nafnetBuilder) traceWindow(name string, t, like *graph.Tensor) {
	if !b.Traces(name) {
		return
	}
	if t.Shape.Pixels() > t.Shape.N {
		dy, dx := like.Shape.H-t.Shape.H, like.Shape.W-t.Shape.W
		t = b.Pad(name, graph.Pad{X: t, Top: dy / 2, Bottom: dy - dy/2, Left: dx / 2, Right: dx - dx/2, Mode: graph.Replicate})
	}
	b.Trace(name, t, graph.NCHW)
}

// nafnet reads the arguments off the shapes.
func (s *shapes) nafnet() nafNet {
	n := nafNet{
		Channels: s.dim("intro.weight", 1), Width: s.dim("intro.weight", 0), MiddleNum: s.count("middle_blks.%d.conv1.weight"),
		EncNums: []int{}, DecNums: []int{},
	}
	levels := s.count("downs.%d.weight")
	for i := range levels {
		n.EncNums = append(n.EncNums, s.count("encoders.%d.%d.conv1.weight", i))
		n.DecNums = append(n.DecNums, s.count("decoders.%d.%d.conv1.weight", i))
	}
	return n
}
