package experts

import (
	"fmt"

	"unirestorer/graph"
	"unirestorer/graph/models"
)

// Description counts what a network is and does.
type Description struct {
	// Index is the expert's, or -1 for estimator and router.
	Index        int    `json:"index"`
	Name         string `json:"name"`
	Architecture string `json:"architecture"`
	Level        int    `json:"level"`
	// Params and Tensors count the checkpoint's parameters and tensors, buffers
	// among the tensors only.
	Params  int64 `json:"parameters"`
	Tensors int   `json:"tensors"`
	// MACs are the multiply-adds of convolutions and linear layers, Attention
	// those of attention products, for one image of the size described.
	MACs      int64 `json:"macs"`
	Attention int64 `json:"attention_macs"`
	// Nodes is the length of the graph.
	Nodes int `json:"nodes"`
	// Leaves are the leaves of the tree that choose the expert.
	Leaves []int `json:"leaves,omitempty"`
}

// Describe counts the estimator, the router and every expert of a model, the
// experts at h×w pixels or the nearest size they accept.
func Describe(c *models.Config, h, w int) ([]Description, error) {
	all := make([]Description, 0, 2+len(c.Experts))
	add := func(d Description, specs []models.Spec, g *graph.Graph) {
		cost := g.Cost()
		d.Params, d.Tensors, d.Nodes = models.CountParams(specs), len(specs), len(g.Nodes)
		d.MACs, d.Attention = cost.MACs, cost.AttentionMACs
		all = append(all, d)
	}
	if c.Routed() {
		encoder, heads, err := c.Heads()
		if err != nil {
			return nil, err
		}
		specs, err := encoder.Stored()
		if err != nil {
			return nil, err
		}
		g, err := encoder.Build(nil, 1, models.Options{})
		if err != nil {
			return nil, err
		}
		add(Description{Index: -1, Name: "estimator", Architecture: c.Estimator.Architecture}, specs, g)
		if specs, err = heads.Stored(); err != nil {
			return nil, err
		}
		if g, err = heads.Build(nil, 1, models.Options{}); err != nil {
			return nil, err
		}
		add(Description{Index: -1, Name: "router", Architecture: "router"}, specs, g)
	}
	for i, e := range c.Experts {
		net, err := c.Expert(i)
		if err != nil {
			return nil, err
		}
		fh, fw, err := models.Fit(net, h, w)
		if err != nil {
			return nil, err
		}
		g, err := net.Build(nil, 1, fh, fw, models.Options{})
		if err != nil {
			return nil, fmt.Errorf("expert %d: %w", i, err)
		}
		specs, err := models.Stored(net)
		if err != nil {
			return nil, fmt.Errorf("expert %d: %w", i, err)
		}
		d := Description{Index: i, Name: e.Name, Architecture: e.Architecture, Level: e.Level}
		for l, leaf := range c.Tree.Leaves {
			for _, x := range leaf.Experts {
				if x == i && (len(d.Leaves) == 0 || d.Leaves[len(d.Leaves)-1] != l) {
					d.Leaves = append(d.Leaves, l)
				}
			}
		}
		add(d, specs, g)
	}
	return all, nil
}
