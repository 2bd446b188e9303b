package models

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"

	"unirestorer/graph"
	"unirestorer/weights"
)

// DACLIP is the image encoder of DA-CLIP (arXiv 2310.01018) in upstream's
// open_clip.daclip_model.DaCLIP: a vision transformer that reads the
// degradation, and a second one with the same shape for the content, which the
// first controls.
type DACLIP struct {
	EmbedDim int `json:"embed_dim"`
	Vision   struct {
		ImageSize int `json:"image_size"`
		Layers    int `json:"layers"`
		Width     int `json:"width"`
		HeadWidth int `json:"head_width"`
		PatchSize int `json:"patch_size"`
	} `json:"vision_cfg"`
	// Text and CustomText describe the text tower, which no part of a
	// restoration uses.
	Text       json.RawMessage `json:"text_cfg,omitempty"`
	CustomText bool            `json:"custom_text,omitempty"`
}

// DACLIPName is DACLIP's name in configurations.
const DACLIPName = "daclip"

// NewDACLIP makes an encoder from open_clip's model configuration, a JSON
// object. What is left out is ViT-B/32.
func NewDACLIP(args json.RawMessage) (*DACLIP, error) {
	d := &DACLIP{EmbedDim: 512}
	d.Vision.ImageSize, d.Vision.Layers, d.Vision.Width, d.Vision.HeadWidth, d.Vision.PatchSize = 224, 12, 768, 64, 32
	if err := decodeArgs(args, d); err != nil {
		return nil, fmt.Errorf("%s arguments: %w", DACLIPName, err)
	}
	v := d.Vision
	if err := all(
		within("embed_dim", maxWidth, d.EmbedDim), within("width", maxWidth, v.Width), within("head_width", maxWidth, v.HeadWidth),
		within("image_size", 4096, v.ImageSize), within("patch_size", 512, v.PatchSize), blockCounts("layers", v.Layers),
	); err != nil {
		return nil, fmt.Errorf("%s arguments: %w", DACLIPName, err)
	}
	if v.Width%v.HeadWidth != 0 || v.ImageSize%v.PatchSize != 0 {
		return nil, fmt.Errorf("%s arguments: width %d does not split into heads of %d (--head-width of convert, head_width of the arguments), or %d pixels into patches of %d",
			DACLIPName, v.Width, v.HeadWidth, v.ImageSize, v.PatchSize)
	}
	return d, nil
}

const (
	controlPath = "visual_control"
	contentPath = "clip.visual"
)

// Build makes the degradation encoder: port "image", n×S×S×3 and normalised by
// the preprocessing, to port "degra_features", n×1×1×EmbedDim, not normalised.
func (d *DACLIP) Build(src weights.Source, n int, opt Options) (*graph.Graph, error) {
	l := newLoader(DACLIPName, src, opt)
	image := l.image(n, d.Vision.ImageSize, d.Vision.ImageSize, 3, opt)
	features, _ := d.control(l, image, false)
	l.Output("degra_features", features, graph.NHWC)
	return l.Build()
}

// BuildContent makes both encoders: besides "degra_features" the ports
// "image_features", the content under control, "image_features_no_control",
// and "hidden_i", the controls, n×1×T×Width each.
func (d *DACLIP) BuildContent(src weights.Source, n int, opt Options) (*graph.Graph, error) {
	l := newLoader(DACLIPName, src, opt)
	image := l.image(n, d.Vision.ImageSize, d.Vision.ImageSize, 3, opt)
	features, hidden := d.control(l, image, true)
	l.Output("degra_features", features, graph.NHWC)
	l.Output("image_features", d.content(l, image, hidden), graph.NHWC)
	l.Output("image_features_no_control", d.content(l, image, nil), graph.NHWC)
	for i, h := range hidden {
		l.Output(fmt.Sprintf("hidden_%d", i), h, graph.NHWC)
	}
	return l.Build()
}

// Stored lists the tensors of the degradation encoder, with the zero modules
// that only the content encoder reads.
func (d *DACLIP) Stored() ([]Spec, error) {
	rec := &recorder{}
	_, err := d.Build(rec, 1, Options{})
	return rec.specs, err
}

// ZeroModuleMACs are the multiply-adds of the zero modules for one image:
// upstream computes them, Build does not.
func (d *DACLIP) ZeroModuleMACs() int64 {
	g := d.Vision.ImageSize / d.Vision.PatchSize
	w := int64(d.Vision.Width)
	return int64(d.Vision.Layers) * int64(g*g+1) * w * w
}

// control encodes the degradation. With hidden it gives the zero modules'
// results as well.
func (d *DACLIP) control(l *loader, image *graph.Tensor, hidden bool) (features *graph.Tensor, control []*graph.Tensor) {
	b := vitBuilder{DACLIP: d, loader: l, path: controlPath, blocks: controlPath + ".transformer.transformer.resblocks"}
	x := b.embed(image)
	w := d.Vision.Width
	for i := range d.Vision.Layers {
		x = b.block(i, x)
		zero := fmt.Sprintf("%s.transformer.zero_modules.%d", controlPath, i)
		if !hidden {
			l.unused(zero+".weight", w, w)
			l.unused(zero+".bias", w)
			continue
		}
		t := b.linear(zero, graph.Conv{X: x}, w)
		l.Trace(zero, t, graph.NHWC)
		control = append(control, t)
	}
	return b.pool(x), control
}

// content encodes the image; control i is added to the result of block
// Layers-1-i.
func (d *DACLIP) content(l *loader, image *graph.Tensor, control []*graph.Tensor) *graph.Tensor {
	b := vitBuilder{DACLIP: d, loader: l, path: contentPath, blocks: contentPath + ".transformer.resblocks", quiet: control == nil}
	x := b.embed(image)
	for i := range d.Vision.Layers {
		x = b.block(i, x)
		if control != nil {
			x = l.Sum(fmt.Sprintf("%s.%d.control", b.blocks, i), x, control[len(control)-1-i])
		}
	}
	return b.pool(x)
}

// vitBuilder builds a vision transformer (arXiv 2010.11929) of open_clip.
type vitBuilder struct {
	*DACLIP
	*loader
	path, blocks string
	quiet        bool
}

func (b vitBuilder) traces(name string) bool { return !b.quiet && b.Traces(name) }

func (b vitBuilder) trace(name string, t *graph.Tensor, l graph.Layout) {
	if !b.quiet {
		b.Trace(name, t, l)
	}
}

func (b vitBuilder) norm(path string) *graph.Norm {
	w := b.Vision.Width
	return &graph.Norm{Weight: b.param(path+".weight", w), Bias: b.param(path+".bias", w), Eps: 1e-5}
}

// linear adds a layer y = x·Wᵀ + b over tokens.
func (b vitBuilder) linear(path string, c graph.Conv, out int) *graph.Tensor {
	c.Weight, c.Bias = b.param(path+".weight", out, c.CIn()), b.param(path+".bias", out)
	return b.Conv(path, c)
}

func (b vitBuilder) embed(image *graph.Tensor) *graph.Tensor {
	v := b.Vision
	grid := v.ImageSize / v.PatchSize
	x := b.Conv(b.path+".conv1", graph.Conv{
		X: image, Weight: b.param(b.path+".conv1.weight", v.Width, 3, v.PatchSize, v.PatchSize), Stride: v.PatchSize,
	})
	b.trace(b.path+".conv1", x, graph.NCHW)
	x = b.Tokens(b.path+".tokens", graph.Tokens{
		X: x, Class: b.param(b.path+".class_embedding", v.Width),
		Pos: b.param(b.path+".positional_embedding", grid*grid+1, v.Width),
	})
	x = b.ChannelNorm(b.path+".ln_pre", graph.ChannelNorm{X: x, Norm: b.norm(b.path + ".ln_pre")})
	b.trace(b.path+".ln_pre", x, graph.NHWC)
	return x
}

func (b vitBuilder) block(i int, x *graph.Tensor) *graph.Tensor {
	path, w := fmt.Sprintf("%s.%d", b.blocks, i), b.Vision.Width
	qkv := b.Conv(path+".attn.in_proj", graph.Conv{
		X: x, Norm: b.norm(path + ".ln_1"),
		Weight: b.param(path+".attn.in_proj_weight", 3*w, w), Bias: b.param(path+".attn.in_proj_bias", 3*w),
	})
	t := b.Attention(path+".attn", graph.Attention{QKV: qkv, Heads: w / b.Vision.HeadWidth})
	if name := path + ".attn#0"; b.traces(name) {
		b.trace(name, b.linear(path+".attn.out_proj", graph.Conv{X: t}, w), graph.NHWC)
	}
	x = b.linear(path+".attn.out_proj", graph.Conv{X: t, Residual: x}, w)
	t = b.linear(path+".mlp.c_fc", graph.Conv{X: x, Norm: b.norm(path + ".ln_2"), Act: graph.GELU}, 4*w)
	if name := path + ".mlp"; b.traces(name) {
		b.trace(name, b.linear(path+".mlp.c_proj", graph.Conv{X: t}, w), graph.NHWC)
	}
	x = b.linear(path+".mlp.c_proj", graph.Conv{X: t, Residual: x}, w)
	b.trace(path, x, graph.NHWC)
	return x
}

// pool normalises and projects the class token.
func (b vitBuilder) pool(x *graph.Tensor) *graph.Tensor {
	x = b.Crop(b.path+".class", graph.Crop{X: x, H: 1, W: 1})
	norm := b.norm(b.path + ".ln_post")
	if name := b.path + ".ln_post"; b.traces(name) {
		b.trace(name, b.ChannelNorm(name, graph.ChannelNorm{X: x, Norm: norm}), graph.NHWC)
	}
	proj := b.param(b.path+".proj", b.Vision.Width, b.EmbedDim)
	return b.Conv(b.path+".proj", graph.Conv{X: x, Norm: norm, Weight: transposed(proj)})
}

// defaultHeadWidth is CLIP's for every size.
const defaultHeadWidth = 64

// RecogniseEncoder reads the degradation encoder's arguments off the shapes.
func RecogniseEncoder(src weights.Source, h Hints) (json.RawMessage, error) {
	s := &shapes{src: src}
	var d DACLIP
	const path = "visual_control."
	d.EmbedDim = s.dim(path+"proj", 1)
	d.Vision.Width = s.dim(path+"conv1.weight", 0)
	d.Vision.PatchSize = s.dim(path+"conv1.weight", 2)
	d.Vision.Layers = s.count(path + "transformer.transformer.resblocks.%d.ln_1.weight")
	d.Vision.HeadWidth = cmp.Or(h.HeadWidth, defaultHeadWidth)
	tokens := s.dim(path+"positional_embedding", 0)
	grid := int(math.Round(math.Sqrt(float64(tokens - 1))))
	d.Vision.ImageSize = grid * d.Vision.PatchSize
	if s.err == nil && grid*grid+1 != tokens {
		s.err = fmt.Errorf("%d positions are no square grid and a class token", tokens)
	}
	if s.err != nil {
		return nil, fmt.Errorf("degradation encoder: %w", s.err)
	}
	return overridden(d, h.Args[DACLIPName])
}
