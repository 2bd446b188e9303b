package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"
)

// client sends requests; its connections stay open, but not for as long as the server would keep them: a request that is sent
// just when the server closes its connection has no answer.
func client(connections int) *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConns: connections, MaxIdleConnsPerHost: connections, IdleConnTimeout: time.Minute, DisableCompression: true,
	}}
}

// post sends a picture and reads the whole answer.
func post(ctx context.Context, c *http.Client, url string, body []byte, headers ...string) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body)
	return res.StatusCode, answer, err
}

// times are how long requests took, in seconds, and how many were answered a second.
type times struct {
	seconds []float64
	rate    float64
}

// quantile is the value below which a share of all lie.
func (t times) quantile(share float64) float64 {
	if len(t.seconds) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(t.seconds))
	return s[min(int(share*float64(len(s))), len(s)-1)]
}

// closedLoop has n clients send one request after the other for a time, at least one each.
func closedLoop(ctx context.Context, c *http.Client, url string, body []byte, n int, long time.Duration) (times, error) {
	var mu sync.Mutex
	var all times
	var failed error
	var clients sync.WaitGroup
	start := time.Now()
	var last time.Time
	for range n {
		clients.Go(func() {
			for first := true; first || time.Since(start) < long; first = false {
				began := time.Now()
				status, answer, err := post(ctx, c, url, body)
				if err == nil && status != http.StatusOK {
					err = fmt.Errorf("%s: status %d: %.200s", url, status, answer)
				}
				mu.Lock()
				last = time.Now()
				all.seconds = append(all.seconds, last.Sub(began).Seconds())
				if err != nil && failed == nil {
					failed = err
				}
				stop := failed != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	clients.Wait()
	all.rate = float64(len(all.seconds)) / last.Sub(start).Seconds()
	return all, failed
}

func median(v []float64) float64 { return times{seconds: v}.quantile(0.5) }
