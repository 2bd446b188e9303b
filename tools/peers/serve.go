package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"unirestorer/tools/benchfiles"
)

// engine is what a worker runs.
type engine interface {
	// load prepares a network and names the runtime's version.
	load(ctx context.Context, l load) (version string, err error)
	// run computes the output of the loaded network once.
	run(ctx context.Context) error
	// output is the last run's result and its shape.
	output() (values []float32, shape []int)
	io.Closer
}

// serve answers requests until the input ends, one asks to quit, or ctx ends.
func serve(ctx context.Context, in io.Reader, out io.Writer, e engine) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	encoder := json.NewEncoder(out)
	for lines.Scan() {
		r, err := parseRequest(lines.Bytes())
		var answer reply
		if err == nil {
			answer, err = handle(ctx, r, e)
		}
		if err != nil {
			answer = reply{Error: err.Error()}
		}
		if err := encoder.Encode(answer); err != nil {
			return fmt.Errorf("answer %s: %w", r.Op, err)
		}
		if err == nil && r.Op == opQuit {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read a request: %w", err)
	}
	return nil
}

func handle(ctx context.Context, r request, e engine) (reply, error) {
	switch r.Op {
	case opLoad:
		start := time.Now()
		version, err := e.load(ctx, *r.Load)
		return reply{Version: version, Seconds: []float64{time.Since(start).Seconds()}}, err
	case opRun:
		seconds := make([]float64, r.Count)
		for i := range seconds {
			start := now()
			if err := e.run(ctx); err != nil {
				return reply{}, err
			}
			seconds[i] = now() - start
		}
		return reply{Seconds: seconds}, nil
	case opWrite:
		values, shape := e.output()
		if values == nil {
			return reply{}, errors.New("write: nothing has run")
		}
		return reply{Shape: shape}, benchfiles.WriteRaw(ctx, r.Path, values)
	default:
		return reply{}, nil
	}
}
