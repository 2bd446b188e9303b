package models

import (
	"errors"
	"fmt"
	"math"

	"unirestorer/graph"
	"unirestorer/weights"
)

// Router is the pair of heads that turn degradation features into gates, in
// upstream's unirestorer_arch.UniRestorer: mu, an embedding of the
// degradation, gates the leaves of the clustering tree, and sigma, its log
// variance, gates the tree's levels.
type Router struct {
	// Width is the number of degradation features.
	Width int `json:"width"`
	// Leaves and Levels are the sizes of the tree.
	Leaves int `json:"leaves"`
	Levels int `json:"levels"`
	// LeafHead and LeafAdded are those of RouterConfig.
	LeafHead  string `json:"leaf_head,omitempty"`
	LeafAdded bool   `json:"leaf_added,omitempty"`
}

// What a fitted leaf gate reads: the degradation features or mu, their
// embedding.
const (
	LeafHeadFeatures  = "features"
	LeafHeadEmbedding = "embedding"
)

// Tensors of a fitted leaf gate and of what is added to it, [leaves, width] and [leaves].
const (
	LeafHeadWeight  = "leaf_head.weight"
	LeafHeadBias    = "leaf_head.bias"
	LeafAddedWeight = "leaf_added.weight"
	LeafAddedBias   = "leaf_added.bias"
)

// routerLayers is the number of linear layers of each head.
const routerLayers = 5

// gateNoise is how many times its gates each gating layer has rows: upstream's
// second half is noise used in training.
const gateNoise = 2

// NewRouter checks the sizes of a router.
func NewRouter(r Router) (*Router, error) {
	if err := within("router", maxWidth, r.Width, r.Leaves, r.Levels); err != nil {
		return nil, err
	}
	if h := r.LeafHead; h != "" && h != LeafHeadFeatures && h != LeafHeadEmbedding {
		return nil, fmt.Errorf("router: leaf_head %q: want %s or %s", h, LeafHeadFeatures, LeafHeadEmbedding)
	}
	if r.LeafAdded && r.LeafHead == "" {
		return nil, errors.New("router: leaf_added without leaf_head")
	}
	return &r, nil
}

// RecogniseRouter reads a router's sizes off its tensors' shapes.
func RecogniseRouter(src weights.Source) (*Router, error) {
	s := &shapes{src: src}
	r := Router{
		Width:  s.dim("mu.0.weight", 0),
		Leaves: s.dim("lf_gate.0.weight", 0) / gateNoise, Levels: s.dim("layer_gate.0.weight", 0) / gateNoise,
	}
	if s.err != nil {
		return nil, fmt.Errorf("router: %w", s.err)
	}
	return NewRouter(r)
}

// Build makes the graph from port "degra_features", n×1×1×Width, to the ports
// "mu" and "logvar" of that shape and "lf_gate_raw" and "layer_gate_raw", whose
// first Leaves and Levels channels are the logits.
func (r *Router) Build(src weights.Source, n int, opt Options) (*graph.Graph, error) {
	l := newLoader("router", src, opt)
	f := l.Input("degra_features", graph.Shape{N: n, H: 1, W: 1, C: r.Width}, graph.NHWC)
	r.heads(l, f)
	return l.Build()
}

// Stored lists the router's tensors.
func (r *Router) Stored() ([]Spec, error) {
	rec := &recorder{}
	_, err := r.Build(rec, 1, Options{})
	return rec.specs, err
}

func (r *Router) heads(l *loader, features *graph.Tensor) {
	g := r.gates(l, features)
	l.Output("mu", g.mu, graph.NHWC)
	l.Output("logvar", g.logvar, graph.NHWC)
	l.Output("lf_gate_raw", g.leaves, graph.NHWC)
	l.Output("layer_gate_raw", g.levels, graph.NHWC)
}

// gates are the results of both heads.
type gates struct{ mu, logvar, leaves, levels *graph.Tensor }

func (r *Router) gates(l *loader, features *graph.Tensor) gates {
	gate := func(path string, x *graph.Tensor, gates int) *graph.Tensor {
		return l.Conv(path, graph.Conv{X: x, Weight: l.param(path+".weight", gateNoise*gates, r.Width)})
	}
	g := gates{mu: r.head(l, "mu", features), logvar: r.head(l, "sigma", features)}
	g.levels = gate("layer_gate.0", g.logvar, r.Levels)
	switch r.LeafHead {
	case "":
		g.leaves = gate("lf_gate.0", g.mu, r.Leaves)
	default:
		x := features
		if r.LeafHead == LeafHeadEmbedding {
			x = g.mu
		}
		g.leaves = l.Conv("leaf_head", graph.Conv{X: x, Weight: l.param(LeafHeadWeight, r.Leaves, r.Width), Bias: l.param(LeafHeadBias, r.Leaves)})
	}
	if r.LeafAdded {
		g.leaves = l.Conv("leaf_added", graph.Conv{
			X: features, Weight: l.param(LeafAddedWeight, r.Leaves, r.Width), Bias: l.param(LeafAddedBias, r.Leaves), Residual: g.leaves,
		})
	}
	l.unused("gamma", 1)
	l.unused("beta", 1)
	l.unusedBuffer("mean", 1)
	l.unusedBuffer("std", 1)
	return g
}

// head is five linear layers without bias, LeakyReLU after the first four, and
// a batch normalisation by running statistics.
func (r *Router) head(l *loader, path string, x *graph.Tensor) *graph.Tensor {
	w := r.Width
	for i := range routerLayers {
		p := fmt.Sprintf("%s.%d", path, 2*i)
		c := graph.Conv{X: x, Weight: l.param(p+".weight", w, w)}
		if l.Traces(p) {
			l.Trace(p, l.Conv(p, c), graph.NHWC)
		}
		if i < routerLayers-1 {
			c.Act = graph.LeakyReLU
		} else {
			c.Weight, c.Bias = batchNorm(l, fmt.Sprintf("%s.%d", path, 2*i+1), c.Weight)
		}
		x = l.Conv(p, c)
	}
	return x
}

// batchNorm folds a batch normalisation into the linear layer before it:
// y = (W·x - mean)/√(var+ε)·γ + β.
func batchNorm(l *loader, path string, weight *graph.Param) (w, b *graph.Param) {
	const eps = 1e-5
	n, k := weight.Dims[0], weight.Dims[1]
	gamma, beta := l.param(path+".weight", n), l.param(path+".bias", n)
	mean, variance := l.buffer(path+".running_mean", n), l.buffer(path+".running_var", n)
	l.unusedBuffer(path + ".num_batches_tracked")
	w = derived(weight.Name, "batch norm weight", []int{n, k}, func(dst []float32, src [][]float32) error {
		for o := range n {
			s, err := bnScale(src[1][o], src[2][o], eps)
			if err != nil {
				return err
			}
			for i := range k {
				dst[o*k+i] = float32(float64(src[0][o*k+i]) * s)
			}
		}
		return nil
	}, weight, gamma, variance)
	b = derived(path+".bias", "batch norm bias", []int{n}, func(dst []float32, src [][]float32) error {
		for o := range n {
			s, err := bnScale(src[1][o], src[2][o], eps)
			if err != nil {
				return err
			}
			dst[o] = float32(float64(src[0][o]) - float64(src[3][o])*s)
		}
		return nil
	}, beta, gamma, variance, mean)
	return w, b
}

func bnScale(gamma, variance float32, eps float64) (float64, error) {
	v := float64(variance) + eps
	if !(v > 0) {
		return 0, errors.New("batch normalisation with a variance that is not positive")
	}
	return float64(gamma) / math.Sqrt(v), nil
}

// BuildEstimator makes degradation encoder and router one graph: port "image",
// n×S×S×3 preprocessed, to "degra_features" and the router's outputs.
// encoder and heads name where each finds its tensors.
func BuildEstimator(d *DACLIP, r *Router, encoder, heads weights.Source, n int, opt Options) (*graph.Graph, error) {
	if d.EmbedDim != r.Width {
		return nil, fmt.Errorf("the encoder gives %d features, the router takes %d", d.EmbedDim, r.Width)
	}
	l := newLoader("estimator", encoder, opt)
	image := l.image(n, d.Vision.ImageSize, d.Vision.ImageSize, 3, opt)
	f, _ := d.control(l, image, false)
	l.Output("degra_features", f, graph.NHWC)
	l.src = heads
	r.heads(l, f)
	return l.Build()
}

// Ports of the graph that buildRouting makes.
const (
	overridePort = "override"
	decisionPort = "decision"
)

// buildRouting is BuildEstimator with the decision at its end, so that nothing
// else crosses to the host: ports "image" and overridePort, n×1×1×(leaves+1), to
// decisionPort; see graph.Route. t is the tree that names experts.
func buildRouting(d *DACLIP, r *Router, t *Tree, encoder, heads weights.Source, n int, opt Options) (*graph.Graph, error) {
	if d.EmbedDim != r.Width {
		return nil, fmt.Errorf("the encoder gives %d features, the router takes %d", d.EmbedDim, r.Width)
	}
	l := newLoader("estimator", encoder, opt)
	image := l.image(n, d.Vision.ImageSize, d.Vision.ImageSize, 3, opt)
	override := l.Input(overridePort, graph.Shape{N: n, H: 1, W: 1, C: r.Leaves + 1}, graph.NHWC)
	f, _ := d.control(l, image, false)
	l.src = heads
	g := r.gates(l, f)
	l.Output(decisionPort, l.Route("route", graph.Route{Leaves: g.leaves, Levels: g.levels, Override: override, Experts: t.Experts()}), graph.NHWC)
	return l.Build()
}
