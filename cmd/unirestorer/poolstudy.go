package main

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"unirestorer/runtime/evidence"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/pools"
	"unirestorer/weights"
)

func poolLevelsCommand() *cli.Command {
	return &cli.Command{
		Name: "fit-levels", Usage: "measure what each expert gains for each degradation, for --granularity bayes", ArgsUsage: "DIR --synth PHOTOS | --data DIR",
		Description: "Runs every expert on degraded pictures and keeps the mean gains in the model folder. With them,\n" +
			"restore --granularity bayes takes the expert with the highest expected quality under the probabilities of the\n" +
			"degradations, instead of the most probable leaf and level. Clean pictures among the test set are needed: they\n" +
			"say what harm an expert does. Use photos that the model was not trained on.\n\n" +
			"Example:\n" +
			"   unirestorer pool fit-levels mine --synth photos/ --count 24",
		Flags: studyFlags(),
		Action: func(c *cli.Context) error {
			return withStudy(c, func(m *experts.Model, s *evidence.Study) error {
				table, err := s.Utility()
				if err != nil {
					return err
				}
				rules, err := s.Rules()
				if err != nil {
					return err
				}
				if err := pools.SetUtility(c.Context, m, table); err != nil {
					return err
				}
				if c.Bool("json") {
					return writeJSON(c.App.Writer, map[string]any{"utility": table, "rules": rules})
				}
				_, err = fmt.Fprintf(c.App.Writer, "%s: gains of %d experts for %d degradations are kept. On photos left out, the expected quality over learned: %s dB\n",
					m.Path, len(m.Config.Experts), len(table), rules[1].Learned)
				return err
			})
		},
	}
}

func poolPruneCommand() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "write a smaller pool that loses as little as possible", ArgsUsage: "DIR --budget SIZE --output OUT --synth PHOTOS | --data DIR",
		Description: "Runs every expert on degraded pictures and takes experts out, one after the other, that cost the least quality\n" +
			"for the bytes they free, until the experts' weights fit the budget. The evidence command shows the whole curve.\n\n" +
			"Example:\n" +
			"   unirestorer pool prune model/ --budget 6MB --output small/ --synth photos/ --count 24",
		Flags: studyFlags(
			&cli.StringFlag{Name: "budget", Usage: "`SIZE` that the experts' weights may have, like 6MB"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "model `FOLDER` to write, where nothing may be yet"}),
		Action: func(c *cli.Context) error {
			budget, err := budgetOf(c)
			if err != nil {
				return err
			}
			if c.String("output") == "" {
				return usagef("no --output given: say where to write the smaller pool")
			}
			if err := weights.CheckFolderPath(c.String("output"), false); err != nil {
				return err
			}
			return withStudy(c, func(m *experts.Model, s *evidence.Study) error {
				cuts, err := s.Prune(m.WeightBytes)
				if err != nil {
					return err
				}
				cut, err := evidence.Within(cuts, budget)
				if err != nil {
					return fmt.Errorf("--budget %s: %w", c.String("budget"), err)
				}
				if err := pools.Prune(c.Context, m, cut.Leaves, c.String("output")); err != nil {
					return err
				}
				if c.Bool("json") {
					return writeJSON(c.App.Writer, cut)
				}
				names := make([]string, len(cut.Kept))
				for i, e := range cut.Kept {
					names[i] = m.Config.Experts[e].Name
				}
				_, err = fmt.Fprintf(c.App.Writer, "%s: %d of %d experts (%s), %s of weights instead of %s; loses %s dB on this set\n", c.String("output"),
					len(cut.Kept), len(m.Config.Tree.Reachable()), strings.Join(names, ", "), humanize.Bytes(uint64(cut.Bytes)), humanize.Bytes(uint64(cuts[0].Bytes)), cut.Lost)
				return err
			})
		},
	}
}

// budgetOf reads --budget, the bytes that experts' weights may have.
func budgetOf(c *cli.Context) (int64, error) {
	budget, err := humanize.ParseBytes(c.String("budget"))
	if err != nil || budget == 0 || budget > 1<<62 {
		return 0, usagef("--budget %q: want a size like 6MB", c.String("budget"))
	}
	return int64(budget), nil
}

// withStudy runs a study of the model folder that is the first argument.
func withStudy(c *cli.Context, do func(m *experts.Model, s *evidence.Study) error) error {
	return withFolder(c, func(s *session, photos []string) error {
		study, _, _, err := newStudy(c, s, photos)
		if err != nil {
			return err
		}
		return do(s.model, study)
	})
}

// withFolder opens the model folder that is the first argument, and the device. photos are the other arguments.
func withFolder(c *cli.Context, do func(s *session, photos []string) error) (err error) {
	dir := c.Args().First()
	if dir == "" {
		return usagef("want DIR; see unirestorer pool %s --help", c.Command.Name)
	}
	s, err := sessionOf(c, func() (*experts.Model, error) { return experts.OpenModel(dir) })
	if err != nil {
		return err
	}
	defer closing(&err, s.close)
	return do(s, c.Args().Slice()[1:])
}
