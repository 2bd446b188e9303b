package degrade

import (
	"math"
	"sync"
)

// Light adds up linearly, pixel values don't. Blur and exposure are computed on linear intensities, with the power law of
// exponent 2.2 that Nah et al. (CVPR 2017, the GoPro data set) assume for the camera response.
const cameraGamma = 2.2

const toneSteps = 4096

// toneTables holds x^2.2 for x = i/toneSteps, and u^(2/2.2) for u = i/toneSteps, which is y^(1/2.2) at y = u².
var toneTables = sync.OnceValue(func() *[2][toneSteps + 2]float32 {
	var t [2][toneSteps + 2]float32
	for i := range toneSteps + 2 {
		x := float64(i) / toneSteps
		t[0][i] = float32(Pow(x, cameraGamma))
		t[1][i] = float32(Pow(x, 2/cameraGamma))
	}
	return &t
})

func interpolate(table *[toneSteps + 2]float32, x float32) float32 {
	f := float32(clamp01(x) * toneSteps)
	i := int(f)
	return table[i] + float32((f-float32(i))*(table[i+1]-table[i]))
}

// toLinear replaces pixel values by linear intensities.
func toLinear(values []float32) {
	t := &toneTables()[0]
	for i, v := range values {
		values[i] = interpolate(t, v)
	}
}

// fromLinear replaces linear intensities by pixel values; intensities outside 0..1 are clipped, as a sensor does.
func fromLinear(values []float32) {
	t := &toneTables()[1]
	for i, v := range values {
		// The root takes away most of the steepness at black, so that the table may be interpolated.
		values[i] = interpolate(t, float32(math.Sqrt(float64(clamp01(v)))))
	}
}
