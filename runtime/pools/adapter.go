package pools

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"unirestorer/graph/models"
	"unirestorer/weights"
)

// Adapter is an adapter as read from a file or folder, its factors as matrices;
// see [models.AdapterConfig].
type Adapter struct {
	Form   string
	Layers []Layer
	// Replaced are whole tensors, under the base's names.
	Replaced []*weights.Tensor
}

// checkFinite reads all values.
func (a *Adapter) checkFinite() error {
	for _, l := range a.Layers {
		if err := errors.Join(l.A.CheckFinite(), l.B.CheckFinite()); err != nil {
			return err
		}
	}
	return checkFinite(a.Replaced)
}

func checkFinite(all []*weights.Tensor) error {
	for _, t := range all {
		if err := t.CheckFinite(); err != nil {
			return err
		}
	}
	return nil
}

// Layer is the adapter of one layer: Scale·B·A.
type Layer struct {
	Name  string
	A, B  *weights.Tensor
	Scale float64
	// Base is the weight that the adapter is added to, where it is at hand.
	Base *weights.Tensor
}

// target is what an adapter has to fit.
type target struct {
	specs map[string]models.Spec
	names []string
}

func newTarget(base models.Network) (*target, error) {
	specs, err := models.Stored(base)
	if err != nil {
		return nil, err
	}
	t := &target{specs: make(map[string]models.Spec, len(specs))}
	for _, s := range models.Used(specs) {
		t.specs[s.Name] = s
		t.names = append(t.names, s.Name)
	}
	return t, nil
}

// ReadAdapter reads an adapter of base: a folder of Hugging Face's PEFT
// (adapter_config.json and adapter_model.safetensors), or a file in kohya's or
// loralib's form. loraScale is alpha/r of loralib's, which does not store it; 0
// means 1. The caller closes the file after the adapter was used.
func ReadAdapter(path string, base models.Network, loraScale float64) (_ *Adapter, _ weights.File, err error) {
	t, err := newTarget(base)
	if err != nil {
		return nil, nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read adapter: %w", err)
	}
	var config *peftConfig
	file := path
	if info.IsDir() {
		if config, file, err = openPEFT(path); err != nil {
			return nil, nil, fmt.Errorf("read adapter %s: %w", path, err)
		}
	}
	f, err := weights.Open(file)
	if err != nil {
		return nil, nil, fmt.Errorf("read adapter: %w", err)
	}
	a, err := t.read(f, config, loraScale)
	if err == nil {
		err = a.check()
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("read adapter %s: %w", path, err), f.Close())
	}
	return a, f, nil
}

// check sorts the layers and refuses what is no adapter, or two of one layer.
func (a *Adapter) check() error {
	if len(a.Layers) == 0 {
		err := errors.New("it holds no adapter: no lora_A and lora_B, no lora_down and lora_up")
		if len(a.Replaced) > 0 {
			err = fmt.Errorf("%w, only whole tensors; pool add adds a whole network", err)
		}
		return err
	}
	slices.SortFunc(a.Layers, func(x, y Layer) int { return cmp.Compare(x.Name, y.Name) })
	for i, l := range a.Layers[1:] {
		if l.Name == a.Layers[i].Name {
			return fmt.Errorf("tensors %q and %q adapt one layer, %q", a.Layers[i].A.Name, l.A.Name, l.Name)
		}
	}
	names := map[string]bool{}
	for _, t := range a.Replaced {
		if names[t.Name] {
			return fmt.Errorf("it holds %q twice", t.Name)
		}
		names[t.Name] = true
	}
	return nil
}

func (t *target) read(f weights.Source, config *peftConfig, loraScale float64) (*Adapter, error) {
	names := f.Names()
	for _, name := range names {
		if what := foreign(name); what != "" {
			return nil, fmt.Errorf("tensor %q: %s adapters are not supported", name, what)
		}
	}
	has := func(part string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, part) })
	}
	switch {
	case config != nil:
		return t.peft(f, config)
	case has(kohyaDown):
		return t.kohya(f)
	case has(peftA):
		return nil, errors.New("this is a PEFT file: give the folder that holds it together with " + peftConfigFile)
	default:
		return t.loralib(f, loraScale)
	}
}

// foreign names the kind of adapter that a tensor belongs to, of those that are
// no low-rank term.
func foreign(name string) string {
	for part, kind := range map[string]string{
		"lora_magnitude_vector": "DoRA", "dora_scale": "DoRA", "hada_w1": "LoHa", "hada_w2": "LoHa", "lokr_w": "LoKr",
		"lora_mid": "CP-decomposed (lora_mid)", "oft_": "OFT", "vera_lambda": "VeRA", "ia3_l": "IA³", "lora_embedding": "embedding",
		"lora_bottleneck": "bottleneck", "boft_": "BOFT",
	} {
		if strings.Contains(name, part) {
			return kind
		}
	}
	return ""
}

// low checks a pair of factors against the layer's weight and makes matrices of
// them. They are in a convolution's form, a [r, Cin, k, k] and b [Cout, r, 1, 1],
// or a linear layer's, [r, Cin] and [Cout, r].
func (t *target) low(layer string, a, b *weights.Tensor, scale float64) (Layer, error) {
	w, ok := t.specs[layer+".weight"]
	if !ok {
		return Layer{}, t.noLayer(a.Name, layer)
	}
	unfit := fmt.Errorf("tensors %q %v and %q %v do not fit the base's %q %v", a.Name, a.Shape, b.Name, b.Shape, w.Name, w.Dims)
	if len(a.Shape) < 2 || len(b.Shape) < 2 || len(w.Dims) < 2 || a.NumElements() == 0 || b.NumElements() == 0 {
		return Layer{}, unfit
	}
	r := a.Shape[0]
	columns := int(w.Elems()) / w.Dims[0]
	if !reads(a.Shape, w.Dims) || b.Shape[0] != w.Dims[0] || b.Shape[1] != r || !ones(b.Shape[2:]) {
		if len(w.Dims) == 4 && w.Dims[1] == 1 && w.Dims[0] > 1 {
			return Layer{}, fmt.Errorf("%w; it is a depthwise convolution, whose adapters have no common form", unfit)
		}
		return Layer{}, unfit
	}
	l := Layer{Name: layer, Scale: scale}
	var err error
	if l.A, err = a.Reshaped(r, columns); err != nil {
		return l, err
	}
	l.B, err = b.Reshaped(w.Dims[0], r)
	return l, err
}

// ones tells whether all sizes are 1.
func ones(dims []int) bool {
	return !slices.ContainsFunc(dims, func(d int) bool { return d != 1 })
}

// reads tells whether a factor of shape a, [r, …], reads what a weight of shape w, [Cout, …], reads: the same window of
// the same channels, or the same channels where one of the two is written as a matrix.
func reads(a, w []int) bool {
	if slices.Equal(a[1:], w[1:]) {
		return true
	}
	return a[1] == w[1] && (len(w) == 2 && ones(a[2:]) || len(a) == 2 && ones(w[2:]))
}

// noLayer says that a tensor adapts a layer that the base does not have.
func (t *target) noLayer(tensor, layer string) error {
	err := fmt.Errorf("tensor %q fits no layer of the base: it has no %q", tensor, layer+".weight")
	if near := weights.NearestNames(layer+".weight", t.names); len(near) > 0 {
		err = fmt.Errorf("%w; near it: %q", err, near)
	}
	return err
}

// replaced takes a whole tensor.
func (t *target) replace(a *Adapter, name string, x *weights.Tensor) error {
	s, ok := t.specs[name]
	if !ok {
		return fmt.Errorf("tensor %q fits nothing in the base: it has no %q", x.Name, name)
	}
	if !slices.Equal(s.Dims, x.Shape) {
		return fmt.Errorf("tensor %q has shape %v, the base's %q has %v", x.Name, x.Shape, name, s.Dims)
	}
	a.Replaced = append(a.Replaced, x.WithName(name))
	return nil
}

// Names of factors in the two other forms.
const (
	kohyaDown, kohyaUp, kohyaAlpha = ".lora_down.weight", ".lora_up.weight", ".alpha"
	kohyaPrefix                    = "lora_unet_"
)

// kohya reads a file of kohya's scripts: PREFIX_LAYER.lora_down.weight, .lora_up.weight
// and .alpha, the layer's dots written as underscores; the scale is alpha/rank, 1
// without alpha.
func (t *target) kohya(f weights.Source) (*Adapter, error) {
	layers := map[string]string{}
	for _, name := range t.names {
		if layer, ok := strings.CutSuffix(name, ".weight"); ok {
			flat := strings.ReplaceAll(layer, ".", "_")
			if other, twice := layers[flat]; twice {
				return nil, fmt.Errorf("the base's layers %q and %q are written alike in this form", other, layer)
			}
			layers[flat] = layer
		}
	}
	a := &Adapter{Form: "kohya"}
	for _, name := range f.Names() {
		x, err := f.Tensor(name)
		if err != nil {
			return nil, err
		}
		module, isDown := strings.CutSuffix(name, kohyaDown)
		if !isDown {
			if err := t.partOfKohya(f, name); err != nil {
				return nil, err
			}
			continue
		}
		flat := strings.TrimPrefix(module, kohyaPrefix)
		layer, ok := layers[strings.ReplaceAll(flat, ".", "_")]
		if !ok {
			return nil, t.noLayer(name, flat)
		}
		up, err := f.Tensor(module + kohyaUp)
		if err != nil {
			return nil, err
		}
		scale, err := alphaOf(f, module, x)
		if err != nil {
			return nil, err
		}
		if err := t.add(a, layer, x, up, scale); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// add gives the adapter a layer of two factors.
func (t *target) add(a *Adapter, layer string, down, up *weights.Tensor, scale float64) error {
	l, err := t.low(layer, down, up, scale)
	if err != nil {
		return err
	}
	a.Layers = append(a.Layers, l)
	return nil
}

// partOfKohya refuses a tensor that belongs to no pair of factors.
func (t *target) partOfKohya(f weights.Source, name string) error {
	for _, suffix := range []string{kohyaUp, kohyaAlpha} {
		if module, ok := strings.CutSuffix(name, suffix); ok {
			if _, err := f.Tensor(module + kohyaDown); err == nil {
				return nil
			}
		}
	}
	return fmt.Errorf("tensor %q belongs to no adapter of a layer", name)
}

func alphaOf(f weights.Source, module string, down *weights.Tensor) (float64, error) {
	x, err := f.Tensor(module + kohyaAlpha)
	if err != nil {
		return 1, nil
	}
	v, err := x.Float32()
	if err != nil {
		return 0, err
	}
	if len(v) != 1 || len(down.Shape) == 0 || down.Shape[0] == 0 {
		return 0, fmt.Errorf("tensor %q has shape %v, want one number", x.Name, x.Shape)
	}
	return float64(v[0]) / float64(down.Shape[0]), nil
}

// loralib reads a file of loralib's adapters: LAYER.lora_A and LAYER.lora_B, for a
// k×k convolution [r·k, Cin·k] and [Cout·k, r·k]. Tensors that the base has too
// replace them; LAYER.conv.NAME is LAYER.NAME there.
func (t *target) loralib(f weights.Source, scale float64) (*Adapter, error) {
	a := &Adapter{Form: "loralib"}
	scale = cmp.Or(scale, 1)
	names := f.Names()
	prefix := commonPrefix(names)
	for _, name := range names {
		x, err := f.Tensor(name)
		if err != nil {
			return nil, err
		}
		short := strings.TrimPrefix(name, prefix)
		if layer, ok := strings.CutSuffix(short, models.FactorA); ok {
			up, err := f.Tensor(prefix + layer + models.FactorB)
			if err != nil {
				return nil, err
			}
			w, ok := t.specs[layer+".weight"]
			if !ok {
				return nil, t.noLayer(name, layer)
			}
			base, err := weights.NewComputed(w.Name, w.Dims, w.Name, nil)
			if err != nil {
				return nil, err
			}
			if _, err := weights.NewLowRank(base, x, up, scale); err != nil || len(x.Shape) != 2 || len(up.Shape) != 2 {
				return nil, fmt.Errorf("tensors %q %v and %q %v do not fit the base's %q %v", name, x.Shape, up.Name, up.Shape, w.Name, w.Dims)
			}
			a.Layers = append(a.Layers, Layer{Name: layer, A: x, B: up, Scale: scale})
			continue
		}
		if layer, ok := strings.CutSuffix(short, models.FactorB); ok {
			if _, err := f.Tensor(prefix + layer + models.FactorA); err != nil {
				return nil, err
			}
			continue
		}
		if err := t.replace(a, strings.Replace(short, ".conv.", ".", 1), x); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// commonPrefix is "module." where all names have it.
func commonPrefix(names []string) string {
	const module = "module."
	if len(names) > 0 && !slices.ContainsFunc(names, func(n string) bool { return !strings.HasPrefix(n, module) }) {
		return module
	}
	return ""
}

// inFolder finds the only file that exists of several names.
func inFolder(dir string, names ...string) (string, error) {
	for _, name := range names {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path, nil
		}
	}
	return "", fmt.Errorf("no %s in it", strings.Join(names, " and no "))
}
