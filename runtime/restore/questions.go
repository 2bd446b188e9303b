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
	e, err := r.batchEstimator(ctx, len(all))
	if err != nil {
		return err
	}
	if err := r.lane.takeArena(e.Memory()); err != nil {
		return err
	}
	inputs, overrides := make([][]float32, len(all)), make([]router.Override, len(all))
	for i, q := range all {
		inputs[i], overrides[i] = q.input, q.override
	}
	decisions, err := e.DecideAll(ctx, inputs, overrides)
	if err != nil {
		return err
	}
	for i, q := range all {
		q.decision = decisions[i]
	}
	return nil
}

// batchEstimator gives the estimator of n images at a time. r.mu is held.
func (r *Restorer) batchEstimator(ctx context.Context, n int) (*router.Estimator, error) {
	if e := r.estimators[n]; e != nil {
		return e, nil
	}
	if err := r.loadEstimator(ctx); err != nil { // its weights are charged
		return nil, err
	}
	e, err := router.NewBatchEstimator(ctx, r.backend, r.model.Config, r.model.Source, n)
	if err != nil {
		return nil, err
	}
	if r.estimators == nil {
		r.estimators = map[int]*router.Estimator{}
	}
	r.estimators[n] = e
	return e, nil
}

// pays tells whether n pictures are estimated no later, on average, at a time than one after the other; see worth.
func (r *Restorer) pays(n int) bool {
	return r.weigh(worthKey{class: estimatorTurn, n: n}, func(images int) (float64, error) {
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
