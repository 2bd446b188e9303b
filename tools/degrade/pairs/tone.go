package pairs

import (
	"math/rand/v2"

	"unirestorer/runtime/degrade"
)

// tone is another exposure and development of a photo: channel c of a pixel becomes black + (white − black)·(gain_c·x)^gamma.
// A few photos show few kinds of light; without it brightness, flatness or a cast alone would look like a degradation.
type tone struct {
	gamma, black, white float64
	gain                [3]float64
}

// strongTones is the share of tones that are of dusk or of coloured light.
const strongTones = 0.3

// newTone draws a tone: gamma in 0.62..1.62, black in 0..0.08, white in 0.8..1, gains in 0.9..1.1; of strong ones, white in
// 0.25..1 and gains in 0.4..1.1.
func newTone(random *rand.Rand) tone {
	white, gain := 0.2, 0.2
	if random.Float64() < strongTones {
		white, gain = 0.75, 0.7
	}
	t := tone{
		gamma: degrade.Pow(2, float64(1.4*random.Float64())-0.7),
		black: 0.08 * random.Float64(),
		white: 1 - float64(white*random.Float64()),
	}
	for c := range t.gain {
		t.gain[c] = 1.1 - float64(gain*random.Float64())
	}
	return t
}

// apply changes the tone of an image. It goes by a table, as photos have 256 values only.
func (t tone) apply(img *degrade.Image) {
	var table [3][256]float32
	for c := range table {
		for v := range table[c] {
			x := min(t.gain[c]*float64(v)/255, 1)
			table[c][v] = float32(t.black + float64((t.white-t.black)*degrade.Pow(x, t.gamma)))
		}
	}
	for i, v := range img.Pix {
		img.Pix[i] = table[i%3][int(float32(v*255)+0.5)]
	}
}
