package lora

import (
	"context"
	"errors"
	"fmt"
	"image"
	"slices"

	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/quality"
)

// pictures are the numbers of the samples that count for a pair: those that have a kind of degradation which the full
// expert serves, or all where the model or the samples do not say.
func (c *comparison) pictures(p Pair) []int {
	kinds := serves(c.model.Config, p.Full)
	var relevant, all []int
	for i := range c.set.Len() {
		all = append(all, i)
		if slices.ContainsFunc(c.set.Sample(i).Kinds, func(k string) bool { return slices.Contains(kinds, k) }) {
			relevant = append(relevant, i)
		}
	}
	if len(relevant) > 0 && !c.opt.AllPictures {
		return relevant
	}
	return all
}

// restored is the quality of one candidate's results, picture by picture.
type restored []evaluate.Quality

// restoreAll runs a candidate on pictures. The nil network of the input restores nothing.
func (c *comparison) restoreAll(ctx context.Context, e *Expert, numbers []int) (_ restored, err error) {
	r := &runner{comparison: c, expert: e}
	defer func() { err = errors.Join(err, r.close()) }()
	results := make(restored, len(numbers))
	for i, n := range numbers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if results[i], err = r.restore(ctx, n); err != nil {
			return nil, fmt.Errorf("%s: %w", c.set.Sample(n).Name, err)
		}
	}
	return results, nil
}

// runner restores pictures with one expert, compiled for the size of the last one.
type runner struct {
	*comparison
	expert  *Expert
	program backend.Program
	h, w    int
}

func (r *runner) close() error {
	if r.program == nil {
		return nil
	}
	err := r.program.Close()
	r.program = nil
	return err
}

// restore gives the quality of the result for a picture, of which the middle is used where it is larger than the
// options allow. Results are rounded to the picture's depth, as a file would hold them.
func (r *runner) restore(ctx context.Context, number int) (evaluate.Quality, error) {
	degraded, clean, err := r.set.Pictures(ctx, number)
	if err != nil {
		return evaluate.Quality{}, err
	}
	degraded = degraded.Oriented()
	rect := middle(degraded, r.opt.Size)
	h, w := rect.Dy(), rect.Dx()
	pixels := make([]float32, h*w*3)
	if err := degraded.RGBFloat(pixels, rect); err != nil {
		return evaluate.Quality{}, err
	}
	result := pixels
	if r.expert != nil {
		if err := r.compile(ctx, h, w); err != nil {
			return evaluate.Quality{}, err
		}
		result = make([]float32, len(pixels))
		if err := r.program.Run(ctx, [][]float32{pixels}, [][]float32{result}, backend.RunOptions{}); err != nil {
			return evaluate.Quality{}, err
		}
	}
	out, err := imaging.New(w, h, 3, degraded.Depth)
	if err != nil {
		return evaluate.Quality{}, err
	}
	if err := out.SetRGBFloat(result, out.Bounds()); err != nil {
		return evaluate.Quality{}, err
	}
	target, err := cut(clean, rect)
	if err != nil {
		return evaluate.Quality{}, err
	}
	psnr, err := quality.PSNR(out, target)
	if err != nil {
		return evaluate.Quality{}, err
	}
	ssim, err := quality.SSIM(out, target)
	return evaluate.Quality{PSNR: min(psnr, evaluate.Ceiling), SSIM: ssim}, err
}

func (r *runner) compile(ctx context.Context, h, w int) error {
	if r.program != nil && r.h == h && r.w == w {
		return nil
	}
	if err := r.close(); err != nil {
		return err
	}
	g, err := r.expert.Network.Build(r.expert.Source, 1, h, w, models.Options{})
	if err != nil {
		return err
	}
	r.program, err = r.backend.Compile(ctx, g)
	r.h, r.w = h, w
	return err
}

// middle is the part of an image that is used: no side longer than side.
func middle(img *imaging.Image, side int) image.Rectangle {
	w, h := min(img.W, side), min(img.H, side)
	x, y := (img.W-w)/2, (img.H-h)/2
	return image.Rect(x, y, x+w, y+h)
}

// cut is a part of an image in RGB.
func cut(img *imaging.Image, r image.Rectangle) (*imaging.Image, error) {
	out, err := imaging.New(r.Dx(), r.Dy(), 3, img.Depth)
	if err != nil {
		return nil, err
	}
	pixels := make([]float32, r.Dx()*r.Dy()*3)
	if err := img.RGBFloat(pixels, r); err != nil {
		return nil, err
	}
	return out, out.SetRGBFloat(pixels, out.Bounds())
}

// Quality is how well a candidate restores the pictures of a comparison.
type Quality struct {
	PSNR *evaluate.Estimate `json:"psnr"`
	SSIM *evaluate.Estimate `json:"ssim"`
	// ToFull is this candidate's PSNR over the full expert's, in dB, picture by picture; ToFullSSIM likewise.
	ToFull     *evaluate.Estimate `json:"psnr_over_full"`
	ToFullSSIM *evaluate.Estimate `json:"ssim_over_full"`
}

// compareQuality summarises results beside those of the full expert on the same pictures.
func compareQuality(results, full restored) *Quality {
	n := len(results)
	psnr, ssim, dp, ds := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	for i, q := range results {
		psnr[i], ssim[i] = q.PSNR, q.SSIM
		dp[i], ds[i] = q.PSNR-full[i].PSNR, q.SSIM-full[i].SSIM
	}
	return &Quality{PSNR: evaluate.NewEstimate(psnr), SSIM: evaluate.NewEstimate(ssim), ToFull: evaluate.NewEstimate(dp),
		ToFullSSIM: evaluate.NewEstimate(ds)}
}
