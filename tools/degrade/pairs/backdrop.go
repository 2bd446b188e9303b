package pairs

import (
	"context"
	"math/rand/v2"

	"unirestorer/runtime/degrade"
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
	columns := nodes(img.W)
	for y, row := range nodes(img.H) {
		for x, column := range columns {
			front := min(max((b.cover.at(column, row)-b.level)/b.edge+0.5, 0), 1)
			if front == 1 {
				continue
			}
			first := 3 * (y*img.W + x)
			for c := range 3 {
				var behind float64
				if blurred != nil {
					behind = degrade.Lerp(b.light[0], b.light[1], float64(blurred.Pix[first+c]))
				} else {
					behind = b.colour[c].at(column, row)
				}
				value := degrade.Lerp(behind, float64(img.Pix[first+c]), front)
				img.Pix[first+c] = float32(min(max(value, 0), 1))
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
			s[i][j] = degrade.Lerp(low, high, random.Float64())
		}
	}
	return s
}

// node is a place along one side of the square: after how many nodes it lies, and the weight of the next one.
type node struct {
	before int
	weight float64
}

// nodes returns the places of the centres of n pixels.
func nodes(n int) []node {
	list := make([]node, n)
	for i := range list {
		list[i] = nodeAt((float64(i) + 0.5) / float64(n))
	}
	return list
}

// nodeAt returns the place at 0..1 of a side.
func nodeAt(at float64) node {
	at *= surfaceNodes - 1
	before := min(int(at), surfaceNodes-2)
	return node{before, degrade.Smoothstep(at - float64(before))}
}

// at returns the value in a column and a row.
func (s *surface) at(column, row node) float64 {
	upper, lower := &s[row.before], &s[row.before+1]
	return degrade.Lerp(
		degrade.Lerp(upper[column.before], upper[column.before+1], column.weight),
		degrade.Lerp(lower[column.before], lower[column.before+1], column.weight), row.weight)
}
