package degrade

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
)

// Saving is what happens to pictures on their way to people: they are made smaller, sharpened and compressed. Steps are
// taken in order.
type Saving []SavingStep

// SavingStep is one step of a [Saving]; exactly one of its members is set.
type SavingStep struct {
	Scale   float64 // factor of both sides, below 1
	Sharpen float64 // strength of unsharp masking
	Radius  float64 // its standard deviation in pixels
	Quality int     // of JPEG, 1..100
	Full    bool    // JPEG with colour at full resolution (4:4:4) instead of halved (4:2:0)
}

// DrawSaving draws what pictures commonly go through: JPEG at a quality of 60 to 98, two in five with colour at full
// resolution; before it, in one of two, a resize by 0.35 to 1; in one of four, sharpening; and in one of three, an
// earlier JPEG. One in eight is only resized or sharpened.
func DrawSaving(random *rand.Rand, smallest float64) Saving {
	var s Saving
	compress := func() SavingStep {
		return SavingStep{Quality: 60 + random.IntN(39), Full: random.Float64() < 0.4}
	}
	last := random.Float64() < 0.875
	if random.Float64() < 0.33 {
		s = append(s, compress())
	}
	resized := random.Float64() < 0.5
	sharpen := SavingStep{Sharpen: 0.2 + float64(0.8*random.Float64()), Radius: 0.5 + float64(random.Float64())}
	sharpened := random.Float64() < 0.25
	first := random.Float64() < 0.3
	if sharpened && first {
		s = append(s, sharpen)
	}
	if resized {
		scale := 0.35 + float64(0.65*random.Float64())
		if random.IntN(3) == 0 {
			scale = 0.5 // the most common one
		}
		if scale = max(scale, smallest); scale < 0.98 {
			s = append(s, SavingStep{Scale: scale})
		}
	}
	if sharpened && !first {
		s = append(s, sharpen)
	}
	if last {
		s = append(s, compress())
	}
	return s
}

// Scale is the product of the steps' scales.
func (s Saving) Scale() float64 {
	scale := 1.0
	for _, step := range s {
		if step.Scale > 0 {
			scale *= step.Scale
		}
	}
	return scale
}

// Without returns the saving without compression: what a picture would look like that was restored in full.
func (s Saving) Without() Saving {
	var out Saving
	for _, step := range s {
		if step.Quality == 0 {
			out = append(out, step)
		}
	}
	return out
}

// Apply returns the saved picture, in the 256 levels of a file after every step. Sides become round(scale × side), at least 1.
func (s Saving) Apply(ctx context.Context, img *Image) (*Image, error) {
	if err := img.check(); err != nil {
		return nil, fmt.Errorf("degrade: saving: %w", err)
	}
	out := img.clone()
	for _, step := range s {
		switch {
		case step.Quality > 0:
			compressed(out, min(step.Quality, 100), step.Full)
		case step.Scale > 0 && step.Scale <= 1:
			w, h := scaled(out.W, step.Scale), scaled(out.H, step.Scale)
			out = out.resized(w, h)
		case step.Sharpen > 0 && step.Radius > 0 && step.Radius <= 8:
			sharpened(out, step.Sharpen, step.Radius)
		default:
			return nil, fmt.Errorf("degrade: saving: step %+v does nothing that is known", step)
		}
		for i, v := range out.Pix {
			out.Pix[i] = float32(toByte(v)) / 255
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func scaled(side int, scale float64) int {
	return max(int(float64(float64(side)*scale)+0.5), 1)
}

// window is which samples a resized one is made of, and how much of each.
type window struct {
	first   int
	weights []float32
}

// windows of cubic interpolation (Keys, a = −0.5), stretched by the ratio so that it averages.
func windows(from, to int) []window {
	ratio := float64(from) / float64(to)
	stretch := max(ratio, 1)
	list := make([]window, to)
	for i := range list {
		centre := float64((float64(i)+0.5)*ratio) - 0.5
		first := max(int(math.Ceil(centre-float64(2*stretch))), 0)
		last := min(int(math.Floor(centre+float64(2*stretch))), from-1)
		w := window{first: first, weights: make([]float32, last-first+1)}
		sum := 0.0
		values := make([]float64, len(w.weights))
		for k := range values {
			values[k] = cubic((float64(first+k) - centre) / stretch)
			sum += values[k]
		}
		for k, v := range values {
			w.weights[k] = float32(v / sum)
		}
		list[i] = w
	}
	return list
}

func cubic(x float64) float64 {
	x = math.Abs(x)
	switch {
	case x < 1:
		return float64((float64(1.5*x)-2.5)*x*x) + 1
	case x < 2:
		return float64((float64((2.5-float64(0.5*x))*x)-4)*x) + 2
	}
	return 0
}

// resized returns the image at another size.
func (m *Image) resized(w, h int) *Image {
	wide := &Image{W: w, H: m.H, Pix: make([]float32, w*m.H*3)}
	for x, from := range windows(m.W, w) {
		for y := range m.H {
			row := m.row(y)[3*from.first:]
			var sum [3]float32
			for k, weight := range from.weights {
				sum[0] += float32(weight * row[3*k])
				sum[1] += float32(weight * row[3*k+1])
				sum[2] += float32(weight * row[3*k+2])
			}
			copy(wide.Pix[(y*w+x)*3:], sum[:])
		}
	}
	out := &Image{W: w, H: h, Pix: make([]float32, w*h*3)}
	for y, from := range windows(m.H, h) {
		row := out.row(y)
		for k, weight := range from.weights {
			addScaled(row, wide.row(from.first+k), weight)
		}
		for i, v := range row {
			row[i] = clamp01(v)
		}
	}
	return out
}

// sharpened adds the difference from a Gaussian blur of that radius.
func sharpened(img *Image, strength, radius float64) {
	reach := int(float64(2.5*radius)) + 1
	taps := make([]float32, 2*reach+1)
	sum := 0.0
	for i := range taps {
		d := float64(i-reach) / radius
		v := exp(-float64(d*d) / 2)
		taps[i] = float32(v)
		sum += float64(v)
	}
	for i := range taps {
		taps[i] = float32(float64(taps[i]) / sum)
	}
	across := &Image{W: img.W, H: img.H, Pix: make([]float32, len(img.Pix))}
	for y := range img.H {
		row, out := img.row(y), across.row(y)
		for x := range img.W {
			for k, weight := range taps {
				from := 3 * reflectIndex(x+k-reach, img.W)
				out[3*x] += float32(weight * row[from])
				out[3*x+1] += float32(weight * row[from+1])
				out[3*x+2] += float32(weight * row[from+2])
			}
		}
	}
	blurred := make([]float32, img.W*3)
	for y := range img.H {
		clear(blurred)
		for k, weight := range taps {
			addScaled(blurred, across.row(reflectIndex(y+k-reach, img.H)), weight)
		}
		row := img.row(y)
		for i, v := range row {
			row[i] = clamp01(v + float32(float32(strength)*(v-blurred[i])))
		}
	}
}
