package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu"
	"unirestorer/tools/benchfiles"
	"unirestorer/weights"
)

// cpuEngine runs networks on this project's CPU backend.
type cpuEngine struct {
	backend backend.Backend
	program backend.Program
	weights weights.File

	inputs, outputs [][]float32
	shape           []int
	ran             bool
}

// load implements engine. An engine loads once.
func (e *cpuEngine) load(ctx context.Context, l load) (version string, err error) {
	if e.backend != nil {
		return "", errors.New("load: a network is loaded already")
	}
	if e.weights, err = weights.Open(l.Weights); err != nil {
		return "", err
	}
	g, err := build(l.Architecture, l.Args, e.weights, l.Shape[2], l.Shape[3])
	if err != nil {
		return "", err
	}
	if len(g.Inputs) != 1 || len(g.Outputs) != 1 {
		return "", fmt.Errorf("%s has %d inputs and %d outputs, want one of each", l.Architecture, len(g.Inputs), len(g.Outputs))
	}
	image, err := benchfiles.ReadRaw(l.Input, g.Inputs[0].Shape.Elems())
	if err != nil {
		return "", fmt.Errorf("input: %w", err)
	}
	if e.backend, err = cpu.New(cpu.Options{Threads: l.Threads}); err != nil {
		return "", err
	}
	if e.program, err = e.backend.Compile(ctx, g); err != nil {
		return "", err
	}
	out := g.Outputs[0].Shape
	e.shape = []int{out.N, out.C, out.H, out.W}
	if out.H == 1 && out.W == 1 {
		e.shape = e.shape[:2] // a vector of features, as the peers hold it
	}
	e.inputs, e.outputs = [][]float32{image}, [][]float32{make([]float32, out.Elems())}
	return fmt.Sprintf("%s, %s", runtime.Version(), e.backend.Info().Device), nil
}

// run implements engine.
func (e *cpuEngine) run(ctx context.Context) error {
	if e.program == nil {
		return errors.New("run: nothing is loaded")
	}
	e.ran = true
	return e.program.Run(ctx, e.inputs, e.outputs, backend.RunOptions{})
}

// output implements engine.
func (e *cpuEngine) output() (values []float32, shape []int) {
	if !e.ran {
		return nil, nil
	}
	return e.outputs[0], e.shape
}

// Close implements engine.
func (e *cpuEngine) Close() error {
	var errs []error
	if e.program != nil {
		errs = append(errs, e.program.Close())
	}
	if e.backend != nil {
		errs = append(errs, e.backend.Close())
	}
	if e.weights != nil {
		errs = append(errs, e.weights.Close())
	}
	return errors.Join(errs...)
}
