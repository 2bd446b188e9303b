package models

import (
	"errors"
	"fmt"

	"unirestorer/graph"
	"unirestorer/weights"
)

// Member is a network with its weights, for [BuildBatch].
type Member struct {
	Network Network
	Source  weights.Source
}

// BuildBatch makes one graph for a batch of h×w pixels whose images go to
// different networks: image i to members[choice[i]]. The networks are of one
// structure, as the adapters of one base are, of whatever rank. With
// Options.Unmerged adapters are branches beside the base's weights, which are
// held once. What all images share is computed for the whole batch at once, see
// [graph.Mix].
func BuildBatch(members []Member, choice []int, h, w int, opt Options) (*graph.Graph, error) {
	if opt.Switchable || opt.Trace != nil {
		return nil, errors.New("batch of several networks: neither traced nor switchable")
	}
	graphs := make([]*graph.Graph, len(members))
	for i, m := range members {
		var err error
		if graphs[i], err = m.Network.Build(m.Source, len(choice), h, w, opt); err != nil {
			return nil, fmt.Errorf("batch of several networks: %w", err)
		}
	}
	return graph.Mix("batch", graphs, choice)
}

// BuildBatch makes the graph of a batch whose images go to different experts of
// one structure: image i to experts[i]. src holds the whole model.
func (c *Config) BuildBatch(src weights.Source, experts []int, h, w int, opt Options) (*graph.Graph, error) {
	var members []Member
	choice := make([]int, len(experts))
	place := map[int]int{}
	for i, e := range experts {
		at, ok := place[e]
		if !ok {
			net, err := c.Expert(e)
			if err != nil {
				return nil, fmt.Errorf("image %d: %w", i, err)
			}
			at = len(members)
			place[e] = at
			members = append(members, Member{net, c.ExpertSource(src, e)})
		}
		choice[i] = at
	}
	return BuildBatch(members, choice, h, w, opt)
}
