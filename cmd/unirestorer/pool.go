package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"unirestorer/runtime/convert"
	"unirestorer/runtime/engine"
	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/pools"
)

func poolCommand() *cli.Command {
	return &cli.Command{
		Name:  "pool",
		Usage: "put a pool together out of single networks and adapters",
		Description: "A pool is a model folder. Its experts are networks as their authors publish them, of any architectures, and\n" +
			"adapters of them; a router, the built-in one or one fitted to examples, chooses among them.\n\n" +
			"Examples:\n" +
			"   unirestorer pool new mine --router nano\n" +
			"   unirestorer pool add mine derain.pth --kind rain\n" +
			"   unirestorer pool add-lora mine adapter/ --base derain --name heavy --kind snow\n" +
			"   unirestorer pool check mine --synth photos/\n" +
			"   unirestorer restore photo.jpg -o restored.png --model mine",
		Subcommands: []*cli.Command{
			poolNewCommand(), poolAddCommand(), poolAddLoRACommand(), poolRemoveCommand(), poolListCommand(),
			poolCheckCommand(), poolFitCommand(), poolLevelsCommand(), poolPruneCommand(),
		},
	}
}

func poolNewCommand() *cli.Command {
	return &cli.Command{
		Name: "new", Usage: "make a pool without experts", ArgsUsage: "DIR",
		Description: "With --router, pictures are routed as that model routes them; its degradations are the kinds that experts may\n" +
			"have. Without, experts are named by hand (restore --expert) until pool fit-router makes a router.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "router", Usage: "`MODEL` whose encoder and router to use: nano, the built-in one, or a model folder"},
		},
		Action: func(c *cli.Context) (err error) {
			dir, err := oneArgument(c, "DIR")
			if err != nil {
				return err
			}
			var router *experts.Model
			if ref := c.String("router"); ref != "" {
				if router, err = engine.OpenModel(c.Context, ref, convert.OpenOptions{}); err != nil {
					return err
				}
				defer closing(&err, router.Close)
			}
			if err := pools.New(c.Context, dir, router); err != nil {
				return err
			}
			return withPool(dir, func(p *pools.Pool) error {
				_, err := fmt.Fprintf(c.App.Writer, "%s: experts may be for %s\n", dir, strings.Join(p.Vocabulary(), ", "))
				return err
			})
		},
	}
}

func expertFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "kind", Aliases: []string{"k"}, Usage: "what the expert restores, a `KIND` of the router's or any; may be repeated"},
		&cli.StringFlag{Name: "name", Usage: "`NAME` of the expert; by default the file's"},
		&cli.StringFlag{Name: "level", Usage: "granularity of the expert: `LEVEL` coarse, middle or fine (the default)"},
		&cli.StringFlag{Name: "license", Usage: "licence of the weights, kept with the pool"},
		jsonFlag(),
	}
}

func poolAddCommand() *cli.Command {
	return &cli.Command{
		Name: "add", Usage: "add the network of a file", ArgsUsage: "DIR FILE --kind KIND",
		Flags: append(expertFlags(),
			&cli.BoolFlag{Name: "link", Usage: "refer to the file instead of copying its weights; it must not change"},
			netArgsFlag()),
		Action: func(c *cli.Context) error {
			x, err := poolExpert(c)
			if err != nil {
				return err
			}
			x.Link = c.Bool("link")
			return withPool(c.Args().First(), func(p *pools.Pool) error {
				a, err := p.Add(c.Context, x)
				if err != nil {
					return err
				}
				return printAdded(c, a)
			})
		},
	}
}

// poolExpert reads the arguments DIR FILE and expertFlags.
func poolExpert(c *cli.Context) (pools.Expert, error) {
	if c.NArg() != 2 {
		return pools.Expert{}, usagef("want DIR and one file; see unirestorer pool %s --help", c.Command.Name)
	}
	if len(c.StringSlice("kind")) == 0 {
		return pools.Expert{}, usagef("no --kind given: say what the expert restores; pool list shows the kinds")
	}
	opt, err := networkOptions(c)
	return pools.Expert{
		Path: c.Args().Get(1), Name: c.String("name"), Kinds: c.StringSlice("kind"), Level: c.String("level"),
		License: c.String("license"), Args: opt.Args,
	}, err
}

func poolAddLoRACommand() *cli.Command {
	return &cli.Command{
		Name: "add-lora", Usage: "add an adapter of an expert", ArgsUsage: "DIR FILE|FOLDER --base EXPERT --kind KIND",
		Description: "Takes a PEFT folder (adapter_config.json and adapter_model.safetensors), a file in kohya's form (lora_down,\n" +
			"lora_up, alpha) or in loralib's (lora_A, lora_B). The expert shares its base's weights.",
		Flags: append(expertFlags(),
			&cli.StringFlag{Name: "base", Usage: "`EXPERT` that the adapter was trained on, a name or a number"},
			&cli.Float64Flag{Name: "lora-scale", Value: 1, Usage: "alpha/r of an adapter in loralib's form, which does not store it"}),
		Action: func(c *cli.Context) error {
			x, err := poolExpert(c)
			if err != nil {
				return err
			}
			if c.String("base") == "" {
				return usagef("no --base given: name the expert that the adapter was trained on")
			}
			scale, err := loraScale(c)
			if err != nil {
				return err
			}
			return withPool(c.Args().First(), func(p *pools.Pool) error {
				a, err := p.AddLoRA(c.Context, pools.AdapterExpert{Expert: x, Base: c.String("base"), Scale: scale})
				if err != nil {
					return err
				}
				return printAdded(c, a)
			})
		},
	}
}

func printAdded(c *cli.Context, a *pools.Added) error {
	if c.Bool("json") {
		return writeJSON(c.App.Writer, a)
	}
	w := c.App.Writer
	fmt.Fprintf(w, "expert %d %q (%s, %s parameters) for %s at level %s", a.Index, a.Name, a.Architecture, humanize.Comma(a.Parameters), strings.Join(a.Kinds, ", "), a.Level)
	if a.Layers > 0 {
		fmt.Fprintf(w, "; adapts %d layers, scaled by %s", a.Layers, strings.Trim(fmt.Sprint(a.Scales), "[]"))
	}
	if a.Replaced > 0 {
		fmt.Fprintf(w, "; brings %d whole tensors", a.Replaced)
	}
	if len(a.Leaves) == 0 {
		fmt.Fprint(w, "; nothing leads to it but --expert")
	} else {
		fmt.Fprintf(w, "; chosen for %s", strings.Join(a.Leaves, ", "))
	}
	_, err := fmt.Fprintf(w, "\narguments %s\n", a.Args)
	return err
}

func poolRemoveCommand() *cli.Command {
	return &cli.Command{
		Name: "remove", Usage: "take an expert out of a pool", ArgsUsage: "DIR EXPERT",
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return usagef("want DIR and one expert, a name or a number; see unirestorer pool remove --help")
			}
			return withPool(c.Args().First(), func(p *pools.Pool) error { return p.Remove(c.Context, c.Args().Get(1)) })
		},
	}
}

// pooled is the report of pool list.
type pooled struct {
	Router  bool           `json:"router"`
	Experts []*pools.Added `json:"experts"`
	Without []string       `json:"degradations_without_expert"`
}

func poolListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "show the experts of a pool and what they are chosen for", ArgsUsage: "DIR",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			dir, err := oneArgument(c, "DIR")
			if err != nil {
				return err
			}
			return withPool(dir, func(p *pools.Pool) error {
				all, without, err := p.List()
				if err != nil {
					return err
				}
				if c.Bool("json") {
					return writeJSON(c.App.Writer, pooled{p.Config().Routed(), all, without})
				}
				w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "#\tNAME\tARCHITECTURE\tBASE\tKINDS\tLEVEL\tCHOSEN FOR")
				for _, a := range all {
					base := ""
					if b := p.Config().Experts[a.Index].Base; b != nil {
						base = p.Config().Experts[*b].Name
					}
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", a.Index, a.Name, a.Architecture, base, strings.Join(a.Kinds, ", "), a.Level, strings.Join(a.Leaves, ", "))
				}
				if err := w.Flush(); err != nil {
					return err
				}
				if len(without) > 0 {
					fmt.Fprintf(c.App.Writer, "no expert, left as they are: %s\n", strings.Join(without, ", "))
				}
				if !p.Config().Routed() {
					fmt.Fprintln(c.App.Writer, "no router: name experts with --expert or --degradation, or see pool fit-router")
				}
				return nil
			})
		},
	}
}

func oneArgument(c *cli.Context, what string) (string, error) {
	if c.NArg() != 1 {
		return "", usagef("want one %s; see unirestorer pool %s --help", what, c.Command.Name)
	}
	return c.Args().First(), nil
}

// withPool opens a pool for do.
func withPool(dir string, do func(p *pools.Pool) error) (err error) {
	p, err := pools.Open(dir)
	if err != nil {
		return err
	}
	defer closing(&err, p.Close)
	return do(p)
}

func poolFitCommand() *cli.Command {
	return &cli.Command{
		Name: "fit-router", Usage: "teach a pool's router kinds of degradation by examples", ArgsUsage: "DIR --examples DIR",
		Description: "The examples lie in a folder for each kind, called as the kind; twenty pictures of each are enough to be useful.\n" +
			"The degradation encoder stays; what is fitted is the gate that tells the kinds apart, and with it the kinds that\n" +
			"experts of the pool may have. Accuracy is cross-validated: of pictures that the gate was not fitted to.\n\n" +
			"Example:\n" +
			"   unirestorer pool fit-router mine --examples spoilt/",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "examples", Usage: "`DIR` with a folder of pictures for each kind"},
			&cli.StringFlag{Name: "router", Value: "nano", Usage: "`MODEL` whose encoder to use for a pool without a router"},
			&cli.BoolFlag{Name: "quiet", Usage: "print errors only"},
			jsonFlag(),
		}, deviceFlags()...),
		Action: func(c *cli.Context) (err error) {
			dir, err := oneArgument(c, "DIR")
			if err != nil {
				return err
			}
			if c.String("examples") == "" {
				return usagef("no --examples given; see unirestorer pool fit-router --help")
			}
			base, err := sessionOf(c, func() (*experts.Model, error) {
				return engine.OpenModel(c.Context, c.String("router"), convert.OpenOptions{})
			})
			if err != nil {
				return err
			}
			defer closing(&err, base.close)
			return withPool(dir, func(p *pools.Pool) error {
				bar := newBar(c.App.ErrWriter, c.Bool("quiet"), "reading examples")
				fit, err := p.FitRouter(c.Context, base.backend, c.String("examples"), base.model, bar.set)
				bar.close()
				if err != nil {
					return err
				}
				if c.Bool("json") {
					return writeJSON(c.App.Writer, fit)
				}
				return printFit(c, p, fit)
			})
		},
	}
}

func printFit(c *cli.Context, p *pools.Pool, fit *pools.Fit) error {
	for _, f := range fit.Failed {
		fmt.Fprintln(c.App.ErrWriter, "note:", f)
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "KIND\tPICTURES\tTAKEN FOR\n")
	for k, kind := range fit.Kinds {
		var taken []string
		for other, n := range fit.Confusion[k] {
			if n > 0 {
				taken = append(taken, fmt.Sprintf("%s %d", fit.Kinds[other], n))
			}
		}
		fmt.Fprintf(w, "%s\t%d\t%s\n", kind, fit.Pictures[k], strings.Join(taken, ", "))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "cross-validated accuracy %.1f %% (95 %% interval %.1f to %.1f); %s over the %s, temperature %.2f\n",
		100*fit.Accuracy, 100*fit.Interval[0], 100*fit.Interval[1], fit.Head, fit.Input, fit.Temperature)
	_, without, err := p.List()
	if err == nil && len(without) > 0 {
		fmt.Fprintf(c.App.Writer, "no expert yet, left as they are: %s\n", strings.Join(without, ", "))
	}
	return err
}

func poolCheckCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "say what every expert of a pool gains or harms", ArgsUsage: "DIR --synth PHOTOS | --data DIR",
		Description: "Runs every expert on every kind of degradation and prints what it gains in PSNR, in dB. An expert that harms the\n" +
			"kind it was added for is most likely a wrong file, range or channel order (see --net-args of pool add); the exit\n" +
			"code is 1 then.\n\n" +
			"Examples:\n" +
			"   unirestorer pool check mine --synth photos/ --count 4\n" +
			"   unirestorer pool check mine --data pairs/ --json",
		Flags:  studyFlags(),
		Action: poolCheckAction,
	}
}

func poolCheckAction(c *cli.Context) error {
	return withFolder(c, func(s *session, photos []string) error {
		records, _, words, err := runEveryExpert(c, s, photos, "checking")
		if err != nil {
			return err
		}
		g := evaluate.NewGains(s.model.Config, records)
		if c.Bool("json") {
			err = writeJSON(c.App.Writer, g)
		} else {
			fmt.Fprintln(c.App.Writer, words)
			err = g.Table().WriteText(c.App.Writer)
			for _, h := range g.Harmful {
				fmt.Fprintf(c.App.ErrWriter, "unirestorer: %s harms %s, which it was added for, by %.2f dB: a wrong file, range or channel order?\n", h.Expert, h.Case, -h.Gain)
			}
		}
		if err == nil && len(g.Harmful) > 0 {
			err = errReported
		}
		return err
	})
}
