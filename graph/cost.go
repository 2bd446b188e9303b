package graph

// Cost counts the work of a node or a graph.
type Cost struct {
	// MACs are the multiply-adds of convolutions and linear layers as the
	// network is defined, whatever a fused node saves.
	MACs int64 `json:"macs"`
	// AttentionMACs are the multiply-adds of the attention products (q·kᵀ and
	// attention·v) as the network is defined.
	AttentionMACs int64 `json:"attention_macs"`
	// Executed are the multiply-adds that the node performs.
	Executed int64 `json:"executed_macs"`
}

// Add is the sum of two costs.
func (c Cost) Add(d Cost) Cost {
	return Cost{c.MACs + d.MACs, c.AttentionMACs + d.AttentionMACs, c.Executed + d.Executed}
}

// Traffic is the fewest bytes a node can move when activations and parameters
// take elem bytes a value: each input and parameter read once, each result
// written once.
func (n *Node) Traffic(elem int) (read, written int64) {
	for _, t := range n.Op.Inputs() {
		read += int64(t.Shape.Elems()) * int64(elem)
	}
	for _, p := range n.Op.Params() {
		read += int64(p.Elems()) * int64(elem)
	}
	for _, t := range n.Outputs {
		written += int64(t.Shape.Elems()) * int64(elem)
	}
	return read, written
}
