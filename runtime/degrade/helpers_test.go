package degrade

import "math"

// testImage returns a picture with everything a photo has: gradients, edges, texture and colours, black and white
// included. It is computed in whole numbers, so that it is the same on every machine.
func testImage(w, h int) *Image {
	img, err := NewImage(w, h)
	if err != nil {
		panic(err)
	}
	for y := range h {
		for x := range w {
			rgb := img.Pix[(y*w+x)*3:]
			rgb[0] = float32(x*255/max(w-1, 1)) / 255
			rgb[1] = float32(y*255/max(h-1, 1)) / 255
			rgb[2] = float32((x*7+y*13)%64+((x/8+y/8)%2)*191) / 255
			if (x/16+y/16)%3 == 0 {
				rgb[0], rgb[1] = 1-rgb[1], rgb[0]
			}
		}
	}
	return img
}

func grey(w, h int, value float32) *Image {
	img, err := NewImage(w, h)
	if err != nil {
		panic(err)
	}
	for i := range img.Pix {
		img.Pix[i] = value
	}
	return img
}

func meanAndDeviation(values []float32) (mean, deviation float64) {
	for _, v := range values {
		mean += float64(v)
	}
	mean /= float64(len(values))
	for _, v := range values {
		deviation += (float64(v) - mean) * (float64(v) - mean)
	}
	return mean, math.Sqrt(deviation / float64(len(values)))
}

// meanSquare is the mean squared difference of two images of the same size.
func meanSquare(a, b *Image) float64 {
	sum := 0.0
	for i, v := range a.Pix {
		d := float64(v - b.Pix[i])
		sum += d * d
	}
	return sum / float64(len(a.Pix))
}
