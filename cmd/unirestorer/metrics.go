package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/pairs"
	"unirestorer/runtime/quality"
)

func metricsCommand() *cli.Command {
	return &cli.Command{
		Name:      "metrics",
		Usage:     "compare pictures with their targets: PSNR and SSIM as papers report them",
		ArgsUsage: "PICTURES TARGETS",
		Description: "PICTURES and TARGETS are two folders, whoever made them, or two files. Folders within are compared too.\n" +
			"Pictures are paired by equal names, or by the names of RESIDE, Rain100, GoPro, SIDD and LOL; how is said,\n" +
			"and names that fit two ways are refused.\n\nProtocols:\n" + protocolLines() + "\n" +
			"Examples:\n" +
			"   unirestorer metrics results/ target/\n" +
			"   unirestorer metrics results/Rain100L/ Rain100L/norain/ --protocol rain --csv scores.csv\n" +
			"   unirestorer metrics dehazed/ SOTS/outdoor/gt/ --protocol dehaze --json",
		Flags: []cli.Flag{
			protocolFlag(), cropFlag(), gtMeanFlag(),
			&cli.StringFlag{Name: "lpips", Usage: "measure LPIPS too, by the network in `FILE`: the state dict of lpips.LPIPS(net=\"alex\"), .pth or .safetensors"},
			&cli.BoolFlag{Name: "pictures", Usage: "print each picture's scores too"},
			&cli.StringFlag{Name: "csv", Usage: "write each picture's scores to `FILE`"},
			jsonFlag(),
		},
		Action: metricsAction,
	}
}

func protocolLines() string {
	var b strings.Builder
	for _, p := range quality.Protocols() {
		words := p.String()
		fmt.Fprintf(&b, "   %-13s %s\n", p.Name, strings.TrimPrefix(words, p.Name+": "))
	}
	return b.String()
}

func protocolFlag() cli.Flag {
	var names []string
	for _, p := range quality.Protocols() {
		names = append(names, p.Name)
	}
	return &cli.StringFlag{Name: "protocol", Value: names[0], Usage: "score as papers do: `PROTOCOL` " + strings.Join(names, ", ")}
}

func cropFlag() cli.Flag {
	return &cli.IntFlag{Name: "crop", Usage: "leave out so many `PIXELS` at each side"}
}

func gtMeanFlag() cli.Flag {
	return &cli.BoolFlag{Name: "gt-mean", Usage: "scale each picture to its target's mean grey first, as some low-light papers do; such scores compare with nothing else"}
}

// protocolOf reads the three flags.
func protocolOf(c *cli.Context) (quality.Protocol, error) {
	p, err := quality.FindProtocol(c.String("protocol"))
	if err != nil {
		return p, usageError{fmt.Errorf("--protocol: %w", err)}
	}
	if p.Crop = c.Int("crop"); p.Crop < 0 {
		return p, usagef("--crop %d: want 0 or more", p.Crop)
	}
	p.GTMean = c.Bool("gt-mean")
	return p, nil
}

func metricsAction(c *cli.Context) error {
	if c.NArg() != 2 {
		return usagef("%d arguments: want PICTURES and TARGETS; see unirestorer metrics --help", c.NArg())
	}
	protocol, err := protocolOf(c)
	if err != nil {
		return err
	}
	files, how, err := pairsOf(c.Args().Get(0), c.Args().Get(1))
	if err != nil {
		return err
	}
	lpips, err := lpipsOf(c.String("lpips"))
	if err != nil {
		return err
	}
	m, err := evaluate.Measure(c.Context, protocol, lpips, files, how)
	if err != nil {
		return err
	}
	if path := c.String("csv"); path != "" {
		if err := m.WriteCSV(c.Context, path); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, m)
	}
	return writeTables(c.App.Writer, m.Tables(c.Bool("pictures")))
}

// lpipsOf reads the network of LPIPS from a file; an empty path is none.
func lpipsOf(path string) (net *quality.LPIPS, err error) {
	if path == "" {
		return nil, nil
	}
	f, err := openTensors(path, "")
	if err != nil {
		return nil, err
	}
	defer closing(&err, f.Close)
	return quality.NewLPIPS(f)
}

// pairsOf pairs two folders, or two files.
func pairsOf(a, b string) ([]pairs.Pair, string, error) {
	first, err := os.Stat(a)
	if err != nil {
		return nil, "", err
	}
	second, err := os.Stat(b)
	if err != nil {
		return nil, "", err
	}
	if first.IsDir() != second.IsDir() {
		return nil, "", usagef("%s and %s: want two folders or two files", a, b)
	}
	if !first.IsDir() {
		return []pairs.Pair{{Input: a, Target: b}}, "being named together", nil
	}
	return pairs.Folders(a, b, true)
}
