package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"unirestorer"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/profile"
	"unirestorer/weights/atomicfile"
)

// profileLoad lets pictures arrive at a rate, --clients and --rate.
func profileLoad(c *cli.Context) (err error) {
	sizes, err := sizeList(c.String("size"))
	if err != nil {
		return err
	}
	for _, name := range []string{"nodes", "csv", "html", "gpu", "against", "memory", "batch"} {
		if c.IsSet(name) {
			return usagef("--%s does not go with --rate", name)
		}
	}
	o := profile.LoadOptions{Clients: c.Int("clients"), Rate: c.Float64("rate"), Duration: c.Duration("for"), Seed: 1}
	if o.Clients < 1 || !(o.Rate > 0) || !(o.Duration > 0) {
		return usagef("--clients %d, --rate %g, --for %v: want positive numbers", o.Clients, o.Rate, o.Duration)
	}
	pictures, err := loadPictures(c.String("images"), sizes)
	if err != nil {
		return err
	}
	opening := append(poolOptions(c), unirestorer.WithDevice(c.String("device")), unirestorer.WithThreads(c.Int("threads")),
		unirestorer.WithModel(c.String("model")), unirestorer.WithNetworkArgs(c.String("net-args")))
	r, err := unirestorer.Open(c.Context, opening...)
	if err != nil {
		return usageOf(err)
	}
	defer closing(&err, r.Close)
	var call []unirestorer.CallOption
	switch named := c.StringSlice("expert"); len(named) {
	case 0:
	case 1:
		call = append(call, unirestorer.WithExpertNamed(named[0]))
	default:
		return usagef("--rate takes one --expert, or routes")
	}
	work := func(ctx context.Context, i int) error {
		_, err := r.RestoreStream(ctx, bytes.NewBuffer(pictures[i%len(pictures)]), io.Discard, call...)
		return err
	}
	for i := range pictures { // a first time, so that experts are loaded
		if err := work(c.Context, i); err != nil {
			return err
		}
	}
	threads := c.Int("threads")
	load, err := profile.OpenLoop(c.Context, o, threads, work)
	if err != nil {
		return err
	}
	if path := c.String("trace"); path != "" {
		if err := atomicfile.Write(c.Context, path, load.WriteTrace); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, load)
	}
	fmt.Fprintf(c.App.Writer, "%s on %s; %s\n\n", r.Model(), r.Device(), profile.ThisMachine())
	return load.Table().WriteText(c.App.Writer)
}

// loadPictures are the files of a folder, or made-up pictures of the sizes.
func loadPictures(folder string, sizes []unirestorer.Size) ([][]byte, error) {
	var all [][]byte
	if folder != "" {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return nil, fmt.Errorf("look for images: %w", err)
		}
		for _, e := range entries {
			if _, err := imaging.FormatFromPath(e.Name()); err != nil || e.IsDir() {
				continue
			}
			data, err := os.ReadFile(filepath.Join(folder, e.Name()))
			if err != nil {
				return nil, err
			}
			all = append(all, data)
		}
		if len(all) == 0 {
			return nil, fmt.Errorf("%s: no image files in it", folder)
		}
		return all, nil
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, s := range sizes {
		img := image.NewNRGBA(image.Rect(0, 0, s.Width, s.Height))
		for y := range s.Height {
			for x := range s.Width {
				img.SetNRGBA(x, y, color.NRGBA{uint8(255 * x / s.Width), uint8(255 * y / s.Height), uint8(96 + rng.IntN(64)), 255})
			}
		}
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			return nil, err
		}
		all = append(all, b.Bytes())
	}
	return all, nil
}
