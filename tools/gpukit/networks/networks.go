// Package networks names the networks that the GPU kit counts and measures: those of the released model, and small ones
// of the same kinds for trying the kit out where no GPU is.
package networks

import (
	"encoding/json"
	"fmt"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/weights"
)

// Network is an architecture with its arguments under a short name.
type Network struct {
	Name         string          `json:"name"`
	Architecture string          `json:"architecture"`
	Args         json.RawMessage `json:"args"`
	// Unmerged keeps LoRA adapters as low-rank branches.
	Unmerged bool `json:"unmerged,omitempty"`
	// Side is the only side in pixels that the network takes, 0 where it takes any.
	Side int `json:"side,omitempty"`
}

// estimatorSide is the input side of ViT-B/32.
const estimatorSide = 224

// Released are the kinds of networks of the released model, the degradation estimator with the router's heads last.
func Released() []Network {
	var all []Network
	for _, a := range models.Architectures() {
		for _, size := range a.Sizes {
			if size.Pool {
				all = append(all, Network{Name: a.Name, Architecture: a.Name, Args: json.RawMessage(size.Args)})
			}
		}
	}
	return append(all, Network{Name: "estimator", Architecture: models.DACLIPName, Args: json.RawMessage(`{}`), Side: estimatorSide})
}

// UnmergedLoRA is the released LoRA-Restormer with its adapters left as low-rank branches.
func UnmergedLoRA() Network {
	return Network{Name: "lora_restormer, adapter in a branch", Architecture: models.LoRARestormerName, Args: json.RawMessage(`{}`), Unmerged: true}
}

// Small are one network of each kind in a size that a simulator runs in moments.
func Small() []Network {
	var all []Network
	for _, a := range models.Architectures() {
		if a.Small != "" {
			all = append(all, Network{Name: a.Name, Architecture: a.Name, Args: json.RawMessage(a.Small)})
		}
	}
	return append(all, Network{Name: "estimator", Architecture: models.DACLIPName, Args: json.RawMessage(`{"embed_dim":16,"vision_cfg":{"image_size":32,"layers":1,"width":16,"head_width":8,"patch_size":8}}`), Side: 32})
}

// routerLeaves and routerLevels are the released tree's.
const routerLeaves, routerLevels = 22, 3

// Build makes the graph of n images of h×w pixels, held in NCHW as PyTorch does. The degradation encoder is built with
// the router's heads behind it. A nil src gives a graph without values.
func (n Network) Build(src weights.Source, batch, h, w int) (*graph.Graph, error) {
	return n.build(src, batch, h, w, models.Options{Layout: graph.NCHW, Unmerged: n.Unmerged})
}

// BuildSwitchable is Build for programs whose adapters are to be replaced.
func (n Network) BuildSwitchable(src weights.Source, batch, h, w int) (*graph.Graph, error) {
	return n.build(src, batch, h, w, models.Options{Layout: graph.NCHW, Switchable: true})
}

func (n Network) build(src weights.Source, batch, h, w int, opt models.Options) (*graph.Graph, error) {
	if n.Architecture == models.DACLIPName {
		if h != n.Side || w != n.Side {
			return nil, fmt.Errorf("%s takes %d×%d pixels, not %d×%d", n.Name, n.Side, n.Side, h, w)
		}
		d, r, err := n.estimator()
		if err != nil {
			return nil, err
		}
		return models.BuildEstimator(d, r, src, src, batch, opt)
	}
	net, err := models.New(n.Architecture, n.Args)
	if err != nil {
		return nil, err
	}
	for _, side := range []int{h, w} {
		if err := net.CheckSide(side); err != nil {
			return nil, fmt.Errorf("%s: %w", n.Name, err)
		}
	}
	return net.Build(src, batch, h, w, opt)
}

func (n Network) estimator() (*models.DACLIP, *models.Router, error) {
	d, err := models.NewDACLIP(n.Args)
	if err != nil {
		return nil, nil, err
	}
	r, err := models.NewRouter(models.Router{Width: d.EmbedDim, Leaves: routerLeaves, Levels: routerLevels})
	return d, r, err
}

// Stored lists the tensors that inference reads.
func (n Network) Stored() ([]models.Spec, error) {
	var all []models.Spec
	if n.Architecture == models.DACLIPName {
		d, r, err := n.estimator()
		if err != nil {
			return nil, err
		}
		encoder, err := d.Stored()
		if err != nil {
			return nil, err
		}
		heads, err := r.Stored()
		if err != nil {
			return nil, err
		}
		all = append(encoder, heads...)
	} else {
		net, err := models.New(n.Architecture, n.Args)
		if err != nil {
			return nil, err
		}
		if all, err = models.Stored(net); err != nil {
			return nil, err
		}
	}
	return models.Used(all), nil
}
