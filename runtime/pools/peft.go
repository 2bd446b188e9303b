package pools

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"

	"unirestorer/weights"
)

// Files of a PEFT folder, and names in it.
const (
	peftConfigFile  = "adapter_config.json"
	peftModelFile   = "adapter_model.safetensors"
	peftOldModel    = "adapter_model.bin"
	peftPrefix      = "base_model.model."
	peftA, peftB    = ".lora_A.", ".lora_B."
	peftDefault     = "default." // the adapter's name, in state dicts that were not stripped of it
	peftSavedModule = "modules_to_save."
	maxPEFTConfig   = 1 << 20
)

// peftConfig is what matters of adapter_config.json.
type peftConfig struct {
	Type         string            `json:"peft_type"`
	R            int               `json:"r"`
	Alpha        float64           `json:"lora_alpha"`
	RSLoRA       bool              `json:"use_rslora"`
	DoRA         bool              `json:"use_dora"`
	FanInFanOut  bool              `json:"fan_in_fan_out"`
	LoRABias     bool              `json:"lora_bias"`
	Init         any               `json:"init_lora_weights"`
	RankPattern  patterns[int]     `json:"rank_pattern"`
	AlphaPattern patterns[float64] `json:"alpha_pattern"`
	QALoRA       bool              `json:"use_qalora"`
	Replication  any               `json:"layer_replication"`
	Parameters   any               `json:"target_parameters"`
	Tokens       any               `json:"trainable_token_indices"`
}

// pattern gives a value to layers: those whose whole name, or its end after a dot, a regular expression matches.
type pattern[T any] struct {
	rule  *regexp.Regexp
	value T
}

// patterns is a table of them, in the file's order: the first that matches a layer counts.
type patterns[T any] []pattern[T]

// UnmarshalJSON reads an object.
func (p *patterns[T]) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	start, err := d.Token()
	if err != nil || start == nil {
		return err
	}
	if start != json.Delim('{') {
		return errors.New("a table of patterns is no object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var x pattern[T]
		if err := d.Decode(&x.value); err != nil {
			return err
		}
		text := key.(string) // as keys of objects are
		rule := `^(?:.*\.)?(?:` + text + `)$`
		if strings.HasPrefix(text, "^") {
			rule = `^(?:` + text + `)$`
		}
		if x.rule, err = regexp.Compile(rule); err != nil {
			return fmt.Errorf("pattern %q: %w", text, err)
		}
		*p = append(*p, x)
	}
	return nil
}

// of is a layer's value.
func (p patterns[T]) of(layer string, otherwise T) T {
	for _, x := range p {
		if x.rule.MatchString(layer) {
			return x.value
		}
	}
	return otherwise
}

// openPEFT reads the configuration of a PEFT folder and finds its tensors.
func openPEFT(dir string) (*peftConfig, string, error) {
	path, err := inFolder(dir, peftConfigFile)
	if err != nil {
		return nil, "", err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, "", err
	}
	c, err := parsePEFT(data)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", peftConfigFile, err)
	}
	file, err := inFolder(dir, peftModelFile, peftOldModel)
	return c, file, err
}

func parsePEFT(data []byte) (*peftConfig, error) {
	if len(data) > maxPEFTConfig {
		return nil, fmt.Errorf("longer than %d bytes", maxPEFTConfig)
	}
	c := &peftConfig{R: 8, Alpha: 8}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(c); err != nil {
		return nil, err
	}
	if err := c.supported(); err != nil {
		return nil, err
	}
	return c, nil
}

// supported refuses, by name, what is no plain low-rank term over the base.
func (c *peftConfig) supported() error {
	if c.Type != "LORA" {
		return fmt.Errorf("peft_type %q is not supported, only LORA", c.Type)
	}
	for name, set := range map[string]bool{
		"use_dora (DoRA)": c.DoRA, "fan_in_fan_out": c.FanInFanOut, "lora_bias": c.LoRABias, "use_qalora (QALoRA)": c.QALoRA,
		"layer_replication": c.Replication != nil, "target_parameters": !empty(c.Parameters), "trainable_token_indices": !empty(c.Tokens),
	} {
		if set {
			return fmt.Errorf("%s is not supported", name)
		}
	}
	// These start from a base with other weights than the one the adapter is
	// added to.
	if init, ok := c.Init.(string); ok {
		for _, kind := range []string{"pissa", "olora", "corda", "loftq"} {
			if strings.HasPrefix(strings.ToLower(init), kind) {
				return fmt.Errorf("init_lora_weights %q is not supported: its base has other weights; store the adapter converted to plain LoRA", init)
			}
		}
	}
	if c.R <= 0 || math.IsNaN(c.Alpha) || math.IsInf(c.Alpha, 0) {
		return fmt.Errorf("r %d with lora_alpha %g", c.R, c.Alpha)
	}
	return nil
}

func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// scale is alpha/r, or alpha/√r with rsLoRA, of a layer, whose rank must be r.
func (c *peftConfig) scale(layer string, r int) (float64, error) {
	want := c.RankPattern.of(layer, c.R)
	if want != r {
		return 0, fmt.Errorf("layer %q has rank %d, %s says %d", layer, r, peftConfigFile, want)
	}
	alpha := c.AlphaPattern.of(layer, c.Alpha)
	if c.RSLoRA {
		return alpha / math.Sqrt(float64(r)), nil
	}
	return alpha / float64(r), nil
}

// peft reads the tensors of a PEFT folder.
func (t *target) peft(f weights.Source, c *peftConfig) (*Adapter, error) {
	a := &Adapter{Form: "peft"}
	for _, name := range f.Names() {
		x, err := f.Tensor(name)
		if err != nil {
			return nil, err
		}
		short := strings.TrimPrefix(name, peftPrefix)
		if layer, rest, ok := strings.Cut(short, peftA); ok {
			if trimmed := strings.TrimPrefix(rest, peftDefault); trimmed != "weight" {
				return nil, fmt.Errorf("tensor %q: want %sweight at its end", name, peftA)
			}
			up, err := f.Tensor(strings.Replace(name, peftA, peftB, 1))
			if err != nil {
				return nil, err
			}
			if len(x.Shape) == 0 {
				return nil, fmt.Errorf("tensor %q is a scalar", name)
			}
			if _, ok := t.specs[layer+".weight"]; !ok {
				return nil, t.noLayer(name, layer)
			}
			scale, err := c.scale(layer, x.Shape[0])
			if err != nil {
				return nil, err
			}
			if err := t.add(a, layer, x, up, scale); err != nil {
				return nil, err
			}
			continue
		}
		if strings.Contains(short, peftB) {
			if _, err := f.Tensor(strings.Replace(name, peftB, peftA, 1)); err != nil {
				return nil, err
			}
			continue
		}
		if strings.Contains(short, "lora_") {
			return nil, fmt.Errorf("tensor %q is none that this kind of adapter has", name)
		}
		// Whole modules, and biases that were trained along.
		whole := strings.NewReplacer(".base_layer.", ".", "."+peftSavedModule+peftDefault, ".", "."+peftSavedModule, ".").Replace(short)
		if err := t.replace(a, whole, x); err != nil {
			return nil, err
		}
	}
	return a, nil
}
