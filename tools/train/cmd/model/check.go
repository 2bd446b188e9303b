package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/router"
	"unirestorer/weights"
)

// check runs the estimator and every expert of a model on the inputs of a file and compares with its outputs: tensor
// "seen" [1,3,H,W], in 0..1, gives "image" [1,3,S,S], the encoder's view of it; "image" gives "leaf" and "level", the
// gates; and tensor "picture" [1,3,H,W] gives "expert.0", "expert.1", …
func check(ctx context.Context, out io.Writer, path, expected string, maxAbs float64) (err error) {
	model, err := experts.OpenModel(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	want, err := weights.OpenSafetensors(expected)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, want.Close()) }()
	b, err := cpu.New(cpu.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()

	c := &checker{ctx: ctx, backend: b, want: want, maxAbs: maxAbs, table: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	fmt.Fprintln(c.table, "COMPARED\tMAX ABS\tVERDICT")
	if err := c.view(model); err != nil {
		return fmt.Errorf("view: %w", err)
	}
	if err := c.estimator(model); err != nil {
		return fmt.Errorf("estimator: %w", err)
	}
	for i := range model.Config.Experts {
		if err := c.expert(model, i); err != nil {
			return fmt.Errorf("expert %d: %w", i, err)
		}
	}
	if err := c.table.Flush(); err != nil {
		return err
	}
	if c.failed > 0 {
		return fmt.Errorf("%d results differ by more than %g", c.failed, maxAbs)
	}
	return nil
}

type checker struct {
	ctx     context.Context
	backend backend.Backend
	want    weights.Source
	maxAbs  float64
	table   *tabwriter.Writer
	failed  int
}

// view checks that the runtime shows the encoder what training showed it.
func (c *checker) view(model *experts.Model) error {
	view, err := router.View(model.Config)
	if err != nil {
		return err
	}
	shape, values, err := c.picture("seen")
	if err != nil {
		return err
	}
	img, err := imaging.New(shape[3], shape[2], 3, 8)
	if err != nil {
		return err
	}
	if err := img.SetRGBFloat(transposed(values, 3), img.Bounds()); err != nil {
		return err
	}
	e := model.Config.Estimator
	input, err := imaging.EstimatorInput(img, view, e.Mean, e.Std)
	if err != nil {
		return err
	}
	return c.compare(output{tensor: "image"}, transposed(input, len(input)/3))
}

// transposed turns rows×columns values, that many rows, around: planes to pixels and back.
func transposed(values []float32, rows int) []float32 {
	columns := len(values) / rows
	out := make([]float32, len(values))
	for i, v := range values {
		out[i%columns*rows+i/columns] = v
	}
	return out
}

// picture reads a tensor [N,C,H,W].
func (c *checker) picture(name string) (shape []int, values []float32, err error) {
	t, err := c.want.Tensor(name)
	if err != nil {
		return nil, nil, err
	}
	if len(t.Shape) != 4 {
		return nil, nil, fmt.Errorf("%s has shape %v, want N, C, H, W", name, t.Shape)
	}
	values, err = t.Float32()
	return t.Shape, values, err
}

func (c *checker) estimator(model *experts.Model) error {
	tree := model.Config.Tree
	return c.run("image", func(n, _, _ int, opt models.Options) (*graph.Graph, error) {
		return model.Config.BuildEstimator(model.Source, n, opt)
	}, []output{{"lf_gate_raw", "leaf", len(tree.Leaves)}, {"layer_gate_raw", "level", len(tree.Levels)}})
}

func (c *checker) expert(model *experts.Model, i int) error {
	return c.run("picture", func(n, h, w int, opt models.Options) (*graph.Graph, error) {
		return model.Config.BuildExpert(model.Source, i, n, h, w, opt)
	}, []output{{"", fmt.Sprintf("expert.%d", i), 0}})
}

// output is a port of a graph, the only one if it has no name, and the tensor that its first values, or all of them
// where count is 0, should equal.
type output struct {
	port, tensor string
	count        int
}

func (c *checker) run(input string, build func(n, h, w int, opt models.Options) (*graph.Graph, error), outputs []output) error {
	shape, values, err := c.picture(input)
	if err != nil {
		return err
	}
	g, err := build(shape[0], shape[2], shape[3], models.Options{Layout: graph.NCHW})
	if err != nil {
		return err
	}
	program, err := c.backend.Compile(c.ctx, g)
	if err != nil {
		return err
	}
	results := make([][]float32, len(g.Outputs))
	for i, port := range g.Outputs {
		results[i] = make([]float32, port.Shape.Elems())
	}
	err = program.Run(c.ctx, [][]float32{values}, results, backend.RunOptions{})
	if err = errors.Join(err, program.Close()); err != nil {
		return err
	}
	for _, o := range outputs {
		at := 0
		if o.port != "" {
			if at, err = g.Output(o.port); err != nil {
				return err
			}
		}
		if err := c.compare(o, results[at]); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) compare(o output, got []float32) error {
	t, err := c.want.Tensor(o.tensor)
	if err != nil {
		return err
	}
	want, err := t.Float32()
	if err != nil {
		return err
	}
	if o.count > 0 {
		got = got[:min(o.count, len(got))]
	}
	if len(got) != len(want) {
		return fmt.Errorf("%s has %d values, the model gives %d", o.tensor, len(want), len(got))
	}
	worst := 0.0
	for i, v := range want {
		d := math.Abs(float64(got[i]) - float64(v))
		if math.IsNaN(d) {
			d = math.Inf(1)
		}
		worst = max(worst, d)
	}
	verdict := "ok"
	if worst > c.maxAbs {
		verdict = "DIFFERS"
		c.failed++
	}
	_, err = fmt.Fprintf(c.table, "%s\t%.2g\t%s\n", o.tensor, worst, verdict)
	return err
}
