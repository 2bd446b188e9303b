package pools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/router"
	"unirestorer/weights"
)

// Fit says how a router was fitted and how well it does.
type Fit struct {
	// Kinds are the degradations it tells apart now, with the pictures of each.
	Kinds    []string `json:"kinds"`
	Pictures []int    `json:"pictures"`
	// Head is "prototypes" or "linear".
	Head string `json:"head"`
	// Input is what it reads: the encoder's features, or the embedding that the
	// built-in router makes of them.
	Input string `json:"input"`
	// Shrinkage or penalty of the head, and the temperature of its probabilities.
	Strength    float64 `json:"strength"`
	Temperature float64 `json:"temperature"`
	// Accuracy is the share of pictures that heads fitted without them assign to
	// their kind, with an interval that holds the true share in 95 of 100 cases
	// (Wilson's).
	Accuracy float64    `json:"accuracy"`
	Interval [2]float64 `json:"interval"`
	// Confusion counts, for each kind, what its pictures were assigned to.
	Confusion [][]int `json:"confusion"`
	// Failed names files that could not be read, with the reason.
	Failed []string `json:"failed,omitempty"`
}

// leastExamples is how many pictures a kind needs at least.
const leastExamples = 4

// FitRouter replaces the pool's degradations by those of examples, a folder with
// a folder of pictures for each kind (pictures may lie in a folder "input" of
// that), and fits the leaf gate to them; encoder and level gate stay. A pool
// without a router takes those of base.
func (p *Pool) FitRouter(ctx context.Context, b backend.Backend, examples string, base *experts.Model, progress func(float64)) (*Fit, error) {
	fit, err := p.fitRouter(ctx, b, examples, base, progress)
	if err != nil {
		return nil, fmt.Errorf("fit the router of pool %s: %w", p.dir, err)
	}
	return fit, nil
}

func (p *Pool) fitRouter(ctx context.Context, b backend.Backend, examples string, base *experts.Model, progress func(float64)) (*Fit, error) {
	kinds, files, err := exampleFiles(examples)
	if err != nil {
		return nil, err
	}
	from := p.model
	if !from.Config.Routed() {
		if base == nil || !base.Config.Routed() {
			return nil, models.ErrUnrouted
		}
		from = base
	}
	data, failed, err := embed(ctx, b, from, files, progress)
	if err != nil {
		return nil, err
	}
	fit := &Fit{Kinds: kinds, Failed: failed}
	for k, kind := range kinds {
		n := len(data.of(k))
		fit.Pictures = append(fit.Pictures, n)
		if n < leastExamples {
			return nil, fmt.Errorf("kind %s has %d pictures that can be read, want at least %d, better 20", kind, n, leastExamples)
		}
	}
	head, err := bestHead(ctx, data, len(kinds), fit)
	if err != nil {
		return nil, err
	}
	return fit, p.install(ctx, from, kinds, head, fit)
}

// install makes the head the leaf gate of the pool.
func (p *Pool) install(ctx context.Context, from *experts.Model, kinds []string, h *head, fit *Fit) error {
	c := p.config
	levels := c.Tree.Levels
	c.Estimator = from.Config.Estimator
	c.Router = models.RouterConfig{Width: from.Config.Router.Width, Prefix: from.Config.Router.Prefix, LeafHead: fit.Input}
	if len(levels) != len(from.Config.Tree.Levels) {
		return fmt.Errorf("the pool has %d levels, the router %d", len(levels), len(from.Config.Tree.Levels))
	}
	c.Tree = models.Tree{Levels: levels}
	for _, kind := range kinds {
		c.Tree.Leaves = append(c.Tree.Leaves, models.Leaf{Name: kind, Kinds: []string{kind}})
	}
	for _, t := range []struct {
		name   string
		dims   []int
		values []float32
	}{
		{models.LeafHeadWeight, []int{len(kinds), h.width}, h.weight},
		{models.LeafHeadBias, []int{len(kinds)}, h.bias},
	} {
		x, err := weights.FromFloat32(c.Router.Prefix+t.name, t.dims, t.values)
		if err != nil {
			return err
		}
		p.added.Set(x)
	}
	if from != p.model {
		specs, err := c.Stored()
		if err != nil {
			return err
		}
		for _, s := range specs {
			if _, err := p.tensor(s.Name); err == nil || s.Unused {
				continue
			}
			t, err := from.Source.Tensor(s.Name)
			if err != nil {
				return err
			}
			p.added.Set(t)
		}
	}
	c.Provenance.Notes = append(slices.DeleteFunc(c.Provenance.Notes, func(n string) bool { return strings.HasPrefix(n, fittedNote) }),
		fmt.Sprintf("%s %s: %d pictures, %s over %s, cross-validated accuracy %.3f", fittedNote, strings.Join(kinds, ", "), sum(fit.Pictures), fit.Head, fit.Input, fit.Accuracy))
	p.assign()
	return p.write(ctx, true)
}

const fittedNote = "router fitted to"

func sum(n []int) int {
	total := 0
	for _, v := range n {
		total += v
	}
	return total
}

// exampleFiles lists the pictures of each kind.
func exampleFiles(dir string) (kinds []string, files [][]string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		name := strings.ToLower(e.Name())
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err != nil || !info.IsDir() || strings.HasPrefix(name, ".") {
			continue
		}
		if name == models.AnyKind {
			return nil, nil, fmt.Errorf("a kind cannot be called %q", models.AnyKind)
		}
		sub := filepath.Join(dir, e.Name())
		if info, err := os.Stat(filepath.Join(sub, "input")); err == nil && info.IsDir() {
			sub = filepath.Join(sub, "input")
		}
		pictures, err := picturesIn(sub)
		if err != nil {
			return nil, nil, err
		}
		if len(pictures) == 0 {
			return nil, nil, fmt.Errorf("%s holds no pictures", sub)
		}
		kinds, files = append(kinds, name), append(files, pictures)
	}
	if len(kinds) < 2 {
		return nil, nil, fmt.Errorf("%s: want a folder of pictures for each of two kinds or more, called as the kind", dir)
	}
	return kinds, files, nil
}

func picturesIn(dir string) ([]string, error) {
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), "._") {
			return err
		}
		if _, err := imaging.FormatFromPath(path); err == nil {
			all = append(all, path)
		}
		return nil
	})
	return all, err
}

// examples are the encoder's results for pictures, by what a head may read.
type examples struct {
	inputs map[string][][]float64
	kind   []int
}

func (x *examples) of(kind int) (numbers []int) {
	for i, k := range x.kind {
		if k == kind {
			numbers = append(numbers, i)
		}
	}
	return numbers
}

// Embedder runs encoder and router of a model, for what a head may read. It is for one goroutine.
type Embedder struct {
	config  *models.Config
	program backend.Program
	view    imaging.EstimatorView
	out     [][]float32
	ports   map[string]int
	leaves  int
}

// NewEmbedder compiles a model's encoder and router.
func NewEmbedder(ctx context.Context, b backend.Backend, m *experts.Model) (*Embedder, error) {
	g, err := m.Config.BuildEstimator(m.Source, 1, models.Options{})
	if err != nil {
		return nil, err
	}
	x := &Embedder{config: m.Config, ports: map[string]int{}}
	for input, name := range map[string]string{models.LeafHeadFeatures: "degra_features", models.LeafHeadEmbedding: "mu"} {
		if x.ports[input], err = g.Output(name); err != nil {
			return nil, err
		}
	}
	if x.leaves, err = g.Output("lf_gate_raw"); err != nil {
		return nil, err
	}
	if x.view, err = router.View(m.Config); err != nil {
		return nil, err
	}
	if x.program, err = b.Compile(ctx, g); err != nil {
		return nil, err
	}
	for _, o := range g.Outputs {
		x.out = append(x.out, make([]float32, o.Shape.Elems()))
	}
	return x, nil
}

// Close frees the program.
func (x *Embedder) Close() error { return x.program.Close() }

// Embed gives what a leaf head may read of a picture, by models.LeafHeadFeatures and models.LeafHeadEmbedding, and the
// logits of the leaves.
func (x *Embedder) Embed(ctx context.Context, img *imaging.Image) (inputs map[string][]float64, logits []float64, err error) {
	in, err := imaging.EstimatorInput(img, x.view, x.config.Estimator.Mean, x.config.Estimator.Std)
	if err != nil {
		return nil, nil, err
	}
	if err := x.program.Run(ctx, [][]float32{in}, x.out, backend.RunOptions{}); err != nil {
		return nil, nil, err
	}
	inputs = map[string][]float64{}
	for input, at := range x.ports {
		inputs[input] = widened(x.out[at])
	}
	return inputs, widened(x.out[x.leaves][:len(x.config.Tree.Leaves)]), nil
}

func widened(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, f := range v {
		out[i] = float64(f)
	}
	return out
}

// embed runs encoder and router of a model on pictures.
func embed(ctx context.Context, b backend.Backend, m *experts.Model, files [][]string, progress func(float64)) (_ *examples, failed []string, err error) {
	e, err := NewEmbedder(ctx, b, m)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	x := &examples{inputs: map[string][][]float64{}}
	total := 0
	for _, f := range files {
		total += len(f)
	}
	done := 0
	for kind, paths := range files {
		for _, path := range paths {
			if err := ctx.Err(); err != nil {
				return nil, nil, err
			}
			if done++; progress != nil {
				progress(float64(done) / float64(total))
			}
			inputs, err := embedFile(ctx, e, path)
			if err != nil {
				failed = append(failed, err.Error())
				continue
			}
			for input, v := range inputs {
				x.inputs[input] = append(x.inputs[input], v)
			}
			x.kind = append(x.kind, kind)
		}
	}
	return x, failed, nil
}

func embedFile(ctx context.Context, e *Embedder, path string) (map[string][]float64, error) {
	img, err := imaging.DecodeFile(path, imaging.Limits{})
	if err != nil {
		return nil, err
	}
	inputs, _, err := e.Embed(ctx, img)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return inputs, nil
}

// candidate is a way to fit a head.
type candidate struct {
	kind     string
	strength float64
	fit      func(x [][]float64, kind []int, kinds int, strength float64) (*head, error)
}

// linearExamples is how many pictures of every kind a linear head is worth trying
// from.
const linearExamples = 40

// bestHead chooses input and head by cross-validation, calibrates the
// temperature on what was left out, and fits the choice to everything.
func bestHead(ctx context.Context, x *examples, kinds int, fit *Fit) (*head, error) {
	candidates := []candidate{}
	for _, s := range []float64{0.02, 0.05, 0.1, 0.2, 0.4, 0.7} {
		candidates = append(candidates, candidate{"prototypes", s, prototypes})
	}
	if slices.Min(fit.Pictures) >= linearExamples {
		for _, s := range []float64{0.003, 0.01, 0.03, 0.1} {
			candidates = append(candidates, candidate{"linear", s, linear})
		}
	}
	var best *validated
	for _, input := range []string{models.LeafHeadFeatures, models.LeafHeadEmbedding} {
		for _, c := range candidates {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			v, err := crossValidate(x, input, kinds, c)
			if err != nil {
				return nil, err
			}
			if best == nil || v.better(best) {
				best = v
			}
		}
	}
	h, err := best.fit(x.inputs[best.input], x.kind, kinds, best.strength)
	if err != nil {
		return nil, err
	}
	h.cool(best.temperature)
	fit.Head, fit.Input, fit.Strength, fit.Temperature = best.kind, best.input, best.strength, best.temperature
	fit.Confusion = best.confusion
	right := 0
	for k := range kinds {
		right += best.confusion[k][k]
	}
	fit.Accuracy, fit.Interval = wilson(right, len(x.kind))
	return h, nil
}

// validated is a candidate with what it does for pictures it has not seen.
type validated struct {
	candidate
	input       string
	confusion   [][]int
	temperature float64
	loss        float64 // of the calibrated probabilities, nats a picture
	right       int
}

// better prefers accuracy, and of equal ones the better probabilities.
func (v *validated) better(o *validated) bool {
	return cmp.Or(cmp.Compare(v.right, o.right), cmp.Compare(o.loss, v.loss)) > 0
}

// folds of the cross-validation.
const folds = 5

func crossValidate(x *examples, input string, kinds int, c candidate) (*validated, error) {
	all := x.inputs[input]
	logits := make([][]float64, len(all))
	fold := make([]int, len(all))
	for k := range kinds {
		for i, n := range x.of(k) {
			fold[n] = i % folds
		}
	}
	for f := range folds {
		var seen [][]float64
		var kind []int
		for i := range all {
			if fold[i] != f {
				seen, kind = append(seen, all[i]), append(kind, x.kind[i])
			}
		}
		h, err := c.fit(seen, kind, kinds, c.strength)
		if err != nil {
			return nil, err
		}
		for i := range all {
			if fold[i] == f {
				logits[i] = h.logits(all[i])
			}
		}
	}
	v := &validated{candidate: c, input: input, confusion: make([][]int, kinds)}
	for k := range kinds {
		v.confusion[k] = make([]int, kinds)
	}
	for i, l := range logits {
		guess := argmax(l)
		v.confusion[x.kind[i]][guess]++
		if guess == x.kind[i] {
			v.right++
		}
	}
	v.temperature, v.loss = calibrate(logits, x.kind)
	return v, nil
}

func argmax(v []float64) int {
	best := 0
	for i := range v {
		if v[i] > v[best] {
			best = i
		}
	}
	return best
}

// calibrate finds the temperature under which left-out pictures' kinds are most
// likely. Each picture counts a little for every kind, by Laplace's rule, so that
// kinds that are told apart without a mistake do not get probabilities of 1.
func calibrate(logits [][]float64, kind []int) (temperature, loss float64) {
	loss = math.Inf(1)
	doubt := 1 / float64(len(logits)+2)
	for t := 0.1; t < 200; t *= 1.05 {
		sum := 0.0
		for i, l := range logits {
			mean := 0.0
			for _, v := range l {
				mean += v / t / float64(len(l))
			}
			sum += logSum(l, t) - (1-doubt)*l[kind[i]]/t - doubt*mean
		}
		if sum /= float64(len(logits)); sum < loss {
			temperature, loss = t, sum
		}
	}
	return temperature, loss
}

// logSum is log Σ exp(l/t).
func logSum(l []float64, t float64) float64 {
	top := slices.Max(l) / t
	sum := 0.0
	for _, v := range l {
		sum += math.Exp(v/t - top)
	}
	return top + math.Log(sum)
}

// wilson is a share with its 95 % interval.
func wilson(right, n int) (share float64, interval [2]float64) {
	const z = 1.959963984540054
	total := float64(n)
	share = float64(right) / total
	middle := (share + z*z/(2*total)) / (1 + z*z/total)
	half := z / (1 + z*z/total) * math.Sqrt(share*(1-share)/total+z*z/(4*total*total))
	return share, [2]float64{max(0, middle-half), min(1, middle+half)}
}
