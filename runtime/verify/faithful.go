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

// faithful is a backend that rounds as an fp16 device must, and nowhere else: what such a device can be expected to reach.
type faithful struct{}

func (faithful) Info() backend.Info {
	return backend.Info{Name: "faithful", Device: "fp16 reference", Half: true}
}
func (faithful) Plan(*graph.Graph) (backend.Memory, error)        { return backend.Memory{}, nil }
func (faithful) Holdings(*graph.Graph) ([]backend.Holding, error) { return nil, nil }
func (faithful) Resident() int64                                  { return 0 }
func (faithful) Close() error                                     { return nil }
func (faithful) Trim() (int64, bool)                              { return 0, true }
func (faithful) Compile(_ context.Context, g *graph.Graph) (backend.Program, error) {
	return faithfulProgram{g}, nil
}

type faithfulProgram struct{ g *graph.Graph }

func (p faithfulProgram) Graph() *graph.Graph    { return p.g }
func (p faithfulProgram) Memory() backend.Memory { return backend.Memory{} }
func (p faithfulProgram) Close() error           { return nil }
func (p faithfulProgram) Run(ctx context.Context, in, out [][]float32, _ backend.RunOptions) error {
	got, err := reference.RunHalf(ctx, p.g, in)
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
	f, err := open(c.dir, files, faithful{}, c.opt)
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
