package models

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"unirestorer/weights"
)

// Architecture is all that the rest of the program knows about a kind of
// network: its arguments, how to recognise it among files of tensors, which
// sizes are released and how its cost divides. One file holds an architecture:
// a type that implements [Network], whose exported fields are the constructor
// arguments under upstream's names (JSON tags), and an init function that hands
// an Architecture to [Register]. Conversion, inspection, profiles, the GPU kit
// and the measurements beside other runtimes go through the registered ones and
// need no change for another.
type Architecture struct {
	// Name is the architecture's in configurations.
	Name string
	// Default makes a network with the defaults of upstream's constructor; a
	// configuration's arguments are decoded over it.
	Default func() Network
	// Probes, Infer and Small are left out together, by networks without tensors.
	//
	// Probes are tensors by whose names the architecture is known. Of the
	// architectures whose probes a file holds all of, the one with the most is
	// taken, so an architecture that adds to another names its addition too.
	Probes []string
	// Asked tells whether the architecture is meant, where it has the tensors of
	// another and only a hint tells them apart. Nil means that tensors tell.
	Asked func(Hints) bool
	// Infer reads the arguments off tensors' shapes. It gives what Default gives;
	// errors stick to s.
	Infer func(s *shapes, h Hints) Network
	// Sizes are the released sizes.
	Sizes []Size
	// Small are arguments, as JSON, of a network that a simulator runs in
	// moments.
	Small string
	// Stage gives the part of the network that a node of its graph belongs to, in
	// tables of costs. Nil is the node's name up to the number of its block.
	Stage func(node string) string
}

// Size is an architecture at a size that somebody released.
type Size struct {
	// Name is unique among all architectures.
	Name string
	// Args are the arguments, as JSON.
	Args string
	// Pool marks the size of UniRestorer's released experts.
	Pool bool
	// Peer marks sizes that are measured beside other runtimes.
	Peer bool
}

// architectures holds what Register was given, before main begins.
var architectures = map[string]*Architecture{}

// Register makes an architecture known. It is called by init functions only and
// panics on a name that is taken or a part that is missing.
func Register(a Architecture) {
	if a.Name == "" || a.Default == nil || (a.Infer == nil) != (len(a.Probes) == 0) || (a.Infer == nil) != (a.Small == "") {
		panic(fmt.Sprintf("models: architecture %q is registered without all its parts", a.Name))
	}
	if architectures[a.Name] != nil {
		panic(fmt.Sprintf("models: architecture %q is registered twice", a.Name))
	}
	architectures[a.Name] = &a
}

// Architectures lists what is registered, by name.
func Architectures() []*Architecture {
	all := make([]*Architecture, 0, len(architectures))
	for _, name := range slices.Sorted(maps.Keys(architectures)) {
		all = append(all, architectures[name])
	}
	return all
}

// Lookup gives the architecture of a name.
func Lookup(name string) (*Architecture, error) {
	if a := architectures[name]; a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("unknown architecture %q: there are %s", name, strings.Join(slices.Sorted(maps.Keys(architectures)), ", "))
}

// checked is a network that knows whether its arguments make sense.
type checked interface {
	Network
	check() error
}

// New makes a network from an architecture name and its constructor arguments,
// a JSON object with upstream's names. Arguments left out take upstream's
// defaults; unknown ones are an error.
func New(architecture string, args json.RawMessage) (Network, error) {
	a, err := Lookup(architecture)
	if err != nil {
		return nil, err
	}
	n := a.Default()
	if err := decodeArgs(args, n); err != nil {
		return nil, fmt.Errorf("%s arguments: %w", architecture, err)
	}
	if c, ok := n.(checked); ok {
		if err := c.check(); err != nil {
			return nil, fmt.Errorf("%s arguments: %w", architecture, err)
		}
	}
	return n, nil
}

// Hints give the constructor arguments that a checkpoint does not store.
type Hints struct {
	// LoRAScale is alpha/r of LoRA networks in loralib's form; 0 means 2.
	LoRAScale float64
	// TrainSize is the side of NAFNetLocal's training patches in pixels; 0 takes
	// a NAFNet's tensors for those of one that averages over the whole image.
	TrainSize int
	// Architecture, if not empty, is what the tensors are said to be.
	Architecture string
	// Single says that the tensors are a network by itself as its authors publish
	// it, not an expert of UniRestorer's pool: pictures have the range and the
	// padding of the authors' code.
	Single bool
	// HeadWidth is the number of channels of an attention head of the degradation
	// encoder; 0 means 64.
	HeadWidth int
	// Args overrides the arguments of architectures, by name, with any of their
	// JSON arguments.
	Args map[string]json.RawMessage
}

// errUnknown says that tensors belong to no registered architecture.
var errUnknown = errors.New("the tensors belong to no known architecture")

// Recognise finds out which network the tensors of src are, and its arguments,
// from names and shapes alone. Whether all tensors are there and fit shows when
// the network is built.
func Recognise(src weights.Source, h Hints) (architecture string, args json.RawMessage, err error) {
	s := &shapes{src: src}
	var best *Architecture
	most := 0
	for _, a := range Architectures() {
		score := len(a.Probes)
		switch {
		case h.Architecture != "" && h.Architecture != a.Name || len(a.Probes) == 0:
			continue
		case a.Asked == nil || h.Architecture != "":
		case !a.Asked(h):
			continue
		default:
			score++
		}
		if score > most && !slices.ContainsFunc(a.Probes, func(name string) bool { return !s.has(name) }) {
			best, most = a, score
		}
	}
	if best == nil {
		return "", nil, s.unknown(h)
	}
	found := best.Infer(s, h)
	if s.err != nil {
		return "", nil, fmt.Errorf("%s: %w", best.Name, s.err)
	}
	args, err = overridden(found, h.Args[best.Name])
	return best.Name, args, err
}

// unknown is errUnknown with the architecture that comes nearest and what the
// tensors lack of it.
func (s *shapes) unknown(h Hints) error {
	if h.Architecture != "" {
		a, err := Lookup(h.Architecture)
		if err != nil {
			return err
		}
		for _, probe := range a.Probes {
			if !s.has(probe) {
				return fmt.Errorf("the tensors are no %s: there is no %q", a.Name, probe)
			}
		}
	}
	var near *Architecture
	most := 0.0
	for _, a := range Architectures() {
		if a.Small == "" {
			continue
		}
		n, err := New(a.Name, json.RawMessage(a.Small))
		if err != nil {
			continue
		}
		specs, err := Stored(n)
		if err != nil {
			continue
		}
		present := 0
		for _, spec := range specs {
			if s.has(spec.Name) {
				present++
			}
		}
		if share := float64(present) / float64(len(specs)); share > most {
			near, most = a, share
		}
	}
	if near == nil || most < 0.5 {
		return errUnknown
	}
	for _, probe := range near.Probes {
		if !s.has(probe) {
			return fmt.Errorf("%w; most names are those of a %s, but there is no %q", errUnknown, near.Name, probe)
		}
	}
	return errUnknown
}

// CheckStored reports the first tensor of a network that src lacks or that has
// another shape, and otherwise the first tensor of src that the network has no
// place for, so that no network is taken for another that it is merely like.
func CheckStored(n Network, src weights.Source) error {
	specs, err := Stored(n)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(specs))
	for _, s := range specs {
		known[s.Name] = true
		t, err := src.Tensor(s.Name)
		switch {
		case err != nil && s.Unused:
		case err != nil:
			return fmt.Errorf("%s: %w; the network is %s", n.Architecture(), err, describeArgs(n))
		case !slices.Equal(t.Shape, s.Dims) && !s.Unused:
			return fmt.Errorf("%s: tensor %q has shape %v, but %v goes with the others; the network is %s",
				n.Architecture(), s.Name, t.Shape, s.Dims, describeArgs(n))
		}
	}
	for _, name := range src.Names() {
		if !known[name] && !ofTraining(name) {
			return fmt.Errorf("%s: tensor %q has no place in it; the network is %s", n.Architecture(), name, describeArgs(n))
		}
	}
	return nil
}

// ofTraining tells whether a tensor is one that training programs leave: the counters of batch normalisation and of thop.
func ofTraining(name string) bool {
	switch name[strings.LastIndexByte(name, '.')+1:] {
	case "num_batches_tracked", "total_ops", "total_params":
		return true
	}
	return false
}

func describeArgs(n Network) string {
	b, err := json.Marshal(n)
	if err != nil {
		return n.Architecture()
	}
	return string(b)
}

// overridden is the JSON of args with the fields of override in place of its own.
func overridden(args any, override json.RawMessage) (json.RawMessage, error) {
	b, err := json.Marshal(args)
	if err != nil || len(override) == 0 {
		return b, err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &fields); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(override, &fields); err != nil {
		return nil, fmt.Errorf("argument overrides: %w", err)
	}
	return json.Marshal(fields)
}

// StageOf is the part of a network, of the architecture named or another graph,
// that a node belongs to.
func StageOf(architecture, node string) string {
	if a := architectures[architecture]; a != nil && a.Stage != nil {
		return a.Stage(node)
	}
	return blockStage(node)
}

// blockStage is a node's name up to the number of its block, "encoder_level1"
// for "encoder_level1.0.attn.qkv", "encoders.2" for "encoders.2.3.conv1", where
// levels are numbered too.
func blockStage(node string) string {
	node, _, _ = strings.Cut(node, ":") // ports
	parts := strings.Split(node, ".")
	number := func(i int) bool {
		return i < len(parts) && parts[i] != "" && strings.Trim(parts[i], "0123456789") == ""
	}
	for i := range parts {
		if number(i) && !number(i+1) && i > 0 {
			return strings.Join(parts[:i], ".")
		}
	}
	return parts[0]
}
