package imaging

import (
	"runtime"
	"sync"
)

// parallelRows splits rows [0,n) into bands and calls fn(y0, y1) for each on all cores.
func parallelRows(n int, fn func(y0, y1 int)) {
	parallelBands(n, 16, fn) // with fewer rows a goroutine costs more than it saves
}

// parallelBands is parallelRows for items of which minBand are worth a goroutine. A panic in fn is raised again in the
// caller, where a guard can see it.
func parallelBands(n, minBand int, fn func(i0, i1 int)) {
	workers := min(runtime.GOMAXPROCS(0), (n+minBand-1)/minBand)
	if workers <= 1 {
		fn(0, n)
		return
	}
	var wg sync.WaitGroup
	panics := make([]any, workers)
	for i := range workers {
		i0, i1 := i*n/workers, (i+1)*n/workers
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() { panics[i] = recover() }()
			fn(i0, i1)
		}()
	}
	wg.Wait()
	for _, p := range panics {
		if p != nil {
			panic(p)
		}
	}
}
