package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/weights"
)

// network is an entry of the catalogue: an architecture with its arguments under a short name.
type network struct {
	name         string
	architecture string
	args         string
	// side is the only side in pixels the network takes, 0 where it takes any.
	side int
}

// estimatorSide is the input side of ViT-B/32.
const estimatorSide = 224

// catalogue lists the networks in the order in which they are measured: the sizes that architectures name for it, and
// the degradation encoder. "nano" networks are made for CPUs.
func catalogue() []network {
	var all []network
	for _, a := range models.Architectures() {
		for _, size := range a.Sizes {
			if size.Peer {
				all = append(all, network{name: size.Name, architecture: a.Name, args: size.Args})
			}
		}
	}
	return append(all, network{name: "estimator", architecture: models.DACLIPName, args: `{}`, side: estimatorSide})
}

func networkNames() []string {
	var names []string
	for _, n := range catalogue() {
		names = append(names, n.name)
	}
	return names
}

func findNetwork(name string) (network, error) {
	for _, n := range catalogue() {
		if n.name == name {
			return n, nil
		}
	}
	return network{}, fmt.Errorf("no network %q: there are %s", name, strings.Join(networkNames(), ", "))
}

// sides are the sides to measure the network at when those are asked for.
func (n network) sides(asked []int) []int {
	if n.side != 0 {
		return []int{n.side}
	}
	return asked
}

// build makes the graph for one square image in NCHW, the layout of the peers' ports. A nil src gives a graph without
// values.
func build(architecture string, args json.RawMessage, src weights.Source, h, w int) (*graph.Graph, error) {
	opt := models.Options{Layout: graph.NCHW}
	if architecture == models.DACLIPName {
		d, err := models.NewDACLIP(args)
		if err != nil {
			return nil, err
		}
		if s := d.Vision.ImageSize; h != s || w != s {
			return nil, fmt.Errorf("%s: images are %d×%d pixels, not %d×%d", architecture, s, s, h, w)
		}
		return d.Build(src, 1, opt)
	}
	n, err := models.New(architecture, args)
	if err != nil {
		return nil, err
	}
	for _, side := range []int{h, w} {
		if err := n.CheckSide(side); err != nil {
			return nil, fmt.Errorf("%s: %w", architecture, err)
		}
	}
	return n.Build(src, 1, h, w, opt)
}

// stored lists the tensors that inference reads.
func (n network) stored() ([]models.Spec, error) {
	all, err := n.checkpoint()
	if err != nil {
		return nil, err
	}
	return models.Used(all), nil
}

// checkpoint lists all tensors of the network's checkpoint.
func (n network) checkpoint() ([]models.Spec, error) {
	if n.architecture == models.DACLIPName {
		d, err := models.NewDACLIP(json.RawMessage(n.args))
		if err != nil {
			return nil, err
		}
		return d.Stored()
	}
	net, err := models.New(n.architecture, json.RawMessage(n.args))
	if err != nil {
		return nil, err
	}
	return models.Stored(net)
}
