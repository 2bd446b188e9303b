package router

import (
	"context"
	"fmt"
	"slices"

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
	images  int // at a time
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
	return NewBatchEstimator(ctx, b, c, src, 1)
}

// NewBatchEstimator is NewEstimator for a number of images at a time, which share
// their weights with the estimators of other numbers on the backend.
func NewBatchEstimator(ctx context.Context, b backend.Backend, c *models.Config, src weights.Source, images int) (*Estimator, error) {
	if !c.Routed() {
		return &Estimator{config: c, images: images}, nil
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
	g, err := c.BuildRouting(src, images, models.Options{})
	if err != nil {
		return nil, err
	}
	e := &Estimator{config: c, images: images, view: view}
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

// Decide runs the estimator of one image at a time on a prepared input and
// chooses an expert.
func (e *Estimator) Decide(ctx context.Context, input []float32, o Override) (Decision, error) {
	all, err := e.DecideAll(ctx, [][]float32{input}, []Override{o})
	if err != nil {
		return Decision{}, err
	}
	return all[0], nil
}

// DecideAll runs the estimator on as many prepared inputs as it takes at a time,
// each with its override.
func (e *Estimator) DecideAll(ctx context.Context, inputs [][]float32, overrides []Override) ([]Decision, error) {
	if len(inputs) != e.images || len(overrides) != e.images {
		return nil, fmt.Errorf("estimate the degradation: %d inputs and %d overrides for %d images", len(inputs), len(overrides), e.images)
	}
	for _, o := range overrides {
		if err := o.Check(e.config); err != nil {
			return nil, err
		}
	}
	all := make([]Decision, e.images)
	var err error
	if e.program == nil {
		for i, o := range overrides {
			if all[i], err = Unrouted(e.config, o); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
	tree := &e.config.Tree
	var vectors []float32
	for _, o := range overrides {
		vectors = append(vectors, o.vector(tree)...)
	}
	size := graph.RouteSize(len(tree.Leaves), len(tree.Levels))
	records := make([]float32, e.images*size)
	if err := e.program.Run(ctx, [][]float32{slices.Concat(inputs...), vectors}, [][]float32{records}, backend.RunOptions{}); err != nil {
		return nil, fmt.Errorf("estimate the degradation: %w", err)
	}
	for i, o := range overrides {
		if all[i], err = read(records[i*size:(i+1)*size], tree, e.config.Router.Tempering(), o); err != nil {
			return nil, err
		}
		all[i].weigh(e.config, o)
	}
	return all, nil
}

// Route prepares an image, as stored, and chooses its expert.
func (e *Estimator) Route(ctx context.Context, img *imaging.Image, o Override) (Decision, error) {
	in, err := e.Input(img)
	if err != nil {
		return Decision{}, err
	}
	return e.Decide(ctx, in, o)
}
