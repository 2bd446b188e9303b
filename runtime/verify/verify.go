// Package verify runs golden cases, inputs and outputs of the original PyTorch
// networks, on a backend and compares.
//
// A case is a folder with config.json, weights.safetensors (or a whole model's
// checkpoints), input.safetensors, output.safetensors and trace.safetensors,
// the intermediate results; or a folder of checkpoint files with index.json; or a
// folder with a network's file as its authors publish it and two pictures.
package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/ranges"
	"unirestorer/weights"
)

// Options choose what is compared and how strictly.
type Options struct {
	// Trace compares the intermediate results as well.
	Trace bool
	// MaxAbs replaces the case's own bound on the largest absolute error; 0
	// keeps it.
	MaxAbs float64
	// PSNR replaces the bounds that an fp16 device is held to, in decibels; 0
	// means three below what the same case gives with the roundings of fp16 and
	// no others.
	PSNR float64
}

// Check is one comparison.
type Check struct {
	// Name is what was compared: an output, an intermediate result, a decision.
	Name string `json:"name"`
	// MaxAbs is the largest absolute error, PSNR that of the whole result in
	// decibels (+Inf without any error).
	MaxAbs Number `json:"max_abs_error"`
	PSNR   Number `json:"psnr_db"`
	// Faithful is the PSNR of a faithful fp16 machine, for fp16 devices; nil
	// where it was not computed.
	Faithful *Number `json:"faithful_fp16_psnr_db,omitempty"`
	// Bound is what the check was held to: an absolute error, or decibels when
	// InDecibel is set.
	Bound     float64 `json:"bound"`
	InDecibel bool    `json:"bound_in_db,omitempty"`
	OK        bool    `json:"ok"`
	// Note says more, for a failed decision.
	Note string `json:"note,omitempty"`

	values int // compared
}

// Number is a figure that may be infinite or undefined, which JSON writes as
// a string.
type Number float64

// MarshalJSON writes finite numbers as numbers and others as "inf" and "nan".
func (n Number) MarshalJSON() ([]byte, error) {
	switch f := float64(n); {
	case math.IsInf(f, 0):
		return []byte(`"inf"`), nil
	case math.IsNaN(f):
		return []byte(`"nan"`), nil
	default:
		return json.Marshal(f)
	}
}

// Report is the outcome of a case.
type Report struct {
	Case         string  `json:"case"`
	Architecture string  `json:"architecture"`
	Checks       []Check `json:"checks"`
	OK           bool    `json:"ok"`
	// FirstDifference names the first intermediate result, in order of
	// execution, beyond its bound.
	FirstDifference string `json:"first_difference,omitempty"`
}

// Run runs the case in a folder. The error tells why a case could not be run;
// differences are in the report.
func Run(ctx context.Context, b backend.Backend, dir string, opt Options) (*Report, error) {
	return run(ctx, b, dir, nil, opt)
}

// RunFS runs the case of a single network that is all of a file system. name is for messages.
func RunFS(ctx context.Context, b backend.Backend, name string, files fs.FS, opt Options) (*Report, error) {
	return run(ctx, b, name, files, opt)
}

func run(ctx context.Context, b backend.Backend, dir string, files fs.FS, opt Options) (*Report, error) {
	c, err := open(dir, files, b, opt)
	if err != nil {
		return nil, fmt.Errorf("case %s: %w", dir, err)
	}
	defer c.close()
	if err := c.run(ctx); err != nil {
		return nil, fmt.Errorf("case %s: %w", dir, err)
	}
	if b.Info().Half && opt.PSNR == 0 {
		if err := c.judgeByFaithful(ctx, files); err != nil {
			return nil, fmt.Errorf("case %s: %w", dir, err)
		}
	}
	c.report.OK = len(c.report.Checks) > 0
	for _, check := range c.report.Checks {
		c.report.OK = c.report.OK && check.OK
	}
	return &c.report, nil
}

// config is a case's config.json, as far as it is needed.
type config struct {
	Case         string                     `json:"case"`
	Architecture string                     `json:"architecture"`
	Args         json.RawMessage            `json:"args"`
	Noise        map[string]float64         `json:"fp32_vs_fp64_max_abs_diff"`
	Trace        map[string]traceEntry      `json:"trace"`
	RouterDim    int                        `json:"router_dim"`
	Formula      *formula                   `json:"weights_formula"`
	DACLIP       json.RawMessage            `json:"daclip_args"`
	ByClass      map[string]json.RawMessage `json:"expert_args_by_class"`
	Restormer    json.RawMessage            `json:"expert_args_restormer"`
	Table        [][]int                    `json:"expert_table[leaf][layer]"`
	Images       []imageEntry               `json:"images"`
	Preprocess   struct {
		Files    []preprocessEntry `json:"files"`
		Files224 []preprocessEntry `json:"files_224"`
	} `json:"preprocess"`
}

type traceEntry struct {
	FullShape []int   `json:"full_shape"`
	MaxAbs    float64 `json:"max_abs"`
}

// imageEntry is an image file with its routing, or a batch with one decision
// an image.
type imageEntry struct {
	PNG    string  `json:"png"`
	OutPNG string  `json:"out_png"`
	Batch  bool    `json:"batch"`
	Leaf   ints    `json:"leaf"`
	Layer  ints    `json:"layer"`
	Expert ints    `json:"expert"`
	Noise  float64 `json:"expert_fp32_vs_fp64_max_abs_diff"`
}

// ints is a JSON number or a list of them.
type ints []int

func (v *ints) UnmarshalJSON(b []byte) error {
	var one int
	if json.Unmarshal(b, &one) == nil {
		*v = ints{one}
		return nil
	}
	return json.Unmarshal(b, (*[]int)(v))
}

// routed reports whether an entry has a decision for each of n images.
func (e imageEntry) routed(n int) error {
	if len(e.Leaf) != n || len(e.Layer) != n || len(e.Expert) != n {
		return fmt.Errorf("%q has decisions %v %v %v, want %d of each", e.PNG, e.Leaf, e.Layer, e.Expert, n)
	}
	return nil
}

type preprocessEntry struct {
	PNG string `json:"png"`
	Out []int  `json:"out"`
}

// testCase is an opened case.
type testCase struct {
	config
	dir     string
	fsys    fs.FS // instead of dir, where it is not nil
	backend backend.Backend
	opt     Options
	report  Report
	files   []weights.File
}

func open(dir string, files fs.FS, b backend.Backend, opt Options) (*testCase, error) {
	c := &testCase{dir: dir, fsys: files, backend: b, opt: opt}
	if files == nil && isFormats(dir) {
		c.Architecture = formatsArchitecture
	} else if files == nil && isPictures(dir) {
		c.Architecture = picturesArchitecture
	} else if err := c.readJSON("config.json", &c.config); err != nil {
		return nil, err
	}
	c.report = Report{Case: filepath.Base(filepath.Clean(dir)), Architecture: c.Architecture}
	return c, nil
}

func (c *testCase) close() {
	for _, f := range c.files {
		f.Close() // read only
	}
}

// file opens one of the case's tensor files.
func (c *testCase) file(name string) (weights.File, error) {
	f, err := c.openTensors(name)
	if err == nil {
		c.files = append(c.files, f)
	}
	return f, err
}

func (c *testCase) openTensors(name string) (weights.File, error) {
	if c.fsys == nil {
		return weights.Open(filepath.Join(c.dir, name))
	}
	data, err := fs.ReadFile(c.fsys, name)
	if err != nil {
		return nil, err
	}
	return weights.NewSafetensors(name, bytes.NewReader(data), int64(len(data)))
}

// tensors opens the files of a single network's case.
func (c *testCase) tensors() (w, in, want weights.File, err error) {
	if w, err = c.file("weights.safetensors"); err != nil {
		return nil, nil, nil, err
	}
	in, want, err = c.ports()
	return w, in, want, err
}

// ports opens the inputs and the outputs of a case.
func (c *testCase) ports() (in, want weights.File, err error) {
	if in, err = c.file("input.safetensors"); err != nil {
		return nil, nil, err
	}
	want, err = c.file("output.safetensors")
	return in, want, err
}

func (c *testCase) run(ctx context.Context) error {
	switch c.Architecture {
	case "daclip":
		return c.runDACLIP(ctx)
	case "unirestorer_router":
		return c.runRouter(ctx)
	case "unirestorer":
		return c.runModel(ctx)
	case formatsArchitecture:
		return c.runFormats()
	case picturesArchitecture:
		return c.runPictures(ctx)
	default:
		return c.runNetwork(ctx)
	}
}

// limit is the largest absolute error of a comparison on fp32 devices.
type limit float64

// loose is what values that pass through several networks or the router are
// allowed. Cases that state the noise of features and gates have 2 to 6·10⁻⁶.
const loose limit = 1e-4

// noisy is the limit of a result whose own rounding noise is known: the reference's largest difference between fp32 and
// fp64.
func noisy(noise float64) limit { return limit(2e-5 + 10*noise) }

// limit is that of the output for an input.
func (c *testCase) limit(input string) limit { return noisy(c.Noise[input]) }

// compare records a check of got against the tensor name of want, whose first
// values in row-major order they are.
func (c *testCase) compare(name string, got []float32, want weights.Source, tensor string, l limit, peak float64) error {
	ref, err := stored(want, tensor, len(got))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	c.add(name, got, ref, l, peak)
	return nil
}

// stored reads a tensor that must hold n values.
func stored(want weights.Source, tensor string, n int) ([]float32, error) {
	t, err := want.Tensor(tensor)
	if err != nil {
		return nil, err
	}
	if t.NumElements() != n {
		return nil, fmt.Errorf("%d values, %q has shape %v", n, tensor, t.Shape)
	}
	return t.Float32()
}

// add records a check. peak is the signal's peak for the PSNR; 0 takes the
// reference's largest magnitude.
func (c *testCase) add(name string, got, ref []float32, l limit, peak float64) Check {
	check := Check{Name: name, values: len(got)}
	check.MaxAbs, check.PSNR = difference(got, ref, peak)
	if c.backend.Info().Half {
		check.Bound, check.InDecibel = c.opt.PSNR, true
		check.OK = float64(check.PSNR) >= check.Bound
	} else {
		check.Bound = float64(l)
		if c.opt.MaxAbs > 0 {
			check.Bound = c.opt.MaxAbs
		}
		check.OK = float64(check.MaxAbs) <= check.Bound
	}
	c.report.Checks = append(c.report.Checks, check)
	return check
}

// exact records a check that has no tolerance.
func (c *testCase) exact(name string, ok bool, note string) {
	check := Check{Name: name, OK: ok, PSNR: Number(math.Inf(1))}
	if !ok {
		check.Note, check.MaxAbs, check.PSNR = note, Number(math.NaN()), Number(math.NaN())
	}
	c.report.Checks = append(c.report.Checks, check)
}

// difference is the largest absolute error and the PSNR. Anything that is not
// finite counts as infinitely wrong.
func difference(got, ref []float32, peak float64) (maxAbs, psnr Number) {
	var sum, worst float64
	for i, r := range ref {
		d := math.Abs(float64(got[i]) - float64(r))
		if math.IsNaN(d) {
			d = math.Inf(1)
		}
		worst = max(worst, d)
		sum += d * d
	}
	if peak == 0 {
		for _, r := range ref {
			peak = max(peak, math.Abs(float64(r)))
		}
	}
	if sum == 0 {
		return Number(worst), Number(math.Inf(1))
	}
	return Number(worst), Number(10 * math.Log10(peak*peak*float64(len(ref))/sum))
}

// execute runs a program once.
func execute(ctx context.Context, p backend.Program, inputs ...[]float32) (out [][]float32, err error) {
	for _, port := range p.Graph().Outputs {
		out = append(out, make([]float32, port.Shape.Elems()))
	}
	return out, p.Run(ctx, inputs, out, backend.RunOptions{})
}

// once compiles a graph and runs it.
func (c *testCase) once(ctx context.Context, g *graph.Graph, inputs ...[]float32) ([][]float32, error) {
	if c.backend.Info().Half && g.Ranges == nil {
		r, err := ranges.Of(ctx, g)
		if err != nil {
			return nil, err
		}
		g.Ranges = r
	}
	p, err := c.backend.Compile(ctx, g)
	if err != nil {
		return nil, err
	}
	defer p.Close() // nothing is lost if it fails
	return execute(ctx, p, inputs...)
}

// indices are the names prefix0, prefix1, … that a source holds, in order.
func indices(src weights.Source, prefix string) []int {
	names := src.Names()
	var found []int
	for i := 0; slices.Contains(names, fmt.Sprintf("%s%d", prefix, i)); i++ {
		found = append(found, i)
	}
	return found
}

var errNoInputs = errors.New("no inputs")
