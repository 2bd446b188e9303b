package degrade

import (
	"context"
	"math"
)

func rainInfo() kindInfo {
	return kindInfo{
		name:    "rain",
		aliases: []string{"rainstreaks", "rainy", "streaks"},
		title:   "rain streaks",
		formula: "O = (B t + A (1 − t))(1 − m) + E m with t = 1 − veil and m = 1 − Π(1 − aᵢ) over streaks i of three depths; a " +
			"streak is a line that fades at its ends and has a Gaussian profile across, nearer ones being longer, wider and " +
			"rarer",
		source: "streaks as drops blurred by motion that let the light E of the surroundings through, Garg and Nayar, Vision " +
			"and Rain, IJCV 2007; veil of accumulated rain, Yang et al., Deep Joint Rain Detection and Removal, CVPR 2017",
		stage: stageAir,
		params: []paramDef{
			densityParam("streaks", 130),
			angleParam(60, 70),
			{
				name: "length", unit: "px", meaning: "length of the nearest streaks", min: 1, max: 1000,
				curve: "22 + 26 s + 16 u", value: func(s, u float64) float64 { return 22 + float64(26*s) + float64(16*u) },
			},
			{
				name: "opacity", meaning: "opacity of the nearest streaks", max: 1,
				curve: "0.4 + 0.3 s", value: func(s, _ float64) float64 { return 0.4 + float64(0.3*s) },
			},
			{
				name: "light", meaning: "brightness E of the surroundings", max: 1,
				curve: "0.85 + 0.12 u", value: func(_, u float64) float64 { return 0.85 + float64(0.12*u) },
			},
			veilParam("rain", 0.22),
			scaleParam(),
		},
		apply: applyRain,
	}
}

// rainLayers are the depths at which streaks are drawn, far to near.
var rainLayers = [...]struct {
	share   float64 // of the number of streaks
	length  float64 // relative to the nearest
	sigma   float64 // of the profile across, px
	opacity float64 // relative to the nearest
}{
	{share: 0.58, length: 0.36, sigma: 0.45, opacity: 0.55},
	{share: 0.31, length: 0.62, sigma: 0.65, opacity: 0.8},
	{share: 0.11, length: 1.00, sigma: 1.05, opacity: 1},
}

// streak is a line segment from its centre ±half along its direction.
type streak struct {
	x, y     float64
	dx, dy   float64 // unit vector
	half     float64
	sigma    float64
	opacity  float64
	fadeHead float64 // position of the brightest point, −1..1
}

func applyRain(ctx context.Context, img *Image, p params, seed uint64) error {
	return falling[streak]{
		particles:    drawStreaks(img.W, img.H, p, newRandom(seed, uint64(Rain), streamParticles)),
		draw:         (*streak).draw,
		light:        airColour(p.get("light"), 0.4),
		air:          airColour(0.8, 0.4),
		transmission: float32(1 - p.get("veil")),
	}.apply(ctx, img)
}

// drawStreaks places the streaks of all layers, those that only reach into the image included.
func drawStreaks(w, h int, p params, random *random) []streak {
	scale := p.get("scale")
	var list []streak
	for _, layer := range rainLayers {
		length := p.get("length") * layer.length * scale
		margin := float64(length/2) + float64(4*layer.sigma*scale)
		list = append(list, scattered(w, h, margin, p, layer.share, random, func(area surroundings) streak {
			sin, cos := sincos(radians(p.get("angle") + float64(1.5*random.normal())))
			x, y := area.place(random)
			return streak{
				x: x, y: y,
				dx: sin, dy: cos,
				half:     length / 2 * random.between(0.6, 1),
				sigma:    layer.sigma * scale * random.between(0.75, 1.2),
				opacity:  p.get("opacity") * layer.opacity * random.between(0.35, 1),
				fadeHead: random.between(0, 0.6),
			}
		})...)
	}
	return list
}

// draw multiplies the rows [y0, y1) of a mask of the light that passes by what the streak lets through.
func (s *streak) draw(clear []float32, w, y0, y1 int) {
	reach := float64(3 * s.sigma)
	height := float64(s.half*s.dy) + reach
	top, bottom := max(y0, floorInt(s.y-height)), min(y1-1, floorInt(s.y+height)+1)
	for y := top; y <= bottom; y++ {
		// The axis crosses the row's centre at x0; the profile reaches further along the row than across the streak.
		rel := float64(y) - s.y
		x0 := s.x + float64(rel*s.dx/s.dy)
		wide := reach / s.dy
		left, right := max(0, floorInt(x0-wide)), min(w-1, floorInt(x0+wide)+1)
		row := clear[(y-y0)*w:]
		for x := left; x <= right; x++ {
			px := float64(x) - s.x
			along := (float64(px*s.dx) + float64(rel*s.dy)) / s.half
			if along <= -1 || along >= 1 {
				continue
			}
			across := (float64(px*s.dy) - float64(rel*s.dx)) / s.sigma
			a := float64(s.opacity * s.fade(along) * gaussian(across))
			row[x] *= float32(1 - a)
		}
	}
}

// fade is the brightness along a streak, 0 at both ends and 1 at its head.
func (s *streak) fade(along float64) float64 {
	if along < s.fadeHead {
		return Smoothstep((along + 1) / (s.fadeHead + 1))
	}
	return Smoothstep((1 - along) / (1 - s.fadeHead))
}

// gaussian returns exp(−x²/2), cut off beyond ±3 where it is below 0.012.
func gaussian(x float64) float64 {
	z := float64(x * x)
	if z >= 9 {
		return 0
	}
	return exp(-z / 2)
}

func floorInt(v float64) int { return int(math.Floor(v)) }
