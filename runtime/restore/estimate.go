package restore

import (
	"context"
	"fmt"

	"github.com/dustin/go-humanize"

	"unirestorer/graph/models"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/router"
)

// choose is Route, but leaves the estimator alone where the expert is named.
func (r *Restorer) choose(ctx context.Context, img *imaging.Image, o router.Override) (router.Decision, error) {
	if err := o.Check(r.model.Config); err != nil {
		return router.Decision{}, err
	}
	if o.Expert != nil {
		return router.Decide(&r.model.Config.Tree, nil, nil, o)
	}
	return r.Route(ctx, img, o)
}

// Route estimates an image's degradation and chooses an expert.
func (r *Restorer) Route(ctx context.Context, img *imaging.Image, o router.Override) (router.Decision, error) {
	img = img.Filled()
	if err := o.Check(r.model.Config); err != nil {
		return router.Decision{}, err
	}
	for {
		r.mu.RLock()
		if r.estimator != nil {
			defer r.mu.RUnlock()
			return r.estimator.Route(ctx, img, o)
		}
		r.mu.RUnlock()
		if err := r.loadEstimator(ctx, imageBytes(img)); err != nil {
			return router.Decision{}, err
		}
	}
}

// loadEstimator compiles the estimator beside held bytes of images, evicting
// experts where the memory bound asks for it.
func (r *Restorer) loadEstimator(ctx context.Context, held int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.estimator != nil {
		return nil
	}
	if r.memory > 0 && r.model.Config.Routed() {
		g, err := r.model.Config.BuildRouting(nil, 1, models.Options{})
		if err != nil {
			return err
		}
		need, err := r.backend.Plan(g)
		if err != nil {
			return err
		}
		if held += need.Total(); held > r.memory {
			return fmt.Errorf("%w: the degradation estimator and the image need %s; %s are allowed", experts.ErrBudget,
				humanize.IBytes(uint64(held)), humanize.IBytes(uint64(r.memory)))
		}
		if err := r.limit(held); err != nil {
			return err
		}
	}
	e, err := router.NewEstimator(ctx, r.backend, r.model.Config, r.model.Source)
	if err != nil {
		return fmt.Errorf("model %s: %w", r.model.Path, err)
	}
	r.estimator = e
	return nil
}

// dropEstimator frees the estimator and tells whether there was one.
func (r *Restorer) dropEstimator() (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.estimator == nil {
		return false, nil
	}
	err := r.estimator.Close()
	r.estimator = nil
	return true, err
}

// estimatorBytes is what the estimator holds.
func (r *Restorer) estimatorBytes() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.estimator == nil {
		return 0
	}
	return r.estimator.Memory().Total()
}
