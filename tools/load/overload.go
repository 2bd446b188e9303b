package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
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

// busyClients are enough that the server is never idle.
const busyClients = 16

// overloadAction has what the server answers at most and a flood of many times that take turns, so that what slows the machine for
// longer than a turn does not change their ratio.
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
	http := client(busyClients)
	most := func() (float64, error) {
		t, err := closedLoop(ctx, http, s.url+"/v1/restore", picture, busyClients, 10*time.Second)
		return t.rate, err
	}
	if _, err := most(); err != nil { // caches are warm then
		return err
	}
	before, err := most()
	if err != nil {
		return err
	}
	fmt.Printf("at most %.1f pictures/s of %d×%d; memory %s\n", before, size, size, humanize.IBytes(uint64(s.status("VmRSS"))))
	watch := watchHealth(ctx, s.url)
	deadline, factor := c.Duration("deadline"), c.Float64("factor")
	all := &tally{n: map[int]int{}}
	var shares []float64
	var early int64
	for left := c.Duration("time"); left > 0; {
		turn := min(left, c.Duration("turn"))
		left -= turn
		good, began := all.good, time.Now()
		flood(ctx, s.url+"/v1/restore", picture, before*factor, turn, deadline, all)
		goodput, memory := float64(all.good-good)/time.Since(began).Seconds(), s.status("VmRSS") // until the last has its answer
		after, err := most()
		if err != nil {
			return err
		}
		shares = append(shares, goodput/((before+after)/2))
		fmt.Printf("%6.1f requests/s for %v: %.1f/s answered in %v, %.2f of the %.1f/s at most; memory %s\n",
			before*factor, turn, goodput, deadline, shares[len(shares)-1], (before+after)/2, humanize.IBytes(uint64(memory)))
		if early == 0 {
			early = memory
		}
		before = after
	}
	checks, failed, worst := watch()
	fmt.Printf("goodput as a share of the most: median %.3f, least %.3f, of %d turns; by status %s\n",
		median(shares), slices.Min(shares), len(shares), strings.TrimPrefix(fmt.Sprint(all.n), "map"))
	fmt.Printf("memory after the first turn %s, at the end %s, at most %s; %d health checks, %d failed, the slowest %v\n",
		humanize.IBytes(uint64(early)), humanize.IBytes(uint64(s.status("VmRSS"))), humanize.IBytes(uint64(s.status("VmHWM"))), checks, failed, worst.Round(time.Millisecond))
	if failed > 0 {
		return fmt.Errorf("%d of %d health checks failed", failed, checks)
	}
	return nil
}

// watchHealth asks the probes five times a second until it is asked for the result.
func watchHealth(ctx context.Context, url string) (result func() (checks, failed int, worst time.Duration)) {
	checking, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	var checks, failed int
	var worst time.Duration
	watch.Go(func() {
		for checking.Err() == nil {
			began := time.Now()
			one, cancel := context.WithTimeout(ctx, 5*time.Second)
			ok := healthy(one, url+"/readyz") && healthy(one, url+"/livez")
			cancel()
			checks++
			worst = max(worst, time.Since(began))
			if !ok {
				failed++
			}
			time.Sleep(200 * time.Millisecond)
		}
	})
	return func() (int, int, time.Duration) {
		stop()
		watch.Wait()
		return checks, failed, worst
	}
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
func flood(ctx context.Context, url string, picture []byte, rate float64, long, deadline time.Duration, all *tally) {
	c := client(512)
	var requests sync.WaitGroup
	start := time.Now()
	next := start
	for time.Since(start) < long && ctx.Err() == nil {
		next = next.Add(time.Duration(rand.ExpFloat64() / rate * float64(time.Second)))
		time.Sleep(time.Until(next))
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
