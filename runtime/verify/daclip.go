package verify

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/imaging"
	"unirestorer/weights"
)

// runDACLIP runs both encoders and the preprocessing.
func (c *testCase) runDACLIP(ctx context.Context) error {
	d, err := models.NewDACLIP(c.Args)
	if err != nil {
		return err
	}
	w, in, want, err := c.tensors()
	if err != nil {
		return err
	}
	build := func(trace func(string) bool) func(n, h, wd int) (*graph.Graph, error) {
		return func(n, h, wd int) (*graph.Graph, error) {
			if size := d.Vision.ImageSize; h != size || wd != size {
				return nil, fmt.Errorf("image is %dx%d, the encoder takes %dx%d", h, wd, size, size)
			}
			return d.BuildContent(w, n, models.Options{Trace: trace, Layout: graph.NCHW})
		}
	}
	out, g, err := c.runGraph(ctx, in, "image", build(nil))
	if err != nil {
		return err
	}
	for i, port := range g.Outputs {
		if err := c.compareFeatures(port, out[i], want); err != nil {
			return err
		}
	}
	if err := c.checkPreprocess(d.Vision.ImageSize); err != nil {
		return err
	}
	if !c.opt.Trace {
		return nil
	}
	return c.traceGraph(ctx, in, "image", daclipTraceKey, build)
}

// daclipTraceKey turns a module path into the name the case gives it.
func daclipTraceKey(name string) string {
	if rest, ok := strings.CutPrefix(name, "visual_control."); ok {
		return "visual_control/" + rest
	}
	if rest, ok := strings.CutPrefix(name, "clip.visual."); ok {
		return "clip.visual(before control is added)/" + rest
	}
	return name
}

// compareFeatures compares an output and, where stored, its normalised form.
func (c *testCase) compareFeatures(port graph.Port, got []float32, want weights.Source) error {
	t, err := want.Tensor(port.Name)
	if err != nil {
		return err
	}
	at, err := indexer(port, t.Shape)
	if err != nil {
		return fmt.Errorf("%s: %w", port.Name, err)
	}
	if got, err = leading(got, at, t.Shape); err != nil {
		return err
	}
	l := c.limit(port.Name)
	if err := c.compare(port.Name, got, want, port.Name, l, 0); err != nil {
		return err
	}
	normalised := port.Name + "_normalized"
	if !slices.Contains(want.Names(), normalised) {
		return nil
	}
	return c.compare(normalised, normalise(got, port.Shape.C), want, normalised, l, 0)
}

// normalise scales rows of n values to unit length.
func normalise(v []float32, n int) []float32 {
	out := make([]float32, len(v))
	for row := 0; row < len(v); row += n {
		var sum float64
		for _, x := range v[row : row+n] {
			sum += float64(x) * float64(x)
		}
		length := max(math.Sqrt(sum), 1e-12)
		for i, x := range v[row : row+n] {
			out[row+i] = float32(float64(x) / length)
		}
	}
	return out
}

// checkPreprocess compares the resized, cropped and normalised images.
func (c *testCase) checkPreprocess(size int) error {
	files := slices.Concat(c.Preprocess.Files, c.Preprocess.Files224)
	if len(files) == 0 {
		return nil
	}
	want, err := c.file("preprocess.safetensors")
	if err != nil {
		return err
	}
	mean, std := models.CLIPNormalisation()
	for _, f := range files {
		img, err := imaging.DecodeFile(filepath.Join(c.dir, f.PNG), imaging.Limits{})
		if err != nil {
			return err
		}
		if len(f.Out) == 3 {
			size = f.Out[1]
		}
		got, err := imaging.EstimatorInput(img, imaging.EstimatorView{Size: size}, mean, std)
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(f.PNG, filepath.Ext(f.PNG))
		if err := c.compareCHW("preprocess "+name, got, size, want, name); err != nil {
			return err
		}
	}
	return nil
}

// compareCHW compares H×W×3 values with a stored [1,]3×H×W tensor; a bit of
// rounding is all that may differ.
func (c *testCase) compareCHW(name string, hwc []float32, size int, want weights.Source, tensor string) error {
	chw := make([]float32, len(hwc))
	for i := range size * size {
		for ch := range 3 {
			chw[ch*size*size+i] = hwc[3*i+ch]
		}
	}
	ref, err := stored(want, tensor, len(chw))
	if err != nil {
		return err
	}
	worst, _ := difference(chw, ref, 1)
	const bound = 1e-6
	c.report.Checks = append(c.report.Checks, Check{Name: name, MaxAbs: worst, PSNR: Number(math.Inf(1)), Bound: bound, OK: float64(worst) <= bound})
	return nil
}
