package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/ranges"
)

func calibrateCommand() *cli.Command {
	return &cli.Command{
		Name:      "calibrate",
		Usage:     "measure how large values become inside a model's networks, for devices that store fp16",
		ArgsUsage: "FOLDER",
		Description: "Writes ranges.json into a model folder. Devices in half precision multiply every tensor by a power of two, so that trained\n" +
			"weights of any size neither overflow nor lose bits. Without the file each expert is measured when it is first loaded, which\n" +
			"takes a second or so. Look at what was found with: unirestorer inspect FOLDER --ranges --expert 0\n\n" +
			"Examples:\n" +
			"   unirestorer calibrate model/",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("want one model folder; see unirestorer calibrate --help")
			}
			measured := []string{}
			err := experts.Calibrate(c.Context, c.Args().First(), func(name string, i, count int) {
				measured = append(measured, name)
				fmt.Fprintf(c.App.ErrWriter, "%d of %d: %s\n", i+1, count, name)
			})
			if err != nil || !c.Bool("json") {
				return err
			}
			return writeJSON(c.App.Writer, map[string]any{"model": c.Args().First(), "measured": measured})
		},
	}
}

// networkRanges is one network's part of inspect --ranges.
type networkRanges struct {
	Network string        `json:"network"`
	Tensors []ranges.Stat `json:"tensors"`
}

// inspectRanges reports how the tensors of a model's networks lie in the range of fp16: those of one expert, or of all
// and the estimator.
func inspectRanges(c *cli.Context, m *experts.Model, expert string) error {
	var all []networkRanges
	add := func(name string, stats []ranges.Stat, err error) error {
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, networkRanges{name, stats})
		return nil
	}
	if expert == "" && m.Config.Routed() {
		err := ranges.Estimator(c.Context, m.Config, m.Source)
		var g *graph.Graph
		if err == nil {
			g, err = m.Config.BuildRouting(m.Source, 1, models.Options{})
		}
		var stats []ranges.Stat
		if err == nil {
			stats, err = ranges.Inspect(c.Context, g)
		}
		if err := add(models.EstimatorRanges, stats, err); err != nil {
			return err
		}
	}
	chosen := -1
	if expert != "" {
		i, err := m.Config.FindExpert(expert)
		if err != nil {
			return usageError{err}
		}
		chosen = i
	}
	for i := range m.Config.Experts {
		if chosen >= 0 && i != chosen {
			continue
		}
		if err := ranges.Expert(c.Context, m.Config, m.Source, i, models.Options{}); err != nil {
			return err
		}
		stats, err := ranges.InspectExpert(c.Context, func(h, w int) (*graph.Graph, error) {
			return m.Config.BuildExpert(m.Source, i, 1, h, w, models.Options{})
		})
		if err := add(m.Config.RangeKey(i), stats, err); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, all)
	}
	for _, n := range all {
		fmt.Fprintf(c.App.Writer, "%s\n\n", n.Network)
		w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "TENSOR\tLARGEST\tSMALLEST\tPOWER\tHEADROOM\tBELOW NORMAL")
		for _, s := range n.Tensors {
			fmt.Fprintf(w, "%s\t2^%d\t2^%d\t2^%d\t%d orders\t%.2g %%\n", s.Tensor, s.Largest, s.Smallest, s.Power, s.Headroom, 100*s.Below)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(c.App.Writer)
	}
	return nil
}
