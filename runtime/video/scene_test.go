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
	f := &Format{Width: 96, Height: 54, Chroma: chromaMono, Depth: 8}
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

// seen is a plane that shows a world from (x, y) on.
func seen(world func(x, y float64) float64, x, y float64) *plane {
	p := &plane{w: 192, h: 112}
	for i := range p.w * p.h {
		p.v = append(p.v, float32(world(float64(i%p.w)+x, float64(i/p.w)+y)))
	}
	return p
}

// each changes every value of a plane by itself.
func each(p *plane, change func(v float32) float32) *plane {
	q := &plane{w: p.w, h: p.h}
	for _, v := range p.v {
		q.v = append(q.v, change(v))
	}
	return q
}

// sharpened adds so much of what differs from the neighbours on all four sides.
func sharpened(p *plane, by float32) *plane {
	q := each(p, func(v float32) float32 { return v })
	for y := 1; y < p.h-1; y++ {
		for x := 1; x < p.w-1; x++ {
			i := y*p.w + x
			q.v[i] += by * (4*p.v[i] - p.v[i-1] - p.v[i+1] - p.v[i-p.w] - p.v[i+p.w])
		}
	}
	return q
}

func TestConsistencyIsMeasuredAlongMotionAndPerGain(t *testing.T) {
	smooth := scenery(9, 100, 30)
	r := rand.New(rand.NewPCG(5, 5))
	noise := func(p *plane, sigma float64) *plane {
		return each(p, func(v float32) float32 { return v + float32(sigma*r.NormFloat64()) })
	}
	measured := func(world func(x, y float64) float64, spoil func(p *plane) *plane, restore func(p *plane, k float32) *plane) *Consistency {
		var m [2]moment
		for k := range m {
			in := spoil(seen(world, 5*float64(k)+0.2, 2*float64(k)))
			m[k] = moment{in: in, out: restore(in, float32(k))}
		}
		var sum measure
		sum.add(compare(&m[0], &m[1]))
		return sum.consistency()
	}
	asIs := func(p *plane) *plane { return p }
	contrast := func(by, jump float32) func(p *plane, k float32) *plane {
		return func(p *plane, k float32) *plane {
			return each(p, func(v float32) float32 { return 40 + by*(v-60) + jump*k })
		}
	}
	still := measured(smooth, asIs, contrast(1, 0))
	require.Less(t, still.Before, 1.0, "the pan of 5 and 2 pixels is found")
	require.InDelta(t, 1, still.Gain, 0.02)
	require.InDelta(t, 1, still.Ratio, 0.02)
	double := measured(smooth, asIs, contrast(2, 0))
	require.InDelta(t, 2, double.Gain, 0.05)
	require.InDelta(t, 1, double.Ratio, 0.05)
	require.Greater(t, measured(smooth, asIs, func(p *plane, _ float32) *plane { return noise(p, 8) }).After, 5.0, "noise of the result counts")
	require.InDelta(t, 12, measured(smooth, asIs, contrast(1, 12)).After, 1.5, "so does a jump of its brightness")

	// Of a fine texture, differences grow with detail and not with contrast.
	fine := func(x, y float64) float64 { return smooth(x, y) + 6*math.Sin(1.9*x+0.8*y)*math.Sin(1.1*y-0.4*x) }
	half := func(p *plane) *plane { return noise(p, 0.3) }
	sharp := measured(fine, half, func(p *plane, _ float32) *plane { return sharpened(p, 0.5) })
	require.Greater(t, sharp.Gain, 1.5)
	require.InDelta(t, 1, sharp.Ratio, 0.1, "what is done to every frame alike is no flicker")
	require.Greater(t, measured(fine, half, func(p *plane, k float32) *plane { return sharpened(p, 0.3+0.4*k) }).Ratio, 1.3, "what changes is")
	clear := measured(fine, func(p *plane) *plane { return noise(p, 10) }, func(_ *plane, k float32) *plane {
		return seen(fine, 5*float64(k)+0.2, 2*float64(k))
	})
	require.Greater(t, clear.Gain, 0.7, "noise that is taken away is no loss of gain")
	require.Less(t, clear.Ratio, 0.6)

	var m measure
	require.Nil(t, m.consistency())
	m.add(measure{before: 4, after: 6, clean: 2, stretched: 8, pairs: 1})
	m.add(measure{before: 2, after: 4, clean: 2, stretched: 4, pairs: 1})
	require.Equal(t, Consistency{Before: 3, After: 5, Clean: 2, Gain: 2, Ratio: 5.0 / 6, RatioClean: 2.5, Pairs: 2}, *m.consistency())
}

func TestFrequenciesOfABlockAddUpToIt(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	c := newCosines()
	var p patch
	energy := 0.0
	for i := range p {
		p[i] = float32(r.NormFloat64())
		energy += float64(p[i] * p[i])
	}
	f := c.apart(&p)
	for _, v := range f {
		energy -= float64(v * v)
	}
	require.InDelta(t, 0, energy, 1e-3)
	require.InDeltaSlice(t, p[:], func() []float32 { q := c.together(&f); return q[:] }(), 1e-5)
	var ramp patch
	for i := range ramp {
		ramp[i] = float32(i % side)
	}
	f = c.apart(&ramp)
	require.InDelta(t, 3.5*side, f[0], 1e-4)
	require.Less(t, f[1], float32(-10), "along a row")
	require.InDelta(t, 0, f[side], 1e-4, "down a column")
}
