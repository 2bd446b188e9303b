package pairs

import (
	"context"
	"math/rand/v2"

	"unirestorer/tools/degrade"
)

// backdrop puts a plain or out-of-focus background behind part of a photo: what is in front stays sharp. Few photos are
// mostly background; without it, softness or plainness of a part would look like a degradation of the whole.
type backdrop struct {
	cover  surface    // background where it is below level, subject where above
	level  float64    // 0..1
	edge   float64    // width of the transition in units of cover
	colour [3]surface // of the plain background, 0..1
	radius float64    // of the defocus disk in pixels; 0 for a plain background
	light  [2]float64 // the blurred background's values are mapped from 0..1 to this interval
}

// newBackdrop draws a backdrop: one in two plain, with colours between two random ones within 0.4 of each other, one in two
// the photo itself behind a disk of 3 to 16 pixels with its contrast between 0.3 and 1.
func newBackdrop(random *rand.Rand) backdrop {
	b := backdrop{
		cover: newSurface(random, 0, 1),
		level: 0.25 + float64(0.6*random.Float64()),
		edge:  degrade.Pow(2, float64(-7*random.Float64())),
	}
	if random.IntN(2) == 0 {
		for c := range b.colour {
			low := float64(random.Float64())
			high := min(max(low+float64(0.8*random.Float64())-0.4, 0), 1)
			b.colour[c] = newSurface(random, low, high)
		}
		return b
	}
	b.radius = 3 + float64(13*random.Float64())
	contrast := 0.3 + float64(0.7*random.Float64())
	b.light[0] = float64((1 - contrast) * random.Float64())
	b.light[1] = b.light[0] + contrast
	return b
}

// apply draws the backdrop into an image.
func (b backdrop) apply(ctx context.Context, img *degrade.Image) error {
	var blurred *degrade.Image
	if b.radius > 0 {
		term := degrade.Term{Kind: degrade.Defocus, Set: []degrade.Setting{{Name: "radius", Value: b.radius}}}
		var err error
		if blurred, err = degrade.Apply(ctx, img, degrade.Spec{Terms: []degrade.Term{term}}); err != nil {
			return err
		}
	}
	for y := range img.H {
		v := (float64(y) + 0.5) / float64(img.H)
		for x := range img.W {
			u := (float64(x) + 0.5) / float64(img.W)
			front := min(max((b.cover.at(u, v)-b.level)/b.edge+0.5, 0), 1)
			if front == 1 {
				continue
			}
			pixel := img.Pix[3*(y*img.W+x):][:3]
			for c := range pixel {
				var behind float64
				if blurred != nil {
					behind = b.light[0] + float64((b.light[1]-b.light[0])*float64(blurred.Pix[3*(y*img.W+x)+c]))
				} else {
					behind = b.colour[c].at(u, v)
				}
				value := behind + float64(front*(float64(pixel[c])-behind))
				pixel[c] = float32(min(max(value, 0), 1))
			}
		}
	}
	return nil
}

// surface is a smooth function over the unit square, bicubic without slope at its nodes.
type surface [surfaceNodes][surfaceNodes]float64

const surfaceNodes = 3

// newSurface draws the nodes between two values.
func newSurface(random *rand.Rand, low, high float64) (s surface) {
	for i := range s {
		for j := range s[i] {
			s[i][j] = low + float64((high-low)*random.Float64())
		}
	}
	return s
}

// at returns the value at u, v in 0..1.
func (s *surface) at(u, v float64) float64 {
	column, tu := node(u)
	row, tv := node(v)
	upper := s[row][column] + float64(tu*(s[row][column+1]-s[row][column]))
	lower := s[row+1][column] + float64(tu*(s[row+1][column+1]-s[row+1][column]))
	return upper + float64(tv*(lower-upper))
}

// node returns the node before a position and the weight of the one after it.
func node(at float64) (before int, weight float64) {
	at *= surfaceNodes - 1
	before = min(int(at), surfaceNodes-2)
	t := at - float64(before)
	return before, float64(float64(t*t) * (3 - float64(2*t)))
}
