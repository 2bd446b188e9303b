package weights

import (
	"fmt"
	"slices"
	"strings"
)

// The names of a ConvLoRA's tensors after the name of the module.
const (
	loraBaseSuffix   = ".conv.weight"
	loraBiasSuffix   = ".conv.bias"
	loraASuffix      = ".lora_A"
	loraBSuffix      = ".lora_B"
	loraWeightSuffix = ".weight" // of the effective weight; newer loralib also stores conv.weight again under it
	loraPlainBias    = ".bias"
)

// loraModules lists the modules of src that carry an adapter: every P with P.lora_A and P.lora_B, sorted. A module
// that lacks one of them or P.conv.weight is an error, because its weights would be wrong without a notice.
func loraModules(src Source) ([]string, error) {
	names := src.Names()
	have := make(map[string]bool, len(names))
	for _, name := range names {
		have[name] = true
	}
	var modules []string
	for _, name := range names {
		module, isA := strings.CutSuffix(name, loraASuffix)
		if !isA {
			var isB bool
			if module, isB = strings.CutSuffix(name, loraBSuffix); !isB {
				continue
			}
		}
		for _, suffix := range []string{loraBaseSuffix, loraASuffix, loraBSuffix} {
			if !have[module+suffix] {
				return nil, fmt.Errorf("LoRA module %q: %q is missing", module, module+suffix)
			}
		}
		if isA {
			modules = append(modules, module)
		}
	}
	slices.Sort(modules)
	return modules, nil
}

// LoadLoRA returns the adapter of a module of src: P.conv.weight, P.lora_A and P.lora_B for the module P.
func LoadLoRA(src Source, module string, alpha float64) (*LoRA, error) {
	var parts [3]*Tensor
	for i, suffix := range []string{loraBaseSuffix, loraASuffix, loraBSuffix} {
		var err error
		if parts[i], err = src.Tensor(module + suffix); err != nil {
			return nil, fmt.Errorf("LoRA module %q: %w", module, err)
		}
	}
	l, err := NewLoRA(parts[0], parts[1], parts[2], alpha)
	if err != nil {
		return nil, fmt.Errorf("LoRA module %q: %w", module, err)
	}
	return l, nil
}

// MergeSource shows src as the network without adapters: for each module P with an adapter there is P.weight, the
// effective weight in F32, computed when it is read, in place of P.conv.weight, P.lora_A and P.lora_B; and P.bias in
// place of P.conv.bias. A stored P.weight of such a module is the base again, which newer versions of loralib save
// twice, and is ignored. All other tensors are passed through.
//
// alpha gives the numerator of the scaling alpha/r of a module, whose rank the shapes tell.
func MergeSource(src Source, alpha func(module string, rank int) (float64, error)) (Source, error) {
	modules, err := loraModules(src)
	if err != nil {
		return nil, err
	}
	m := &merged{src: src, weights: make(map[string]*Tensor, len(modules)), renamed: make(map[string]string)}
	hidden := make(map[string]bool)
	shown := make(map[string]string) // by the stored name in whose place it is
	for _, module := range modules {
		l, err := LoadLoRA(src, module, 0)
		if err != nil {
			return nil, err
		}
		a, err := alpha(module, l.Rank)
		if err != nil {
			return nil, fmt.Errorf("LoRA module %q: %w", module, err)
		}
		if l, err = NewLoRA(l.Base, l.A, l.B, a); err != nil {
			return nil, fmt.Errorf("LoRA module %q: %w", module, err)
		}
		name := module + loraWeightSuffix
		if m.weights[name], err = l.MergedTensor(name); err != nil {
			return nil, fmt.Errorf("LoRA module %q: %w", module, err)
		}
		shown[module+loraBaseSuffix] = name
		hidden[module+loraASuffix], hidden[module+loraBSuffix], hidden[name] = true, true, true
		m.renamed[module+loraPlainBias] = module + loraBiasSuffix
		shown[module+loraBiasSuffix] = module + loraPlainBias
	}
	for _, name := range src.Names() {
		if as, ok := shown[name]; ok {
			m.names = append(m.names, as)
		} else if !hidden[name] {
			m.names = append(m.names, name)
		}
	}
	m.hidden = hidden
	for name := range shown {
		m.hidden[name] = true
	}
	return m, nil
}

type merged struct {
	src     Source
	names   []string
	weights map[string]*Tensor // computed
	renamed map[string]string  // shown name to stored name
	hidden  map[string]bool    // stored names that are not shown
}

func (m *merged) Names() []string { return slices.Clone(m.names) }

func (m *merged) Tensor(name string) (*Tensor, error) {
	if t, ok := m.weights[name]; ok {
		return t, nil
	}
	if stored, ok := m.renamed[name]; ok {
		t, err := m.src.Tensor(stored)
		if err != nil {
			return nil, err
		}
		return t.WithName(name), nil
	}
	if m.hidden[name] {
		return nil, &MissingError{Name: name, names: m.Names}
	}
	return m.src.Tensor(name)
}
