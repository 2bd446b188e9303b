package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"unirestorer/graph/models"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/router"
)

func routeCommand() *cli.Command {
	return &cli.Command{
		Name:      "route",
		Usage:     "say which expert images would go to, and why",
		ArgsUsage: "IN…",
		Description: "Estimates the degradation of each image file and prints the decision: leaf and level of the clustering\n" +
			"tree with their probabilities, the entropies of both in nats, and the expert. Nothing is restored.\n\n" +
			"Examples:\n" +
			"   unirestorer route rain.jpg dark.png\n" +
			"   unirestorer route photo.png --level middle --json",
		Flags:  append([]cli.Flag{modelFlag(), jsonFlag()}, append(overrideFlags(), deviceFlags()...)...),
		Action: routeAction,
	}
}

// routed is the decision for one file.
type routed struct {
	In       string           `json:"in"`
	Error    string           `json:"error,omitempty"`
	Expert   string           `json:"expert_name,omitempty"`
	Decision *router.Decision `json:"decision,omitempty"`
}

func routeAction(c *cli.Context) (err error) {
	if c.NArg() == 0 {
		return usagef("no input given; see unirestorer route --help")
	}
	s, err := openSession(c)
	if err != nil {
		return err
	}
	defer closing(&err, s.close)
	config := s.model.Config
	o, err := override(c, config)
	if err != nil {
		return err
	}
	e, err := router.NewEstimator(c.Context, s.backend, config, s.model.Source)
	if err != nil {
		return err
	}
	defer closing(&err, e.Close)
	var all []routed
	for _, in := range c.Args().Slice() {
		if err := c.Context.Err(); err != nil {
			return err
		}
		r := routed{In: in}
		if d, err := routeFile(c, e, in, o); err != nil {
			r.Error = err.Error()
		} else {
			r.Decision, r.Expert = &d, config.Experts[d.Expert].Name
		}
		all = append(all, r)
	}
	return printRouted(c, config, all)
}

func routeFile(c *cli.Context, e *router.Estimator, path string, o router.Override) (router.Decision, error) {
	var img *imaging.Image
	var err error
	if path == "-" {
		if img, err = imaging.Decode(c.App.Reader, imaging.Limits{}); err != nil {
			err = fmt.Errorf("standard input: %w", err)
		}
	} else {
		img, err = imaging.DecodeFile(path, imaging.Limits{})
	}
	if err != nil {
		return router.Decision{}, fmt.Errorf("route: %w", err)
	}
	return e.Route(c.Context, img, o)
}

func printRouted(c *cli.Context, config *models.Config, all []routed) error {
	failed := false
	for _, r := range all {
		if r.Error != "" {
			failed = true
			fmt.Fprintln(c.App.ErrWriter, "unirestorer:", r.Error)
		}
	}
	if c.Bool("json") {
		if err := writeJSON(c.App.Writer, all); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "IMAGE\tEXPERT\tNAME\tARCHITECTURE\tWHY")
		for _, r := range all {
			if d := r.Decision; d != nil {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", r.In, d.Expert, r.Expert, config.Experts[d.Expert].Architecture, why(config, *d))
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if failed {
		return errReported
	}
	return nil
}

// why tells in words how a decision came about.
func why(config *models.Config, d router.Decision) string {
	if d.Leaf < 0 {
		return string(d.Mode)
	}
	return strings.Join([]string{
		string(d.Mode),
		fmt.Sprintf("%s %.0f%% (entropy %.2f)", config.Tree.Leaves[d.Leaf].Name, 100*d.LeafProbs[d.Leaf], d.LeafEntropy),
		fmt.Sprintf("level %s %.0f%% (entropy %.2f)", config.Tree.Levels[d.Level], 100*d.LevelProbs[d.Level], d.LevelEntropy),
	}, ", ")
}
