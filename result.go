package unirestorer

import (
	"fmt"
	"image"
	"strings"

	"unirestorer/runtime/restore"
	"unirestorer/runtime/router"
)

// Result is a restored picture and how it came about.
type Result struct {
	// Image is the restored picture; nil where it went to a file.
	Image image.Image
	// Route is the expert that made it, and why.
	Route *Route
	// Stages are how long each step took.
	Stages Stages
	// Warnings say in words what differs from what one might expect: damage of the file, padding, metadata that a file format
	// does not hold.
	Warnings []string
	// Report has everything: device, tiles, memory.
	Report Report
}

// Report is the full account of a picture, as the command unirestorer restore --json prints it.
type Report = restore.Report

// Stages are how long each step took: decode, estimate, load, run, encode. Decoding and encoding are part of files only,
// loading of the first picture an expert is chosen for.
type Stages = restore.Times

// Decision is the router's choice in numbers: leaf, level and expert, with the probabilities of all.
type Decision = router.Decision

// Expert is a network of the pool.
type Expert struct {
	// Index is the number that [WithExpert] takes.
	Index        int
	Name         string
	Architecture string
	// Level is the granularity that the expert was trained for.
	Level string
	// Degradations are the leaves of the tree that can choose it; none for an expert that has to be named.
	Degradations []string
	// Base is the expert that a LoRA expert adapts; nil for others.
	Base *int
}

// Probability is how likely the router finds something.
type Probability struct {
	Name        string
	Probability float64
}

// Route is the way of a picture through the router.
type Route struct {
	// Expert is the network chosen.
	Expert Expert
	// Degradation and Level are the leaf and the granularity chosen, empty where the expert was named.
	Degradation string
	Level       string
	// Degradations and Levels have the probability of every leaf and level, in the order of the tree.
	Degradations []Probability
	Levels       []Probability
	// Decision has the same in numbers, with entropies.
	Decision Decision
}

// String tells in words how the choice came about: "automatic, rain 98% (entropy 0.11), level fine 87% (entropy 0.39)".
func (r *Route) String() string {
	d := r.Decision
	if d.Leaf < 0 || len(d.LeafProbs) == 0 {
		return string(d.Mode)
	}
	return strings.Join([]string{
		string(d.Mode),
		fmt.Sprintf("%s %.0f%% (entropy %.2f)", r.Degradation, 100*d.LeafProbs[d.Leaf], d.LeafEntropy),
		fmt.Sprintf("level %s %.0f%% (entropy %.2f)", r.Level, 100*d.LevelProbs[d.Level], d.LevelEntropy),
	}, ", ")
}

func (r *Restorer) route(d router.Decision) *Route {
	tree := &r.engine.Model().Config.Tree
	out := &Route{Expert: r.Experts()[d.Expert], Decision: d}
	if d.Leaf >= 0 {
		out.Degradation = tree.Leaves[d.Leaf].Name
	}
	if d.Level >= 0 {
		out.Level = tree.Levels[d.Level]
	}
	for i, p := range d.LeafProbs {
		out.Degradations = append(out.Degradations, Probability{tree.Leaves[i].Name, float64(p)})
	}
	for i, p := range d.LevelProbs {
		out.Levels = append(out.Levels, Probability{tree.Levels[i], float64(p)})
	}
	return out
}

func (r *Restorer) result(rep restore.Report) *Result {
	res := &Result{Route: r.route(rep.Decision), Stages: rep.Times, Report: rep}
	if rep.PaddedWidth > 0 {
		res.Warnings = append(res.Warnings, fmt.Sprintf("padded by reflection to %d×%d, which the network needs", rep.PaddedWidth, rep.PaddedHeight))
	}
	res.Warnings = append(append(res.Warnings, rep.Warnings...), rep.Notes...)
	if rep.Pictures > 1 {
		res.Warnings = append(res.Warnings, fmt.Sprintf("all %d pictures of the file", rep.Pictures))
	}
	if len(rep.Losses) > 0 {
		res.Warnings = append(res.Warnings, "the file does not keep "+strings.Join(rep.Losses, ", "))
	}
	return res
}
