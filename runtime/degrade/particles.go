package degrade

import (
	"context"
	"fmt"
)

// surroundings is where particles of a size may lie: an image and the margin from which they still reach into it.
type surroundings struct{ width, height, margin float64 }

func newSurroundings(w, h int, margin float64) surroundings {
	return surroundings{float64(w) + margin + margin, float64(h) + margin + margin, margin}
}

// count draws how many particles there are: density is their number per 10⁴ px at a scale of 1.
func (s surroundings) count(density, scale float64, random *random) int {
	mean := density * 1e-4 * s.width * s.height / float64(scale*scale)
	return int(mean + random.uniform())
}

// place draws where a particle is, relative to the image's first pixel.
func (s surroundings) place(random *random) (x, y float64) {
	x = float64(random.uniform()*s.width) - s.margin
	y = float64(random.uniform()*s.height) - s.margin
	return x, y
}

// scattered draws the particles of a layer, which has a share of the density, those included that reach into the image from
// a margin. one draws a single particle.
func scattered[P any](w, h int, margin float64, p params, share float64, random *random, one func(surroundings) P) []P {
	area := newSurroundings(w, h, margin)
	list := make([]P, area.count(p.get("density")*share, p.get("scale"), random))
	for i := range list {
		list[i] = one(area)
	}
	return list
}

// densityParam is the number of particles, rate times the severity.
func densityParam(particles string, rate float64) paramDef {
	return paramDef{
		name: "density", unit: "per 10⁴ px", meaning: "number of " + particles, max: 2000,
		curve: fmt.Sprintf("%g s", rate), value: func(s, _ float64) float64 { return rate * s },
	}
}

// angleParam is the direction of fall, anywhere in span degrees about the vertical.
func angleParam(limit, span float64) paramDef {
	return paramDef{
		name: "angle", unit: "°", meaning: "direction of fall from the vertical, positive to the right", min: -limit, max: limit,
		curve: fmt.Sprintf("%g u − %g", span, span/2), value: func(_, u float64) float64 { return float64(span*u) - float64(span/2) },
	}
}

// veilParam is what stands in the air between the particles, factor times the square of the severity.
func veilParam(of string, factor float64) paramDef {
	return paramDef{
		name: "veil", meaning: "share of light scattered by distant " + of, max: 1,
		curve: fmt.Sprintf("%g s²", factor), value: func(s, _ float64) float64 { return factor * s * s },
	}
}

func scaleParam() paramDef {
	return paramDef{
		name: "scale", meaning: "size of everything, for large photos", min: 0.1, max: 20,
		curve: "1", value: func(_, _ float64) float64 { return 1 },
	}
}

// falling is what one looks through when it rains or snows.
type falling[P any] struct {
	particles []P
	// draw multiplies the rows [y0, y1) of a mask, w wide, of the light that passes by what the particle lets through.
	draw func(p *P, clear []float32, w, y0, y1 int)
	// light is the colour of particles, air that of the veil behind them, which lets transmission through.
	light, air   [3]float32
	transmission float32
}

// apply computes O = (B t + A (1 − t))(1 − m) + E m with m = 1 − Π(1 − aᵢ) over the particles i.
func (f falling[P]) apply(ctx context.Context, img *Image) error {
	return eachBand(ctx, img.W, img.H, func(y0, y1 int) {
		clear := make([]float32, (y1-y0)*img.W) // Π(1 − aᵢ)
		for i := range clear {
			clear[i] = 1
		}
		for i := range f.particles {
			f.draw(&f.particles[i], clear, img.W, y0, y1)
		}
		for y := y0; y < y1; y++ {
			row, mask := img.row(y), clear[(y-y0)*img.W:]
			for x := range img.W {
				rgb := row[3*x : 3*x+3]
				veil(rgb, f.air, f.transmission)
				veil(rgb, f.light, mask[x])
			}
		}
	})
}
