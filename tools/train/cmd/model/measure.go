package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu"
	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/quality"
)

// measure reads pairs of pictures, each the size×size×3 bytes of a degraded RGB picture and those of the clean one, and
// writes the PSNR that experts reach on the degraded ones, as a JSON array for each expert asked for with one number for
// each picture. Pictures that are equal count as [evaluate.Ceiling].
func measure(ctx context.Context, in io.Reader, out io.Writer, path string, size int, indices []int) (err error) {
	if size < 1 || size > maxMeasured {
		return fmt.Errorf("pictures of %d×%d pixels: a side must be between 1 and %d", size, size, maxMeasured)
	}
	model, err := experts.OpenModel(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	graphs := make([]*graph.Graph, len(indices))
	for k, i := range indices {
		if graphs[k], err = model.Config.BuildExpert(model.Source, i, 1, size, size, models.Options{Layout: graph.NHWC}); err != nil {
			return err
		}
	}
	pairs, err := readPairs(in, size)
	if err != nil {
		return fmt.Errorf("reading pictures: %w", err)
	}
	b, err := cpu.New(cpu.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	reached := make([][]float64, len(indices))
	for k, i := range indices {
		if reached[k], err = measureGraph(ctx, b, graphs[k], size, pairs); err != nil {
			return fmt.Errorf("expert %d: %w", i, err)
		}
	}
	return json.NewEncoder(out).Encode(reached)
}

// maxMeasured bounds the side of a picture to measure.
const maxMeasured = 4096

// pairOf is a degraded picture and the clean one.
type pairOf struct {
	degraded, clean *imaging.Image
}

func readPairs(in io.Reader, size int) ([]pairOf, error) {
	var pairs []pairOf
	for {
		data := make([]byte, 2*3*size*size)
		switch n, err := io.ReadFull(in, data); {
		case err == io.EOF:
			return pairs, nil
		case err != nil:
			return nil, fmt.Errorf("picture %d: %d of %d bytes: %w", len(pairs), n, len(data), err)
		}
		pairs = append(pairs, pairOf{rgb(size, data[:len(data)/2]), rgb(size, data[len(data)/2:])})
	}
}

func rgb(size int, pixels []byte) *imaging.Image {
	return &imaging.Image{W: size, H: size, Channels: 3, Depth: 8, Pix: pixels}
}

func measureGraph(ctx context.Context, b backend.Backend, g *graph.Graph, size int, pairs []pairOf) (reached []float64, err error) {
	program, err := b.Compile(ctx, g)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, program.Close()) }()
	count := 3 * size * size
	degraded, clean, restored := make([]float32, count), make([]float32, count), make([]float32, count)
	reached = make([]float64, len(pairs))
	for k, p := range pairs {
		if err := errors.Join(p.degraded.RGBFloat(degraded, p.degraded.Bounds()), p.clean.RGBFloat(clean, p.clean.Bounds())); err != nil {
			return nil, fmt.Errorf("picture %d: %w", k, err)
		}
		if err := program.Run(ctx, [][]float32{degraded}, [][]float32{restored}, backend.RunOptions{}); err != nil {
			return nil, fmt.Errorf("picture %d: %w", k, err)
		}
		for j, v := range restored {
			restored[j] = min(max(v, 0), 1)
		}
		psnr, err := quality.PSNRFloat(restored, clean, size, size)
		if err != nil {
			return nil, fmt.Errorf("picture %d: %w", k, err)
		}
		reached[k] = min(psnr, evaluate.Ceiling)
	}
	return reached, nil
}
