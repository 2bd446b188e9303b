package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
	"gonum.org/v1/gonum/mat"

	"unirestorer/graph/models"
	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/evidence"
	"unirestorer/runtime/pools"
	"unirestorer/runtime/profile"
	"unirestorer/runtime/restore"
)

// studyFlags are those of evaluate that choose a test set, and what a study takes beside them.
func studyFlags(more ...cli.Flag) []cli.Flag {
	var flags []cli.Flag
	for _, f := range evaluateCommand().Flags {
		switch f.Names()[0] {
		case "synth", "data", "case", "severity", "count", "size", "max-side", "seed", "memory", "quiet", "json", "device", "threads":
			flags = append(flags, f)
		}
	}
	return append(flags, more...)
}

func evidenceCommand() *cli.Command {
	return &cli.Command{
		Name:      "evidence",
		Usage:     "say what a pool's router and experts are worth, with intervals",
		ArgsUsage: "--synth PHOTOS… | --data DIR",
		Description: "Runs every expert on every picture of a test set and answers with it: which rule should choose the granularity;\n" +
			"whether the router's probabilities can be believed, and what is lost on the pictures it is surest of; how evenly\n" +
			"experts are used and what the pool would lose without some; and, with --costs, what quality costs in time; with --clusters,\n" +
			"how much hangs on the method, number and levels of the clusters that a pool is laid out over.\n\n" +
			"Test sets are those of the evaluate command. Intervals are of 95 %, by a bootstrap over photos.\n\n" +
			"Examples:\n" +
			"   unirestorer evidence --synth photos/ --html evidence.html\n" +
			"   unirestorer evidence --synth photos/ --costs --gpu h100 --model pool/\n" +
			"   unirestorer evidence --data testset/ --json",
		Flags: studyFlags(modelFlag(), netArgsFlag(),
			&cli.BoolFlag{Name: "costs", Usage: "measure what networks cost and draw quality against time"},
			&cli.StringFlag{Name: "gpu", Usage: "with --costs, predict times on `GPU` too, such as h100; see profile --help"},
			&cli.BoolFlag{Name: "clusters", Usage: "cluster the encoder's features by several methods and say how stable that is and what it is worth"},
			&cli.StringFlag{Name: "html", Usage: "write a page with drawings to `FILE`"}),
		Action: evidenceAction,
	}
}

func evidenceAction(c *cli.Context) (err error) {
	if c.String("gpu") != "" && !c.Bool("costs") {
		return usagef("--gpu goes with --costs")
	}
	s, err := openSession(c)
	if err != nil {
		return err
	}
	defer closing(&err, s.close)
	study, set, words, err := newStudy(c, s, c.Args().Slice())
	if err != nil {
		return err
	}
	r, err := study.Report(s.model.WeightBytes)
	if err != nil {
		return err
	}
	r.Model, r.Set, r.Machine = s.model.Path, words, profile.ThisMachine()
	if c.Bool("costs") {
		if err := addCosts(c, s, study, r); err != nil {
			return err
		}
	}
	if c.Bool("clusters") {
		if err := addClusters(c, s, study, set, r); err != nil {
			return err
		}
	}
	if path := c.String("html"); path != "" {
		page, err := r.Page()
		if err != nil {
			return err
		}
		if err := page.WriteFile(c.Context, path); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, r)
	}
	return writeTables(c.App.Writer, r.Tables())
}

// newStudy runs every expert of a model on the test set that studyFlags name.
func newStudy(c *cli.Context, s *session, photos []string) (*evidence.Study, evaluate.Set, string, error) {
	if !s.model.Config.Routed() {
		return nil, nil, "", errors.New("the model has no router, so there is nothing to choose")
	}
	records, set, words, err := runEveryExpert(c, s, photos, "running every expert")
	if err != nil {
		return nil, nil, "", err
	}
	study, err := evidence.New(s.model.Config, records)
	return study, set, words, err
}

// runEveryExpert gives every expert's results on the test set that studyFlags name, the set, and it in words. doing says what for,
// while it goes on.
func runEveryExpert(c *cli.Context, s *session, photos []string, doing string) ([]evaluate.Record, evaluate.Set, string, error) {
	if len(repeated(c, "synth")) == 0 && c.String("data") == "" {
		return nil, nil, "", usagef("no test set given: use --synth PHOTOS or --data DIR; see unirestorer %s --help", c.Command.Name)
	}
	cases, err := evaluationCases(c)
	if err != nil {
		return nil, nil, "", err
	}
	host, err := hostLedger(c)
	if err != nil {
		return nil, nil, "", err
	}
	set, words, err := evaluationSet(c, cases, photos)
	if err != nil {
		return nil, nil, "", err
	}
	bar := newBar(c.App.ErrWriter, c.Bool("quiet"), fmt.Sprintf("%s on %d pictures", doing, set.Len()))
	opt := evaluate.Options{Matrix: true, Restorer: restore.Config{Ledger: host}, Progress: bar.set}
	if !s.model.Config.Routed() {
		first := 0
		opt.Override.Expert = &first
	}
	records, err := evaluate.Run(c.Context, s.model, s.backend, set, opt)
	bar.close()
	return records, set, words, err
}

// addCosts profiles the networks at the size of the study's pictures, most of which have one.
func addCosts(c *cli.Context, s *session, study *evidence.Study, r *evidence.Report) error {
	p := profile.Profiler{Model: s.model, Backend: s.backend, Method: profile.Method{Warmup: 1, MinRuns: 5, MaxRuns: 15, MaxSeconds: 3, Precision: 0.02}}
	if name := c.String("gpu"); name != "" {
		gpu, err := profile.FindGPU(name)
		if err != nil {
			return usageError{err}
		}
		p.GPU, r.GPU = &gpu, gpu.Name
	}
	size := profile.Size{Width: study.Records[0].Width, Height: study.Records[0].Height}
	bar := newBar(c.App.ErrWriter, c.Bool("quiet"), fmt.Sprintf("timing networks at %dx%d", size.Width, size.Height))
	networks, err := p.Networks(c.Context, profile.Targets(s.model.Config.Tree.Reachable(), true, []profile.Size{size}, []int{1}), true, bar.set)
	bar.close()
	if err != nil {
		return err
	}
	r.Costs = study.Costs(networks)
	return nil
}

// addClusters embeds the study's pictures and clusters what the encoder makes of them.
func addClusters(c *cli.Context, s *session, study *evidence.Study, set evaluate.Set, r *evidence.Report) (err error) {
	e, err := pools.NewEmbedder(c.Context, s.backend, s.model)
	if err != nil {
		return err
	}
	defer closing(&err, e.Close)
	var x *mat.Dense
	for i := range set.Len() {
		picture, _, err := set.Pictures(c.Context, i)
		if err != nil {
			return err
		}
		inputs, _, err := e.Embed(c.Context, picture)
		if err != nil {
			return fmt.Errorf("%s: %w", set.Sample(i).Name, err)
		}
		features := inputs[models.LeafHeadFeatures]
		if x == nil {
			x = mat.NewDense(set.Len(), len(features), nil)
		}
		x.SetRow(i, features)
	}
	r.Partitions, r.Depths, err = study.Clusters(c.Context, x, evidence.ClusterOptions{Ks: []int{4, 6, 9, 12, 16, 24, 32}, Seeds: 5, Seed: c.Uint64("seed"), Levels: 4})
	return err
}
