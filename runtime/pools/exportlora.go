package pools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/gonum/mat"

	"unirestorer/graph/models"
	"unirestorer/runtime/experts"
	"unirestorer/weights"
	"unirestorer/weights/atomicfile"
)

// Forms of adapters that can be written.
const (
	FormPEFT    = "peft"
	FormLoralib = "loralib"
)

// Exported says what was written of an adapter.
type Exported struct {
	Form   string `json:"form"`
	Layers int    `json:"layers"`
	// Replaced counts the tensors that go along whole.
	Replaced int   `json:"replaced"`
	Bytes    int64 `json:"bytes"`
	// Scale is alpha/r of a file in loralib's form, which does not hold it itself.
	Scale float64 `json:"scale,omitempty"`
	// Refactored are the layers whose factors have no equal in the form: their
	// product was decomposed anew.
	Refactored []Refactored `json:"refactored,omitempty"`
}

// Refactored is a layer whose product was decomposed anew, with what that cost.
type Refactored struct {
	Layer string `json:"layer"`
	// Was and Is are ranks.
	Was int `json:"was"`
	Is  int `json:"is"`
	// Error is the norm of the difference over that of the product.
	Error float64 `json:"error"`
}

// ExportLoRA writes the adapter that makes expert i of its base: a PEFT folder, or
// a file in loralib's form. Factors that the form holds as they are keep their
// bits. Norms and all else that the expert has for itself go along whole.
func ExportLoRA(ctx context.Context, m *experts.Model, i int, form, out string) (_ *Exported, err error) {
	e := m.Config.Experts[i]
	defer func() {
		if err != nil {
			err = fmt.Errorf("export the adapter of expert %d (%s): %w", i, e.Name, err)
		}
	}()
	a, dims, err := adapterOf(m, i)
	if err != nil {
		return nil, err
	}
	x := &exporter{dims: dims, report: &Exported{Form: form, Layers: len(a.Layers), Replaced: len(a.Replaced)}}
	switch form {
	case FormPEFT:
		return x.report, x.peft(ctx, a, out)
	case FormLoralib:
		return x.report, x.loralib(ctx, a, out)
	default:
		return nil, fmt.Errorf("form %q: want %s or %s", form, FormPEFT, FormLoralib)
	}
}

// adapterOf is the adapter of an expert, with the dimensions of the base's
// tensors.
func adapterOf(m *experts.Model, i int) (*Adapter, map[string][]int, error) {
	e := m.Config.Experts[i]
	switch {
	case e.Adapter != nil:
		return addedAdapter(m, i)
	case e.Architecture == models.LoRARestormerName:
		return restormerAdapter(m, i)
	}
	return nil, nil, fmt.Errorf("it is no adapter but a whole %s; lora extract makes one of the difference to another expert", e.Architecture)
}

func baseDims(net models.Network) (map[string][]int, error) {
	specs, err := models.Stored(net)
	if err != nil {
		return nil, err
	}
	dims := make(map[string][]int, len(specs))
	for _, s := range specs {
		dims[s.Name] = s.Dims
	}
	return dims, nil
}

// addedAdapter is one that pool add-lora added.
func addedAdapter(m *experts.Model, i int) (*Adapter, map[string][]int, error) {
	e := m.Config.Experts[i]
	net, err := m.Config.Expert(i)
	if err != nil {
		return nil, nil, err
	}
	dims, err := baseDims(net)
	if err != nil {
		return nil, nil, err
	}
	own, base := weights.Prefix(m.Source, e.Prefix), m.Config.ExpertSource(m.Source, *e.Base)
	a := &Adapter{Form: e.Adapter.Form}
	for _, l := range e.Adapter.Layers {
		down, err := own.Tensor(l.Name + models.FactorA)
		if err != nil {
			return nil, nil, err
		}
		up, err := own.Tensor(l.Name + models.FactorB)
		if err != nil {
			return nil, nil, err
		}
		weight, err := base.Tensor(l.Name + ".weight")
		if err != nil {
			return nil, nil, err
		}
		a.Layers = append(a.Layers, Layer{Name: l.Name, A: down, B: up, Scale: l.Scale, Base: weight})
	}
	for _, name := range e.Adapter.Replaced {
		t, err := own.Tensor(name)
		if err != nil {
			return nil, nil, err
		}
		a.Replaced = append(a.Replaced, t.WithName(name))
	}
	return a, dims, nil
}

// restormerAdapter is that of a LoRARestormer: its factors, and what differs from
// its base otherwise.
func restormerAdapter(m *experts.Model, i int) (*Adapter, map[string][]int, error) {
	e := m.Config.Experts[i]
	net, err := m.Config.Expert(i)
	if err != nil {
		return nil, nil, err
	}
	lora := net.(*models.LoRARestormer)
	dims, err := baseDims(&lora.Restormer)
	if err != nil {
		return nil, nil, err
	}
	own := weights.Prefix(m.Source, e.Prefix)
	var base weights.Source
	if e.Base != nil {
		base = m.Config.ExpertSource(m.Source, *e.Base)
	}
	specs, err := models.Stored(net)
	if err != nil {
		return nil, nil, err
	}
	a := &Adapter{Form: FormLoralib}
	for _, s := range models.Used(specs) {
		if strings.HasSuffix(s.Name, models.FactorA) || strings.HasSuffix(s.Name, models.FactorB) {
			continue
		}
		if err := restormerTensor(a, lora, own, base, s.Name); err != nil {
			return nil, nil, err
		}
	}
	return a, dims, nil
}

// restormerTensor adds what a tensor of a LoRARestormer is to the adapter.
func restormerTensor(a *Adapter, lora *models.LoRARestormer, own, base weights.Source, name string) error {
	t, err := own.Tensor(name)
	if err != nil {
		return err
	}
	plain := strings.Replace(name, ".conv.", ".", 1)
	same := true // without its base at hand, the expert's own base is the base
	if base != nil {
		other, err := base.Tensor(plain)
		if err != nil {
			return err
		}
		if same, err = equal(t, other); err != nil {
			return err
		}
	}
	module, isBase := strings.CutSuffix(name, ".conv.weight")
	down, noFactors := own.Tensor(module + models.FactorA)
	if isBase && noFactors == nil {
		up, err := own.Tensor(module + models.FactorB)
		if err != nil {
			return err
		}
		scale, err := lora.ScaleOf(module)
		if err != nil {
			return err
		}
		if same {
			a.Layers = append(a.Layers, Layer{Name: module, A: down, B: up, Scale: scale, Base: t})
			return nil
		}
		low, err := weights.NewLowRank(t, down, up, scale)
		if err != nil {
			return err
		}
		if t, err = low.MergedTensor(plain); err != nil {
			return err
		}
	} else if same && base != nil {
		return nil
	}
	a.Replaced = append(a.Replaced, t.WithName(plain))
	return nil
}

func equal(a, b *weights.Tensor) (bool, error) {
	if a.StorageKey() == b.StorageKey() {
		return true, nil
	}
	if !slices.Equal(a.Shape, b.Shape) {
		return false, nil
	}
	x, err := a.Float32()
	if err != nil {
		return false, err
	}
	y, err := b.Float32()
	return slices.Equal(x, y), err
}

// exporter writes an adapter in one of the forms.
type exporter struct {
	dims   map[string][]int
	report *Exported
}

// rankAlpha is how a layer of a PEFT adapter is scaled.
type rankAlpha struct {
	r     int
	alpha float64
}

// peft writes a PEFT folder.
func (x *exporter) peft(ctx context.Context, a *Adapter, dir string) error {
	layers := map[string]rankAlpha{}
	var tensors []*weights.Tensor
	whole := slices.Clone(a.Replaced)
	for _, l := range a.Layers {
		w := x.dims[l.Name+".weight"]
		if w == nil {
			return fmt.Errorf("layer %q has no weight in the base", l.Name)
		}
		l, merged, err := x.convolved(l, w)
		if err != nil {
			return err
		}
		if merged != nil {
			whole = append(whole, merged)
			continue
		}
		factors, err := peftFactors(l, w)
		if err != nil {
			return err
		}
		tensors = append(tensors, factors...)
		r := l.A.Shape[0]
		layers[l.Name] = rankAlpha{r, l.Scale * float64(r)}
	}
	for _, t := range whole {
		named, err := stored(t, peftPrefix+t.Name, t.Shape)
		if err != nil {
			return err
		}
		tensors = append(tensors, named)
	}
	x.report.Layers, x.report.Replaced = len(layers), len(whole)
	text, err := json.MarshalIndent(peftSettings(layers, whole), "", "  ")
	if err != nil {
		return err
	}
	return x.folder(ctx, dir, append(text, '\n'), tensors)
}

// peftFactors are a layer's factors in the dimensions of two layers of w's kind.
func peftFactors(l Layer, w []int) ([]*weights.Tensor, error) {
	r := l.A.Shape[0]
	up := []int{w[0], r}
	for range len(w) - 2 {
		up = append(up, 1)
	}
	a, err := stored(l.A, peftPrefix+l.Name+peftA+"weight", append([]int{r}, w[1:]...))
	if err != nil {
		return nil, err
	}
	b, err := stored(l.B, peftPrefix+l.Name+peftB+"weight", up)
	return []*weights.Tensor{a, b}, err
}

// peftSettings is adapter_config.json: the rank and alpha that most layers have,
// and those of the others by name.
func peftSettings(layers map[string]rankAlpha, whole []*weights.Tensor) map[string]any {
	usual := map[rankAlpha]int{}
	for _, ra := range layers {
		usual[ra]++
	}
	main := rankAlpha{r: 1, alpha: 1}
	for ra, n := range usual {
		if n > usual[main] || n == usual[main] && (ra.r < main.r || ra.r == main.r && ra.alpha < main.alpha) {
			main = ra
		}
	}
	ranks, alphas, targets := map[string]int{}, map[string]float64{}, slices.Sorted(maps.Keys(layers))
	for name, ra := range layers {
		if ra.r != main.r {
			ranks[name] = ra.r
		}
		if ra.alpha != main.alpha {
			alphas[name] = ra.alpha
		}
	}
	config := map[string]any{
		"peft_type": "LORA", "task_type": nil, "base_model_name_or_path": nil, "inference_mode": true, "bias": "none",
		"r": main.r, "lora_alpha": main.alpha, "lora_dropout": 0.0, "fan_in_fan_out": false, "use_rslora": false, "use_dora": false,
		"init_lora_weights": true, "rank_pattern": ranks, "alpha_pattern": alphas, "target_modules": targets, "modules_to_save": nil,
	}
	var saved []string
	for _, t := range whole {
		if module := moduleOf(t.Name); !slices.Contains(saved, module) {
			saved = append(saved, module)
		}
	}
	if len(saved) > 0 {
		config["modules_to_save"] = saved
	}
	return config
}

// moduleOf is the module that a tensor belongs to.
func moduleOf(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[:i]
	}
	return name
}

// folder writes the two files of a PEFT folder, which appears when both are
// whole.
func (x *exporter) folder(ctx context.Context, dir string, config []byte, tensors []*weights.Tensor) (err error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s exists and is not empty", dir)
	}
	temp := atomicfile.Beside(dir)
	if err := os.MkdirAll(temp, 0o777); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	if err := x.safetensors(ctx, filepath.Join(temp, peftModelFile), tensors, map[string]string{"format": "pt"}); err != nil {
		return err
	}
	if err := atomicfile.Write(ctx, filepath.Join(temp, peftConfigFile), func(w io.Writer) error {
		_, err := w.Write(config)
		return err
	}); err != nil {
		return err
	}
	x.report.Bytes += int64(len(config))
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) { // an empty folder
		return err
	}
	return os.Rename(temp, dir)
}

func (x *exporter) safetensors(ctx context.Context, path string, tensors []*weights.Tensor, meta map[string]string) error {
	slices.SortFunc(tensors, func(a, b *weights.Tensor) int { return strings.Compare(a.Name, b.Name) })
	if err := weights.WriteSafetensors(ctx, path, tensors, meta); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err == nil {
		x.report.Bytes = info.Size()
	}
	return err
}

// loralib writes a file in loralib's form.
func (x *exporter) loralib(ctx context.Context, a *Adapter, path string) error {
	scale := 1.0
	if len(a.Layers) > 0 {
		scale = a.Layers[0].Scale
	}
	x.report.Scale = scale
	var tensors []*weights.Tensor
	for _, l := range a.Layers {
		w := x.dims[l.Name+".weight"]
		l, err := x.reshaped(l, w, scale)
		if err != nil {
			return err
		}
		for suffix, t := range map[string]*weights.Tensor{models.FactorA: l.A, models.FactorB: l.B} {
			t, err := stored(t, l.Name+suffix, t.Shape)
			if err != nil {
				return err
			}
			tensors = append(tensors, t)
		}
	}
	for _, t := range a.Replaced {
		t, err := stored(t, t.Name, t.Shape)
		if err != nil {
			return err
		}
		tensors = append(tensors, t)
	}
	return x.safetensors(ctx, path, tensors, map[string]string{"format": "pt", "lora_scale": fmt.Sprint(scale)})
}

// stored is a tensor under another name and in other dimensions, in fp16 where
// the pool has it so and in fp32 otherwise.
func stored(t *weights.Tensor, name string, dims []int) (*weights.Tensor, error) {
	t, err := t.Reshaped(dims...)
	if err != nil {
		return nil, err
	}
	if t.DType != weights.F32 && t.DType != weights.F16 {
		if t, err = t.As(weights.F32); err != nil {
			return nil, err
		}
	}
	return t.WithName(name), nil
}

// convolved is a layer in the form of two convolutions, B after A: as it is where
// its product's rows are the weight's filters, and decomposed anew otherwise.
// whole is the effective weight of a grouped convolution, which has no such form.
func (x *exporter) convolved(l Layer, w []int) (_ Layer, whole *weights.Tensor, err error) {
	columns := elems(w) / w[0]
	if l.B.Shape[0] == w[0] && l.A.Shape[1] == columns {
		return l, nil, nil
	}
	if l.B.Shape[0]%w[0] != 0 {
		low, err := weights.NewLowRank(l.Base, l.A, l.B, l.Scale)
		if err != nil {
			return l, nil, err
		}
		whole, err = low.MergedTensor(l.Name + ".weight")
		return l, whole, err
	}
	l, err = x.refactor(l, w[0], columns, 1)
	return l, nil, err
}

// reshaped is a layer in loralib's form, with that scale.
func (x *exporter) reshaped(l Layer, w []int, scale float64) (Layer, error) {
	k := 1
	if len(w) == 4 {
		k = w[3]
	}
	rows := w[0] * k
	if len(w) == 4 && w[1] == 1 && w[0] > 1 && k > 1 { // depthwise
		rows = k
	}
	if l.B.Shape[0] != rows || l.A.Shape[0]%k != 0 {
		var err error
		if l, err = x.refactor(l, rows, elems(w)/rows, k); err != nil {
			return l, err
		}
	}
	if l.Scale == scale {
		return l, nil
	}
	v, err := l.B.Float32()
	if err != nil {
		return l, err
	}
	for i := range v {
		v[i] = float32(float64(v[i]) * l.Scale / scale)
	}
	l.B, err = weights.FromFloat32(l.B.Name, l.B.Shape, v)
	l.Scale = scale
	return l, err
}

func elems(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

// refactor decomposes a layer's product, read as rows×columns, at the smallest
// rank that is a multiple of step and leaves out rounding alone. The scale
// becomes 1.
func (x *exporter) refactor(l Layer, rows, columns, step int) (Layer, error) {
	a, err := l.A.Float32()
	if err != nil {
		return l, err
	}
	b, err := l.B.Float32()
	if err != nil {
		return l, err
	}
	inner := l.A.Shape[0]
	wide := func(v []float32) []float64 {
		out := make([]float64, len(v))
		for i, f := range v {
			out[i] = float64(f)
		}
		return out
	}
	var product mat.Dense
	product.Mul(mat.NewDense(l.B.Shape[0], inner, wide(b)), mat.NewDense(inner, l.A.Shape[1], wide(a)))
	data := product.RawMatrix().Data
	for i := range data {
		data[i] *= l.Scale
	}
	m := mat.NewDense(rows, columns, data)
	var svd mat.SVD
	if !svd.Factorize(m, mat.SVDThin) {
		return l, fmt.Errorf("layer %q: the decomposition of its product did not converge", l.Name)
	}
	values := svd.Values(nil)
	const rounding = 1e-7
	rank := 1
	for rank < len(values) && values[rank] > rounding*values[0] {
		rank++
	}
	rank = (rank + step - 1) / step * step
	var u, v mat.Dense
	svd.UTo(&u)
	svd.VTo(&v)
	down, up := make([]float32, rank*columns), make([]float32, rows*rank)
	for r := range min(rank, len(values)) {
		root := math.Sqrt(values[r])
		for c := range columns {
			down[r*columns+c] = float32(v.At(c, r) * root)
		}
		for o := range rows {
			up[o*rank+r] = float32(u.At(o, r) * root)
		}
	}
	var again, difference mat.Dense
	again.Mul(mat.NewDense(rows, rank, wide(up)), mat.NewDense(rank, columns, wide(down)))
	difference.Sub(&again, m)
	share := 0.0
	if norm := mat.Norm(m, 2); norm > 0 {
		share = mat.Norm(&difference, 2) / norm
	}
	x.report.Refactored = append(x.report.Refactored, Refactored{Layer: l.Name, Was: inner, Is: rank, Error: share})
	if l.A, err = weights.FromFloat32(l.A.Name, []int{rank, columns}, down); err != nil {
		return l, err
	}
	l.B, err = weights.FromFloat32(l.B.Name, []int{rows, rank}, up)
	l.Scale = 1
	return l, err
}
