package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/convert"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/restore"
	"unirestorer/runtime/router"
	"unirestorer/weights"
)

// runModel converts a whole model in memory and runs it: routing and
// restoration of every image, every expert of the pool, and a batch.
func (c *testCase) runModel(ctx context.Context) error {
	plan, err := c.convert(ctx)
	if err != nil {
		return err
	}
	in, want, err := c.ports()
	if err != nil {
		return err
	}
	m := &experts.Model{Config: plan.Config, Source: plan.Source(), Path: c.dir}
	r := &modelRun{testCase: c, model: m, in: in, want: want, pool: experts.NewPool(m, c.backend, experts.Options{})}
	if err := r.run(ctx); err != nil {
		return err
	}
	return r.pool.Close()
}

// convert plans the conversion of the case's checkpoints with the arguments
// that its configuration gives.
func (c *testCase) convert(ctx context.Context) (*convert.Plan, error) {
	model, err := c.file("model.pth")
	if err != nil {
		return nil, err
	}
	daclip, err := c.file("daclip.pt")
	if err != nil {
		return nil, err
	}
	hints := convert.Hints{Args: map[string]json.RawMessage{models.DACLIPName: c.DACLIP}}
	for class, args := range c.ByClass {
		hints.Args[class] = args
	}
	return convert.New(ctx, model, daclip, hints)
}

type modelRun struct {
	*testCase
	model    *experts.Model
	pool     *experts.Pool
	in, want weights.Source
}

func (r *modelRun) run(ctx context.Context) error {
	r.exact("expert table", fmt.Sprint(tableOf(&r.model.Config.Tree)) == fmt.Sprint(r.Table), "the tree differs from upstream's")
	if err := r.runEstimator(ctx); err != nil {
		return err
	}
	if err := r.runImages(ctx); err != nil {
		return err
	}
	if err := r.runPool(ctx); err != nil {
		return err
	}
	return r.runBatch(ctx)
}

// traceNames are the estimator's outputs by the name the case gives them.
var traceNames = []struct{ stored, port string }{
	{"degra", "degra_features"}, {"mu", "mu"}, {"logvar", "logvar"}, {"lf_logits", "lf_gate_raw"}, {"layer_logits", "layer_gate_raw"},
}

// runEstimator compares features and gates for every preprocessed image.
func (r *modelRun) runEstimator(ctx context.Context) error {
	trace, err := r.file("trace.safetensors")
	if err != nil {
		return err
	}
	g, err := r.model.Config.BuildEstimator(r.model.Source, 1, models.Options{Layout: graph.NCHW})
	if err != nil {
		return err
	}
	p, err := r.backend.Compile(ctx, g)
	if err != nil {
		return err
	}
	defer p.Close() // nothing is lost if it fails
	for _, i := range indices(r.in, "daclip_") {
		t, err := r.in.Tensor(fmt.Sprintf("daclip_%d", i))
		if err != nil {
			return err
		}
		x, err := t.Float32()
		if err != nil {
			return err
		}
		out, err := execute(ctx, p, x)
		if err != nil {
			return err
		}
		for _, name := range traceNames {
			port, err := g.Output(name.port)
			if err != nil {
				return err
			}
			stored := fmt.Sprintf("%s_%d", name.stored, i)
			ref, err := trace.Tensor(stored)
			if err != nil {
				return err
			}
			got := out[port]
			if n := ref.NumElements(); n <= len(got) { // gates: the training noise comes after the logits
				got = got[:n]
			}
			if err := r.compare(stored, got, trace, stored, loose, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// runImages restores every image file: preprocessing, routing, the expert's
// output and the file written.
func (r *modelRun) runImages(ctx context.Context) error {
	rest, err := restore.New(ctx, r.model, r.backend, restore.Config{})
	if err != nil {
		return err
	}
	defer rest.Close() // nothing is lost if it fails
	for i, entry := range r.Images {
		if entry.Batch {
			continue
		}
		if err := entry.routed(1); err != nil {
			return err
		}
		img, err := imaging.DecodeFile(filepath.Join(r.dir, entry.PNG), imaging.Limits{})
		if err != nil {
			return err
		}
		if err := r.checkInput(img, fmt.Sprintf("daclip_%d", i)); err != nil {
			return err
		}
		out, rep, err := rest.Restore(ctx, img, restore.Options{Tile: restore.TileOff})
		if err != nil {
			return fmt.Errorf("%s: %w", entry.PNG, err)
		}
		r.checkDecision(entry.PNG, entry, 0, rep.Decision)
		if err := r.checkFile(entry, out); err != nil {
			return err
		}
		x := make([]float32, img.W*img.H*3)
		if err := img.RGBFloat(x, img.Bounds()); err != nil {
			return err
		}
		y, err := r.runExpert(ctx, entry.Expert[0], 1, img.H, img.W, x)
		if err != nil {
			return err
		}
		if err := r.compareNHWC(fmt.Sprintf("y_%d", i), y, noisy(entry.Noise)); err != nil {
			return err
		}
	}
	return nil
}

func (r *modelRun) checkInput(img *imaging.Image, tensor string) error {
	view, err := router.View(r.model.Config)
	if err != nil {
		return err
	}
	e := r.model.Config.Estimator
	got, err := imaging.EstimatorInput(img, view, e.Mean, e.Std)
	if err != nil {
		return err
	}
	return r.compareCHW("preprocess "+tensor, got, view.Size, r.in, tensor)
}

func (r *modelRun) checkDecision(what string, entry imageEntry, i int, d router.Decision) {
	leaf, level, expert := entry.Leaf[i], entry.Layer[i], entry.Expert[i]
	ok := d.Leaf == leaf && d.Level == level && d.Expert == expert
	r.exact("routing of "+what, ok, fmt.Sprintf("leaf %d level %d expert %d, want %d %d %d",
		d.Leaf, d.Level, d.Expert, leaf, level, expert))
}

// checkFile compares 8-bit pixels with the stored result: rounding may differ
// by one, on fp16 devices by what their bound allows.
func (r *modelRun) checkFile(entry imageEntry, out *imaging.Image) error {
	want, err := imaging.DecodeFile(filepath.Join(r.dir, entry.OutPNG), imaging.Limits{})
	if err != nil {
		return err
	}
	if out.W != want.W || out.H != want.H {
		r.exact(entry.OutPNG, false, fmt.Sprintf("%dx%d pixels, want %dx%d", out.W, out.H, want.W, want.H))
		return nil
	}
	a, b := make([]float32, out.W*out.H*3), make([]float32, out.W*out.H*3)
	if err := out.RGBFloat(a, out.Bounds()); err != nil {
		return err
	}
	if err := want.RGBFloat(b, want.Bounds()); err != nil {
		return err
	}
	if r.backend.Info().Half {
		r.add(entry.OutPNG, a, b, noisy(entry.Noise), 1)
		return nil
	}
	worst, psnr := difference(a, b, 1)
	check := Check{Name: entry.OutPNG, MaxAbs: worst, PSNR: psnr, Bound: 1.01 / 255}
	check.OK = float64(worst) <= check.Bound
	r.report.Checks = append(r.report.Checks, check)
	return nil
}

// runExpert runs one expert on N×H×W×3 values.
func (r *modelRun) runExpert(ctx context.Context, expert, n, h, w int, x []float32) ([]float32, error) {
	lease, err := r.pool.Acquire(ctx, expert, n, h, w)
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	y := make([]float32, len(x))
	return y, lease.Program.Run(ctx, [][]float32{x}, [][]float32{y}, backend.RunOptions{})
}

// runPool runs every expert on the same image.
func (r *modelRun) runPool(ctx context.Context) error {
	if !slices.Contains(r.in.Names(), "pool_x") {
		return nil
	}
	x, dims, err := nhwc(r.in, "pool_x")
	if err != nil {
		return err
	}
	var all []float32
	for i := range r.model.Config.Experts {
		y, err := r.runExpert(ctx, i, dims[0], dims[2], dims[3], x)
		if err != nil {
			return err
		}
		all = append(all, y...)
	}
	return r.compareNHWC("pool_y", all, loose)
}

// runBatch routes and restores a batch, each image by its own expert.
func (r *modelRun) runBatch(ctx context.Context) error {
	if !slices.Contains(r.in.Names(), "lq_batch") {
		return nil
	}
	x, dims, err := nhwc(r.in, "lq_batch")
	if err != nil {
		return err
	}
	views, _, err := nhwc(r.in, "daclip_batch")
	if err != nil {
		return err
	}
	e, err := router.NewEstimator(ctx, r.backend, r.model.Config, r.model.Source)
	if err != nil {
		return err
	}
	defer e.Close() // nothing is lost if it fails
	n := dims[0]
	batch := imageEntry{}
	for _, entry := range r.Images {
		if entry.Batch {
			batch = entry
		}
	}
	var all []float32
	for i := range n {
		d, err := e.Decide(ctx, views[i*len(views)/n:(i+1)*len(views)/n], router.Override{})
		if err != nil {
			return err
		}
		if batch.routed(n) == nil {
			r.checkDecision(fmt.Sprintf("batch image %d", i), batch, i, d)
		}
		y, err := r.runExpert(ctx, d.Expert, 1, dims[2], dims[3], x[i*len(x)/n:(i+1)*len(x)/n])
		if err != nil {
			return err
		}
		all = append(all, y...)
	}
	return r.compareNHWC("y_batch", all, loose)
}

// nhwc reads an NCHW tensor with channels last; dims stay N, C, H, W.
func nhwc(src weights.Source, name string) (values []float32, dims []int, err error) {
	t, err := src.Tensor(name)
	if err != nil {
		return nil, nil, err
	}
	if len(t.Shape) != 4 {
		return nil, nil, fmt.Errorf("%s has shape %v, want N, C, H, W", name, t.Shape)
	}
	v, err := t.Float32()
	if err != nil {
		return nil, nil, err
	}
	n, c, area := t.Shape[0], t.Shape[1], t.Shape[2]*t.Shape[3]
	out := make([]float32, len(v))
	for i := range n {
		for ch := range c {
			for p := range area {
				out[(i*area+p)*c+ch] = v[(i*c+ch)*area+p]
			}
		}
	}
	return out, t.Shape, nil
}

// compareNHWC compares N×H×W×3 values with an NCHW tensor of the outputs.
func (r *modelRun) compareNHWC(name string, got []float32, l limit) error {
	ref, _, err := nhwc(r.want, name)
	if err != nil {
		return err
	}
	if len(ref) != len(got) {
		return fmt.Errorf("%s: %d values, want %d", name, len(got), len(ref))
	}
	r.add(name, got, ref, l, 1)
	return nil
}
