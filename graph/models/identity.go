package models

import (
	"encoding/json"

	"unirestorer/graph"
	"unirestorer/weights"
)

// IdentityName is the name in configurations of the network that leaves a
// picture as it is: what a pool has for degradations without an expert.
const IdentityName = "identity"

func init() {
	Register(Architecture{Name: IdentityName, Default: func() Network { return &identity{} }})
}

// identity leaves pictures as they are. It has no tensors.
type identity struct{}

// Architecture implements Network.
func (*identity) Architecture() string { return IdentityName }

// CheckSide implements Network.
func (*identity) CheckSide(n int) error {
	var p Ports
	_, err := p.side(n)
	return err
}

// Grid implements Network.
func (*identity) Grid() int { return 1 }

// Build implements Network.
func (i *identity) Build(src weights.Source, n, h, w int, opt Options) (*graph.Graph, error) {
	l := newLoader(IdentityName, src, opt)
	x := l.photo(i, n, h, w, opt)
	return l.restored(x, opt)
}

// IdentityExpert is the expert of that kind that pools have.
func IdentityExpert() ExpertConfig {
	return ExpertConfig{Name: "none", Architecture: IdentityName, Args: json.RawMessage(`{}`), Prefix: "none."}
}
