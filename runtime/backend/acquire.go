package backend

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// AcquireAll acquires items 0 to count-1 in that order on several threads, each
// with an acquire function of its own, which may keep memory from one item to
// the next. After an error, the first by order of the items, none is held.
func AcquireAll(ctx context.Context, count, threads int, worker func() (acquire func(i int) error), release func(i int) error) error {
	errs := make([]error, count)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(count, threads) {
		wg.Go(func() {
			acquire := worker()
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				if errs[i] = ctx.Err(); errs[i] == nil {
					errs[i] = acquire(i)
				}
			}
		})
	}
	wg.Wait()
	first := cmp.Or(errs...)
	if first == nil {
		return nil
	}
	for i, err := range errs {
		if err == nil {
			first = errors.Join(first, release(i))
		}
	}
	return first
}
