package evaluate

import (
	"context"
	"fmt"
	"image"

	"unirestorer/runtime/degrade"
	"unirestorer/runtime/imaging"
)

// Way is how a picture is saved before it reaches the program.
type Way struct {
	Name   string
	Saving degrade.Saving
}

// Ways are those of [Saved]: without loss, as JPEG of quality 90 and 75 with
// colour at half resolution, and both sides halved, without loss and as JPEG of
// quality 90.
func Ways() []Way {
	half := degrade.SavingStep{Scale: 0.5}
	return []Way{
		{"PNG", nil},
		{"q90", degrade.Saving{{Quality: 90}}},
		{"q75 4:2:0", degrade.Saving{{Quality: 75}}},
		{"halved PNG", degrade.Saving{half}},
		{"halved q90", degrade.Saving{half, {Quality: 90}}},
	}
}

// Saved is a test set of degraded crops as people save them: every case in each
// of [Ways]. All ways show the same crops; what is halved shows twice as much of
// the photo.
type Saved struct {
	inner *Synthetic
	ways  []Way
	size  int
}

// NewSaved makes a set of photos that are at least twice Size pixels on both
// sides.
func NewSaved(photos []*Photo, opt SyntheticOptions) (*Saved, error) {
	size := opt.Size
	if size > maxCrop/2 {
		return nil, fmt.Errorf("crops of %d pixels: want at most %d", size, maxCrop/2)
	}
	opt.Size *= 2
	inner, err := NewSynthetic(photos, opt)
	if err != nil {
		return nil, err
	}
	return &Saved{inner: inner, ways: Ways(), size: size}, nil
}

// Len implements [Set].
func (s *Saved) Len() int { return s.inner.Len() * len(s.ways) }

// Bytes implements [Set].
func (s *Saved) Bytes() int64 { return s.inner.Bytes() }

// Sample implements [Set]: the variant is the way of saving.
func (s *Saved) Sample(i int) Sample {
	sample := s.inner.Sample(i / len(s.ways))
	sample.Variant = s.ways[i%len(s.ways)].Name
	return sample
}

// Pictures implements [Set]. What is asked for of a degraded picture is the
// clean one at its size, without traces of compression; of a clean picture, that
// it is left as it was saved.
func (s *Saved) Pictures(ctx context.Context, i int) (degraded, clean *imaging.Image, err error) {
	number, saving := i/len(s.ways), s.ways[i%len(s.ways)].Saving
	degraded, clean, err = s.inner.Pictures(ctx, number)
	if err != nil {
		return nil, nil, err
	}
	if saving.Scale() == 1 {
		middle := image.Rect(s.size/2, s.size/2, s.size/2+s.size, s.size/2+s.size)
		if degraded, err = cut(degraded, middle); err != nil {
			return nil, nil, err
		}
		if clean, err = cut(clean, middle); err != nil {
			return nil, nil, err
		}
	}
	if degraded, err = saveAs(ctx, degraded, saving); err != nil {
		return nil, nil, err
	}
	if s.Sample(i).Kinds[0] == CleanCase {
		return degraded, degraded, nil
	}
	clean, err = saveAs(ctx, clean, saving.Without())
	return degraded, clean, err
}

// saveAs gives an 8-bit RGB picture after it was saved.
func saveAs(ctx context.Context, img *imaging.Image, saving degrade.Saving) (*imaging.Image, error) {
	if len(saving) == 0 {
		return img, nil
	}
	pixels, err := degrade.NewImage(img.W, img.H)
	if err != nil {
		return nil, err
	}
	if err := img.RGBFloat(pixels.Pix, img.Bounds()); err != nil {
		return nil, err
	}
	saved, err := saving.Apply(ctx, pixels)
	if err != nil {
		return nil, err
	}
	out, err := imaging.New(saved.W, saved.H, 3, 8)
	if err != nil {
		return nil, err
	}
	return out, out.SetRGBFloat(saved.Pix, out.Bounds())
}
