package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"unirestorer/runtime/degrade"
	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/report"
	"unirestorer/runtime/restore"
)

func degradeCommand() *cli.Command {
	return &cli.Command{
		Name:      "degrade",
		Usage:     "spoil image files in known ways",
		ArgsUsage: "IN… -o OUT --spec SPEC",
		Description: "Makes degraded pictures from clean ones, the same on every machine. IN and OUT are files, folders or -, as\n" +
			"for restore; depth, grey, alpha, EXIF and ICC profiles are kept where OUT's format can hold them.\n\n" +
			"A SPEC is one or more degradations joined by +, applied in the order in which light meets them:\n" +
			"   rain:0.6                 rain at severity 0.6 of 1; light, medium, heavy and extreme are 0.25, 0.5, 0.75 and 1\n" +
			"   noise:sigma=25           Gaussian noise with standard deviation 25/255\n" +
			"   haze:heavy+jpeg:q=20     haze, then JPEG compression at quality 20\n" +
			"   snow:0.5@7               snow at seed 7\n" +
			"--list prints every degradation with its parameters, formula and source. The first image takes the seed, each\n" +
			"further one the next number.\n\n" +
			"Examples:\n" +
			"   unirestorer degrade photo.jpg -o rain.png --spec rain:0.6+noise:0.2\n" +
			"   unirestorer degrade photos/ -o noisy/ --spec noise:sigma=25 --seed 7 --format png\n" +
			"   unirestorer degrade --list",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`OUT` file or folder, or - for standard output"},
			&cli.StringFlag{Name: "spec", Aliases: []string{"s"}, Usage: "what to do, as a `SPEC` like rain:0.6+noise:0.2"},
			&cli.Uint64Flag{Name: "seed", Usage: "`NUMBER` that all randomness of the first image follows from (default: that of the spec, or 0)"},
			&cli.BoolFlag{Name: "list", Usage: "print the degradations there are"},
			&cli.StringFlag{Name: "format", Aliases: []string{"f"}, Usage: "`FORMAT` of the results: png, jpeg, webp, tiff or bmp; by default that of OUT or of the input"},
			qualityFlag(), chromaFlag(),
			&cli.BoolFlag{Name: "overwrite", Usage: "degrade images of folders again whose result exists"},
			&cli.BoolFlag{Name: "quiet", Usage: "print errors only"},
			jsonFlag(),
		},
		Action: degradeAction,
	}
}

func degradeAction(c *cli.Context) error {
	if c.Bool("list") {
		return listDegradations(c)
	}
	d, err := newDegrading(c)
	if err != nil {
		return err
	}
	return d.run(c.Context)
}

// degraded is one line of the JSON report.
type degraded struct {
	In      string                `json:"in"`
	Out     string                `json:"out"`
	Skipped bool                  `json:"skipped,omitempty"`
	Error   string                `json:"error,omitempty"`
	Spec    string                `json:"spec,omitempty"`
	Terms   []degrade.Description `json:"terms,omitempty"`
}

// degrading degrades jobs one after the other. A job that fails does not stop
// the others.
type degrading struct {
	c      *cli.Context
	spec   degrade.Spec
	encode imaging.EncodeOptions
	jobs   []restore.Job
}

func newDegrading(c *cli.Context) (*degrading, error) {
	d := &degrading{c: c}
	if c.NArg() == 0 {
		return nil, usagef("no input given; see unirestorer degrade --help")
	}
	if c.String("output") == "" {
		return nil, usagef("no output given: use -o OUT")
	}
	if c.String("spec") == "" {
		return nil, usagef("no degradation given: use --spec SPEC; unirestorer degrade --list prints what there is")
	}
	var err error
	if d.spec, err = degrade.ParseSpec(c.String("spec")); err != nil {
		return nil, usageError{fmt.Errorf("--spec: %w", err)}
	}
	if c.IsSet("seed") {
		d.spec.Seed = c.Uint64("seed")
	}
	if d.encode.Format, d.encode.Quality, err = resultFormat(c); err != nil {
		return nil, err
	}
	if d.encode.Chroma, err = imaging.ParseChroma(c.String("chroma")); err != nil {
		return nil, usageError{fmt.Errorf("--chroma: %w", err)}
	}
	if c.Bool("json") && c.String("output") == restore.Stream {
		return nil, usagef("--json and -o - both want standard output")
	}
	d.jobs, err = restore.Jobs(c.Args().Slice(), c.String("output"), restore.FileOptions{Format: d.encode.Format})
	if err != nil {
		return nil, usageError{err}
	}
	return d, nil
}

func (d *degrading) run(ctx context.Context) error {
	results := []degraded{}
	var failed []error
	for i, j := range d.jobs {
		spec := d.spec
		spec.Seed += uint64(i)
		r, err := d.one(ctx, j, spec)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.Error = err.Error()
			failed = append(failed, err)
		}
		results = append(results, r)
	}
	if d.c.Bool("json") {
		if err := writeJSON(d.c.App.Writer, results); err != nil {
			return err
		}
	}
	if len(d.jobs) == 0 {
		return errors.New("no images found")
	}
	for _, err := range failed {
		fmt.Fprintln(d.c.App.ErrWriter, "unirestorer:", err)
	}
	if len(failed) > 0 {
		return errReported
	}
	return nil
}

func (d *degrading) one(ctx context.Context, j restore.Job, spec degrade.Spec) (degraded, error) {
	r := degraded{In: j.In, Out: j.Out}
	if j.FromFolder && !d.c.Bool("overwrite") {
		if _, err := os.Stat(j.Out); err == nil {
			r.Skipped = true
			d.say("%s: %s exists, skipped (--overwrite degrades it again)\n", j.In, j.Out)
			return r, nil
		}
	}
	img, err := d.decode(j.In)
	if err != nil {
		return r, fmt.Errorf("degrade: %w", err) // names the file
	}
	if err := d.file(ctx, j, img, spec); err != nil {
		return r, fmt.Errorf("degrade %s: %w", j.In, err)
	}
	if r.Terms, err = degrade.Describe(spec); err != nil {
		return r, err
	}
	r.Spec = spec.String()
	d.say("%s → %s: %s\n", j.In, j.Out, r.Spec)
	for _, t := range r.Terms {
		d.say("   %s\n", t)
	}
	return r, nil
}

// file makes one degraded file, which appears when it is complete.
func (d *degrading) file(ctx context.Context, j restore.Job, img *imaging.Image, spec degrade.Spec) error {
	out, err := evaluate.Degrade(ctx, img, spec)
	if err != nil {
		return err
	}
	if j.Out == restore.Stream {
		return imaging.Encode(d.c.App.Writer, out, d.encode)
	}
	if err := os.MkdirAll(filepath.Dir(j.Out), 0o777); err != nil {
		return err
	}
	return imaging.EncodeFile(ctx, j.Out, out, d.encode)
}

// decode reads the first picture of a file; errors start with its name.
func (d *degrading) decode(path string) (*imaging.Image, error) {
	var p *imaging.Pictures
	var err error
	if path == restore.Stream {
		if p, err = imaging.OpenReader(d.c.App.Reader, imaging.Limits{}); err != nil {
			err = fmt.Errorf("standard input: %w", err)
		}
	} else {
		p, err = imaging.OpenFile(path, imaging.Limits{})
	}
	if err != nil {
		return nil, err
	}
	defer p.Close()
	img, _, err := p.Next()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, w := range img.Meta.Warnings {
		d.say("%s: %s\n", path, w)
	}
	if p.Count > 1 {
		d.say("%s: picture 1 of %d\n", path, p.Count)
	}
	return img, nil
}

// say prints for people, on standard error so that pipes stay clean.
func (d *degrading) say(format string, args ...any) {
	if !d.c.Bool("quiet") {
		fmt.Fprintf(d.c.App.ErrWriter, format, args...)
	}
}

// listedKind is a degradation in the JSON list. Values of parameters are those
// at severity 0.5.
type listedKind struct {
	Kind    degrade.Kind    `json:"kind"`
	Title   string          `json:"title"`
	HeldOut bool            `json:"held_out"`
	Formula string          `json:"formula"`
	Source  string          `json:"source"`
	Params  []degrade.Param `json:"params"`
}

func listDegradations(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef("--list takes no arguments")
	}
	var all []listedKind
	for _, k := range slices.Concat(degrade.Kinds(), degrade.HeldOutKinds()) {
		ds, err := degrade.Describe(degrade.Spec{Terms: []degrade.Term{{Kind: k, Severity: 0.5}}})
		if err != nil {
			return err
		}
		all = append(all, listedKind{k, k.Title(), k.HeldOut(), ds[0].Formula, ds[0].Source, k.Params()})
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, all)
	}
	for i, k := range all {
		if i > 0 {
			fmt.Fprintln(c.App.Writer)
		}
		if err := k.print(c.App.Writer); err != nil {
			return err
		}
	}
	return nil
}

func (k *listedKind) print(w io.Writer) error {
	note := ""
	if k.HeldOut {
		note = " (for evaluation only, models are not trained on it)"
	}
	fmt.Fprintf(w, "%s: %s%s\n   %s\n   source: %s\n", k.Kind, k.Title, note, k.Formula, k.Source)
	t := &report.Table{Columns: []report.Column{
		{Name: "parameter"}, {Name: "from", Align: report.Right}, {Name: "to", Align: report.Right}, {Name: "unit"},
		{Name: "at severity s"}, {Name: "meaning"},
	}}
	for _, p := range k.Params {
		t.Add(p.Name, fmt.Sprintf("%g", p.Min), fmt.Sprintf("%g", p.Max), p.Unit, p.Curve, p.Meaning)
	}
	return t.WriteText(w)
}
