package router

import (
	"context"
	"fmt"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/ranges"
	"unirestorer/weights"
)

// Estimator reads an image's degradation and decides which expert restores it.
// It may be used by several goroutines.
type Estimator struct {
	config *models.Config
	// program is nil for a model without a router.
	program backend.Program
	view    imaging.EstimatorView
}

// View is what a model's degradation encoder is shown of an image.
func View(c *models.Config) (imaging.EstimatorView, error) {
	encoder, _, err := c.Heads()
	if err != nil {
		return imaging.EstimatorView{}, err
	}
	return imaging.EstimatorView{Size: encoder.Vision.ImageSize, Fragments: c.Estimator.Fragments}, nil
}

// NewEstimator compiles the degradation encoder and the router of a model for
// one image at a time. The decision is made on the device: it is all that
// crosses to the host. For a model without a router there is nothing to compile,
// and decisions follow from the override alone; see Unrouted.
func NewEstimator(ctx context.Context, b backend.Backend, c *models.Config, src weights.Source) (*Estimator, error) {
	if !c.Routed() {
		return &Estimator{config: c}, nil
	}
	view, err := View(c)
	if err != nil {
		return nil, err
	}
	if b.Info().Half {
		if err := ranges.Estimator(ctx, c, src); err != nil {
			return nil, err
		}
	}
	g, err := c.BuildRouting(src, 1, models.Options{})
	if err != nil {
		return nil, err
	}
	e := &Estimator{config: c, view: view}
	if e.program, err = b.Compile(ctx, g); err != nil {
		return nil, fmt.Errorf("estimator: %w", err)
	}
	return e, nil
}

// Close frees the estimator's program.
func (e *Estimator) Close() error {
	if e.program == nil {
		return nil
	}
	return e.program.Close()
}

// Memory is what the estimator holds on the device.
func (e *Estimator) Memory() backend.Memory {
	if e.program == nil {
		return backend.Memory{}
	}
	return e.program.Memory()
}

// Input prepares an image, as stored, for Decide: [side, side, 3], normalised.
func (e *Estimator) Input(img *imaging.Image) ([]float32, error) {
	if e.program == nil {
		return nil, nil
	}
	return imaging.EstimatorInput(img, e.view, e.config.Estimator.Mean, e.config.Estimator.Std)
}

// Decide runs the estimator on a prepared input and chooses an expert.
func (e *Estimator) Decide(ctx context.Context, input []float32, o Override) (Decision, error) {
	if err := o.Check(e.config); err != nil {
		return Decision{}, err
	}
	if e.program == nil {
		return Unrouted(e.config, o)
	}
	tree := &e.config.Tree
	record := make([]float32, graph.RouteSize(len(tree.Leaves), len(tree.Levels)))
	if err := e.program.Run(ctx, [][]float32{input, o.vector(tree)}, [][]float32{record}, backend.RunOptions{}); err != nil {
		return Decision{}, fmt.Errorf("estimate the degradation: %w", err)
	}
	d, err := read(record, tree, e.config.Router.Tempering(), o)
	if err == nil {
		d.weigh(e.config, o)
	}
	return d, err
}

// Route prepares an image, as stored, and chooses its expert.
func (e *Estimator) Route(ctx context.Context, img *imaging.Image, o Override) (Decision, error) {
	in, err := e.Input(img)
	if err != nil {
		return Decision{}, err
	}
	return e.Decide(ctx, in, o)
}
