package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
)

// tally counts answers by status; 0 stands for none.
type tally struct {
	mu   sync.Mutex
	n    map[int]int
	good int // in time
}

func (t *tally) add(status int, inTime bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n[status]++
	if status == http.StatusOK && inTime {
		t.good++
	}
}

// overloadAction finds what the server answers a second at most, and then sends so many times that.
func overloadAction(c *cli.Context) error {
	ctx, size := c.Context, c.Int("size")
	picture, err := spoilt(ctx, "rain:0.5", 40, 40, size, size, "jpeg")
	if err != nil {
		return err
	}
	s, err := startServer(ctx, serveArgs(c.String("program"))...)
	if err != nil {
		return err
	}
	defer s.stop()
	peak := 0.0
	http := client(64)
	for _, n := range []int{4, 8, 16} {
		t, err := closedLoop(ctx, http, s.url+"/v1/restore", picture, n, 10*time.Second)
		if err != nil {
			return err
		}
		peak = max(peak, t.rate)
	}
	before := s.status("VmRSS")
	fmt.Printf("at most %.1f pictures/s of %d×%d; memory %s\n", peak, size, size, humanize.IBytes(uint64(before)))

	long, deadline := c.Duration("time"), c.Duration("deadline")
	checking, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	var checks, failed int
	var worst time.Duration
	watch.Go(func() {
		for checking.Err() == nil {
			began := time.Now()
			one, cancel := context.WithTimeout(ctx, 5*time.Second)
			ok := healthy(one, s.url+"/readyz") && healthy(one, s.url+"/livez")
			cancel()
			checks++
			worst = max(worst, time.Since(began))
			if !ok {
				failed++
			}
			time.Sleep(200 * time.Millisecond)
		}
	})
	all := &tally{n: map[int]int{}}
	var middle int64
	flood(ctx, s.url+"/v1/restore", picture, peak*c.Float64("factor"), long, deadline, all, func(share float64) {
		if share >= 0.25 && middle == 0 {
			middle = s.status("VmRSS")
		}
	})
	stop()
	watch.Wait()
	end := s.status("VmRSS")
	after, err := closedLoop(ctx, http, s.url+"/v1/restore", picture, 8, 10*time.Second)
	if err != nil {
		return err
	}
	goodput := float64(all.good) / long.Seconds()
	fmt.Printf("%.0f requests/s for %v with a deadline of %v: answered in time %.1f/s, %.0f %% of the most before, %.0f %% of the %.1f/s after\n",
		peak*c.Float64("factor"), long, deadline, goodput, 100*goodput/peak, 100*goodput/after.rate, after.rate)
	fmt.Printf("by status: %s\n", strings.TrimPrefix(fmt.Sprint(all.n), "map"))
	fmt.Printf("memory after a quarter of the time %s, at the end %s, at most %s; %d health checks, %d failed, the slowest %v\n",
		humanize.IBytes(uint64(middle)), humanize.IBytes(uint64(end)), humanize.IBytes(uint64(s.status("VmHWM"))), checks, failed, worst.Round(time.Millisecond))
	if failed > 0 {
		return fmt.Errorf("%d of %d health checks failed", failed, checks)
	}
	return nil
}

func healthy(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// flood sends rate requests a second, at random moments, whatever becomes of those before.
func flood(ctx context.Context, url string, picture []byte, rate float64, long, deadline time.Duration, all *tally, tick func(share float64)) {
	c := client(512)
	var requests sync.WaitGroup
	start := time.Now()
	next := start
	for time.Since(start) < long && ctx.Err() == nil {
		next = next.Add(time.Duration(rand.ExpFloat64() / rate * float64(time.Second)))
		time.Sleep(time.Until(next))
		tick(float64(time.Since(start)) / float64(long))
		requests.Go(func() {
			one, cancel := context.WithTimeout(ctx, deadline+time.Second)
			defer cancel()
			began := time.Now()
			status, _, err := post(one, c, url, picture, "X-Request-Timeout", deadline.String())
			if err != nil {
				status = 0
			}
			all.add(status, time.Since(began) <= deadline)
		})
	}
	requests.Wait()
}
