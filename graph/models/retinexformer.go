package models

import (
	"fmt"
	"strings"

	"unirestorer/graph"
	"unirestorer/weights"
)

// retinexFormer is the one-stage transformer of arXiv 2303.06705 in upstream's
// retinexformer_arch.RetinexFormer: an illumination estimator lights the image
// up and guides the attention of a U-Net that removes what the light reveals.
type retinexFormer struct {
	InChannels  int   `json:"in_channels"`
	OutChannels int   `json:"out_channels"`
	Features    int   `json:"n_feat"`
	Stage       int   `json:"stage"`
	NumBlocks   []int `json:"num_blocks"`
	Ports
}

// RetinexFormerName is RetinexFormer's name in configurations.
const RetinexFormerName = "retinexformer"

func init() {
	Register(Architecture{
		Name:    RetinexFormerName,
		Default: func() Network { return defaultRetinexFormer() },
		Probes:  []string{"body.0.denoiser.embedding.weight"},
		Infer: func(s *shapes, h Hints) Network {
			r := s.retinexFormer()
			if h.Single { // as its authors' test program does
				r.Multiple = retinexMultiple
			}
			return &r
		},
		Sizes: []Size{{Name: "retinexformer", Args: `{}`, Pool: true, Peer: true}},
		Small: `{"n_feat":8,"num_blocks":[1,1,1]}`,
		Stage: func(node string) string {
			if _, inner, ok := strings.Cut(node, ".denoiser."); ok { // the only stage
				node = inner
			}
			return blockStage(node)
		},
	})
}

const (
	retinexMultiple = 4
	retinexBody     = "body.0"
	retinexGroups   = 4 // of the estimator's 5×5 convolution
)

func defaultRetinexFormer() *retinexFormer {
	return &retinexFormer{InChannels: 3, OutChannels: 3, Features: 40, Stage: 1, NumBlocks: []int{1, 2, 2}}
}

// Architecture implements Network.
func (r *retinexFormer) Architecture() string { return RetinexFormerName }

func (r *retinexFormer) check() error {
	if err := all(
		length("num_blocks", r.NumBlocks, 3), within("n_feat", maxWidth/4, r.Features),
		blockCounts("num_blocks", r.NumBlocks...),
	); err != nil {
		return err
	}
	switch {
	case r.InChannels != 3 || r.OutChannels != 3:
		return fmt.Errorf("%d input and %d output channels: only 3 and 3 are supported", r.InChannels, r.OutChannels)
	case r.Stage != 1:
		return fmt.Errorf("stage %d: only 1 is supported", r.Stage)
	case r.Features%retinexGroups != 0:
		return fmt.Errorf("n_feat %d is no multiple of %d", r.Features, retinexGroups)
	}
	return r.Ports.check()
}

// CheckSide implements Network: the network itself does not pad.
func (r *retinexFormer) CheckSide(n int) error { return r.unpadded(n, retinexMultiple) }

// Grid implements Network.
func (r *retinexFormer) Grid() int { return r.grid(retinexMultiple) }

// Build implements Network.
func (r *retinexFormer) Build(src weights.Source, n, h, w int, opt Options) (*graph.Graph, error) {
	l := newLoader(RetinexFormerName, src, opt)
	b := retinexBuilder{r, l}
	image := l.photo(r, n, h, w, opt)
	lit, illu := b.estimate(image)
	return l.restored(b.denoise(lit, illu), opt)
}

type retinexBuilder struct {
	*retinexFormer
	*loader
}

// estimate gives the lit-up image, img·map + img, and the illumination
// features.
func (b retinexBuilder) estimate(image *graph.Tensor) (lit, features *graph.Tensor) {
	path, c, f := retinexBody+".estimator", b.InChannels, b.Features
	// The network appends the mean over channels to the image; the first
	// convolution is linear, so the mean's column is spread over the channels'.
	w := b.param(path+".conv1.weight", f, c+1, 1, 1)
	spread := derived(w.Name, "spread mean", []int{f, c}, func(dst []float32, src [][]float32) error {
		for o := range f {
			row := src[0][o*(c+1):][:c+1]
			for i := range c {
				dst[o*c+i] = row[i] + row[c]/float32(c)
			}
		}
		return nil
	}, w)
	t := b.Conv(path+".conv1", graph.Conv{X: image, Weight: spread, Bias: b.param(path+".conv1.bias", f)})
	b.Counted(t, int64(image.Shape.Pixels())*int64(f)*int64(c+1))
	features = b.Conv(path+".depth_conv", graph.Conv{
		X: t, Weight: b.param(path+".depth_conv.weight", f, f/retinexGroups, 5, 5),
		Bias: b.param(path+".depth_conv.bias", f), Pad: 2, Groups: retinexGroups,
	})
	b.Trace(path+"#0", features, graph.NCHW)
	lightMap := b.conv(path+".conv2", graph.Conv{X: features, Bias: b.param(path+".conv2.bias", c)}, c, 1)
	b.Trace(path+"#1", lightMap, graph.NCHW)
	return b.MulAdd(path+".light", image, lightMap, image), features
}

// denoise is mapping(U-Net(embedding(lit))) + lit.
func (b retinexBuilder) denoise(lit, illu *graph.Tensor) *graph.Tensor {
	path := retinexBody + ".denoiser"
	x := b.conv(path+".embedding", graph.Conv{X: lit, Pad: 1}, b.Features, 3)
	b.Trace(path+".embedding", x, graph.NCHW)
	type level struct{ x, illu *graph.Tensor }
	var skips []level
	for i := range 2 {
		enc := fmt.Sprintf("%s.encoder_layers.%d", path, i)
		x = b.blocks(enc+".0", x, illu, b.NumBlocks[i])
		skips = append(skips, level{x, illu})
		x = b.conv(enc+".1", graph.Conv{X: x, Stride: 2, Pad: 1}, 2*x.Shape.C, 4)
		b.Trace(enc+".1", x, graph.NCHW)
		illu = b.conv(enc+".2", graph.Conv{X: illu, Stride: 2, Pad: 1}, 2*illu.Shape.C, 4)
		b.Trace(enc+".2", illu, graph.NCHW)
	}
	x = b.blocks(path+".bottleneck", x, illu, b.NumBlocks[2])
	for i := range 2 {
		dec, skip := fmt.Sprintf("%s.decoder_layers.%d", path, i), skips[1-i]
		up := b.upsample(dec+".0", x)
		b.Trace(dec+".0", up, graph.NCHW)
		x = b.conv(dec+".1", graph.Conv{X: up, X2: skip.x}, skip.x.Shape.C, 1)
		b.Trace(dec+".1", x, graph.NCHW)
		x = b.blocks(dec+".2", x, skip.illu, b.NumBlocks[1-i])
	}
	mapping := graph.Conv{X: x, Pad: 1}
	if b.Traces(path + ".mapping") {
		b.Trace(path+".mapping", b.conv(path+".mapping", mapping, b.OutChannels, 3), graph.NCHW)
	}
	mapping.Residual = lit
	return b.conv(path+".mapping", mapping, b.OutChannels, 3)
}

func (b retinexBuilder) conv(path string, c graph.Conv, cout, k int) *graph.Tensor {
	c.Weight = b.param(path+".weight", cout, c.CIn(), k, k)
	return b.Conv(path, c)
}

// upsample is a 2×2 transposed convolution of stride 2 that halves the
// channels: a 1×1 convolution to every pixel of the 2×2 block and a pixel
// shuffle.
func (b retinexBuilder) upsample(path string, x *graph.Tensor) *graph.Tensor {
	cin := x.Shape.C
	cout := cin / 2
	w := derived(path+".weight", "transposed 2x2", []int{4 * cout, cin}, func(dst []float32, src [][]float32) error {
		for i := range cin {
			for o := range 4 * cout {
				dst[o*cin+i] = src[0][i*4*cout+o]
			}
		}
		return nil
	}, b.param(path+".weight", cin, cout, 2, 2))
	bias := derived(path+".bias", "repeat 4", []int{4 * cout}, func(dst []float32, src [][]float32) error {
		for i := range dst {
			dst[i] = src[0][i/4]
		}
		return nil
	}, b.param(path+".bias", cout))
	return b.Conv(path, graph.Conv{X: x, Weight: w, Bias: bias, Shuffle: 2})
}

// blocks is upstream's IGAB.
func (b retinexBuilder) blocks(path string, x, illu *graph.Tensor, n int) *graph.Tensor {
	for i := range n {
		p := fmt.Sprintf("%s.blocks.%d", path, i)
		x = b.attention(p+".0", x, illu)
		x = b.feedForward(p+".1", x)
	}
	b.Trace(path, x, graph.NCHW)
	return x
}

// attention is IG-MSA(x, illu) + x, illumination-guided multi-head
// self-attention across channels.
func (b retinexBuilder) attention(path string, x, illu *graph.Tensor) *graph.Tensor {
	c := x.Shape.C
	heads := c / b.Features
	q, k, v := b.param(path+".to_q.weight", c, c), b.param(path+".to_k.weight", c, c), b.param(path+".to_v.weight", c, c)
	// Upstream's attention matrix is kᵀq, so k takes the Gram matrix's rows.
	value, gram := b.ConvGram(path+".to_qkv", graph.Conv{
		X: x, Weight: stack(path+".to_kqv.weight", k, q, v), Gram: &graph.Gram{C: c, Heads: heads},
	})
	fold := b.Fold(path+".fold", graph.Fold{
		Gram: gram, Temperature: b.param(path+".rescale", heads, 1, 1), Proj: b.param(path+".proj.weight", c, c),
	})
	proj := graph.Conv{X: value, InScale: illu, Dynamic: fold, Bias: b.param(path+".proj.bias", c)}
	pos0, pos2 := b.param(path+".pos_emb.0.weight", c, 1, 3, 3), b.param(path+".pos_emb.2.weight", c, 1, 3, 3)
	pos := b.Depthwise(path+".pos_emb.0", graph.Depthwise{X: value, Weight: pos0, Act: graph.GELU})
	if b.Traces(path) {
		proj.Residual = b.Depthwise(path+".pos_emb.2", graph.Depthwise{X: pos, Weight: pos2})
		b.Trace(path, b.Conv(path+".proj", proj), graph.NHWC)
	}
	proj.Residual = b.Depthwise(path+".pos_emb.2", graph.Depthwise{X: pos, Weight: pos2, Residual: x})
	return b.Conv(path+".proj", proj)
}

// feedForward is FF(LN(x)) + x.
func (b retinexBuilder) feedForward(path string, x *graph.Tensor) *graph.Tensor {
	c := x.Shape.C
	norm := &graph.Norm{Weight: b.param(path+".norm.weight", c), Bias: b.param(path+".norm.bias", c), Eps: 1e-5}
	t := b.conv(path+".fn.net.0", graph.Conv{X: x, Norm: norm, Act: graph.GELU}, 4*c, 1)
	t = b.Depthwise(path+".fn.net.2", graph.Depthwise{X: t, Weight: b.param(path+".fn.net.2.weight", 4*c, 1, 3, 3), Act: graph.GELU})
	return b.conv(path+".fn.net.4", graph.Conv{X: t, Residual: x}, c, 1)
}

func (s *shapes) retinexFormer() retinexFormer {
	const path = "body.0.denoiser."
	blocks := func(p string) int { return s.count(path + p + ".blocks.%d.0.to_q.weight") }
	return retinexFormer{
		InChannels: 3, OutChannels: 3, Features: s.dim(path+"embedding.weight", 0), Stage: 1 + s.stages(),
		NumBlocks: []int{blocks("encoder_layers.0.0"), blocks("encoder_layers.1.0"), blocks("bottleneck")},
	}
}

// stages counts RetinexFormer's stages after the first.
func (s *shapes) stages() int {
	n := 0
	for s.has(fmt.Sprintf("body.%d.denoiser.embedding.weight", n+1)) {
		n++
	}
	return n
}
