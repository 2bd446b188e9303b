package models

import (
	"errors"
	"fmt"
	"slices"

	"unirestorer/graph"
	"unirestorer/weights"
)

// AdapterConfig makes an expert of its base: a network of the base's
// architecture and arguments in which some layers' weights have a low-rank term
// added and some tensors are replaced. The expert's prefix stands before
//
//	LAYER.lora_A  [inner, columns]
//	LAYER.lora_B  [rows, inner]
//
// and the effective weight of a layer is base + Scale·B·A, the product read row
// by row as the weight's dimensions. A convolution's adapter in PEFT's or
// kohya's form, [r, Cin, k, k] and [Cout, r, 1, 1], is that with Cin·k·k columns
// and Cout rows; loralib's is that with Cin·k columns and Cout·k rows.
type AdapterConfig struct {
	// Form says where the adapter is from, for people: peft, kohya or loralib.
	Form   string         `json:"form"`
	Layers []AdapterLayer `json:"layers"`
	// Replaced are the base's tensors that the expert has for itself.
	Replaced []string `json:"replaced,omitempty"`
}

// AdapterLayer is the low-rank term of one layer.
type AdapterLayer struct {
	// Name is the layer's; its weight is Name.weight.
	Name string `json:"name"`
	// Inner is the rows of A and columns of B.
	Inner   int     `json:"inner"`
	Rows    int     `json:"rows"`
	Columns int     `json:"columns"`
	Scale   float64 `json:"scale"`
}

// Names of an adapter's factors after the layer's.
const (
	FactorA = ".lora_A"
	FactorB = ".lora_B"
)

// maxLayers bounds the layers of an adapter.
const maxLayers = 1 << 16

func (a *AdapterConfig) check() error {
	if len(a.Layers) > maxLayers || len(a.Replaced) > maxLayers {
		return fmt.Errorf("adapter of %d layers", len(a.Layers))
	}
	seen := map[string]bool{}
	for _, l := range a.Layers {
		if seen[l.Name] {
			return fmt.Errorf("adapter: layer %q occurs twice", l.Name)
		}
		seen[l.Name] = true
		if err := within("adapter of "+l.Name, 1<<30, l.Inner, l.Rows, l.Columns); err != nil {
			return err
		}
		if !(l.Scale > -1e9 && l.Scale < 1e9) {
			return fmt.Errorf("adapter of %s: scale %g", l.Name, l.Scale)
		}
	}
	return nil
}

// stored lists the adapter's tensors; base are those of its base.
func (a *AdapterConfig) stored(base []Spec) ([]Spec, error) {
	byName := make(map[string]Spec, len(base))
	for _, s := range base {
		byName[s.Name] = s
	}
	var all []Spec
	for _, l := range a.Layers {
		if w, ok := byName[l.Name+".weight"]; !ok || w.Elems() != int64(l.Rows)*int64(l.Columns) {
			return nil, fmt.Errorf("adapter: layer %q of %d×%d fits no weight of the base", l.Name, l.Rows, l.Columns)
		}
		all = append(all,
			Spec{Name: l.Name + FactorA, Dims: []int{l.Inner, l.Columns}},
			Spec{Name: l.Name + FactorB, Dims: []int{l.Rows, l.Inner}})
	}
	for _, name := range a.Replaced {
		s, ok := byName[name]
		if !ok {
			return nil, fmt.Errorf("adapter: the base has no tensor %q to replace", name)
		}
		all = append(all, s)
	}
	return all, nil
}

// adaptedSource is a base's tensors with an adapter's.
type adaptedSource struct {
	weights.Source // the base's
	adapter        weights.Source
	layers         map[string]AdapterLayer // by the name of the weight
	replaced       map[string]bool
}

func newAdaptedSource(base, adapter weights.Source, c *AdapterConfig) *adaptedSource {
	a := &adaptedSource{Source: base, adapter: adapter, layers: map[string]AdapterLayer{}, replaced: map[string]bool{}}
	for _, l := range c.Layers {
		a.layers[l.Name+".weight"] = l
	}
	for _, name := range c.Replaced {
		a.replaced[name] = true
	}
	return a
}

// Tensor gives the effective values of a tensor.
func (a *adaptedSource) Tensor(name string) (*weights.Tensor, error) {
	if a.replaced[name] {
		t, err := a.adapter.Tensor(name)
		if err != nil {
			return nil, err
		}
		return t, nil
	}
	layer, ok := a.layers[name]
	if !ok {
		return a.Source.Tensor(name)
	}
	lora, err := a.lora(name, layer)
	if err != nil {
		return nil, err
	}
	return lora.MergedTensor(name)
}

func (a *adaptedSource) lora(name string, layer AdapterLayer) (*weights.LoRA, error) {
	base, err := a.Source.Tensor(name)
	if err != nil {
		return nil, err
	}
	down, err := a.adapter.Tensor(layer.Name + FactorA)
	if err != nil {
		return nil, err
	}
	up, err := a.adapter.Tensor(layer.Name + FactorB)
	if err != nil {
		return nil, err
	}
	return weights.NewLowRank(base, down, up, layer.Scale)
}

// branch is the un-merged form of an adapted weight.
type branch struct {
	base *graph.Param
	lora *weights.LoRA
}

// adapted is the parameter of a tensor that l's adapter changes; ok is false for
// others.
func (l *loader) adapted(name string, dims []int) (p *graph.Param, ok bool) {
	a, is := l.src.(*adaptedSource)
	if !is {
		return nil, false
	}
	layer, low := a.layers[name]
	if !low && !a.replaced[name] {
		return nil, false
	}
	t, err := a.Tensor(name)
	if err != nil {
		l.Fail(err)
		return graph.NewParam(name, dims, nil, nil), true
	}
	p = l.fromTensor(name, dims, t)
	if !low {
		if l.switches {
			p.Adapter = &graph.Adapter{}
		}
		return p, true
	}
	lora, err := a.lora(name, layer)
	if err != nil {
		l.Fail(err)
		return p, true
	}
	base := l.fromTensor(name, dims, lora.Base)
	if l.switches {
		p.Adapter = &graph.Adapter{
			Base: base, Scale: lora.Scale,
			A: l.fromTensor(layer.Name+FactorA, lora.A.Shape, lora.A),
			B: l.fromTensor(layer.Name+FactorB, lora.B.Shape, lora.B),
		}
	}
	if l.unmerged {
		if l.branches == nil {
			l.branches = map[*graph.Param]branch{}
		}
		l.branches[p] = branch{base, lora}
	}
	return p, true
}

// Conv adds a convolution. With unmerged adapters an adapted weight becomes the
// base's with a low-rank branch, where the convolution can have one.
func (l *loader) Conv(name string, c graph.Conv) *graph.Tensor {
	b, ok := l.branches[c.Weight]
	if !ok || c.LowRank != nil || c.GroupsOr1() != 1 || l.Err() != nil {
		return l.Builder.Conv(name, c)
	}
	low, err := b.lora.LowRank()
	if err != nil {
		l.Fail(fmt.Errorf("%s: %w", name, err))
		return l.Builder.Conv(name, c)
	}
	dims := slices.Clone(c.Weight.Dims)
	for len(dims) < 4 {
		dims = append(dims, 1)
	}
	key := derivedKey{how: "low rank " + name}
	key.from[0], key.from[1], key.from[2] = b.lora.A.StorageKey(), b.lora.B.StorageKey(), b.lora.Scale
	factor := func(part string, values []float32, dims ...int) *graph.Param {
		k := key
		k.how += part
		return graph.NewParam(name+part, dims, k, func(dst []float32) error {
			copy(dst, values)
			return nil
		})
	}
	c.Weight = b.base
	c.LowRank = &graph.LowRank{
		Down: factor(FactorA, low.Down, low.Channels, dims[1], dims[2], dims[3]),
		Up:   factor(FactorB, low.Up, dims[0], low.Channels), Scale: 1, // in Up
	}
	return l.Builder.Conv(name, c)
}

// errStackedAdapter says that adapters of adapters are not supported.
var errStackedAdapter = errors.New("the base of an adapter is an adapter itself")
