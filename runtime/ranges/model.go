package ranges

import (
	"context"
	"fmt"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu"
	"unirestorer/weights"
)

// Of calibrates a graph at its own size.
func Of(ctx context.Context, g *graph.Graph) (*graph.Ranges, error) {
	return onHost(func(b backend.Backend) (*graph.Ranges, error) {
		return Calibrate(ctx, b, func(int, int) (*graph.Graph, error) { return g, nil })
	})
}

// onHost calls f with a backend of single precision.
func onHost(f func(b backend.Backend) (*graph.Ranges, error)) (*graph.Ranges, error) {
	b, err := cpu.New(cpu.Options{})
	if err != nil {
		return nil, err
	}
	defer b.Close() // its programs are closed
	return f(b)
}

// Expert makes sure that an expert's ranges are known, and those of its family if it is built with options that share
// what they adapt. src holds the whole model.
func Expert(ctx context.Context, c *models.Config, src weights.Source, expert int, opt models.Options) error {
	all := []int{expert}
	if opt.Switchable || opt.Unmerged {
		all = c.Family(expert)
	}
	for _, i := range all {
		if c.Ranges == nil || c.Ranges.Get(c.RangeKey(i)) != nil {
			continue
		}
		r, err := onHost(func(b backend.Backend) (*graph.Ranges, error) {
			return Calibrate(ctx, b, func(h, w int) (*graph.Graph, error) { return c.BuildExpert(src, i, 1, h, w, models.Options{}) })
		})
		if err != nil {
			return fmt.Errorf("expert %d (%s): %w", i, c.Experts[i].Architecture, err)
		}
		c.Ranges.Set(c.RangeKey(i), r)
	}
	return nil
}

// Estimator makes sure that the ranges of a model's encoder and router are known.
func Estimator(ctx context.Context, c *models.Config, src weights.Source) error {
	if !c.Routed() || c.Ranges == nil || c.Ranges.Get(models.EstimatorRanges) != nil {
		return nil
	}
	g, err := c.BuildRouting(src, 1, models.Options{})
	if err != nil {
		return err
	}
	r, err := Of(ctx, g)
	if err != nil {
		return fmt.Errorf("estimator: %w", err)
	}
	c.Ranges.Set(models.EstimatorRanges, r)
	return nil
}
