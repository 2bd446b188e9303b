package degrade

import (
	"context"
	"math"
)

func motionInfo() kindInfo {
	return kindInfo{
		name:    "motion",
		aliases: []string{"motionblur", "shake"},
		title:   "motion blur",
		formula: "y = k ∗ x in linear light (gamma 2.2); k is the time the camera spends at each offset along a path of the " +
			"given length, which sets out at the given angle, turns by the given bend and trembles",
		source: "blur as an integral over the exposure, Nah et al., Deep Multi-Scale CNN for Dynamic Scene Deblurring, CVPR " +
			"2017; random camera paths after Boracchi and Foi, Modeling the Performance of Image Restoration from Motion " +
			"Blur, TIP 2012",
		stage: stageLens,
		params: []paramDef{
			{
				name: "length", unit: "px", meaning: "length of the path", max: 128,
				curve: "24 s", value: func(s, _ float64) float64 { return 24 * s },
			},
			{
				name: "angle", unit: "°", meaning: "initial direction, 0 to the right, 90 up", min: -360, max: 360,
				curve: "180 u", value: func(_, u float64) float64 { return 180 * u },
			},
			{
				name: "bend", unit: "°", meaning: "turn between the ends of the path", min: -360, max: 360,
				curve: "120 u − 60", value: func(_, u float64) float64 { return float64(120*u) - 60 },
			},
		},
		apply: applyMotion,
	}
}

func applyMotion(ctx context.Context, img *Image, p params, seed uint64) error {
	taps, margin := motionTaps(p.get("length"), p.get("angle"), p.get("bend"), newRandom(seed, uint64(Motion), streamPath))
	return convolve(ctx, img, taps, margin)
}

// motionTaps samples the path finely, centres it on its centre of gravity and shares each sample between the four
// nearest pixels. The weights add up to 1.
func motionTaps(length, angle, bend float64, random *random) (taps []tap, margin int) {
	const tremble = 0.08 // sideways random walk, as a share of the path length
	n := max(int(4*length), 1)
	step := length / float64(n)
	xs, ys := make([]float64, n+1), make([]float64, n+1)
	var sumX, sumY, drift float64
	for i := 1; i <= n; i++ {
		progress := float64(i) / float64(n)
		drift += float64(random.normal() * tremble * 4 / math.Sqrt(float64(n)))
		sin, cos := sincos(float64(radians(angle+float64(bend*(progress-0.5)))) + drift)
		xs[i] = xs[i-1] + float64(step*cos)
		ys[i] = ys[i-1] - float64(step*sin)
		sumX += xs[i]
		sumY += ys[i]
	}
	centreX, centreY := sumX/float64(n+1), sumY/float64(n+1)
	// A point is no further from the centre of gravity than from the points of the path on average, along the path: at
	// most half its length. One pixel more takes the share of the neighbours, one rounding.
	margin = int(length/2) + 2
	size := 2*margin + 1
	grid := make([]float64, size*size)
	for i := range xs {
		x, y := xs[i]-centreX+float64(margin), ys[i]-centreY+float64(margin)
		ix, iy := int(x), int(y)
		fx, fy := x-float64(ix), y-float64(iy)
		at := iy*size + ix
		grid[at] += float64((1 - fx) * (1 - fy))
		grid[at+1] += float64(fx * (1 - fy))
		grid[at+size] += float64((1 - fx) * fy)
		grid[at+size+1] += float64(fx * fy)
	}
	for i, v := range grid {
		if v > 0 {
			weight := float32(v / float64(n+1))
			taps = append(taps, tap{dx: i%size - margin, dy: i/size - margin, weight: weight})
		}
	}
	return trimTaps(taps)
}

// trimTaps returns the taps and the smallest margin that holds them.
func trimTaps(taps []tap) ([]tap, int) {
	margin := 0
	for _, t := range taps {
		margin = max(margin, t.dx, -t.dx, t.dy, -t.dy)
	}
	return taps, margin
}
