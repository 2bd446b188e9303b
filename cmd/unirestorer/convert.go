package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"unirestorer/graph/models"
	"unirestorer/runtime/convert"
	"unirestorer/runtime/experts"
	"unirestorer/weights"
)

func convertCommand() *cli.Command {
	return &cli.Command{
		Name:      "convert",
		Usage:     "make a model folder from the released PyTorch checkpoints",
		ArgsUsage: "MODEL.pth [DACLIP.pt] -o FOLDER",
		Description: "Reads UniRestorer's model.pth, and DA-CLIP's checkpoint where model.pth does not hold the degradation\n" +
			"encoder, without Python and without executing anything. Architectures are read off the tensors; what no\n" +
			"checkpoint stores takes the released values unless told otherwise. Tensors keep their names; equal ones are\n" +
			"stored once.\n\n" +
			"Examples:\n" +
			"   unirestorer convert model.pth daclip_ViT-B-32.pt -o model/\n" +
			"   unirestorer convert model.pth -o model-f16/ --dtype f16\n" +
			"   unirestorer convert tiny.pth -o tiny/ --hints testdata/goldens/unirestorer_tiny/config.json",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "model `FOLDER` to make"},
			&cli.StringFlag{Name: "dtype", Value: "exact", Usage: "`POLICY` for weights: keep (as stored), f16 (rounded), or exact (fp16 where no value changes)"},
			&cli.Float64Flag{Name: "lora-scale", Value: 2, Usage: "alpha/r of LoRA experts"},
			&cli.IntFlag{Name: "train-size", Value: 256, Usage: "side in `PIXELS` of the patches that NAFNetLocal was trained on"},
			&cli.IntFlag{Name: "head-width", Value: 64, Usage: "`CHANNELS` of an attention head of the degradation encoder"},
			&cli.StringFlag{Name: "hints", Usage: "JSON `FILE` with daclip_args and expert_args_by_class, which override what was found"},
			&cli.StringFlag{Name: "labels", Usage: "JSON `FILE` with a list of {\"name\": …, \"kinds\": […]}, one for every leaf"},
			&cli.StringFlag{Name: "root", Usage: "top-level `KEY` of the checkpoint's state dict, where it is not params or state_dict"},
			&cli.StringFlag{Name: "license", Usage: "licence of the weights, kept in the model's provenance"},
			&cli.BoolFlag{Name: "calibrate", Value: true, Usage: "measure how large values become, as the command calibrate does; --calibrate=false leaves it to the first use"},
			&cli.BoolFlag{Name: "overwrite", Usage: "replace a model folder that exists"},
			&cli.BoolFlag{Name: "quiet", Usage: "print errors only"},
			jsonFlag(),
		},
		Action: convertAction,
	}
}

var dtypePolicies = map[string]weights.DTypePolicy{
	"keep": weights.KeepDType, "f16": weights.RoundToF16, "exact": weights.F16IfExact,
}

func convertAction(c *cli.Context) (err error) {
	if c.NArg() < 1 || c.NArg() > 2 || c.String("output") == "" {
		return usagef("want MODEL.pth [DACLIP.pt] -o FOLDER; see unirestorer convert --help")
	}
	policy, ok := dtypePolicies[c.String("dtype")]
	if !ok {
		return usagef("--dtype %q: want keep, f16 or exact", c.String("dtype"))
	}
	scale, err := loraScale(c)
	if err != nil {
		return err
	}
	hints, err := readHints(c, scale)
	if err != nil {
		return err
	}
	// Before gigabytes are read for nothing.
	if err := weights.CheckFolderPath(c.String("output"), c.Bool("overwrite")); err != nil {
		return fmt.Errorf("convert %s: %w", c.Args().First(), err)
	}
	var sources [2]weights.Source
	for i, path := range c.Args().Slice() {
		root := c.String("root")
		if i > 0 { // DA-CLIP's checkpoint has its own
			root = ""
		}
		f, err := openTensors(path, root)
		if err != nil {
			return err
		}
		defer closing(&err, f.Close)
		sources[i] = f
	}
	plan, err := convert.New(c.Context, sources[0], sources[1], hints)
	if err != nil {
		return fmt.Errorf("convert %s: %w", c.Args().First(), err)
	}
	if err := describeOrigin(c, plan.Config); err != nil {
		return err
	}
	out := c.String("output")
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(out)), 0o777); err != nil {
		return err
	}
	bar := newBar(c.App.ErrWriter, c.Bool("quiet"), "converting")
	sum, err := plan.Write(c.Context, out, weights.FolderOptions{Overwrite: c.Bool("overwrite"), DType: policy},
		func(done, all int) { bar.set(float64(done) / float64(all)) })
	bar.close()
	if err != nil {
		return fmt.Errorf("convert %s: %w", c.Args().First(), err)
	}
	if err := calibrateConverted(c, out); err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, map[string]any{"model": out, "experts": len(plan.Config.Experts), "stored": sum, "unused": plan.Unused})
	}
	if !c.Bool("quiet") {
		fmt.Fprintf(c.App.Writer, "%s: %d experts, %d tensors (%d more equal one of them), %s in %d files; %d tensors that inference does not need left out\n",
			out, len(plan.Config.Experts), sum.Tensors, sum.Aliases, humanize.IBytes(uint64(sum.Bytes)), sum.Shards, len(plan.Unused))
		for _, note := range plan.Config.Provenance.Notes {
			fmt.Fprintln(c.App.Writer, "note:", note)
		}
	}
	return nil
}

// calibrateConverted measures the ranges of a folder that was made. The folder is whole without them, so that networks which
// cannot be run on calibration pictures are no reason to fail.
func calibrateConverted(c *cli.Context, folder string) error {
	if !c.Bool("calibrate") {
		return nil
	}
	bar := newBar(c.App.ErrWriter, c.Bool("quiet"), "measuring ranges")
	err := experts.Calibrate(c.Context, folder, func(_ string, i, count int) { bar.set(float64(i) / float64(count)) })
	bar.close()
	if err != nil && c.Context.Err() == nil {
		fmt.Fprintf(c.App.ErrWriter, "note: no ranges are kept, they are measured when experts are loaded: %v\n", err)
		return nil
	}
	return err
}

// openTensors opens a file of tensors; root names a checkpoint's state dict.
func openTensors(path, root string) (weights.File, error) {
	if root == "" {
		return weights.Open(path)
	}
	return weights.OpenCheckpoint(path, weights.CheckpointOptions{RootKeys: []string{root}})
}

// loraScale reads alpha/r.
func loraScale(c *cli.Context) (float64, error) {
	s := c.Float64("lora-scale")
	if !(s > -1e6 && s < 1e6) || s == 0 {
		return 0, usagef("--lora-scale %g: want a number that is not 0, up to 1e6", s)
	}
	return s, nil
}

// readHints reads what a checkpoint does not tell; loraScale 0 is the released
// model's.
func readHints(c *cli.Context, loraScale float64) (convert.Hints, error) {
	h := convert.Hints{LoRAScale: loraScale, TrainSize: c.Int("train-size"), HeadWidth: c.Int("head-width")}
	path := c.String("hints")
	if path == "" {
		return h, nil
	}
	var file struct {
		DACLIP  json.RawMessage            `json:"daclip_args"`
		ByClass map[string]json.RawMessage `json:"expert_args_by_class"`
	}
	if err := readJSON(path, &file); err != nil {
		return h, err
	}
	h.Args = map[string]json.RawMessage{models.DACLIPName: file.DACLIP}
	for class, args := range file.ByClass {
		h.Args[class] = args
	}
	return h, nil
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// describeOrigin fills in labels and provenance.
func describeOrigin(c *cli.Context, m *models.Config) error {
	if path := c.String("labels"); path != "" {
		var labels []models.Leaf
		if err := readJSON(path, &labels); err != nil {
			return err
		}
		if len(labels) != len(m.Tree.Leaves) {
			return usagef("%s: %d labels for %d leaves", path, len(labels), len(m.Tree.Leaves))
		}
		for i, l := range labels {
			m.Tree.Leaves[i].Name, m.Tree.Leaves[i].Kinds = l.Name, l.Kinds
		}
	}
	p := &m.Provenance
	p.Converted, p.DType, p.License = "unirestorer convert", c.String("dtype"), c.String("license")
	for _, path := range c.Args().Slice() {
		f, err := digest(c, path)
		if err != nil {
			return err
		}
		p.Sources = append(p.Sources, f)
	}
	return nil
}

func digest(c *cli.Context, path string) (models.SourceFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return models.SourceFile{}, err
	}
	h := sha256.New()
	buf := make([]byte, 1<<20)
	var n int64
	for err == nil {
		if err = c.Context.Err(); err != nil {
			break
		}
		var k int
		k, err = f.Read(buf)
		h.Write(buf[:k])
		n += int64(k)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	err = errors.Join(err, f.Close())
	return models.SourceFile{Name: filepath.Base(path), Bytes: n, SHA256: hex.EncodeToString(h.Sum(nil))}, err
}
