// Package onnx writes networks as ONNX models, so that other runtimes can run
// the same weights.
package onnx

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/weights"
)

// Opset is the version of ONNX's operators that models are written in, but for
// networks with deformable convolutions, which came with deformOpset.
const (
	opset       = 17
	deformOpset = 19
)

// irVersions are those of the releases that brought the opsets.
var irVersions = map[int]int64{opset: 8, deformOpset: 9}

// opsetFor is the oldest of both that has all of a graph's operations.
func opsetFor(g *graph.Graph) int {
	for _, n := range g.Nodes {
		if _, ok := n.Op.(*graph.DeformConv); ok {
			return deformOpset
		}
	}
	return opset
}

// Options say how a model is written.
type Options struct {
	// Half stores the weights of products in fp16; computing stays fp32.
	Half bool
	// Doc describes the model; Metadata are texts kept with it.
	Doc      string
	Metadata map[string]string
}

// Sides that networks are built at to be written. They are larger than every
// local window and no multiples of anything, so that the graph has all that any
// size may need.
const buildHeight, buildWidth = 1021, 1019

// WriteNetwork writes an image to image network with the authors' own ports:
// "image" and "restored", [N, C, H, W] of any height and width, in the range and
// with the channels of the authors' code. Sides that the network itself refuses
// are padded by reflection and cut back inside.
func WriteNetwork(w io.Writer, net models.Network, src weights.Source, opt Options) error {
	net, h, wd, err := anySize(net)
	if err != nil {
		return err
	}
	g, err := net.Build(src, 1, h, wd, models.Options{Layout: graph.NCHW, OwnPorts: true})
	if err != nil {
		return err
	}
	return Write(w, g, true, opt)
}

// anySize has a network that refuses sides pad them.
func anySize(net models.Network) (models.Network, int, int, error) {
	if net.CheckSide(buildHeight) == nil && net.CheckSide(buildWidth) == nil {
		return net, buildHeight, buildWidth, nil
	}
	padded, err := models.PadToGrid(net)
	if err != nil {
		return nil, 0, 0, err
	}
	return padded, buildHeight, buildWidth, errors.Join(padded.CheckSide(buildHeight), padded.CheckSide(buildWidth))
}

// Write writes a graph whose first input is an image, and whose ports are NCHW or
// hold one vector an image, [N, C] here. anySize makes height, width and number
// of images free; otherwise only the number is.
func Write(w io.Writer, g *graph.Graph, anySize bool, opt Options) error {
	e := &emitter{
		opset: opsetFor(g), halves: opt.Half, names: map[string]int{}, ints: map[string]string{},
		params: map[*graph.Param]string{}, at: map[*graph.Tensor]value{},
	}
	for _, p := range append(slices.Clone(g.Inputs), g.Outputs...) {
		e.names[p.Name] = 1
	}
	e.input, e.h, e.w = g.Inputs[0].Name, g.Inputs[0].Shape.H, g.Inputs[0].Shape.W
	dims := func(p graph.Port) []any {
		s := p.Shape
		if s.H == 1 && s.W == 1 && !anySize {
			return []any{"N", s.C}
		}
		if !anySize {
			return []any{"N", s.C, s.H, s.W}
		}
		return []any{"N", s.C, "H", "W"}
	}
	e.graph.text(graphName, g.Name)
	for _, n := range g.Nodes {
		if in, ok := n.Op.(*graph.Import); ok {
			e.at[n.Outputs[0]] = value{name: g.Inputs[in.Port].Name}
		}
		if e.node(n); e.err != nil {
			return fmt.Errorf("write %s as ONNX: %w", g.Name, e.err)
		}
		if out, ok := n.Op.(*graph.Export); ok {
			e.export(g.Outputs[out.Port].Name, e.in(out.X), len(dims(g.Outputs[out.Port])) == 2)
		}
	}
	for _, p := range g.Inputs {
		e.graph.bytes(graphInput, port(p.Name, dims(p)))
	}
	for _, p := range g.Outputs {
		e.graph.bytes(graphOutput, port(p.Name, dims(p)))
	}
	if len(e.graph) > math.MaxInt32-1<<20 {
		return fmt.Errorf("write %s as ONNX: %d bytes, a file of its kind holds less than 2 GiB", g.Name, len(e.graph))
	}
	return e.write(w, opt)
}

// export gives a value the name of an output.
func (e *emitter) export(name, x string, vector bool) {
	var m message
	m.text(nodeInput, x)
	kind := "Identity"
	if vector {
		kind = "Flatten"
	}
	m.text(nodeOutput, name)
	m.text(nodeName, "n/"+name)
	m.text(nodeType, kind)
	e.graph.bytes(graphNode, m)
}

func (e *emitter) write(w io.Writer, opt Options) error {
	var head, opset message
	head.varint(modelIRVersion, irVersions[e.opset])
	head.text(modelProducer, "unirestorer")
	head.text(modelDoc, opt.Doc)
	opset.varint(opsetVersion, int64(e.opset))
	head.bytes(modelOpsets, opset)
	for _, key := range slices.Sorted(maps.Keys(opt.Metadata)) {
		var entry message
		entry.text(metaKey, key)
		entry.text(metaValue, opt.Metadata[key])
		head.bytes(modelMetadata, entry)
	}
	head.bytes(modelGraph, e.graph)
	_, err := w.Write(head)
	return err
}
