package degrade

import (
	"context"
	"fmt"
	"slices"
)

// Apply returns a degraded copy of an image, of the same size and with values in 0..1. A term of severity 0 without
// settings does nothing. The error is that of the spec, the image or the context; img itself is never changed.
func Apply(ctx context.Context, img *Image, spec Spec) (*Image, error) {
	if err := spec.Check(); err != nil {
		return nil, fmt.Errorf("degrade: %w", err)
	}
	if err := img.check(); err != nil {
		return nil, fmt.Errorf("degrade: %w", err)
	}
	out := img.clone()
	for _, term := range spec.ordered() {
		if term.Severity == 0 && len(term.Set) == 0 {
			continue
		}
		if err := term.Kind.info().apply(ctx, out, term.resolve(spec.Seed), spec.Seed); err != nil {
			return nil, fmt.Errorf("degrade: %s: %w", term.Kind, err)
		}
	}
	return out, ctx.Err()
}

// Crop returns the spec for a crop that shows the given part of a photo's height, from 0 at its upper edge to 1 at its
// lower one, so that effects which depend on the place in the scene look as they would in the whole photo. Settings that
// a term has already are kept.
func (s Spec) Crop(top, bottom float64) Spec {
	cropped := Spec{Seed: s.Seed}
	for _, t := range s.Terms {
		if t.Kind == Haze {
			t.Set = slices.Clone(t.Set)
			for _, place := range []Setting{{"top", top}, {"bottom", bottom}} {
				if !slices.ContainsFunc(t.Set, func(o Setting) bool { return o.Name == place.Name }) {
					t.Set = append(t.Set, place)
				}
			}
			t.sortSettings()
		}
		cropped.Terms = append(cropped.Terms, t)
	}
	return cropped
}

// Reach returns how far, in pixels, a pixel of the degraded image may look beyond itself in the clean one. A crop that is
// to look like a cutout of a larger degraded photo needs this much margin, which is cut off afterwards.
func (s Spec) Reach() int {
	reach := 0
	for _, t := range s.Terms {
		if !t.Kind.Valid() {
			continue
		}
		p := t.resolve(s.Seed)
		switch t.Kind {
		case Motion:
			reach += int(p.get("length")/2) + 2
		case Defocus:
			reach += int(p.get("radius")) + 1
		case Camera:
			reach += cameraReach
		case JPEG:
			reach += jpegBlock
		case LowResolution:
			reach += int(p.get("factor")) + 1
		}
	}
	return reach
}
