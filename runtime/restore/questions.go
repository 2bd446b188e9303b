package restore

import (
	"context"
	"errors"

	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/queue"
	"unirestorer/runtime/router"
)

// question is a picture whose degradation is to be estimated, alone or with others.
type question struct {
	input    []float32
	override router.Override
	caller   context.Context
	done     chan struct{} // closed when decision and err are known

	decision router.Decision
	err      error
}

// decideInCompany waits until a question is answered: together with those that wait by then, or by another's turn.
func (r *Restorer) decideInCompany(ctx context.Context, q *question) (router.Decision, error) {
	place := r.questions.offer(ctx, struct{}{}, q)
	defer place.leave()
	turn, others, err := r.questions.turn(struct{}{}, place, r.batch(), r.pays,
		func(ctx context.Context) (queue.Ask, error) { return r.lane.enter(ctx, estimatorTurn) }, r.lane.leave)
	if errors.Is(err, errTaken) {
		select {
		case <-q.done:
			return q.decision, q.err
		case <-ctx.Done():
			return router.Decision{}, ctx.Err()
		}
	}
	if err != nil {
		return router.Decision{}, err
	}
	defer r.lane.leave(turn)
	if len(others) == 0 {
		return r.decideNow(ctx, q.input, q.override)
	}
	r.answer(append([]*question{q}, others...))
	return q.decision, q.err
}

// answer runs the estimator for all questions at a time; where that fails, one after the other, so that each has its own
// error. The caller has the lane. Who gives up meanwhile does not stop it: it takes no longer than a picture alone.
func (r *Restorer) answer(all []*question) {
	err := r.answerTogether(context.WithoutCancel(all[0].caller), all)
	for _, q := range all {
		if err != nil {
			q.decision, q.err = r.decideNow(q.caller, q.input, q.override)
		}
		close(q.done)
	}
}

func (r *Restorer) answerTogether(ctx context.Context, all []*question) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.loadEstimator(ctx); err != nil { // its weights are charged
		return err
	}
	e, err := r.batchEstimator(ctx, len(all))
	if err != nil {
		return err
	}
	inputs, overrides := make([][]float32, len(all)), make([]router.Override, len(all))
	for i, q := range all {
		inputs[i], overrides[i] = q.input, q.override
	}
	decisions, err := e.DecideAll(ctx, inputs, overrides)
	if err != nil {
		if outOfMemory(err) {
			r.forgetBatch(len(all))
		}
		return err
	}
	for i, q := range all {
		q.decision = decisions[i]
	}
	return nil
}

// batchEstimator gives the estimator of n images at a time, with its arena taken. Where there is no room for it, it is not
// asked for again. r.mu is held, and the estimator is loaded.
func (r *Restorer) batchEstimator(ctx context.Context, n int) (*router.Estimator, error) {
	e := r.estimators[n]
	if e == nil {
		var err error
		if e, err = router.NewBatchEstimator(ctx, r.backend, r.model.Config, r.model.Source, n); err != nil {
			if ctx.Err() == nil {
				r.forgetBatch(n)
			}
			return nil, err
		}
		if r.estimators == nil {
			r.estimators = map[int]*router.Estimator{}
		}
		r.estimators[n] = e
	}
	if err := r.lane.takeArena(e.Memory()); err != nil {
		r.forgetBatch(n)
		return nil, err
	}
	return e, nil
}

// forgetBatch remembers that there is no room to estimate n images at a time, and frees what there is for it. r.mu is held.
func (r *Restorer) forgetBatch(n int) {
	if e := r.estimators[n]; e != nil {
		_ = e.Close() // what fails is a device's, and shows with its next use
		delete(r.estimators, n)
	}
	r.together.remember(estimates(n), false)
}

// estimates is the key of n images that are estimated at a time.
func estimates(n int) worthKey { return worthKey{class: estimatorTurn, n: n} }

// pays tells whether n pictures are estimated no later, on average, at a time than one after the other; see worth.
func (r *Restorer) pays(n int) bool {
	return r.weigh(estimates(n), func(images int) (float64, error) {
		b, ok := r.backend.(backend.Filled)
		if !ok {
			return 0, nil
		}
		g, err := r.model.Config.BuildRouting(nil, images, models.Options{})
		if err != nil {
			return 0, err
		}
		return b.Rounds(g)
	})
}
