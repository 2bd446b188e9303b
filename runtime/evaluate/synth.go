package evaluate

import (
	"context"
	"fmt"
	"image"
	"math"
	"math/rand/v2"

	"unirestorer/runtime/degrade"
	"unirestorer/runtime/imaging"
)

// Synthetic is a test set of degraded crops of photos. Every case has the same
// crops, so that cases differ in the degradation alone.
type Synthetic struct {
	photos []*Photo
	opt    SyntheticOptions
}

// SyntheticOptions shape a synthetic set.
type SyntheticOptions struct {
	Cases []Case
	// Count is the number of crops for each case, Size their side in pixels.
	Count, Size int
	// Seed is that of crops and degradations.
	Seed uint64
}

// The bounds of a synthetic set. SSIM's window needs 11 pixels; below 16 most
// networks see padding only.
const (
	minCrop, maxCrop = 16, 8192
	maxCount         = seedStep
)

// seedStep separates the seeds of degradations of neighbouring evaluation
// seeds. Degradation seeds are whole numbers that are short to write.
const seedStep = 1_000_000

// NewSynthetic makes a set of photos that are at least Size pixels on both
// sides. Crops come from the photos in turn: their middle first, then random
// places.
func NewSynthetic(photos []*Photo, opt SyntheticOptions) (*Synthetic, error) {
	if opt.Size < minCrop || opt.Size > maxCrop {
		return nil, fmt.Errorf("crops of %d pixels: want %d to %d", opt.Size, minCrop, maxCrop)
	}
	if opt.Count < 1 || opt.Count > maxCount {
		return nil, fmt.Errorf("%d crops for each case: want 1 to %d", opt.Count, maxCount)
	}
	if opt.Seed > math.MaxUint64/seedStep-1 {
		return nil, fmt.Errorf("seed %d: want at most %d", opt.Seed, uint64(math.MaxUint64/seedStep-1))
	}
	if len(photos) == 0 {
		return nil, fmt.Errorf("no photos")
	}
	for _, p := range photos {
		if w, h := p.size(); min(w, h) < opt.Size {
			return nil, fmt.Errorf("photo %s: %d×%d pixels are too few for crops of %d", p.Name, w, h, opt.Size)
		}
	}
	if len(opt.Cases) == 0 {
		return nil, fmt.Errorf("no cases")
	}
	seen := map[string]bool{}
	for _, c := range opt.Cases {
		if seen[c.Name] {
			return nil, fmt.Errorf("case %s occurs twice", c.Name)
		}
		seen[c.Name] = true
	}
	return &Synthetic{photos: photos, opt: opt}, nil
}

// Len implements [Set].
func (s *Synthetic) Len() int { return len(s.opt.Cases) * s.opt.Count }

// Bytes implements [Set]: the photos.
func (s *Synthetic) Bytes() int64 {
	var n int64
	for _, p := range s.photos {
		n += bytesOf(p.picture)
	}
	return n
}

// Sample implements [Set].
func (s *Synthetic) Sample(i int) Sample {
	c, spec, photo, at := s.plan(i)
	return Sample{
		Case: c.Name, Variant: c.variant(spec), Spec: spec.String(), Kinds: kindsOf(spec),
		Photo: photo.Name, Name: fmt.Sprintf("%s at %d,%d", photo.Name, at.X, at.Y),
	}
}

// plan tells what picture i is made of.
func (s *Synthetic) plan(i int) (c *Case, spec degrade.Spec, photo *Photo, at image.Point) {
	c = &s.opt.Cases[i/s.opt.Count]
	n := i % s.opt.Count
	turn, round := n%len(s.photos), n/len(s.photos)
	photo = s.photos[turn]
	w, h := photo.size()
	at = image.Pt((w-s.opt.Size)/2, (h-s.opt.Size)/2)
	if round > 0 {
		rng := rand.New(rand.NewPCG(s.opt.Seed, uint64(n)))
		at = image.Pt(rng.IntN(w-s.opt.Size+1), rng.IntN(h-s.opt.Size+1))
	}
	// With the round added, a photo meets every variant.
	return c, c.spec(turn+round, s.opt.Seed*seedStep+uint64(n)), photo, at
}

// Pictures implements [Set]. The degraded picture looks like a cutout of a
// larger degraded photo: blur brings in what lies beside it.
func (s *Synthetic) Pictures(ctx context.Context, i int) (degraded, clean *imaging.Image, err error) {
	_, spec, photo, at := s.plan(i)
	r := image.Rectangle{Min: at, Max: at.Add(image.Pt(s.opt.Size, s.opt.Size))}
	reach := spec.Reach()
	wide := r.Inset(-reach).Intersect(photo.picture.Bounds())
	around, err := cut(photo.picture, wide)
	if err != nil {
		return nil, nil, err
	}
	height := float64(photo.picture.H)
	spoilt, err := Degrade(ctx, around, spec.Crop(float64(wide.Min.Y)/height, float64(wide.Max.Y)/height))
	if err != nil {
		return nil, nil, err
	}
	if degraded, err = cut(spoilt, r.Sub(wide.Min)); err != nil {
		return nil, nil, err
	}
	clean, err = cut(photo.picture, r)
	return degraded, clean, err
}

// Degrade gives an upright, degraded copy of a picture with its shape, depth,
// alpha and metadata. A grey picture gets the mean of the degraded channels.
func Degrade(ctx context.Context, img *imaging.Image, spec degrade.Spec) (*imaging.Image, error) {
	if err := img.Check(); err != nil {
		return nil, err
	}
	upright := img.Oriented()
	pixels, err := degrade.NewImage(upright.W, upright.H)
	if err != nil {
		return nil, err
	}
	if err := upright.RGBFloat(pixels.Pix, upright.Bounds()); err != nil {
		return nil, err
	}
	spoilt, err := degrade.Apply(ctx, pixels, spec)
	if err != nil {
		return nil, err
	}
	out := upright.Clone()
	return out, out.SetRGBFloat(spoilt.Pix, out.Bounds())
}
