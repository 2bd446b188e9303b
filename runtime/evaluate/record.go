package evaluate

import (
	"fmt"

	"unirestorer/runtime/imaging"
	"unirestorer/runtime/quality"
	"unirestorer/runtime/router"
)

// Ceiling is the PSNR that stands for equal pictures, in dB, and for anything
// beyond it, so that means and differences stay finite. One sample of a 256×256
// picture that is one of 255 steps off has 101 dB.
const Ceiling = 100.0

// Quality compares a picture with the clean one.
type Quality struct {
	// PSNR in dB, at most [Ceiling].
	PSNR float64 `json:"psnr"`
	SSIM float64 `json:"ssim"`
}

// Record is all that is known of a picture of a test set.
type Record struct {
	Sample
	Width  int `json:"width"`
	Height int `json:"height"`
	// Before is the quality of the degraded picture.
	Before Quality `json:"before"`
	// Decision is the router's.
	Decision router.Decision `json:"decision"`
	// Experts has the quality of each expert's result; nil where it did not run.
	Experts []*Quality `json:"experts"`
}

// degraded tells whether there is anything to gain: the picture is not equal to
// the clean one.
func (r *Record) degraded() bool { return r.Before.PSNR < Ceiling }

// Routed is the quality of the result that the router chose.
func (r *Record) Routed() Quality { return *r.Experts[r.Decision.Expert] }

// gain is how much better an expert's result is than the degraded picture, in
// dB.
func (r *Record) gain(expert int) float64 { return r.Experts[expert].PSNR - r.Before.PSNR }

// check reports a record that does not fit a pool of n experts or lacks the
// routed one's result.
func (r *Record) check(experts, leaves, levels int) error {
	d := r.Decision
	switch {
	case len(r.Experts) != experts:
		return fmt.Errorf("results for %d experts in a pool of %d", len(r.Experts), experts)
	case d.Expert < 0 || d.Expert >= experts || d.Leaf < 0 || d.Leaf >= leaves || d.Level < 0 || d.Level >= levels:
		return fmt.Errorf("routed to leaf %d, level %d and expert %d, which the pool does not have", d.Leaf, d.Level, d.Expert)
	case r.Experts[d.Expert] == nil:
		return fmt.Errorf("no result of the routed expert %d", d.Expert)
	}
	return nil
}

// measure compares a picture with the clean one by a protocol. Both are
// upright.
func measure(p quality.Protocol, img, clean *imaging.Image) (Quality, error) {
	score, err := p.Measure(img, clean)
	return Quality{PSNR: min(score.PSNR, Ceiling), SSIM: score.SSIM}, err
}
