package video

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer"
)

// scenery is a smooth random world, seen through a moving window.
func scenery(seed uint64, bright, contrast float64) func(x, y float64) float64 {
	r := rand.New(rand.NewPCG(seed, 2))
	type wave struct{ fx, fy, p, a float64 }
	var all []wave
	for k := range 6 {
		all = append(all, wave{r.Float64() * 0.05 * float64(k+1), r.Float64() * 0.05 * float64(k+1), r.Float64() * 7, 1 / float64(k+2)})
	}
	return func(x, y float64) float64 {
		v := 0.0
		for _, w := range all {
			v += w.a * math.Sin(w.fx*x+w.fy*y+w.p)
		}
		return bright + contrast*v
	}
}

func grey(f *Format, at func(x, y float64) float64) *Frame {
	frame := &Frame{Data: make([]byte, f.frameBytes())}
	for y := range f.Height {
		for x := range f.Width {
			f.add(frame.Data, y*f.Width+x, float32(at(float64(x), float64(y))))
		}
	}
	return frame
}

func TestCutsAreFoundAndNothingElse(t *testing.T) {
	f := &Format{Width: 96, Height: 54, Chroma: Mono, Depth: 8}
	r := rand.New(rand.NewPCG(3, 3))
	pan := func(world func(x, y float64) float64, n int, speed, noise float64) (all []thumb) {
		for k := range n {
			all = append(all, f.thumbOf(grey(f, func(x, y float64) float64 { return world(x+speed*float64(k), y) + noise*r.NormFloat64() })))
		}
		return all
	}
	bright, dark := scenery(1, 128, 60), scenery(2, 22, 4)
	for name, c := range map[string]struct {
		frames []thumb
		cuts   []int
	}{
		"a slow pan":         {pan(bright, 16, 1, 0), []int{0}},
		"a fast pan":         {pan(bright, 16, 9, 0), []int{0}},
		"noise":              {pan(bright, 16, 1, 40), []int{0}},
		"two scenes":         {append(pan(bright, 10, 1, 10), pan(scenery(4, 110, 50), 10, 1, 10)...), []int{0, 10}},
		"two dark scenes":    {append(pan(dark, 10, 1, 1), pan(scenery(5, 22, 4), 10, 1, 1)...), []int{0, 10}},
		"from dark to light": {append(pan(dark, 10, 1, 1), pan(bright, 10, 1, 1)...), []int{0, 10}},
		"a flash": {append(append(pan(bright, 10, 1, 0), pan(func(_, _ float64) float64 { return 250 }, 2, 0, 0)...),
			pan(func(x, y float64) float64 { return bright(x+12, y) }, 10, 1, 0)...), []int{0}},
		"black between two": {append(append(pan(bright, 6, 1, 0), pan(func(_, _ float64) float64 { return 16 }, 8, 0, 0)...), pan(scenery(7, 128, 60), 6, 1, 0)...), []int{0, 6, 14}},
		"one frame":         {pan(bright, 1, 0, 0), []int{0}},
	} {
		d := &cuts{threshold: DefaultCut}
		var got []int
		for i := range c.frames {
			if d.begins(c.frames[i:]) {
				got = append(got, i)
			}
		}
		require.Equal(t, c.cuts, got, name)
	}
}

func TestRoutesChangeOnlyForAReason(t *testing.T) {
	route := func(leaf, level, expert int, leaves, levels []float32) *unirestorer.Route {
		return &unirestorer.Route{Decision: unirestorer.Decision{Leaf: leaf, Level: level, Expert: expert, LeafProbs: leaves, LevelProbs: levels}}
	}
	before := route(0, 1, 3, []float32{0.6, 0.4}, []float32{0.2, 0.8})
	for name, c := range map[string]struct {
		next *unirestorer.Route
		keep bool
	}{
		"the same":            {route(0, 1, 3, []float32{0.7, 0.3}, []float32{0.1, 0.9}), true},
		"hardly another":      {route(1, 1, 4, []float32{0.45, 0.55}, []float32{0.1, 0.9}), true},
		"clearly another":     {route(1, 1, 4, []float32{0.2, 0.8}, []float32{0.1, 0.9}), false},
		"hardly another size": {route(0, 0, 1, []float32{0.9, 0.1}, []float32{0.55, 0.45}), true},
		"another size":        {route(0, 0, 1, []float32{0.9, 0.1}, []float32{0.9, 0.1}), false},
		"an expert by name":   {route(-1, -1, 5, nil, nil), false},
	} {
		require.Equal(t, c.keep, keeps(before, c.next, DefaultHysteresis), name)
	}
	require.False(t, keeps(before, route(1, 1, 4, []float32{0.45, 0.55}, []float32{0.1, 0.9}), 0), "without a margin")
}

func TestConsistencyIsMeasuredAlongMotionAndPerGain(t *testing.T) {
	f := &Format{Width: 192, Height: 112, Chroma: Mono, Depth: 8}
	world := scenery(9, 100, 30)
	r := rand.New(rand.NewPCG(5, 5))
	moments := func(gain, noise, bounce float64) (a, b *moment) {
		var m [2]*moment
		for k := range 2 {
			in := grey(f, func(x, y float64) float64 { return world(x+5*float64(k), y+2*float64(k)) })
			out := grey(f, func(x, y float64) float64 {
				return 40 + gain*(world(x+5*float64(k), y+2*float64(k))-60) + noise*r.NormFloat64() + bounce*float64(k)
			})
			m[k] = &moment{in: f.lumaOf(in), out: f.lumaOf(out), thumb: f.thumbOf(out)}
			m[k].thumb = f.thumbOf(in)
			m[k].clean = m[k].out
		}
		return m[0], m[1]
	}
	ratio := func(gain, noise, bounce float64) measure {
		a, b := moments(gain, noise, bounce)
		a.clean, b.clean = nil, nil
		outThumb := (&Format{Width: f.Width, Height: f.Height, Chroma: Mono, Depth: 8}).thumbOf(grey(f, func(x, y float64) float64 { return float64(b.out.v[int(y)*f.Width+int(x)]) }))
		return f.compare(a, b, outThumb)
	}
	still := ratio(1, 0, 0)
	require.Less(t, still.before, 1.0, "the pan of 5 and 2 pixels is found")
	require.InDelta(t, 1, still.gain, 0.02)
	double := ratio(2, 0, 0)
	require.InDelta(t, 2, double.gain, 0.05)
	require.InDelta(t, still.after, double.after/double.gain, 0.5)
	require.Greater(t, ratio(1, 8, 0).after, 5.0, "noise of the result counts")
	require.InDelta(t, 12, ratio(1, 0, 12).after, 1.5, "so does a jump of its brightness")

	var m measure
	require.Nil(t, m.consistency())
	m.add(measure{before: 4, after: 6, clean: 2, gain: 2, pairs: 1})
	m.add(measure{before: 2, after: 4, clean: 2, gain: 2, pairs: 1})
	c := m.consistency()
	require.Equal(t, Consistency{Before: 3, After: 5, Clean: 2, Gain: 2, Ratio: 5.0 / 6, RatioClean: 1.25, Pairs: 2}, *c)
}
