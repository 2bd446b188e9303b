package video

import "math"

// thumbWidth is the side of the pictures that cuts are found in: small enough that noise and rain average out.
const thumbWidth = 48

// thumb is the brightness of a frame in blocks.
type thumb []float32

// thumbOf averages luma, or green, in blocks; in codes of 8 bits.
func (f *Format) thumbOf(frame *Frame) thumb {
	w := min(thumbWidth, f.Width)
	h := min(max(f.Height*w/f.Width, 1), f.Height)
	t := make(thumb, w*h)
	scale := float32(1) / float32(int(1)<<(f.Depth-8))
	rows(h, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			top, bottom := y*f.Height/h, (y+1)*f.Height/h
			for x := range w {
				left, right := x*f.Width/w, (x+1)*f.Width/w
				sum := float32(0)
				for r := top; r < bottom; r++ {
					for c := left; c < right; c++ {
						sum += f.sample(frame.Data, r*f.Width+c)
					}
				}
				t[y*w+x] = sum * scale / float32((bottom-top)*(right-left))
			}
		}
	})
	return t
}

// spread is the mean distance from the mean.
func (t thumb) spread() float64 {
	mean, sum := 0.0, 0.0
	for _, v := range t {
		mean += float64(v)
	}
	mean /= float64(len(t))
	for _, v := range t {
		sum += math.Abs(float64(v) - mean)
	}
	return sum / float64(len(t))
}

// distance is the mean difference of two frames, in units of what differs inside them: about 1 for frames that have nothing
// to do with each other, whether they are dark or bright.
func distance(a, b thumb) float64 {
	const flat = 3 // codes: below it a frame counts as empty
	sum := 0.0
	for i := range a {
		sum += math.Abs(float64(a[i] - b[i]))
	}
	return sum / float64(len(a)) / max(a.spread(), b.spread(), flat)
}

// DefaultCut is the change from frame to frame, beyond that of the frames before and after, that makes a cut.
const DefaultCut = 0.4

// flashLength is for how many frames a picture may be gone and come back without a cut.
const flashLength = 3

// cuts finds where scenes begin, looking flashLength frames ahead.
type cuts struct {
	threshold float64
	last      thumb
	change    float64 // from the frame before the last to the last
	skip      int     // frames of a flash still to come
}

// begins tells whether the frame at ahead[0] begins a scene.
func (c *cuts) begins(ahead []thumb) bool {
	t := ahead[0]
	defer func() { c.last = t }()
	if c.last == nil {
		return true
	}
	d := distance(c.last, t)
	usual := c.change
	if len(ahead) > 1 {
		usual = max(usual, distance(t, ahead[1]))
	}
	score := d - usual
	c.change = d
	if c.skip > 0 {
		c.skip--
		return false
	}
	if score < c.threshold {
		return false
	}
	for k := 1; k < len(ahead) && k <= flashLength; k++ {
		if distance(c.last, ahead[k]) < c.threshold/2 {
			c.skip = k
			return false
		}
	}
	return true
}
