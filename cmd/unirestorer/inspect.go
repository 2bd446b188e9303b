package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"unirestorer/graph/models"
	"unirestorer/runtime/convert"
	"unirestorer/runtime/engine"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/report"
	"unirestorer/weights"
	"unirestorer/weights/nano"
)

func inspectCommand() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "show what a model or a file of tensors holds",
		ArgsUsage: "MODEL|FILE",
		Description: "For a model folder, the built-in model nano or a UniRestorer checkpoint: estimator, router and experts with their parameters and\n" +
			"multiply-adds, and the clustering tree. For any other safetensors or PyTorch file: its tensors.\n\n" +
			"Examples:\n" +
			"   unirestorer inspect nano\n" +
			"   unirestorer inspect model/\n" +
			"   unirestorer inspect model.pth --size 512x512\n" +
			"   unirestorer inspect nano --ranges --expert coarse\n" +
			"   unirestorer inspect weights.safetensors --tensors --json",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "size", Value: "256x256", Usage: "count multiply-adds for images of `WxH` pixels"},
			&cli.BoolFlag{Name: "tensors", Usage: "list the tensors"},
			&cli.BoolFlag{Name: "verify", Usage: "compare all values with the digests that are kept with them"},
			&cli.BoolFlag{Name: "ranges", Usage: "show how large values become inside the networks, and how they lie in the range of fp16"},
			&cli.StringFlag{Name: "expert", Usage: "with --ranges, only `EXPERT`, a number or a name"},
			&cli.StringFlag{Name: "root", Usage: "top-level `KEY` of a checkpoint's state dict"},
			netArgsFlag(),
			&cli.StringFlag{Name: "hints", Usage: "JSON `FILE` with arguments that a checkpoint does not store, as for convert"},
			jsonFlag(),
		},
		Action: inspectAction,
	}
}

// inspected is the report on a model or file.
type inspected struct {
	Path     string                `json:"path"`
	Format   weights.Format        `json:"format"`
	Bytes    int64                 `json:"tensor_bytes"`
	Count    int                   `json:"tensor_count"`
	Verified bool                  `json:"verified,omitempty"`
	Model    *models.Config        `json:"model,omitempty"`
	Problem  string                `json:"problem,omitempty"` // why the tensors make no model
	Passed   []string              `json:"passed_over,omitempty"`
	Size     string                `json:"size,omitempty"`
	Parts    []experts.Description `json:"parts,omitempty"`
	Tensors  []tensorInfo          `json:"tensors,omitempty"`
}

type tensorInfo struct {
	Name  string `json:"name"`
	DType string `json:"dtype"`
	Shape []int  `json:"shape"`
	Bytes int64  `json:"bytes"`
}

// inspectedFile opens a model folder, a file of tensors or the built-in model.
func inspectedFile(path, root string) (weights.File, error) {
	if engine.BuiltIn(path) {
		return weights.OpenFolderFS(nano.Name, nano.Files())
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return weights.Open(path)
	}
	return convert.OpenTensors(path, root)
}

func inspectAction(c *cli.Context) (err error) {
	if c.NArg() != 1 {
		return usagef("want one model or file; see unirestorer inspect --help")
	}
	w, h, err := parseSize(c.String("size"))
	if err != nil {
		return err
	}
	path := c.Args().First()
	if c.Bool("ranges") {
		m, err := engine.OpenModel(c.Context, path, convert.OpenOptions{})
		if err != nil {
			return err
		}
		defer closing(&err, m.Close)
		return inspectRanges(c, m, c.String("expert"))
	}
	f, err := inspectedFile(path, c.String("root"))
	if err != nil {
		return err
	}
	defer closing(&err, f.Close)
	if c.Bool("verify") {
		v, ok := f.(interface{ Verify(context.Context) error })
		if !ok {
			return fmt.Errorf("verify %s: a %s file holds no digests", path, f.Format())
		}
		if err := v.Verify(c.Context); err != nil {
			return err
		}
	}
	info := inspected{Path: path, Format: f.Format(), Verified: c.Bool("verify")}
	if checkpoint, ok := f.(*weights.Checkpoint); ok {
		info.Passed = checkpoint.PassedOver()
	}
	seen := map[weights.StorageKey]bool{}
	for _, name := range f.Names() {
		t, err := f.Tensor(name)
		if err != nil {
			return err
		}
		info.Count++
		if !seen[t.StorageKey()] {
			seen[t.StorageKey()] = true
			info.Bytes += t.NumBytes()
		}
		info.Tensors = append(info.Tensors, tensorInfo{name, t.DType.String(), t.Shape, t.NumBytes()})
	}
	if info.Model, info.Problem, err = modelOf(c, f); err != nil {
		return err
	}
	if info.Model != nil {
		info.Size = fmt.Sprintf("%dx%d", w, h)
		if info.Parts, err = experts.Describe(info.Model, h, w); err != nil {
			return err
		}
	}
	if info.Model != nil && !c.Bool("tensors") {
		info.Tensors = nil
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, info)
	}
	return printInspected(c.App.Writer, info)
}

// modelOf gives the model in f, or nil if f holds tensors of another kind;
// problem tells what keeps a checkpoint with experts from being a model.
func modelOf(c *cli.Context, f weights.File) (m *models.Config, problem string, err error) {
	if folder, ok := f.(*weights.Folder); ok {
		m, err = models.ParseConfig(folder.Config())
		return m, "", err
	}
	if !slices.ContainsFunc(f.Names(), func(n string) bool { return strings.HasPrefix(n, "l0_experts.") }) {
		opt, err := networkOptions(c)
		if err != nil {
			return nil, "", err
		}
		single, err := convert.FindNetworkIn(f, opt.Args)
		if err != nil {
			return nil, "no network: " + err.Error(), nil
		}
		return single.Pool(convert.Stem(f.Path())), "", nil
	}
	hints, err := readHints(c, 0)
	if err != nil {
		return nil, "", err
	}
	plan, err := convert.New(c.Context, f, nil, hints)
	switch {
	case err == nil:
		return plan.Config, "", nil
	case c.Context.Err() != nil:
		return nil, "", err
	default:
		return nil, "no complete model: " + err.Error(), nil
	}
}

func parseSize(s string) (w, h int, err error) {
	var rest string
	if n, _ := fmt.Sscanf(s+" ", "%dx%d%s", &w, &h, &rest); n != 2 || w <= 0 || h <= 0 || w > 1<<16 || h > 1<<16 {
		return 0, 0, usagef("--size %q: want WxH like 256x256", s)
	}
	return w, h, nil
}

func printInspected(out io.Writer, info inspected) error {
	fmt.Fprintf(out, "%s: %s, %d tensors, %s\n", info.Path, info.Format, info.Count, humanize.IBytes(uint64(info.Bytes)))
	if info.Verified {
		fmt.Fprintln(out, "verified: all values are what they were when they were written")
	}
	var errs []error
	if len(info.Passed) > 0 {
		fmt.Fprintf(out, "note: passed over, and nothing of it run: %s\n", strings.Join(info.Passed, ", "))
	}
	if info.Problem != "" {
		fmt.Fprintln(out, "note:", info.Problem)
	}
	if info.Model != nil {
		fmt.Fprintf(out, "model %q: %d leaves, levels %s\n\n", info.Model.Name, len(info.Model.Tree.Leaves), strings.Join(info.Model.Tree.Levels, ", "))
		errs = append(errs, printParts(out, info), printTree(out, info.Model))
		for _, note := range info.Model.Provenance.Notes {
			fmt.Fprintln(out, "note:", note)
		}
	}
	if len(info.Tensors) > 0 {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "TENSOR\tTYPE\tSHAPE\tBYTES")
		for _, t := range info.Tensors {
			fmt.Fprintf(w, "%s\t%s\t%v\t%d\n", report.Printable(t.Name), t.DType, t.Shape, t.Bytes)
		}
		errs = append(errs, w.Flush())
	}
	return errors.Join(errs...)
}

func printParts(out io.Writer, info inspected) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "#\tname\tarchitecture\tparameters\ttensors\tGMAC conv+linear\tGMAC attention\tnodes\t\n")
	for _, p := range info.Parts {
		index := ""
		if p.Index >= 0 {
			index = fmt.Sprint(p.Index)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%.3f\t%.3f\t%d\t\n", index, p.Name, p.Architecture,
			humanize.Comma(p.Params), p.Tensors, float64(p.MACs)/1e9, float64(p.Attention)/1e9, p.Nodes)
	}
	fmt.Fprintf(w, "\t\t\t\t\tat %s\t\t\t\n", info.Size)
	return w.Flush()
}

func printTree(out io.Writer, m *models.Config) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "LEAF\tNAME\tRESTORES\tEXPERTS BY LEVEL\n")
	for i, leaf := range m.Tree.Leaves {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", i, leaf.Name, strings.Join(leaf.Kinds, ", "), strings.Trim(fmt.Sprint(leaf.Experts), "[]"))
	}
	return w.Flush()
}
