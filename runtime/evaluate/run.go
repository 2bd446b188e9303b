package evaluate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/quality"
	"unirestorer/runtime/restore"
	"unirestorer/runtime/router"
)

// Options shape an evaluation.
type Options struct {
	// Matrix runs every expert on every picture.
	Matrix bool
	// Policies are those whose choices are run too; the router's always is.
	Policies []Policy
	// Override is what is decided instead of the router, for all pictures.
	Override router.Override
	// Restorer shapes the restorer; its memory bound counts the pictures too, and
	// it is always lazy.
	Restorer restore.Config
	// Protocol says how results are scored; nil for RGB.
	Protocol *quality.Protocol
	// Progress gets the fraction of the work done; may be nil. It is called by
	// one goroutine at a time.
	Progress func(done float64)
	// Routed gets each picture, upright and clean, with its restored form as
	// routed; may be nil. It is called by one goroutine at a time, in no order.
	Routed func(number int, degraded, restored, clean *imaging.Image) error
}

// Run evaluates a model on a test set and gives a record for every picture.
//
// All pictures are routed first. Then the experts take turns, each with all the
// pictures of one size that need it, so that an expert is compiled once for a
// size however small the memory is.
func Run(ctx context.Context, m *experts.Model, b backend.Backend, set Set, opt Options) ([]Record, error) {
	if set.Len() == 0 {
		return nil, errors.New("evaluate: no pictures")
	}
	budget := int64(cacheBytes)
	if bound := opt.Restorer.Memory; bound > 0 {
		budget = min(budget, bound/4)
	}
	e := &evaluation{model: m, backend: b, opt: opt, set: newCached(set, budget), held: budget + set.Bytes()}
	if e.protocol = quality.Protocols()[0]; opt.Protocol != nil {
		e.protocol = *opt.Protocol
	}
	e.records = make([]Record, set.Len())
	if err := e.route(ctx); err != nil {
		return nil, fmt.Errorf("evaluate: %w", err)
	}
	if err := e.restore(ctx); err != nil {
		return nil, fmt.Errorf("evaluate: %w", err)
	}
	return e.records, nil
}

const (
	// cacheBytes bounds the pictures that are kept between experts.
	cacheBytes = 512 << 20
	// maxWorkers bounds how many pictures are made, restored and measured side
	// by side; the backend runs one at a time.
	maxWorkers = 4
	// routeWork is what routing a picture takes for the progress, in runs of an
	// expert.
	routeWork = 0.25
)

type evaluation struct {
	protocol quality.Protocol
	model    *experts.Model
	backend  backend.Backend
	opt      Options
	set      *cached
	held     int64 // bytes of pictures kept in memory, at most
	records  []Record

	mu          sync.Mutex // held for progress and Routed
	done, total float64
}

// each runs do for the numbers on a few goroutines.
func each(ctx context.Context, numbers []int, do func(ctx context.Context, number int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(min(maxWorkers, runtime.GOMAXPROCS(0)))
	for _, n := range numbers {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return do(ctx, n)
		})
	}
	return g.Wait()
}

// step reports work done.
func (e *evaluation) step(work float64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.done += work
	if e.opt.Progress != nil {
		e.opt.Progress(e.done / e.total)
	}
}

// route makes the records up to the results of experts.
func (e *evaluation) route(ctx context.Context) (err error) {
	estimator, err := router.NewEstimator(ctx, e.backend, e.model.Config, e.model.Source)
	if err != nil {
		return fmt.Errorf("model %s: %w", e.model.Path, err)
	}
	defer func() { err = errors.Join(err, estimator.Close()) }()
	all := make([]int, len(e.records))
	for i := range all {
		all[i] = i
	}
	// How many experts will run shows when all is routed.
	e.total = float64(len(all)) * (routeWork + float64(e.atMost()))
	return each(ctx, all, func(ctx context.Context, i int) error {
		r := &e.records[i]
		r.Sample = e.set.Sample(i)
		degraded, clean, err := e.set.Pictures(ctx, i)
		if err == nil {
			r.Decision, err = estimator.Route(ctx, degraded, e.opt.Override)
		}
		if err == nil {
			r.Before, err = measure(e.protocol, degraded.Oriented(), clean)
		}
		if err != nil {
			return e.wrap(i, err)
		}
		r.Width, r.Height = clean.W, clean.H
		r.Experts = make([]*Quality, len(e.model.Config.Experts))
		e.step(routeWork)
		return nil
	})
}

// atMost is how many experts a picture needs at most.
func (e *evaluation) atMost() int {
	all := len(e.model.Config.Experts)
	if e.opt.Matrix {
		return all
	}
	return min(all, 1+len(e.opt.Policies))
}

func (e *evaluation) wrap(i int, err error) error {
	s := e.set.Sample(i)
	name := s.Name
	if s.Spec != "" {
		name += " (" + s.Spec + ")"
	}
	return fmt.Errorf("%s: %w", name, err)
}

// turn is what one expert restores in one size.
type turn struct {
	expert, h, w int
	numbers      []int
}

// turns orders the work by expert and size.
func (e *evaluation) turns() []turn {
	var all []turn
	at := map[[3]int]int{}
	for i, needed := range e.needed() {
		r := &e.records[i]
		for _, expert := range needed {
			key := [3]int{expert, r.Height, r.Width}
			n, ok := at[key]
			if !ok {
				n = len(all)
				at[key] = n
				all = append(all, turn{expert: expert, h: r.Height, w: r.Width})
			}
			all[n].numbers = append(all[n].numbers, i)
		}
	}
	slices.SortFunc(all, func(a, b turn) int {
		return cmp.Or(a.expert-b.expert, a.h-b.h, a.w-b.w)
	})
	return all
}

// needed lists the experts that are to restore each picture, in order.
func (e *evaluation) needed() [][]int {
	chosen := make([][]int, len(e.records))
	for i := range e.records {
		r := &e.records[i]
		chosen[i] = []int{r.Decision.Expert}
		if e.opt.Matrix {
			for expert := range r.Experts {
				chosen[i] = append(chosen[i], expert)
			}
		}
	}
	if !e.opt.Matrix {
		for _, p := range e.opt.Policies {
			for i, expert := range p.choose(e.records) {
				chosen[i] = append(chosen[i], expert)
			}
		}
	}
	for i := range chosen {
		slices.Sort(chosen[i])
		chosen[i] = slices.Compact(chosen[i])
	}
	return chosen
}

// restore fills in the results of experts.
func (e *evaluation) restore(ctx context.Context) (err error) {
	config := e.opt.Restorer
	config.Lazy = true // every run names its expert, so the estimator is not loaded again
	r, err := restore.New(ctx, e.model, e.backend, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	turns := e.turns()
	e.total = e.done
	for _, t := range turns {
		e.total += float64(len(t.numbers))
	}
	for _, t := range turns {
		err := each(ctx, t.numbers, func(ctx context.Context, i int) error {
			if err := e.one(ctx, r, t.expert, i); err != nil {
				return e.wrap(i, err)
			}
			e.step(1)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// one restores picture i by an expert and measures the result.
func (e *evaluation) one(ctx context.Context, r *restore.Restorer, expert, i int) error {
	degraded, clean, err := e.set.Pictures(ctx, i)
	if err != nil {
		return err
	}
	// Beside its own pictures, a run leaves room for those that are kept and for
	// the other workers', five each: the pair and what the restorer counts.
	reserve := e.held + bytesOf(clean) + (maxWorkers-1)*5*max(bytesOf(degraded), bytesOf(clean))
	restored, _, err := r.Restore(ctx, degraded, restore.Options{
		Override: router.Override{Expert: &expert}, Reserve: reserve,
	})
	if err != nil {
		return err
	}
	q, err := measure(e.protocol, restored, clean)
	if err != nil {
		return err
	}
	record := &e.records[i]
	record.Experts[expert] = &q
	if e.opt.Routed == nil || expert != record.Decision.Expert {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.opt.Routed(i, degraded.Oriented(), restored, clean)
}
