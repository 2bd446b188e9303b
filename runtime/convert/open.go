package convert

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"unirestorer/graph/models"
	"unirestorer/runtime/experts"
	"unirestorer/weights"
)

// OpenOptions are what a file of tensors does not tell about the network in it.
type OpenOptions struct {
	// Args are arguments of a single network, as a JSON object with upstream's
	// names and those of [models.Ports]; "architecture" names the architecture
	// itself.
	Args json.RawMessage
	// Root is the top-level key of a checkpoint's state dict; empty tries the
	// usual ones.
	Root string
	// Hints are those for a UniRestorer checkpoint.
	Hints Hints
}

// ReadArgs reads network arguments given as a JSON object or as the name of a
// file with one; an empty text gives none.
func ReadArgs(text string) (json.RawMessage, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, nil
	}
	args := json.RawMessage(text)
	if !strings.HasPrefix(text, "{") {
		data, err := os.ReadFile(text)
		if err != nil {
			return nil, fmt.Errorf("%q: neither a JSON object nor a file with one: %w", text, err)
		}
		args = data
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(args, &fields); err != nil {
		return nil, fmt.Errorf("%q: want a JSON object: %w", text, err)
	}
	return args, nil
}

// poolTensor marks a checkpoint of UniRestorer as a whole.
const poolTensor = "l0_experts."

// Open opens whatever serves as a model: a model folder; one network's file as
// its authors publish it (.pth, .pt, .ckpt, .safetensors), which becomes a pool
// of one without a router; or UniRestorer's own checkpoint.
func Open(ctx context.Context, path string, o OpenOptions) (*experts.Model, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open model: %w", err)
	}
	if info.IsDir() {
		if len(o.Args) > 0 {
			return nil, fmt.Errorf("open model %s: network arguments are for a single network's file; a model folder holds its own", path)
		}
		return experts.OpenModel(path)
	}
	f, err := OpenTensors(path, o.Root)
	if err != nil {
		return nil, err
	}
	m, err := modelOf(ctx, path, f, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open model %s: %w", path, err), f.Close())
	}
	return m, nil
}

func modelOf(ctx context.Context, path string, f weights.File, o OpenOptions) (*experts.Model, error) {
	if slices.ContainsFunc(f.Names(), func(n string) bool { return strings.HasPrefix(n, poolTensor) || strings.Contains(n, "."+poolTensor) }) {
		if len(o.Args) > 0 {
			return nil, errors.New("network arguments are for a single network's file, this is a whole pool")
		}
		plan, err := New(ctx, f, nil, o.Hints)
		if err != nil {
			return nil, err
		}
		return experts.NewModel(path, plan.Config, plan.Source(), f)
	}
	n, err := FindNetworkIn(f, o.Args)
	if err != nil {
		return nil, err
	}
	return experts.NewModel(path, n.Pool(Stem(path)), f, f)
}

// Stem is the name of a file without its folder and extension, by which models
// are called.
func Stem(path string) string {
	base := filepath.Base(path)
	return cmp.Or(strings.TrimSuffix(base, filepath.Ext(base)), base)
}

// singleRoots are the keys under which authors keep a network's state dict, the
// averaged weights first.
var singleRoots = []string{"params_ema", "ema", "model_ema", "state_dict_ema", "net_g_ema", "generator_ema", "params", "state_dict", "model_state_dict", "model", "net_g", "generator", "net", "network", ""}

// OpenTensors opens a file of tensors; root names a checkpoint's state dict,
// empty tries those that authors use.
func OpenTensors(path, root string) (weights.File, error) {
	roots := singleRoots
	if root != "" {
		roots = []string{root}
	}
	f, err := weights.OpenRoots(path, roots)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Single is one network found among the tensors of a file.
type Single struct {
	Architecture string
	Args         json.RawMessage
	// Prefix stands before the network's tensor names.
	Prefix string
	// Tensors are the network's, by name without the prefix, without what
	// inference does not read.
	Tensors []*weights.Tensor
}

// FindNetworkIn is findNetwork for a file, which says itself what its tensors do
// not tell if WriteExpert wrote it.
func FindNetworkIn(f weights.File, args json.RawMessage) (*Single, error) {
	if len(args) == 0 {
		args = writtenArgs(f)
	}
	return findNetwork(f, args)
}

// findNetwork finds the network whose tensors src holds, under whatever prefix,
// and checks that all are there and no others. args overrides what their shapes
// tell; see OpenOptions.
func findNetwork(src weights.Source, args json.RawMessage) (*Single, error) {
	hints, err := singleHints(args)
	if err != nil {
		return nil, err
	}
	prefix, err := findPrefix(src, hints)
	if err != nil {
		return nil, err
	}
	in := weights.Prefix(src, prefix)
	s := &Single{Prefix: prefix}
	if s.Architecture, s.Args, err = models.Recognise(in, hints); err != nil {
		return nil, err
	}
	if len(args) > 0 {
		// Overrides were parsed without knowing the architecture.
		hints.Args = map[string]json.RawMessage{s.Architecture: hints.Args[""]}
		if s.Architecture, s.Args, err = models.Recognise(in, hints); err != nil {
			return nil, err
		}
	}
	net, err := models.New(s.Architecture, s.Args)
	if err != nil {
		return nil, fmt.Errorf("%w (read off the tensors' shapes; --net-args gives other arguments)", err)
	}
	if s.Args, err = json.Marshal(net); err != nil {
		return nil, err
	}
	if err := models.CheckStored(net, in); err != nil {
		return nil, fmt.Errorf("%w (--net-args gives other arguments)", err)
	}
	specs, err := models.Stored(net)
	if err != nil {
		return nil, err
	}
	for _, spec := range models.Used(specs) {
		t, err := in.Tensor(spec.Name)
		if err != nil {
			return nil, err
		}
		s.Tensors = append(s.Tensors, t.WithName(spec.Name))
	}
	return s, nil
}

// singleHints reads network arguments: the architecture and the training size,
// which tell networks of equal tensors apart, and the rest, under "".
func singleHints(args json.RawMessage) (Hints, error) {
	h := Hints{Single: true}
	if len(args) == 0 {
		return h, nil
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(args, &fields); err != nil {
		return h, fmt.Errorf("network arguments: want a JSON object: %w", err)
	}
	if a, ok := fields["architecture"]; ok {
		if err := json.Unmarshal(a, &h.Architecture); err != nil {
			return h, fmt.Errorf("network arguments: architecture: %w", err)
		}
		if _, err := models.Lookup(h.Architecture); err != nil {
			return h, fmt.Errorf("network arguments: %w", err)
		}
		delete(fields, "architecture")
	}
	if t, ok := fields["train_size"]; ok {
		var side int
		if json.Unmarshal(t, &side) == nil { // one number for both sides
			fields["train_size"] = fmt.Appendf(nil, "[1,3,%d,%d]", side, side)
		}
		h.TrainSize = 1 // the override brings the value
	}
	rest, err := json.Marshal(fields)
	if err != nil {
		return h, err
	}
	h.Args = map[string]json.RawMessage{"": rest}
	if (h.Architecture == models.NAFNetLocalName || h.Architecture == models.BaselineLocalName) && h.TrainSize == 0 {
		h.TrainSize = releasedTrainSize
	}
	return h, nil
}

// findPrefix finds what stands before the names of a network's tensors: nothing,
// or what training programs put there ("module.", "net.", "generator.").
func findPrefix(src weights.Source, h Hints) (string, error) {
	var candidates []string
	names := src.Names()
	for _, a := range models.Architectures() {
		if h.Architecture != "" && h.Architecture != a.Name {
			continue
		}
		if len(a.Probes) == 0 {
			continue
		}
		for _, name := range names {
			prefix, ok := strings.CutSuffix(name, a.Probes[0])
			if !ok || prefix != "" && !strings.HasSuffix(prefix, ".") || slices.Contains(candidates, prefix) {
				continue
			}
			if !slices.ContainsFunc(a.Probes, func(p string) bool {
				_, err := src.Tensor(prefix + p)
				return err != nil
			}) {
				candidates = append(candidates, prefix)
			}
		}
	}
	switch len(candidates) {
	case 0:
		return "", nil // Recognise says what is wrong
	case 1:
		return candidates[0], nil
	}
	averaged := slices.DeleteFunc(slices.Clone(candidates), func(p string) bool { return !strings.Contains(p, "ema") })
	if len(averaged) == 1 {
		return averaged[0], nil
	}
	slices.Sort(candidates)
	return "", fmt.Errorf("the file holds networks under %q: name the one to take by --root, or store it by itself", candidates)
}

// Pool is a configuration with the network as its only expert and no router.
func (s *Single) Pool(name string) *models.Config {
	return &models.Config{
		Format: models.ConfigFormat, Version: models.ConfigVersion, Name: name,
		Description: "one network",
		Tree:        models.Tree{Leaves: []models.Leaf{{Name: "any", Experts: []int{0}}}, Levels: []string{"only"}},
		Experts:     []models.ExpertConfig{{Name: name, Architecture: s.Architecture, Args: s.Args, Prefix: s.Prefix}},
	}
}
