package main

import (
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"unirestorer/runtime/pools"
)

func loraExportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write the adapter of an expert, without its base", ArgsUsage: "EXPERT -o OUT",
		Description: "Writes a folder for Hugging Face's PEFT (adapter_config.json and adapter_model.safetensors), or a file in\n" +
			"loralib's form. What the form holds as it is keeps its bits; factors of k×k convolutions, which the two forms read\n" +
			"differently, are decomposed anew at the rank that needs, and the error is printed. What an expert has for itself,\n" +
			"such as norms, goes along whole.\n\n" +
			"Examples:\n" +
			"   unirestorer lora export middle-4-rain -o adapter/\n" +
			"   unirestorer lora export heavy --model mine --form loralib -o heavy.safetensors",
		Flags: []cli.Flag{
			modelFlag(),
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`OUT`, a folder for PEFT, a file for loralib"},
			&cli.StringFlag{Name: "form", Value: pools.FormPEFT, Usage: "`FORM`, peft or loralib"},
			jsonFlag(),
		},
		Action: loraExportAction,
	}
}

func loraExportAction(c *cli.Context) (err error) {
	form, out := c.String("form"), c.String("output")
	switch {
	case c.NArg() != 1 || out == "":
		return usagef("want EXPERT -o OUT; see unirestorer lora export --help")
	case form != pools.FormPEFT && form != pools.FormLoralib:
		return usagef("--form %q: want %s or %s", form, pools.FormPEFT, pools.FormLoralib)
	}
	m, err := openModel(c)
	if err != nil {
		return err
	}
	defer closing(&err, m.Close)
	i, err := m.Config.FindExpert(c.Args().First())
	if err != nil {
		return usageError{err}
	}
	r, err := pools.ExportLoRA(c.Context, m, i, form, out)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, r)
	}
	w := c.App.Writer
	fmt.Fprintf(w, "%s: %d adapted layers, %d whole tensors, %s", out, r.Layers, r.Replaced, humanize.IBytes(uint64(r.Bytes)))
	if r.Scale != 0 {
		fmt.Fprintf(w, "; alpha/r is %g (pool add-lora --lora-scale)", r.Scale)
	}
	fmt.Fprintln(w)
	for _, f := range r.Refactored {
		fmt.Fprintf(w, "%s: decomposed anew, rank %d where there was %d, error %.1e of the product\n", f.Layer, f.Is, f.Was, f.Error)
	}
	return nil
}
