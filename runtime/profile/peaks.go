package profile

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu/simd"
)

// devicePeaks is a backend that measures its own device.
type devicePeaks interface {
	// Peaks measures operations and bytes a second.
	Peaks(ctx context.Context) (operations, bytes float64, err error)
}

// errNoPeaks reports a device whose speed says nothing.
var errNoPeaks = errors.New("the device has no peaks of its own")

// MeasurePeaks finds the limits of a backend's device: on the host the rate of
// independent multiply-adds in vector registers and that of a triad of arrays
// that no cache holds (McCalpin, 1995), on all of the backend's threads; on a
// GPU those of a large product and a large copy. It takes about a second.
func MeasurePeaks(ctx context.Context, b backend.Backend) (Peaks, error) {
	if d, ok := b.(devicePeaks); ok {
		operations, bytes, err := d.Peaks(ctx)
		if err != nil {
			return Peaks{}, fmt.Errorf("measure peaks: %w", err)
		}
		return Peaks{Operations: operations, Bytes: bytes, Source: "measured: a large product of matrices in fp16, a large copy"}, nil
	}
	info := b.Info()
	if info.Threads < 1 {
		return Peaks{}, errNoPeaks
	}
	operations, err := multiplyAdds(ctx, info.Threads)
	if err != nil {
		return Peaks{}, fmt.Errorf("measure peaks: %w", err)
	}
	bytes, err := triad(ctx, info.Threads)
	if err != nil {
		return Peaks{}, fmt.Errorf("measure peaks: %w", err)
	}
	return Peaks{Operations: operations, Bytes: bytes, Source: fmt.Sprintf("measured: independent multiply-adds and a triad, %d threads", info.Threads)}, nil
}

// rounds of each measurement; the best counts, for a peak is what nothing
// disturbed.
const rounds = 5

// multiplyAdds is the rate of multiply-adds in vector registers.
func multiplyAdds(ctx context.Context, threads int) (best float64, err error) {
	const chains = 1 << 20
	kernels := simd.Best()
	kernels.Peak(chains) // the processor leaves its idle clock
	for range rounds {
		done := make([]int, threads)
		took, err := together(ctx, threads, func(i int) {
			for range 4 {
				done[i] += kernels.Peak(chains)
			}
		})
		if err != nil {
			return 0, err
		}
		all := 0
		for _, n := range done {
			all += n
		}
		best = max(best, float64(all)/took)
	}
	return best, nil
}

// triad is the rate of a = b + s·c over arrays in memory: two read and one
// written, the reading that a write may cause not counted.
func triad(ctx context.Context, threads int) (best float64, err error) {
	const row, rows, strips = 1 << 12, 64, 64 // three times 64 MiB in all
	kernels := simd.Best()
	const elements = row * rows * strips
	a, b, c := simd.Aligned(elements), simd.Aligned(elements), simd.Aligned(elements)
	for i := range b {
		b[i], c[i] = 1, 2
	}
	for range rounds {
		took, err := together(ctx, threads, func(i int) {
			for s := strips * i / threads; s < strips*(i+1)/threads; s++ {
				part := func(x []float32) simd.Mat { return simd.Rows(x[s*row*rows:(s+1)*row*rows], row) }
				kernels.AddScaled(part(a), part(b), part(c), 3, rows, row)
			}
		})
		if err != nil {
			return 0, err
		}
		best = max(best, 3*4*float64(elements)/took)
	}
	return best, nil
}

// together runs work on so many goroutines at once and gives the seconds until
// the last is done.
func together(ctx context.Context, threads int, work func(i int)) (float64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	start := time.Now()
	var wg sync.WaitGroup
	for i := range threads {
		wg.Go(func() { work(i) })
	}
	wg.Wait()
	return time.Since(start).Seconds(), nil
}
