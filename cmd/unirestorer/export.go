package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"unirestorer/runtime/convert"
	"unirestorer/runtime/experts"
	"unirestorer/weights/atomicfile"
)

func exportCommand() *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "write an expert as ONNX or safetensors",
		ArgsUsage: "[EXPERT] -o FILE",
		Description: "EXPERT is a number or a name of the model's pool, or estimator; it may be left out for a model of one expert.\n" +
			"An ONNX model (opset 17, AirNet's 19) takes pictures of any size as the authors' code does: input \"image\", [N, C, H, W], output\n" +
			"\"restored\". A safetensors file has the authors' tensor names; adapters are merged into their base.\n\n" +
			"Examples:\n" +
			"   unirestorer export fine-7-rain -o rain.onnx\n" +
			"   unirestorer export estimator -o estimator.onnx\n" +
			"   unirestorer export --model derain.pth -o derain.safetensors",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FILE` to write, .onnx or .safetensors"},
			modelFlag(), netArgsFlag(),
			&cli.StringFlag{Name: "weights", Value: "fp32", Usage: "`TYPE` of the weights: fp32 or fp16 (rounded); computing in ONNX stays fp32"},
			jsonFlag(),
		},
		Action: exportAction,
	}
}

// exported is the report of export.
type exported struct {
	Expert       string `json:"expert"`
	Architecture string `json:"architecture"`
	File         string `json:"file"`
	Bytes        int64  `json:"bytes"`
}

func exportAction(c *cli.Context) (err error) {
	out := c.String("output")
	half := c.String("weights") == "fp16"
	switch {
	case out == "" || c.NArg() > 1:
		return usagef("want [EXPERT] -o FILE; see unirestorer export --help")
	case !half && c.String("weights") != "fp32":
		return usagef("--weights %q: want fp32 or fp16", c.String("weights"))
	}
	m, err := openModel(c)
	if err != nil {
		return err
	}
	defer closing(&err, m.Close)
	expert, err := exportedExpert(c, m)
	if err != nil {
		return err
	}
	var counted *counter
	write := func(do func(w io.Writer) error) error {
		return atomicfile.Write(c.Context, out, func(w io.Writer) error {
			b := bufio.NewWriterSize(w, 1<<20)
			counted = &counter{w: b}
			if err := do(counted); err != nil {
				return err
			}
			return b.Flush()
		})
	}
	switch ext := strings.ToLower(filepath.Ext(out)); ext {
	case ".onnx":
		err = write(func(w io.Writer) error { return convert.WriteONNX(w, m, expert, half) })
	case ".safetensors":
		err = write(func(w io.Writer) error { return convert.WriteExpert(c.Context, w, m, expert, half) })
	default:
		return usagef("-o %s: want a name that ends in .onnx or .safetensors", out)
	}
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return printExported(c, m, expert, counted.n)
}

// exportedExpert finds the expert to write; convert.Estimator is the estimator.
func exportedExpert(c *cli.Context, m *experts.Model) (int, error) {
	ref := c.Args().First()
	if strings.EqualFold(ref, "estimator") {
		return convert.Estimator, nil
	}
	if ref == "" {
		if len(m.Config.Experts) != 1 {
			return 0, usagef("the model has %d experts: name one, or estimator", len(m.Config.Experts))
		}
		return 0, nil
	}
	n, err := m.Config.FindExpert(ref)
	if err != nil && exists(ref) {
		err = fmt.Errorf("%w; a network's file or a model's folder is named by --model", err)
	}
	if err != nil {
		return 0, usageError{err}
	}
	return n, nil
}

func printExported(c *cli.Context, m *experts.Model, expert int, bytes int64) error {
	e := exported{Expert: "estimator", Architecture: m.Config.Estimator.Architecture, File: c.String("output"), Bytes: bytes}
	if expert != convert.Estimator {
		e.Expert, e.Architecture = m.Config.Experts[expert].Name, m.Config.Experts[expert].Architecture
	}
	if c.Bool("json") {
		return json.NewEncoder(c.App.Writer).Encode(e)
	}
	_, err := fmt.Fprintf(c.App.Writer, "%s: %s (%s), %s\n", e.File, e.Expert, e.Architecture, humanize.IBytes(uint64(bytes)))
	return err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
