package models

import (
	"encoding/json"
	"fmt"
	"slices"
)

// releasedParents are the middle experts above the 22 leaves of the released
// tree, in the order of the leaves.
var releasedParents = [...]int{1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 5, 5, 6, 6, 7, 7}

// Released is the configuration of the released model: DA-CLIP's ViT-B/32, the
// router, and a pool of 1 coarse, 7 middle and 22 fine experts at full size.
// Architectures follow the released modules, which are shifted by one against
// their parents. It names the tensors as the released checkpoint does.
func Released() *Config {
	c := &Config{
		Format: ConfigFormat, Version: ConfigVersion, Name: "unirestorer",
		Description: "the configuration of the released model",
		Estimator: EstimatorConfig{
			Architecture: DACLIPName, Args: json.RawMessage(`{}`), Prefix: "daclip_model.", Mean: clipMean, Std: clipStd,
		},
		Router: RouterConfig{Width: 512},
		Tree:   ReleasedTree(),
	}
	for level, n := range c.Tree.LevelSizes() {
		for i := range n {
			c.Experts = append(c.Experts, releasedExpert(len(c.Experts), level, i, c.Tree.Levels[level]))
		}
	}
	return c
}

// ReleasedTree is the clustering tree of the released model: leaf i has expert
// 8+i at the finest level, its parent at the middle one and expert 0 at the
// coarsest.
func ReleasedTree() Tree {
	t := Tree{Levels: []string{"coarse", "middle", "fine"}}
	for i, parent := range releasedParents {
		t.Leaves = append(t.Leaves, Leaf{Name: fmt.Sprintf("leaf %d", i), Experts: []int{0, parent, 8 + i}})
	}
	return t
}

// LevelSizes counts the experts that leaves have at each level.
func (t *Tree) LevelSizes() []int {
	sizes := make([]int, len(t.Levels))
	for level := range sizes {
		seen := map[int]bool{}
		for _, leaf := range t.Leaves {
			seen[leaf.Experts[level]] = true
		}
		sizes[level] = len(seen)
	}
	return sizes
}

func releasedExpert(index, level, i int, levelName string) ExpertConfig {
	e := ExpertConfig{
		Name: fmt.Sprintf("%s %d", levelName, i), Prefix: fmt.Sprintf("l%d_experts.%d.", level, i), Level: level,
		Architecture: RestormerName, Args: json.RawMessage(`{}`),
	}
	switch {
	case index >= 1 && index <= 4, index >= 8 && index <= 10:
		e.Args = json.RawMessage(`{"LayerNorm_type":"BiasFree"}`)
	case index >= 11 && index <= 14:
		base := 0
		e.Architecture, e.Base = LoRARestormerName, &base
	case slices.Contains([]int{5, 25, 26}, index):
		e.Architecture = DehazeFormerName
	case slices.Contains([]int{6, 27, 28}, index):
		e.Architecture = RetinexFormerName
	case index == 7, index == 29:
		e.Architecture, e.Args = NAFNetLocalName, json.RawMessage(nafnetArgs(64, 28))
	}
	return e
}
