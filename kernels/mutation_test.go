package kernels_test

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/kernels"
	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// A subject is a kernel and a test of it, which fails by the rig.
type subject struct {
	module, kernel string
	test           func(t testing.TB) func(r *rig)
	// spared are mutants that compute the same, by mutation and instruction, and why.
	spared map[string]spared
}

// spared says how many mutants compute the same, and why.
type spared struct {
	most int
	why  string
}

// oneOpTest is the ordinary test of one operation against the reference.
func oneOpTest(lower func(o *one, op graph.Op) [][]float32, inputs []graph.Shape, build func(t testing.TB, in []*graph.Tensor) graph.Op) func(t testing.TB) func(r *rig) {
	return func(t testing.TB) func(r *rig) {
		g := oneOp(t, inputs, func(in []*graph.Tensor) graph.Op { return build(t, in) })
		want := expected(t, g, graphtest.RandomInputs(g, 11))
		return func(r *rig) {
			o, op := single(r, g, 11)
			requireClose(r, lower(o, op), want)
		}
	}
}

// all runs tests one after the other: shapes and operands that take different ways through a kernel.
func all(tests ...func(t testing.TB) func(r *rig)) func(t testing.TB) func(r *rig) {
	return func(t testing.TB) func(r *rig) {
		var ready []func(r *rig)
		for _, test := range tests {
			ready = append(ready, test(t))
		}
		return func(r *rig) {
			for _, run := range ready {
				run(r)
			}
		}
	}
}

var subjects = []subject{
	{module: "pointwise", kernel: "pointwise_norm_64", test: all(
		normTest(0, func(t testing.TB, c *graph.Conv) {
			c.Bias, c.Scale = param(t, 2, 0, 0.5, 72), param(t, 5, 1, 0.3, 72)
		}),
		normTest(0, func(t testing.TB, c *graph.Conv) { c.Residual, c.Norm.Kind = nil, graph.BiasFree }),
		normTest(2, func(t testing.TB, c *graph.Conv) {}),
	), spared: map[string]spared{
		"drop a block barrier: bar.sync":              {1, "the last one before the first tile, behind that of the normalised rows"},
		"drop a wait for copies: cp.async.wait_group": {1, "the same: the rows have waited already"},
		"shift an address: cp.async.cg.shared.global": {4, "rows behind the last pixel and columns behind the last, zeros that no stored sum takes in"},
		"drop a predicate: @%p257":                    {1, "factors are read though none are there, and left"},
	}},
	{module: "pointwise", kernel: "pointwise_64", test: all(scaledTest(1, 1), scaledTest(5, 6), plainTest(convOptions{tile: 64}, 1)), spared: map[string]spared{
		"drop a predicate: @%p239":                    {1, "factors are read though none are there, and left"},
		"shift an address: cp.async.cg.shared.global": {8, "rows behind the last pixel and columns behind the last, zeros that no stored sum takes in"},
	}},
	{module: "conv", kernel: "conv_64", test: all(convTest(graph.SimpleGate, 80), convTest(graph.NoGate, 40))},
	{module: "conv3", kernel: "conv3_32x48", test: func(t testing.TB) func(r *rig) {
		opt := convOptions{tile: 128, columns: 48}
		return all(func(t testing.TB) func(r *rig) {
			return conv3Test(graph.Shape{N: 2, H: 9, W: 18, C: 12}, 72, 0)(t, opt)
		},
			func(t testing.TB) func(r *rig) {
				return conv3Test(graph.Shape{N: 1, H: 10, W: 20, C: 24}, 40, -2)(t, opt)
			}, plainTest(opt, 3))(t)
	}, spared: map[string]spared{
		"drop a predicate: @%p143": {4, "the residual of later octets, which every shape that comes this way has"},
	}},
	{module: "depthwise", kernel: "depthwise3_simple_gate", test: all(pooledTest(graph.SimpleGate, 1, 33, 27, 128, true), pooledTest(graph.SimpleGate, 2, 9, 37, 24, false)), spared: map[string]spared{
		"drop a predicate: @%p75":  {1, "a column beyond the strip, which the sizes tried here do not use"},
		"drop a predicate: @%p118": {1, "the same for the next row"},
		"drop a predicate: @%p133": {1, "the same for the one after it"},
	}},
	{module: "gram", kernel: "depthwise_gram", test: all(depthwiseGramTest(48, true), depthwiseGramTest(24, false)), spared: map[string]spared{
		"shift an address: st.shared.u16": {1, "zeros for the padding between heads: the value left out belongs to a channel, which is stored later"},
		"drop a predicate: @%p51":         {1, "a column beyond the strip, which the sizes tried here do not use"},
		"drop a predicate: @%p184":        {1, "the same for the second strip"},
	}},
	{module: "gram", kernel: "gram", test: all(gramTest(35, 1, 280), gramTest(72, 1, 20), gramTest(64, 1, 65))},
	{module: "gram", kernel: "gram_normalise", test: gramTest(20, 2, 70)},
	{module: "attention", kernel: "attention_32", test: all(attentionTest(24, 7), attentionTest(32, 10))},
	{module: "attention", kernel: "attention_64", test: all(attentionTest(56, 7), attentionTest(64, 10))},
	{module: "pool", kernel: "pool_partial", test: poolTest(0)},
	{module: "pool", kernel: "pool_finish", test: poolTest(0)},
	{module: "pool", kernel: "window_rows", test: poolTest(4)},
	{module: "pool", kernel: "window_columns", test: poolTest(4)},
	{module: "fold", kernel: "fold", test: all(foldTest(40), foldTest(8)), spared: map[string]spared{
		"drop a predicate: @%p107": {1, "rows of the attention behind the last one, which nobody reads"},
	}},
	{module: "fold", kernel: "attention_rows", test: foldTest(120), spared: map[string]spared{
		"shift an address: ld.global.f32": {4, "the largest logit of a row, which cancels in the softmax"},
	}},
	{module: "fold", kernel: "fold_wide", test: foldTest(120)},
}

// TestSubjectsPass runs the tests of the mutants with the kernels as they are.
func TestSubjectsPass(t *testing.T) {
	for _, s := range subjects {
		t.Run(s.kernel, func(t *testing.T) {
			t.Parallel()
			s.test(t)(newRig(t))
		})
	}
}

func normTest(splits int, set func(t testing.TB, c *graph.Conv)) func(t testing.TB) func(r *rig) {
	return oneOpTest(
		func(o *one, op graph.Op) [][]float32 { return runConv(o, op, convOptions{tile: 64, splits: splits}) },
		[]graph.Shape{{N: 1, H: 7, W: 10, C: 109}, {N: 1, H: 7, W: 10, C: 72}},
		func(t testing.TB, in []*graph.Tensor) graph.Op {
			c := &graph.Conv{
				X: in[0], Weight: param(t, 1, 0, 0.1, 72, 109), Residual: in[1],
				Norm: &graph.Norm{Weight: param(t, 3, 1, 0.2, 109), Bias: param(t, 4, 0, 0.3, 109), Eps: 1e-6},
			}
			set(t, c)
			if c.Norm.Kind == graph.BiasFree {
				c.Norm.Bias = nil
			}
			return c
		})
}

func convTest(gate graph.Gate, filters int) func(t testing.TB) func(r *rig) {
	return oneOpTest(
		func(o *one, op graph.Op) [][]float32 { return runConv(o, op, convOptions{tile: 64}) },
		[]graph.Shape{{N: 2, H: 7, W: 11, C: 12}},
		func(t testing.TB, in []*graph.Tensor) graph.Op {
			return &graph.Conv{X: in[0], Weight: param(t, 1, 0, 0.1, filters, 12, 3, 3), Bias: param(t, 2, 0, 0.5, filters), Gate: gate, Pad: 1}
		})
}

func depthwiseGramTest(head int, bias bool) func(t testing.TB) func(r *rig) {
	c := 2 * head
	return oneOpTest(runDepthwise, []graph.Shape{{N: 1, H: 9, W: 13, C: 3 * c}}, func(t testing.TB, in []*graph.Tensor) graph.Op {
		d := &graph.Depthwise{X: in[0], Weight: param(t, 1, 0, 0.3, 3*c, 1, 3, 3), Gram: &graph.Gram{C: c, Heads: 2}}
		if bias {
			d.Bias = param(t, 2, 0, 0.5, 3*c)
		}
		return d
	})
}

// scaledTest scales the input of a product by factors of channels, or by a tensor.
// plainTest is a convolution with a bias and nothing else.
func plainTest(opt convOptions, window int) func(t testing.TB) func(r *rig) {
	return oneOpTest(
		func(o *one, op graph.Op) [][]float32 { return runConv(o, op, opt) },
		[]graph.Shape{{N: 1, H: 7, W: 10, C: 40}},
		func(t testing.TB, in []*graph.Tensor) graph.Op {
			return &graph.Conv{X: in[0], Weight: param(t, 1, 0, 0.1, 72, 40, window, window), Bias: param(t, 2, 0, 0.5, 72), Pad: window / 2}
		})
}

func scaledTest(h, w int) func(t testing.TB) func(r *rig) {
	return oneOpTest(
		func(o *one, op graph.Op) [][]float32 { return runConv(o, op, convOptions{tile: 64}) },
		[]graph.Shape{{N: 2, H: 7, W: 10, C: 104}, {N: 2, H: h, W: w, C: 104}},
		func(t testing.TB, in []*graph.Tensor) graph.Op {
			return &graph.Conv{X: in[0], InScale: in[1], Weight: param(t, 1, 0, 0.1, 72, 104)}
		})
}

// pooledTest is a gated convolution to c channels that sums what it stores.
func pooledTest(gate graph.Gate, images, h, w, c int, bias bool) func(t testing.TB) func(r *rig) {
	in := c
	if gate != graph.NoGate {
		in *= 2
	}
	return oneOpTest(runDepthwise, []graph.Shape{{N: images, H: h, W: w, C: in}}, func(t testing.TB, x []*graph.Tensor) graph.Op {
		d := &graph.Depthwise{X: x[0], Weight: param(t, 1, 0, 0.4, in, 1, 3, 3), Gate: gate, Pool: true}
		if bias {
			d.Bias = param(t, 2, 0, 0.5, in)
		}
		return d
	})
}

func gramTest(head, heads, pixels int) func(t testing.TB) func(r *rig) {
	return func(t testing.TB) func(r *rig) {
		c := head * heads
		in := graph.Shape{N: 2, H: 1, W: pixels, C: 3 * c}
		g := oneOp(t, []graph.Shape{in}, func(in []*graph.Tensor) graph.Op {
			return &graph.Conv{X: in[0], Weight: identity(t, 3*c), Gram: &graph.Gram{C: c, Heads: heads}}
		})
		want := expected(t, g, graphtest.RandomInputs(g, 3))
		return func(r *rig) {
			o, _ := single(r, g, 3)
			requireClose(r, separateGram(o, o.inputs[0], &graph.Gram{C: c, Heads: heads}, in), want)
		}
	}
}

func attentionTest(d, window int) func(t testing.TB) func(r *rig) {
	const heads = 2
	tokens := window * window
	return oneOpTest(runAttention, []graph.Shape{{N: 1, H: window + 2, W: window, C: 3 * heads * d}}, func(t testing.TB, in []*graph.Tensor) graph.Op {
		return &graph.WindowAttention{QKV: in[0], Bias: param(t, 1, 0, 1, heads, tokens, tokens), Heads: heads, Window: window, Shift: 3}
	})
}

func poolTest(window int) func(t testing.TB) func(r *rig) {
	s := graph.Shape{N: 2, H: 13, W: 70, C: 77}
	return oneOpTest(runPool, []graph.Shape{s, s}, func(_ testing.TB, in []*graph.Tensor) graph.Op {
		return &graph.Pool{X: in[0], X2: in[1], WindowH: window, WindowW: window}
	})
}

func foldTest(head int) func(t testing.TB) func(r *rig) {
	return oneOpTest(runFold, []graph.Shape{{N: 2, H: 2, W: head, C: head}}, func(t testing.TB, in []*graph.Tensor) graph.Op {
		return &graph.Fold{Gram: in[0], Temperature: param(t, 1, 1, 0.3, 2), Proj: param(t, 2, 0, 0.1, 33, 2*head)}
	})
}

// lab runs a subject's test with kernels that it changes.
type lab struct {
	*ptxsim.Device
	module  string
	kernel  string
	image   []byte // of the kernel alone
	modules map[string]device.Module
	lines   map[int]uint64 // executed, by line of the image
}

func newLab(t testing.TB, s subject) *lab {
	t.Helper()
	l := &lab{module: s.module, kernel: s.kernel, modules: map[string]device.Module{}, lines: map[int]uint64{}}
	var err error
	l.Device, err = ptxsim.New(ptxsim.Options{Workers: 1, MaxFindings: 1, MaxSteps: 1 << 16, OnLaunch: func(r ptxsim.Report) {
		if r.Kernel == s.kernel {
			for line, n := range r.HotLines {
				l.lines[line] += n
			}
		}
	}})
	require.NoError(t, err)
	return l
}

// LoadModule loads every module once, and of the kernel that is tried the image at hand.
func (l *lab) LoadModule(name string, image []byte) (device.Module, error) {
	if l.modules[name] == nil {
		m, err := l.Device.LoadModule(name, image)
		if err != nil {
			return nil, err
		}
		l.modules[name] = m
	}
	if name != l.module {
		return l.modules[name], nil
	}
	m, err := l.Device.LoadModule(name, l.image)
	return changed{l.modules[name], m, l.kernel}, err
}

// changed is a module with another version of one kernel.
type changed struct {
	device.Module
	version device.Module
	kernel  string
}

func (c changed) Function(name string) (device.Function, error) {
	if name == c.kernel {
		return c.version.Function(name)
	}
	return c.Module.Function(name)
}

// failing is a test that notes its failure instead of reporting it.
type failing struct {
	testing.TB
	failure  string
	cleanups []func()
}

func (f *failing) Helper()                      {}
func (f *failing) Cleanup(c func())             { f.cleanups = append(f.cleanups, c) }
func (f *failing) Errorf(s string, args ...any) { f.failure += fmt.Sprintf(s, args...) }
func (f *failing) FailNow()                     { runtime.Goexit() }
func (f *failing) Fatalf(s string, args ...any) { f.Errorf(s, args...); f.FailNow() }

// try runs the test with an image and returns why it fails, "" if it passes.
func (l *lab) try(t testing.TB, image string, test func(r *rig)) string {
	f := &failing{TB: t}
	l.image = []byte(image)
	var wait sync.WaitGroup
	wait.Go(func() { // which a failure ends
		defer func() {
			for _, c := range slices.Backward(f.cleanups) {
				c()
			}
		}()
		r := &rig{TB: f, dev: l.Device, lib: kernels.NewLibrary(l, l.Info().Arch())}
		test(r.with(f))
	})
	wait.Wait()
	return f.failure
}

var mutantLines = flag.Int("mutants", 3, "lines of a kernel that each kind of mutation is tried on; make kernels-mutants tries 16")

// TestMutantsOfKernelsAreCaught changes one line of a kernel at a time and requires that the checker or the comparison
// of the kernel's ordinary test notices.
func TestMutantsOfKernelsAreCaught(t *testing.T) {
	most := *mutantLines
	for _, s := range subjects {
		t.Run(s.kernel, func(t *testing.T) {
			t.Parallel()
			module, err := kernels.Image(s.module, 90)
			require.NoError(t, err)
			image := onlyKernel(string(module), s.kernel)
			l, test := newLab(t, s), s.test(t)
			require.Empty(t, l.try(t, image, test))
			lines := strings.Split(image, "\n")
			executed := l.lines
			l.lines = map[int]uint64{}
			tried, seen := 0, map[string]int{}
			var survivors []string
			for _, m := range mutations {
				var at []int
				for i, line := range lines {
					if executed[i+1] > 0 && len(m.mutants(line, lines[i+1:])) > 0 {
						at = append(at, i)
					}
				}
				step := max(1, (len(at)+most-1)/most)
				for k := 0; k < len(at); k += step {
					i := at[k]
					for _, other := range m.mutants(lines[i], lines[i+1:]) {
						tried++
						mutant := strings.Join(slices.Concat(lines[:i], []string{other}, lines[i+1:]), "\n")
						if l.try(t, mutant, test) != "" {
							continue
						}
						key := m.name + ": " + strings.Fields(lines[i])[0]
						if seen[key]++; seen[key] > s.spared[key].most {
							survivors = append(survivors, fmt.Sprintf("%s: line %d: %s -> %s", m.name, i+1, strings.TrimSpace(lines[i]), strings.TrimSpace(other)))
						}
					}
				}
			}
			t.Logf("%d mutants", tried)
			require.Positive(t, tried)
			require.Empty(t, survivors, "%d of %d survive:\n%s", len(survivors), tried, strings.Join(survivors, "\n"))
		})
	}
}
