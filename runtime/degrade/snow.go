package degrade

import (
	"context"
	"math"
)

func snowInfo() kindInfo {
	return kindInfo{
		name:    "snow",
		aliases: []string{"snowy", "snowflakes"},
		title:   "snow",
		formula: "O = (J t + A (1 − t))(1 − z) + C z with t = 1 − veil and z = 1 − Π(1 − aᵢ) over flakes i of three depths; a " +
			"flake is a lump of three soft blobs, drawn out by its motion, nearer ones being larger, softer and rarer",
		source: "opaque and translucent flakes of several scales, Liu et al., DesnowNet, TIP 2018; veiling by distant snow, " +
			"Chen et al., JSTASR, ECCV 2020",
		stage: stageAir,
		params: []paramDef{
			densityParam("flakes", 75),
			angleParam(90, 90),
			{
				name: "radius", unit: "px", meaning: "radius of the nearest flakes", min: 0.5, max: 200,
				curve: "3 + 2.5 s + 1.5 u", value: func(s, u float64) float64 { return 3 + float64(2.5*s) + float64(1.5*u) },
			},
			{
				name: "streak", meaning: "distance moved during the exposure, in radii", max: 20,
				curve: "1.6 u", value: func(_, u float64) float64 { return 1.6 * u },
			},
			{
				name: "light", meaning: "brightness C of a flake", max: 1,
				curve: "0.9 + 0.1 u", value: func(_, u float64) float64 { return 0.9 + float64(0.1*u) },
			},
			veilParam("snow", 0.25),
			scaleParam(),
		},
		apply: applySnow,
	}
}

// snowLayers are the depths at which flakes are drawn, far to near.
var snowLayers = [...]struct {
	share    float64 // of the number of flakes
	radius   float64 // relative to the nearest
	softness float64 // share of the radius over which the edge fades
	opacity  float64
}{
	{share: 0.70, radius: 0.17, softness: 0.9, opacity: 0.8},
	{share: 0.25, radius: 0.42, softness: 0.7, opacity: 0.9},
	{share: 0.05, radius: 1.00, softness: 0.95, opacity: 0.7},
}

// flakeBlobs is the number of blobs a flake is made of.
const flakeBlobs = 3

// flake is a lump of blobs that moves by ±(dx, dy) during the exposure.
type flake struct {
	x, y     float64
	dx, dy   float64
	softness float64
	opacity  float64
	blobs    [flakeBlobs]struct{ x, y, radius float64 }
	reach    float64
}

func applySnow(ctx context.Context, img *Image, p params, seed uint64) error {
	return falling[flake]{
		particles:    drawFlakes(img.W, img.H, p, newRandom(seed, uint64(Snow), streamParticles)),
		draw:         (*flake).draw,
		light:        airColour(p.get("light"), 0.2),
		air:          airColour(0.85, 0.3),
		transmission: float32(1 - p.get("veil")),
	}.apply(ctx, img)
}

// drawFlakes places the flakes of all layers, those that only reach into the image included.
func drawFlakes(w, h int, p params, random *random) []flake {
	scale := p.get("scale")
	var list []flake
	for _, layer := range snowLayers {
		size := float64(p.get("radius") * layer.radius * scale)
		margin := float64(size * (2 + float64(p.get("streak")/2)))
		list = append(list, scattered(w, h, margin, p, layer.share, random, func(area surroundings) flake {
			radius := size * random.between(0.6, 1.3)
			sin, cos := sincos(radians(p.get("angle") + float64(8*random.normal())))
			motion := float64(p.get("streak") * radius / 2 * random.between(0.5, 1))
			x, y := area.place(random)
			f := flake{
				x: x, y: y,
				dx: motion * sin, dy: motion * cos,
				softness: min(layer.softness*random.between(0.7, 1.2), 1),
				opacity:  layer.opacity * random.between(0.45, 1),
			}
			for i := range f.blobs {
				f.blobs[i].x = float64(0.4 * radius * random.normal())
				f.blobs[i].y = float64(0.4 * radius * random.normal())
				f.blobs[i].radius = float64(radius * random.between(0.55, 0.95))
				offset := max(math.Abs(f.blobs[i].x), math.Abs(f.blobs[i].y))
				f.reach = max(f.reach, offset+f.blobs[i].radius+math.Abs(motion)+1)
			}
			return f
		})...)
	}
	return list
}

// draw multiplies the rows [y0, y1) of a mask of the light that passes by what the flake lets through.
func (f *flake) draw(clear []float32, w, y0, y1 int) {
	top, bottom := max(y0, floorInt(f.y-f.reach)), min(y1-1, floorInt(f.y+f.reach)+1)
	left, right := max(0, floorInt(f.x-f.reach)), min(w-1, floorInt(f.x+f.reach)+1)
	for y := top; y <= bottom; y++ {
		row := clear[(y-y0)*w:]
		for x := left; x <= right; x++ {
			if a := f.coverage(float64(x)-f.x, float64(y)-f.y); a > 0 {
				row[x] *= float32(1 - float64(f.opacity*a))
			}
		}
	}
}

// coverage is the strongest of the blobs at an offset from the flake's centre.
func (f *flake) coverage(x, y float64) float64 {
	best := 0.0
	length := float64(f.dx*f.dx) + float64(f.dy*f.dy)
	for _, b := range f.blobs {
		px, py := x-b.x, y-b.y
		if length > 0 { // the nearest point of the path
			t := (float64(px*f.dx) + float64(py*f.dy)) / length
			t = min(max(t, -1), 1)
			px -= float64(t * f.dx)
			py -= float64(t * f.dy)
		}
		d := math.Sqrt(float64(px*px)+float64(py*py)) / b.radius
		if d < 1 {
			best = max(best, Smoothstep((1-d)/f.softness))
		}
	}
	return best
}
