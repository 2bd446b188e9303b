package degrade

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	bandRows    = 16      // rows handed to a goroutine at a time
	serialBelow = 1 << 16 // images of fewer pixels are not worth starting goroutines for
)

// eachBand calls fn for bands of rows that together cover [0, h) once, on all cores when the image is large. fn must
// write only to its own rows, so that the result is the same for any number of cores. It returns the context's error
// when that ended first; rows may then be missing.
func eachBand(ctx context.Context, w, h int, fn func(y0, y1 int)) error {
	return eachTask(ctx, w*h, (h+bandRows-1)/bandRows, func(i int) {
		fn(i*bandRows, min((i+1)*bandRows, h))
	})
}

// eachTask calls fn for 0..n−1, on all cores when there are enough pixels. The tasks must not touch each other's data.
func eachTask(ctx context.Context, pixels, n int, fn func(i int)) error {
	workers := min(runtime.GOMAXPROCS(0), n)
	if pixels < serialBelow {
		workers = 1
	}
	var next atomic.Int64
	work := func() {
		for ctx.Err() == nil {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			fn(i)
		}
	}
	if workers == 1 {
		work()
		return ctx.Err()
	}
	var group sync.WaitGroup
	for range workers {
		group.Go(work)
	}
	group.Wait()
	return ctx.Err()
}
