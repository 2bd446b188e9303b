package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"unirestorer/graph/models"
	"unirestorer/runtime/convert"
	"unirestorer/runtime/engine"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/lora"
	"unirestorer/runtime/report"
	"unirestorer/weights"
	"unirestorer/weights/nano"
)

func loraCommand() *cli.Command {
	return &cli.Command{
		Name:  "lora",
		Usage: "make low-rank adapters from full experts, and write adapters for others",
		Description: "unirestorer lora extract makes adapters, lora export writes them for other programs, lora plan says which experts\n" +
			"should be adapters where bytes are few; unirestorer compare-lora weighs single adapters against full experts.\n\n" +
			"Examples:\n" +
			"   unirestorer lora extract --model model/ --base coarse --full fine-3-rain --rank 8 -o smaller/\n" +
			"   unirestorer lora extract --help",
		Subcommands: []*cli.Command{loraExtractCommand(), loraExportCommand(), loraPlanCommand()},
	}
}

func loraExtractCommand() *cli.Command {
	return &cli.Command{
		Name:      "extract",
		Usage:     "make adapters of any rank from pairs of experts, without training",
		UsageText: "unirestorer lora extract --base EXPERT --full EXPERT [--full EXPERT…] --rank R -o FOLDER",
		Description: "Writes a model folder that has, beside all the experts of the model, a LoRA expert for every --full: the\n" +
			"truncated singular value decomposition of full - base, layer by layer. The base is stored once. Where a\n" +
			"layer's weight is no larger than its factors (depthwise layers always), the expert keeps the full weight;\n" +
			"biases, normalisations and temperatures are the full expert's own.\n\n" +
			"EXPERT is a number or name in the model, FOLDER#EXPERT for one in another model folder, or FOLDER where only\n" +
			"one expert there fits. Both must be Restormers with the same arguments.\n\n" +
			"Examples:\n" +
			"   unirestorer lora extract --model model/ --base coarse --full fine-3-rain --rank 8 -o with-lora/\n" +
			"   unirestorer lora extract --model model/ --base 0 --full 1 --full 9 --rank 4 --replace -o smaller/\n" +
			"   unirestorer lora extract --base model/#0 --full tuned/#9 --rank 16 -o with-tuned/ --json\n" +
			"   unirestorer restore rain.jpg -o clear.png --model with-lora/ --expert 30",
		Flags: []cli.Flag{
			modelFlag(), netArgsFlag(),
			&cli.StringFlag{Name: "base", Usage: "`EXPERT` to adapt"},
			&cli.StringSliceFlag{Name: "full", Usage: "`EXPERT` to come close to; may be repeated"},
			&cli.IntFlag{Name: "rank", Aliases: []string{"r"}, Usage: "`RANK` of the adapters"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "model `FOLDER` to make"},
			&cli.BoolFlag{Name: "replace", Usage: "put adapters into the places of the full experts, whose weights are left out"},
			&cli.StringFlag{Name: "dtype", Value: "f16", Usage: "`TYPE` of the factors: f16, bf16 or f32"},
			&cli.BoolFlag{Name: "overwrite", Usage: "replace a model folder that exists"},
			&cli.BoolFlag{Name: "quiet", Usage: "print errors only"},
			jsonFlag(),
		},
		Action: loraExtractAction,
	}
}

var factorTypes = map[string]weights.DType{"f16": weights.F16, "bf16": weights.BF16, "f32": weights.F32}

// extracted is the report on one adapter.
type extracted struct {
	Expert int    `json:"expert"`
	Name   string `json:"name"`
	Base   string `json:"base"`
	Full   string `json:"full"`
	Rank   int    `json:"rank"`
	// Kept is the share of the difference's energy in the adapter.
	Kept       float64      `json:"energy_kept"`
	Parameters int64        `json:"parameters"`
	Bytes      int64        `json:"bytes"`
	FullBytes  int64        `json:"full_bytes"`
	Layers     []lora.Layer `json:"layers"`
}

func loraExtractAction(c *cli.Context) (err error) {
	dtype, ok := factorTypes[c.String("dtype")]
	switch {
	case c.NArg() > 0:
		return usagef("%q is no option; see unirestorer lora extract --help", c.Args().First())
	case c.String("base") == "" || len(c.StringSlice("full")) == 0 || c.Int("rank") == 0 || c.String("output") == "":
		return usagef("want --base EXPERT --full EXPERT --rank R -o FOLDER; see unirestorer lora extract --help")
	case c.Int("rank") < 0:
		return usagef("--rank %d: want 1 or more", c.Int("rank"))
	case !ok:
		return usagef("--dtype %q: want f16, bf16 or f32", c.String("dtype"))
	}
	folders := &modelFolders{}
	defer closing(&err, folders.close)
	opened, err := networkOptions(c)
	if err != nil {
		return err
	}
	x := &extractor{c: c, folders: folders, dtype: dtype, opened: opened}
	if err := x.openBase(); err != nil {
		return err
	}
	var all []extracted
	for _, ref := range c.StringSlice("full") {
		e, err := x.extract(ref)
		if err != nil {
			return err
		}
		all = append(all, e)
	}
	summary, err := x.write()
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, map[string]any{"model": c.String("output"), "adapters": all, "stored": summary})
	}
	if c.Bool("quiet") {
		return nil
	}
	return printExtracted(c.App.Writer, c.String("output"), all, summary)
}

// extractor makes a model with adapters.
type extractor struct {
	c       *cli.Context
	folders *modelFolders
	dtype   weights.DType
	opened  convert.OpenOptions

	model *experts.Model // that adapters are added to
	base  int            // in model
	plan  *lora.Plan
}

// openBase opens the model that has the base: the one of --model, or the folder that --base names.
func (x *extractor) openBase() error {
	var err error
	path := x.c.String("model")
	ref := x.c.String("base")
	if path == "" && !exists(before(ref)) {
		path = nano.Name
	}
	if path != "" {
		if x.model, err = x.folders.open(x.c.Context, path, x.opened); err != nil {
			return err
		}
	}
	m, index, err := x.resolve("--base", ref, nil)
	if err != nil {
		return err
	}
	if x.model != nil && m != x.model {
		return usagef("--base %s: the base must be an expert of %s, because adapters are stored beside it", ref, path)
	}
	x.model, x.base = m, index
	x.plan, err = lora.NewPlan(m.Config, m.Source)
	return err
}

// resolve finds the expert that an option names. like, if not nil, narrows down a folder's experts.
func (x *extractor) resolve(option, ref string, like models.Network) (*experts.Model, int, error) {
	if x.model != nil {
		i, err := x.model.Config.FindExpert(ref)
		if err == nil {
			return x.model, i, nil
		}
		if !exists(before(ref)) {
			return nil, 0, usageError{fmt.Errorf("%s %s: %w", option, ref, err)}
		}
	}
	path, name, named := strings.Cut(ref, "#")
	if !exists(path) {
		if x.model == nil {
			return nil, 0, usagef("%s %s: want --model FOLDER, or FOLDER#EXPERT", option, ref)
		}
		return nil, 0, usagef("%s %s: there is no model %s", option, ref, path)
	}
	m, err := x.folders.open(x.c.Context, path, x.opened)
	if err != nil {
		return nil, 0, err
	}
	if named {
		i, err := m.Config.FindExpert(name)
		if err != nil {
			return nil, 0, usageError{fmt.Errorf("%s %s: %w", option, ref, err)}
		}
		return m, i, nil
	}
	fits, err := lora.Like(m.Config, like)
	if err != nil {
		return nil, 0, err
	}
	if len(fits) == 0 {
		return nil, 0, usagef("%s %s: no expert there is a Restormer, or one with the base's arguments", option, ref)
	}
	if len(fits) > 1 {
		return nil, 0, usagef("%s %s: %d experts there fit; name one as %s#EXPERT", option, ref, len(fits), path)
	}
	return m, fits[0], nil
}

// exists tells whether there is something on disk, or the built-in model, under that name.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil || engine.BuiltIn(path)
}

// before is the model in a reference MODEL#EXPERT.
func before(ref string) string {
	path, _, _ := strings.Cut(ref, "#")
	return path
}

// extract adds the adapter of one full expert to the plan.
func (x *extractor) extract(ref string) (extracted, error) {
	var none extracted
	base, err := lora.ExpertOf(x.model.Config, x.model.Source, x.base)
	if err != nil {
		return none, err
	}
	m, index, err := x.resolve("--full", ref, base.Network)
	if err != nil {
		return none, err
	}
	full, err := lora.ExpertOf(m.Config, m.Source, index)
	if err != nil {
		return none, err
	}
	rank := x.c.Int("rank")
	bar := newBar(x.c.App.ErrWriter, x.c.Bool("quiet"), "decomposing "+full.Name)
	extraction, err := lora.Extract(x.c.Context, base, full, rank, bar.set)
	bar.close()
	if err != nil {
		return none, err
	}
	adapter, err := extraction.Adapter(rank, x.dtype)
	if err != nil {
		return none, err
	}
	fullBytes, err := lora.StoredBytes(full)
	if err != nil {
		return none, err
	}
	at, err := x.place(m, index, full, adapter.Expert)
	if err != nil {
		return none, err
	}
	x.plan.Note("%s: adapter of rank %d, by truncated singular value decomposition of %s - %s; %.4g %% of the difference's energy",
		adapter.Name, rank, full.Name, base.Name, 100*adapter.Kept())
	return extracted{
		Expert: at, Name: adapter.Name, Base: base.Name, Full: full.Name, Rank: rank, Kept: adapter.Kept(),
		Parameters: adapter.Parameters, Bytes: adapter.Bytes, FullBytes: fullBytes, Layers: adapter.Layers,
	}, nil
}

// place puts an adapter beside the full expert that it comes from, or in its stead. Experts of another model go to
// the finest level of this one.
func (x *extractor) place(m *experts.Model, index int, full, adapter lora.Expert) (int, error) {
	replace := x.c.Bool("replace")
	if m == x.model {
		if replace {
			return index, x.plan.Replace(index, adapter, x.base)
		}
		return x.plan.Add(adapter, m.Config.Experts[index].Level, x.base)
	}
	finest := len(x.model.Config.Tree.Levels) - 1
	if !replace {
		if _, err := x.plan.Add(full, finest, -1); err != nil {
			return 0, err
		}
	}
	return x.plan.Add(adapter, finest, x.base)
}

func (x *extractor) write() (weights.FolderSummary, error) {
	plan, err := x.plan.Finish()
	if err != nil {
		return weights.FolderSummary{}, err
	}
	out := x.c.String("output")
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(out)), 0o777); err != nil {
		return weights.FolderSummary{}, err
	}
	bar := newBar(x.c.App.ErrWriter, x.c.Bool("quiet"), "writing "+out)
	defer bar.close()
	return plan.Write(x.c.Context, out, weights.FolderOptions{Overwrite: x.c.Bool("overwrite")},
		func(done, all int) { bar.set(float64(done) / float64(all)) })
}

func printExtracted(w io.Writer, folder string, all []extracted, sum weights.FolderSummary) error {
	for _, e := range all {
		t := &report.Table{
			Caption: fmt.Sprintf("expert %d %q: rank %d of %s - %s", e.Expert, e.Name, e.Rank, e.Full, e.Base),
			Columns: []report.Column{
				{Name: "layer"}, {Name: "weight"}, {Name: "stored as"}, {Name: "‖ΔW‖²", Align: report.Right},
				{Name: "kept", Unit: "%", Align: report.Right}, {Name: "bytes", Align: report.Right},
			},
		}
		for _, l := range e.Layers {
			stored := "factors"
			if l.Dense {
				stored = "weight"
			}
			t.Add(l.Name, strings.Trim(fmt.Sprint(l.Dims), "[]"), stored, fmt.Sprintf("%.3g", l.Energy), percent(l.Kept, l.Energy), humanize.Comma(l.Bytes))
		}
		t.Add("all", "", "", "", percent(e.Kept, 1), humanize.Comma(e.Bytes))
		t.Notes = []string{fmt.Sprintf("%s parameters, %s: %.1f %% of the full expert's %s. All includes biases, normalisations and temperatures.",
			humanize.Comma(e.Parameters), humanize.IBytes(uint64(e.Bytes)), 100*float64(e.Bytes)/float64(e.FullBytes), humanize.IBytes(uint64(e.FullBytes)))}
		if err := t.WriteText(w); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	_, err := fmt.Fprintf(w, "%s: %d tensors (%d more equal one of them), %s\n", folder, sum.Tensors, sum.Aliases, humanize.IBytes(uint64(sum.Bytes)))
	return err
}

// percent is a share of a whole; of nothing all is kept.
func percent(part, whole float64) string {
	if whole == 0 {
		return "100.00"
	}
	return fmt.Sprintf("%.2f", 100*part/whole)
}

// modelFolders opens every model once.
type modelFolders struct {
	models map[string]*experts.Model
}

func (f *modelFolders) open(ctx context.Context, path string, opt convert.OpenOptions) (*experts.Model, error) {
	key, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if m := f.models[key]; m != nil {
		return m, nil
	}
	m, err := engine.OpenModel(ctx, path, opt)
	if err != nil {
		return nil, err
	}
	if f.models == nil {
		f.models = map[string]*experts.Model{}
	}
	f.models[key] = m
	return m, nil
}

func (f *modelFolders) close() error {
	var errs []error
	for _, m := range f.models {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}
