package main

import (
	"bytes"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"unirestorer"
	"unirestorer/runtime/paired"
)

// overheadAction has a request and a call of the library take turns.
func overheadAction(c *cli.Context) error {
	ctx, size := c.Context, c.Int("size")
	picture, err := spoilt(ctx, "rain:0.5", 40, 40, size, size, "jpeg")
	if err != nil {
		return err
	}
	r, err := unirestorer.Open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	s, err := startServer(ctx, serveArgs(c.String("program"))...)
	if err != nil {
		return err
	}
	defer s.stop()
	var seconds [2][]float64
	http := client(1)
	took := func(i int, f func() error) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			began := time.Now()
			err := f()
			d := time.Since(began)
			seconds[i] = append(seconds[i], d.Seconds())
			return d, err
		}
	}
	call := took(0, func() error {
		var out bytes.Buffer
		_, err := r.RestoreStream(ctx, bytes.NewBuffer(picture), &out)
		return err
	})
	request := took(1, func() error {
		status, answer, err := post(ctx, http, s.url+"/v1/restore", picture)
		if err == nil && status != 200 {
			err = fmt.Errorf("status %d: %s", status, answer)
		}
		return err
	})
	for range 3 { // both load their expert
		for _, f := range []func() (time.Duration, error){call, request} {
			if _, err := f(); err != nil {
				return err
			}
		}
	}
	seconds = [2][]float64{}
	ratio, err := paired.Turns(ctx, c.Duration("time"), 50, 100_000, call, request)
	if err != nil {
		return err
	}
	a, b := times{seconds: seconds[0]}, times{seconds: seconds[1]}
	fmt.Printf("%d×%d JPEG, %d pairs: call p50 %.2f ms, least %.2f ms; request p50 %.2f ms, least %.2f ms; the request takes %+.1f %% (%+.1f to %+.1f), %.2f ms at p50\n",
		size, size, ratio.Pairs, 1000*a.quantile(0.5), 1000*a.quantile(0), 1000*b.quantile(0.5), 1000*b.quantile(0),
		100*ratio.Median, 100*ratio.Low, 100*ratio.High, 1000*(b.quantile(0.5)-a.quantile(0.5)))
	return nil
}
