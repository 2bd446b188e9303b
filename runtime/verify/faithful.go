package verify

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"

	"unirestorer/graph"
	"unirestorer/graph/reference"
	"unirestorer/runtime/backend"
)

// interpreted is a backend over the reference interpreter: exact, or one that rounds as an fp16 device must and nowhere
// else, which is what such a device can be expected to reach.
type interpreted struct{ half bool }

func (b interpreted) Info() backend.Info {
	return backend.Info{Name: "reference", Device: "reference interpreter", Half: b.half}
}
func (interpreted) Plan(*graph.Graph) (backend.Memory, error)        { return backend.Memory{}, nil }
func (interpreted) Holdings(*graph.Graph) ([]backend.Holding, error) { return nil, nil }
func (interpreted) Resident() int64                                  { return 0 }
func (interpreted) Close() error                                     { return nil }
func (interpreted) Trim() (int64, bool)                              { return 0, true }
func (b interpreted) Compile(_ context.Context, g *graph.Graph) (backend.Program, error) {
	return interpretedProgram{g, b.half}, nil
}

type interpretedProgram struct {
	g    *graph.Graph
	half bool
}

func (p interpretedProgram) Graph() *graph.Graph    { return p.g }
func (p interpretedProgram) Memory() backend.Memory { return backend.Memory{} }
func (p interpretedProgram) Close() error           { return nil }
func (p interpretedProgram) Run(ctx context.Context, in, out [][]float32, _ backend.RunOptions) error {
	run := reference.Run
	if p.half {
		run = func(g *graph.Graph, in [][]float32) ([][]float32, error) { return reference.RunHalf(ctx, g, in) }
	}
	got, err := run(p.g, in)
	if err != nil {
		return err
	}
	for i := range out {
		copy(out[i], got[i])
	}
	return nil
}

// slack is how many decibels an fp16 device may be worse than a faithful one on a comparison of so many values: sums come in
// another order, and kernels may round a step once more. Errors of few values are few draws: their mean square scatters by
// 4.3·√(2/n) dB on either side, of which three times the two together are allowed.
func slack(values int) float64 {
	if values >= 1000 {
		return 3
	}
	return 3 + 3*4.34*math.Sqrt(4/float64(values))
}

// fine is where rounding to fp16 no longer decides: above, fp32 sums and approximate functions do.
const fine = 80

// judgeByFaithful holds what an fp16 device computed to what a faithful one makes of the same case.
func (c *testCase) judgeByFaithful(ctx context.Context, files fs.FS) error {
	if !slices.ContainsFunc(c.report.Checks, func(check Check) bool { return check.InDecibel }) {
		return nil
	}
	f, err := open(c.dir, files, interpreted{half: true}, c.opt)
	if err != nil {
		return err
	}
	defer f.close()
	if err := f.run(ctx); err != nil {
		return fmt.Errorf("on a faithful fp16 machine: %w", err)
	}
	reached := map[string]Number{}
	for _, check := range f.report.Checks {
		if check.InDecibel {
			reached[check.Name] = check.PSNR
		}
	}
	for i := range c.report.Checks {
		check := &c.report.Checks[i]
		psnr, ok := reached[check.Name]
		if !check.InDecibel || !ok {
			continue
		}
		check.Faithful, check.Bound = &psnr, max(0, min(float64(psnr), fine)-slack(check.values))
		check.OK = float64(check.PSNR) >= check.Bound
		if !check.OK && c.report.FirstDifference == "" && strings.HasPrefix(check.Name, tracePrefix) {
			c.report.FirstDifference = strings.TrimPrefix(check.Name, tracePrefix)
		}
	}
	return nil
}
