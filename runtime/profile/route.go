package profile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"unirestorer/graph/models"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/router"
)

// Decisions are where the images of a folder were routed, and how long that
// took.
type Decisions struct {
	// Experts has the choice for each image, in the order of file names.
	Experts []int
	// Failed names the files that could not be read, with the reason.
	Failed []string
	// Prepare and Decide are the seconds of each image.
	Prepare, Decide []float64
}

// Route routes every image in a folder; files of other kinds are passed over.
// Reading and decoding files is not part of the times. progress, which may be
// nil, gets the fraction done.
func (p *Profiler) Route(ctx context.Context, folder string, progress func(float64)) (d *Decisions, err error) {
	files, err := imagesIn(folder)
	if err != nil {
		return nil, err
	}
	e, err := router.NewEstimator(ctx, p.Backend, p.Model.Config, p.Model.Source)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	d = &Decisions{}
	for i, path := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		img, err := imaging.DecodeFile(path, imaging.Limits{})
		if err != nil {
			d.Failed = append(d.Failed, err.Error())
			continue
		}
		if err := d.route(ctx, e, img); err != nil {
			return nil, fmt.Errorf("route %s: %w", path, err)
		}
		if progress != nil {
			progress(float64(i+1) / float64(len(files)))
		}
	}
	if len(d.Experts) == 0 {
		return nil, fmt.Errorf("%s: no image in it could be read; the first: %s", folder, d.Failed[0])
	}
	return d, nil
}

// route adds one image. The first one is routed once before, because a first
// run may finish what compiling put off.
func (d *Decisions) route(ctx context.Context, e *router.Estimator, img *imaging.Image) error {
	if len(d.Experts) == 0 {
		if _, err := e.Route(ctx, img, router.Override{}); err != nil {
			return err
		}
	}
	start := time.Now()
	in, err := e.Input(img)
	if err != nil {
		return err
	}
	prepared := time.Now()
	decision, err := e.Decide(ctx, in, router.Override{})
	if err != nil {
		return err
	}
	d.Decide = append(d.Decide, time.Since(prepared).Seconds())
	d.Prepare = append(d.Prepare, prepared.Sub(start).Seconds())
	d.Experts = append(d.Experts, decision.Expert)
	return nil
}

func imagesIn(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("look for images: %w", err)
	}
	var files []string
	for _, e := range entries {
		if _, err := imaging.FormatFromPath(e.Name()); err == nil && !e.IsDir() {
			files = append(files, filepath.Join(folder, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no image files in it", folder)
	}
	return files, nil
}

// CoarseExpert is the expert that a model without routing would run: the first
// of the coarsest level.
func CoarseExpert(c *models.Config) int { return c.Tree.Leaves[0].Experts[0] }

// Serve asks a pool with a budget for the chosen experts in order, as restoring
// the images would, and tells what that took. Nothing is run.
func (p *Profiler) Serve(ctx context.Context, d *Decisions, width, height int, budget int64) (use *PoolUse, err error) {
	pool := experts.NewPool(p.Model, p.Backend, experts.Options{Budget: budget, Adapters: p.Adapters, Predictor: p.Predictor})
	defer func() { err = errors.Join(err, pool.Close()) }()
	for _, expert := range d.Experts {
		net, err := p.Model.Config.Expert(expert)
		if err != nil {
			return nil, err
		}
		h, w, err := models.Fit(net, height, width)
		if err != nil {
			return nil, err
		}
		l, err := pool.Acquire(ctx, expert, 1, h, w)
		if err != nil {
			return nil, err
		}
		l.Release()
	}
	stats := pool.Stats()
	return &PoolUse{budget, stats, stats.HitRate()}, nil
}

// Cost puts decisions, experts' times and the pool's use together. networks
// must hold every expert that was chosen, and the coarse one, at the size and a
// batch of one.
func (d *Decisions) Cost(c *models.Config, networks []Network, width, height int, use *PoolUse) (*Routed, error) {
	seconds := map[int]float64{}
	for i := range networks {
		n := &networks[i]
		if n.Kind != Expert || n.Batch != 1 || n.Measured == nil {
			continue
		}
		net, err := c.Expert(n.Index)
		if err != nil {
			return nil, err
		}
		if h, w, err := models.Fit(net, height, width); err == nil && h == n.Height && w == n.Width {
			seconds[n.Index] = n.Measured.Latency.P50
		}
	}
	r := &Routed{
		Images: len(d.Experts), Failed: d.Failed, Width: width, Height: height, Coarse: CoarseExpert(c), Pool: use,
	}
	var err error
	if r.Prepare, err = Summarise(d.Prepare); err != nil {
		return nil, err
	}
	if r.Decide, err = Summarise(d.Decide); err != nil {
		return nil, err
	}
	loading := 0.0
	if use != nil {
		loading = use.loading()
	}
	if r.Shares, r.Cost, err = routedCost(d.Experts, r.Coarse, seconds, r.Prepare.P50+r.Decide.P50, loading); err != nil {
		return nil, err
	}
	for i := range r.Shares {
		r.Shares[i].Name = c.Experts[r.Shares[i].Expert].Name
	}
	return r, nil
}
