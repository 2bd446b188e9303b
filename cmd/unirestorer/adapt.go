package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"unirestorer/runtime/adapt"
	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/ledger"
	"unirestorer/runtime/restore"
	"unirestorer/weights"
)

func adaptCommand() *cli.Command {
	return &cli.Command{
		Name:      "adapt",
		Usage:     "teach a pool a degradation that it does not know, by a handful of pairs or of pictures alone",
		ArgsUsage: "--pairs DIR | --unpaired DIR --clean PHOTOS  --name NAME --output FOLDER",
		Description: "Finds the expert of the pool that restores the pairs best, and how to recognise their degradation by the features of\n" +
			"the pool's encoder, and writes a model folder with one more degradation. Nothing is trained again, and what the\n" +
			"router gives the other degradations stays as it is. Gain and recognition are reported for pictures left out. It must\n" +
			"not be taken for what the pool knows: clean pictures and the known degradations, made of the pairs' clean pictures,\n" +
			"are held against it.\n\n" +
			"Pairs are laid out as for evaluate --data, DIR/input and DIR/target; four are needed, ten to thirty are better.\n\n" +
			"Without clean counterparts, --unpaired DIR holds the pictures and --clean DIR clean photos of anything. Then nothing tells\n" +
			"which expert is best: name it by --expert, having tried some with restore --expert, or let pool fit-levels measure what\n" +
			"the pool's experts gain on what it knows.\n\n" +
			"Examples:\n" +
			"   unirestorer adapt --pairs faded/ --name fade --output model/\n" +
			"   unirestorer restore old.jpg -o new.png --model model/\n" +
			"   unirestorer adapt --unpaired scans/ --clean photos/ --expert fine-5-haze --name scan --output model/",
		Flags: append([]cli.Flag{
			modelFlag(),
			&cli.StringFlag{Name: "pairs", Usage: "`DIR` with degraded and clean pictures"},
			&cli.StringFlag{Name: "unpaired", Usage: "`DIR` with degraded pictures that have no clean counterparts"},
			&cli.StringFlag{Name: "clean", Usage: "with --unpaired, `DIR` with clean photos of anything"},
			&cli.StringFlag{Name: "expert", Usage: "with --unpaired, `EXPERT` that is to restore them, by number or name"},
			&cli.StringFlag{Name: "name", Usage: "what the degradation is called, `NAME`"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "model `FOLDER` to write, where nothing may be yet"},
			&cli.BoolFlag{Name: "force", Usage: "write the model even if it is no better on the pairs"},
			memoryFlag(),
			&cli.BoolFlag{Name: "quiet", Usage: "show no progress"},
			jsonFlag(),
		}, deviceFlags()...),
		Action: adaptAction,
	}
}

func adaptAction(c *cli.Context) (err error) {
	unpaired := c.String("unpaired") != ""
	switch {
	case unpaired == (c.String("pairs") != ""):
		return usagef("want either --pairs or --unpaired; see unirestorer adapt --help")
	case unpaired && c.String("clean") == "":
		return usagef("--unpaired wants --clean: clean photos that the degradation is told from")
	case !unpaired && (c.IsSet("clean") || c.IsSet("expert")):
		return usagef("--clean and --expert go with --unpaired")
	}
	for _, name := range []string{"name", "output"} {
		if c.String(name) == "" {
			return usagef("no --%s given; see unirestorer adapt --help", name)
		}
	}
	if err := weights.CheckFolderPath(c.String("output"), false); err != nil {
		return err
	}
	s, host, err := openBounded(c)
	if err != nil {
		return err
	}
	defer closing(&err, s.close)
	if unpaired {
		return adaptToPictures(c, s)
	}
	return adaptToPairs(c, s, host)
}

func adaptToPairs(c *cli.Context, s *session, host *ledger.Ledger) error {
	set, err := evaluate.OpenPairs(c.String("pairs"))
	if err != nil {
		return err
	}
	bar := newBar(c.App.ErrWriter, c.Bool("quiet"), fmt.Sprintf("adapting to %d pairs", set.Len()))
	r, err := adapt.Pairs(c.Context, s.backend, s.model, set, adapt.Options{
		Name: c.String("name"), Evaluate: evaluate.Options{Restorer: restore.Config{Ledger: host}}, Progress: bar.set,
	})
	bar.close()
	if err != nil {
		return err
	}
	if !r.Helps() && !c.Bool("force") {
		return fmt.Errorf("no model written: on pairs left out %s gains %+.2f ± %.2f dB over what pictures are routed to now, and %.0f %% of it is recognised; more pairs may help, --force writes it all the same",
			r.Name, r.Gain.Mean, margin(r), 100*r.Told.Found)
	}
	if err := r.Write(c.Context, s.model, c.String("output")); err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, r)
	}
	return printAdapted(c, s.model, r)
}

// cleanSide is the longest side of a clean photo that negatives are made of: enough to see degradations in, and quick to spoil.
const cleanSide = 768

func adaptToPictures(c *cli.Context, s *session) error {
	expert := -1
	if ref := c.String("expert"); ref != "" {
		var err error
		if expert, err = s.model.Config.FindExpert(ref); err != nil {
			return usageError{fmt.Errorf("--expert %s: %w", ref, err)}
		}
	}
	pictures, err := evaluate.OpenPictures([]string{c.String("unpaired")}, 0)
	if err != nil {
		return fmt.Errorf("--unpaired %s: %w", c.String("unpaired"), err)
	}
	clean, err := evaluate.OpenPictures([]string{c.String("clean")}, cleanSide)
	if err != nil {
		return fmt.Errorf("--clean %s: %w", c.String("clean"), err)
	}
	bar := newBar(c.App.ErrWriter, c.Bool("quiet"), fmt.Sprintf("adapting to %d pictures", pictures.Len()))
	r, err := adapt.Unpaired(c.Context, s.backend, s.model, pictures, clean, expert, adapt.Options{Name: c.String("name"), Progress: bar.set})
	bar.close()
	if err != nil {
		return err
	}
	if !r.Helps() && !c.Bool("force") {
		return fmt.Errorf("no model written: of pictures left out %.0f %% with %s are recognised; more pictures may help, --force writes it all the same",
			100*r.Told.Found, r.Name)
	}
	if err := r.Write(c.Context, s.model, c.String("output")); err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, r)
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s: %s goes to expert %d %q\nrecognised: %.0f %% of %d; taken for it: %.1f %% of %d other pictures\n",
		c.String("output"), r.Name, r.Expert, r.ExpertName, 100*r.Told.Found, r.Told.Fresh, 100*r.Told.Taken, r.Told.Other)
	return err
}

func printAdapted(c *cli.Context, m *experts.Model, r *adapt.Result) error {
	_, err := fmt.Fprintf(c.App.Writer, "%s: %s goes to expert %d %q\n"+
		"PSNR of the %d pairs: %.2f dB as they are, %.2f as %s restores them, %.2f adapted (%+.2f ± %.2f dB, on pairs left out)\n"+
		"recognised: %.0f %% of %d; taken for it: %.1f %% of %d other pictures\n",
		c.String("output"), r.Name, r.Expert, r.ExpertName, r.Pairs, r.Before, r.Routed, m.Config.Name, r.Adapted, r.Gain.Mean, margin(r),
		100*r.Told.Found, r.Told.Fresh, 100*r.Told.Taken, r.Told.Other)
	return err
}

// margin is half the width of the gain's interval, which four pairs or more always have.
func margin(r *adapt.Result) float64 {
	if r.Gain.Margin == nil {
		return 0
	}
	return *r.Gain.Margin
}
