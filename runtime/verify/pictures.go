package verify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"unirestorer/runtime/convert"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/restore"
)

// A case of pictures is a folder with a network's file as its authors publish it,
// named model with any extension, a picture and what the authors' code makes of
// it.
const (
	picturesArchitecture = "pictures"
	pictureIn            = "in.png"
	pictureOut           = "expected.png"
)

// networkFiles are the names that the network of a case of pictures may have.
var networkFiles = []string{"model.pth", "model.pt", "model.ckpt", "model.safetensors"}

func isPictures(dir string) bool {
	for _, name := range []string{pictureIn, pictureOut} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	_, err := networkFile(dir)
	return err == nil
}

func networkFile(dir string) (string, error) {
	for _, name := range networkFiles {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no file of a network in %s: want one of %v", dir, networkFiles)
}

// Steps of 255 that a restored picture may be off, on fp32 devices and on others.
const pictureSteps, pictureStepsHalf = 1, 2

func (c *testCase) runPictures(ctx context.Context) (err error) {
	path, err := networkFile(c.dir)
	if err != nil {
		return err
	}
	m, err := convert.Open(ctx, path, convert.OpenOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	c.report.Architecture = m.Config.Experts[0].Architecture
	in, err := imaging.DecodeFile(filepath.Join(c.dir, pictureIn), imaging.Limits{})
	if err != nil {
		return err
	}
	want, err := imaging.DecodeFile(filepath.Join(c.dir, pictureOut), imaging.Limits{})
	if err != nil {
		return err
	}
	r, err := restore.New(ctx, m, c.backend, restore.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	got, _, err := r.Restore(ctx, in, restore.Options{Tile: restore.TileOff})
	if err != nil {
		return err
	}
	return c.comparePictures(got, want)
}

// comparePictures holds a picture to steps of 8-bit samples.
func (c *testCase) comparePictures(got, want *imaging.Image) error {
	if got.W != want.W || got.H != want.H {
		return fmt.Errorf("%s has %d×%d pixels, the result %d×%d", pictureOut, want.W, want.H, got.W, got.H)
	}
	a, b := make([]float32, 3*got.W*got.H), make([]float32, 3*got.W*got.H)
	if err := errors.Join(got.RGBFloat(a, got.Bounds()), want.RGBFloat(b, want.Bounds())); err != nil {
		return err
	}
	worst, psnr := difference(a, b, 1)
	steps := pictureSteps
	if c.backend.Info().Half {
		steps = pictureStepsHalf
	}
	bound := float64(steps) / 255
	if c.opt.MaxAbs > 0 {
		bound = c.opt.MaxAbs
	}
	c.report.Checks = append(c.report.Checks, Check{
		Name: pictureOut, MaxAbs: worst, PSNR: psnr, Bound: bound,
		OK: !math.IsNaN(float64(worst)) && float64(worst) <= bound*(1+1e-5),
	})
	return nil
}
