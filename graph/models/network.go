// Package models turns configurations and named weights into graphs: one file
// an architecture, in the order of its paper, with upstream's tensor names and
// constructor arguments.
package models

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"unirestorer/graph"
	"unirestorer/weights"
)

// Network is an architecture with its arguments filled in.
type Network interface {
	// Architecture is the name New knows the network by.
	Architecture() string
	// Build makes the graph for n images of h×w pixels. A nil src gives a graph
	// without values, for planning and counting. For an image to image network
	// the ports are "image" and "restored", N×H×W×3 each, RGB in 0..1, not
	// clamped; a network of two pictures takes them one after the other, N×H×W×6.
	Build(src weights.Source, n, h, w int, opt Options) (*graph.Graph, error)
	// CheckSide reports why an image side of n pixels cannot be processed, or
	// nil.
	CheckSide(n int) error
	// Grid is the distance, in pixels, at which the network's sampling and
	// windows repeat: a tile that begins at a multiple of it is seen as it is in
	// the whole image.
	Grid() int
}

// Options are the choices that leave a network's weights alone.
type Options struct {
	// Trace selects intermediate results, by upstream module name, to become
	// outputs; nil selects none.
	Trace func(name string) bool
	// Unmerged keeps LoRA adapters as a low-rank branch beside the base weight
	// instead of adding them to it.
	Unmerged bool
	// Switchable tells of merged adapters what they are made from
	// (graph.Adapter), for programs whose adapters are to be replaced. Only LoRA
	// networks heed it, and only merged.
	Switchable bool
	// Layout is how the ports hold images.
	Layout graph.Layout
	// OwnPorts gives the graph the ports of the authors' code: the network's own
	// channels, range and order instead of RGB in 0..1.
	OwnPorts bool
}

func decodeArgs(args json.RawMessage, into any) error {
	if len(bytes.TrimSpace(args)) == 0 {
		return nil
	}
	return decodeStrict(args, into)
}

// decodeStrict decodes one JSON value; unknown fields and anything behind it
// are errors.
func decodeStrict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

// maxPad bounds how far Fit looks for an acceptable side.
const maxPad = 256

// Fit gives the smallest sides from h×w up that the network accepts.
func Fit(n Network, h, w int) (fh, fw int, err error) {
	fh, err = fitSide(n, h)
	if err == nil {
		fw, err = fitSide(n, w)
	}
	return fh, fw, err
}

func fitSide(n Network, side int) (int, error) {
	if side <= 0 {
		return 0, fmt.Errorf("%s: a side of %d pixels", n.Architecture(), side)
	}
	for s := side; s <= side+maxPad; s++ {
		if n.CheckSide(s) == nil {
			return s, nil
		}
	}
	return 0, fmt.Errorf("%s: no side from %d to %d pixels fits: %w", n.Architecture(), side, side+maxPad, n.CheckSide(side))
}

// Spec is a tensor that a network's checkpoint stores.
type Spec struct {
	Name string
	Dims []int
	// Buffer marks tensors that are not parameters, such as running statistics.
	Buffer bool
	// Unused marks tensors that inference does not read.
	Unused bool
}

// Used are the tensors that inference reads.
func Used(all []Spec) []Spec {
	return slices.DeleteFunc(slices.Clone(all), func(s Spec) bool { return s.Unused })
}

// Tensor reads the tensor, which must have the network's dimensions.
func (s Spec) Tensor(src weights.Source) (*weights.Tensor, error) {
	t, err := src.Tensor(s.Name)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(t.Shape, s.Dims) {
		return nil, fmt.Errorf("tensor %q has shape %v, the network needs %v", s.Name, t.Shape, s.Dims)
	}
	return t, nil
}

// Elems is the number of values.
func (s Spec) Elems() int64 {
	n := int64(1)
	for _, d := range s.Dims {
		n *= int64(d)
	}
	return n
}

// Stored lists the tensors of a network's checkpoint, in the order in which
// the network uses them.
func Stored(n Network) ([]Spec, error) {
	h, w, err := Fit(n, 64, 64)
	if err != nil {
		return nil, err
	}
	rec := &recorder{}
	if _, err := n.Build(rec, 1, h, w, Options{Unmerged: true}); err != nil {
		return nil, err
	}
	return rec.specs, nil
}

// CountParams adds up the elements of parameters, leaving buffers out.
func CountParams(specs []Spec) int64 {
	var n int64
	for _, s := range specs {
		if !s.Buffer {
			n += s.Elems()
		}
	}
	return n
}

// recorder stands in for weights and notes what a network asks for.
type recorder struct {
	weights.Source
	specs []Spec
}

// loader gives a model's builder its parameters. Errors go to the builder.
type loader struct {
	*graph.Builder
	src      weights.Source
	rec      *recorder
	unmerged bool
	// switchable marks parameters as the adapter's own.
	switchable bool
	// switches has adapters of a base's source say what they are made of.
	switches bool
	branches map[*graph.Param]branch
	frame    frame
}

func newLoader(name string, src weights.Source, opt Options) *loader {
	l := &loader{Builder: graph.NewBuilder(name, opt.Trace), src: src, unmerged: opt.Unmerged, switches: opt.Switchable && !opt.Unmerged}
	if rec, ok := src.(*recorder); ok {
		l.rec, l.src = rec, nil
	}
	return l
}

func (l *loader) record(s Spec) {
	if l.rec != nil {
		s.Dims = slices.Clone(s.Dims)
		l.rec.specs = append(l.rec.specs, s)
	}
}

// param is the stored tensor of that name, whose dimensions must be dims.
func (l *loader) param(name string, dims ...int) *graph.Param { return l.stored(name, dims, false) }

// buffer is param for a tensor that is not a parameter.
func (l *loader) buffer(name string, dims ...int) *graph.Param { return l.stored(name, dims, true) }

// unused notes a tensor that checkpoints hold and inference does not need.
func (l *loader) unused(name string, dims ...int) {
	l.record(Spec{Name: name, Dims: dims, Unused: true})
}

// unusedBuffer is unused for a tensor that is not a parameter.
func (l *loader) unusedBuffer(name string, dims ...int) {
	l.record(Spec{Name: name, Dims: dims, Buffer: true, Unused: true})
}

func (l *loader) stored(name string, dims []int, buffer bool) *graph.Param {
	p := l.read(name, dims, buffer)
	if l.switchable {
		p.Adapter = &graph.Adapter{}
	}
	return p
}

func (l *loader) read(name string, dims []int, buffer bool) *graph.Param {
	l.record(Spec{Name: name, Dims: dims, Buffer: buffer})
	if l.src == nil {
		return graph.NewParam(name, dims, nil, nil)
	}
	if p, ok := l.adapted(name, dims); ok {
		return p
	}
	t, err := l.src.Tensor(name)
	if err != nil {
		l.Fail(err)
		return graph.NewParam(name, dims, nil, nil)
	}
	return l.fromTensor(name, dims, t)
}

// fromTensor is the parameter that a stored or computed tensor holds.
func (l *loader) fromTensor(name string, dims []int, t *weights.Tensor) *graph.Param {
	if !slices.Equal(t.Shape, dims) {
		l.Fail(fmt.Errorf("tensor %q has shape %v, the network needs %v", name, t.Shape, dims))
	}
	return graph.NewParam(name, dims, storedKey{t.StorageKey(), fmt.Sprint(dims)}, t.ReadFloat32)
}

// storedKey identifies a stored tensor in the shape the network sees.
type storedKey struct {
	storage weights.StorageKey
	dims    string
}

// maxSources bounds what one derived parameter is computed from.
const maxSources = 4

// derivedKey identifies a computed parameter.
type derivedKey struct {
	how  string
	from [maxSources]any
}

// derived is a parameter computed from others when it is read. how names the
// computation and its constants: together with the sources' keys it identifies
// the values.
func derived(name, how string, dims []int, compute func(dst []float32, src [][]float32) error, from ...*graph.Param) *graph.Param {
	key := derivedKey{how: how}
	known := true
	for i, p := range from {
		key.from[i] = p.Key
		known = known && p.Key != nil
	}
	read := func(dst []float32) error {
		src := make([][]float32, len(from))
		for i, p := range from {
			v, err := p.Values()
			if err != nil {
				return err
			}
			src[i] = v
		}
		return compute(dst, src)
	}
	if !known {
		return graph.NewParam(name, dims, nil, read)
	}
	return graph.NewParam(name, dims, key, read)
}

// stack puts matrices or vectors of equal width below each other.
func stack(name string, parts ...*graph.Param) *graph.Param {
	dims := slices.Clone(parts[0].Dims)
	dims[0] = 0
	for _, p := range parts {
		dims[0] += p.Dims[0]
	}
	return derived(name, "stack", dims, func(dst []float32, src [][]float32) error {
		for _, s := range src {
			dst = dst[copy(dst, s):]
		}
		return nil
	}, parts...)
}

// transposed is the transpose of a matrix.
func transposed(p *graph.Param) *graph.Param {
	rows, cols := p.Dims[0], p.Dims[1]
	return derived(p.Name, "transpose", []int{cols, rows}, func(dst []float32, src [][]float32) error {
		for r := range rows {
			for c := range cols {
				dst[c*rows+r] = src[0][r*cols+c]
			}
		}
		return nil
	}, p)
}

// photo adds the input port of net, whose sides must be ones that it accepts,
// and gives what the network sees of it.
func (l *loader) photo(net Network, n, h, w int, opt Options) *graph.Tensor {
	for _, side := range [2]int{h, w} {
		if err := net.CheckSide(side); err != nil {
			l.Fail(fmt.Errorf("image of %dx%d pixels: %w", w, h, err))
		}
	}
	own, _ := Channels(net)
	port, _ := PortChannels(net)
	if opt.OwnPorts {
		port = own
	}
	l.frame = frame{h: h, w: w}
	x := l.image(n, h, w, port, opt)
	p, ok := net.(ported)
	if !ok {
		return x
	}
	l.frame.ports = p.ports()
	if m := l.frame.ports.Multiple; m > 1 {
		x = l.padTo(x, m, padModes[l.frame.ports.Padding])
	}
	if opt.OwnPorts {
		return x
	}
	return l.enter(l.frame.ports, x, own)
}

// frame is what the ports of an image to image network hold of it.
type frame struct {
	h, w  int
	ports *Ports // nil: RGB in 0..1
}

// image adds the input port of an image.
func (l *loader) image(n, h, w, channels int, opt Options) *graph.Tensor {
	return l.Input("image", graph.Shape{N: n, H: h, W: w, C: channels}, opt.Layout)
}

// restored adds the output port for the network's result.
func (l *loader) restored(t *graph.Tensor, opt Options) (*graph.Graph, error) {
	if l.frame.ports != nil && !opt.OwnPorts {
		t = l.leave(l.frame.ports, t)
	}
	if l.Err() == nil && (t.Shape.H != l.frame.h || t.Shape.W != l.frame.w) {
		t = l.Crop("crop", graph.Crop{X: t, H: l.frame.h, W: l.frame.w})
	}
	l.Output("restored", t, opt.Layout)
	return l.Build()
}

// padTo surrounds x at the bottom and right so that both sides become
// multiples of m.
func (l *loader) padTo(x *graph.Tensor, m int, mode graph.PadMode) *graph.Tensor {
	return l.Pad("pad", graph.Pad{X: x, Bottom: missing(x.Shape.H, m), Right: missing(x.Shape.W, m), Mode: mode, Multiple: m})
}

func missing(n, m int) int { return (m - n%m) % m }

// bounds for arguments, so that a hostile configuration ends in an error
// instead of an endless build.
const (
	maxWidth  = 1 << 14
	maxBlocks = 1 << 10
)

func within(what string, limit int, values ...int) error {
	for _, v := range values {
		if v <= 0 || v > limit {
			return fmt.Errorf("%s %v: want 1 to %d", what, values, limit)
		}
	}
	return nil
}

func blockCounts(what string, values ...int) error {
	for _, v := range values {
		if v < 0 || v > maxBlocks {
			return fmt.Errorf("%s %v: want 0 to %d", what, values, maxBlocks)
		}
	}
	return nil
}

func length[T any](what string, s []T, n int) error {
	if len(s) != n {
		return fmt.Errorf("%s: %d values, want %d", what, len(s), n)
	}
	return nil
}

func all(errs ...error) error { return errors.Join(errs...) }
