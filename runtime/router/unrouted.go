package router

import (
	"fmt"
	"slices"
	"strings"

	"unirestorer/graph/models"
)

// Only is the mode of a decision that leaves nothing to choose.
const Only Mode = "only expert"

// Unrouted decides for a model without a router: the expert that the override
// names, or the only one that the leaves and levels it allows lead to. Where
// more than one is left the error lists them.
func Unrouted(c *models.Config, o Override) (Decision, error) {
	d := Decision{Leaf: -1, Level: -1, Mode: FixedExpert}
	if err := o.Check(c); err != nil {
		return d, err
	}
	if o.Expert != nil {
		d.Expert = *o.Expert
		return d, nil
	}
	var choice []int
	for i, leaf := range c.Tree.Leaves {
		if len(o.Leaves) > 0 && !slices.Contains(o.Leaves, i) {
			continue
		}
		for level, e := range leaf.Experts {
			if (o.Level == nil || *o.Level == level) && !slices.Contains(choice, e) {
				choice = append(choice, e)
				d.Leaf, d.Level, d.Expert = i, level, e
			}
		}
	}
	if len(choice) == 1 {
		d.Mode = Only
		if len(o.Leaves) > 0 {
			d.Mode = Instructed
		}
		return d, nil
	}
	names := make([]string, len(choice))
	for i, e := range choice {
		names[i] = fmt.Sprintf("%d %q", e, c.Experts[e].Name)
	}
	return d, fmt.Errorf("%w: name one of its experts or what the picture suffers from; there are %s", models.ErrUnrouted, strings.Join(names, ", "))
}
