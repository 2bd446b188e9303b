package restore

import (
	"context"
	"errors"
	"fmt"
	"math"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/router"
)

// Route estimates an image's degradation and chooses an expert. Like Restore it
// waits for memory and for the device.
func (r *Restorer) Route(ctx context.Context, img *imaging.Image, o router.Override) (router.Decision, error) {
	img = img.Filled()
	if err := o.Check(r.model.Config); err != nil {
		return router.Decision{}, err
	}
	if !r.model.Config.Routed() {
		return r.route(ctx, img, Options{Override: o})
	}
	if err := img.Check(); err != nil {
		return router.Decision{}, err
	}
	p := picture{w: img.W, h: img.H, held: imageBytes(img)}
	var u use
	if err := r.lane.patiently(ctx, nil, func() (err error) {
		r.lane.refresh()
		u, err = r.estimating(p)
		return err
	}); err != nil {
		return router.Decision{}, err
	}
	held, err := r.host.Reserve(ctx, r.need(p, u))
	if err != nil {
		return router.Decision{}, err
	}
	defer held.Release()
	return r.estimate(ctx, img, Options{Override: o})
}

// route is Route for a picture that has its reservation; nothing is estimated for an expert that was named.
func (r *Restorer) route(ctx context.Context, img *imaging.Image, opt Options) (router.Decision, error) {
	if opt.Override.Expert != nil {
		return router.Decide(&r.model.Config.Tree, nil, nil, opt.Override)
	}
	if !r.model.Config.Routed() {
		return router.Unrouted(r.model.Config, opt.Override)
	}
	return r.estimate(ctx, img, opt)
}

// asked is route for somebody who asks what a picture is: the estimator tells, whoever chooses.
func (r *Restorer) asked(ctx context.Context, img *imaging.Image, o router.Override) (router.Decision, error) {
	if !r.model.Config.Routed() {
		return r.route(ctx, img, Options{Override: o})
	}
	return r.estimate(ctx, img, Options{Override: o})
}

// estimate runs the estimator, whoever chooses.
func (r *Restorer) estimate(ctx context.Context, img *imaging.Image, opt Options) (router.Decision, error) {
	view, err := router.View(r.model.Config)
	if err != nil {
		return router.Decision{}, err
	}
	c := &r.model.Config.Estimator
	input, err := imaging.EstimatorInput(img, view, c.Mean, c.Std)
	if err != nil {
		return router.Decision{}, err
	}
	var d router.Decision
	err = r.lane.patiently(ctx, opt.Waits, func() (err error) {
		d, err = r.decide(ctx, input, opt.Override)
		if err != nil && outOfMemory(err) {
			r.lane.card.Ledger().Reclaim(math.MaxInt64)
			d, err = r.decide(ctx, input, opt.Override)
		}
		if r.fallback != nil && r.lane.lacks(err) {
			d, err = r.fallback.decide(ctx, r, input, opt.Override, err)
		}
		return err
	})
	if err != nil && r.wide != nil && errors.Is(err, backend.ErrNotFinite) {
		return r.wide.decide(ctx, r, input, opt.Override, err)
	}
	return d, err
}

// estimatorTurn is the key of the estimator's turns.
const estimatorTurn = "estimator"

// decide runs the estimator when its turn on the device has come, for others that wait for it too where that pays.
func (r *Restorer) decide(ctx context.Context, input []float32, o router.Override) (router.Decision, error) {
	if _, ok := r.backend.(backend.Filled); ok && r.batch() > 1 {
		return r.decideInCompany(ctx, &question{input: input, override: o, caller: ctx, done: make(chan struct{})})
	}
	turn, err := r.lane.enter(ctx, estimatorTurn)
	if err != nil {
		return router.Decision{}, err
	}
	defer r.lane.leave(turn)
	return r.decideNow(ctx, input, o)
}

// decideNow runs the estimator. The caller has the lane.
func (r *Restorer) decideNow(ctx context.Context, input []float32, o router.Override) (router.Decision, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.loadEstimator(ctx); err != nil {
		return router.Decision{}, err
	}
	if err := r.lane.takeArena(r.estimator.Memory()); err != nil {
		return router.Decision{}, err
	}
	return r.estimator.Decide(ctx, input, o)
}

// warm compiles the estimator ahead of the first picture.
func (r *Restorer) warm(ctx context.Context) error {
	turn, err := r.lane.enter(ctx, estimatorTurn)
	if err != nil {
		return err
	}
	defer r.lane.leave(turn)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.loadEstimator(ctx)
}

// loadEstimator compiles the estimator unless it is there. r.mu is held.
func (r *Restorer) loadEstimator(ctx context.Context) error {
	if r.estimator != nil {
		return nil
	}
	if _, err := r.estimatorUse(); err != nil {
		return err
	}
	if err := r.lane.weights.Add(r.routing.Weights); err != nil {
		return fmt.Errorf("the degradation estimator: %w", err)
	}
	e, err := router.NewEstimator(ctx, r.backend, r.model.Config, r.model.Source)
	if err != nil {
		r.lane.weights.Sub(r.routing.Weights)
		return fmt.Errorf("model %s: %w", r.model.Path, err)
	}
	// Some weights may take less than they might have.
	r.charged = e.Memory().Weights
	r.lane.weights.Sub(r.routing.Weights - r.charged)
	r.estimator = e
	return nil
}

// dropEstimator frees the estimator unless it is in use.
func (r *Restorer) dropEstimator() {
	if !r.mu.TryLock() {
		return
	}
	defer r.mu.Unlock()
	if r.estimator == nil {
		return
	}
	for _, e := range r.estimators {
		_ = e.Close() // what fails is a device's, and shows with its next use
	}
	_ = r.estimator.Close()
	r.estimator, r.estimators = nil, nil
	r.lane.weights.Sub(r.charged)
	r.charged = 0
}
