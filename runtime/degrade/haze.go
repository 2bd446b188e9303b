package degrade

import "context"

func hazeInfo() kindInfo {
	return kindInfo{
		name:    "haze",
		aliases: []string{"fog", "hazy"},
		title:   "haze",
		formula: "I = J t + A (1 − t), t = exp(−β d); the depth d runs from near to far: 0.6 of it a ground plane seen in " +
			"perspective up to the horizon, 0.25 the colour attenuation prior (value minus saturation), 0.15 smooth noise, " +
			"fitted to the edges of the photo by a guided filter; t, too, wavers with the density of the haze",
		source: "Koschmieder's law (1924) as in Narasimhan and Nayar, Vision and the Atmosphere, IJCV 2002, and in RESIDE (Li " +
			"et al., TIP 2019); depth cue of Zhu, Mai and Shao, Color Attenuation Prior, TIP 2015; guided filter of He, Sun " +
			"and Tang, PAMI 2013",
		stage: stageAir,
		params: []paramDef{
			{
				name: "beta", meaning: "scattering coefficient for depths in 0..1", max: 10,
				curve: "3 s", value: func(s, _ float64) float64 { return 3 * s },
			},
			{
				name: "airlight", meaning: "brightness A of the haze itself", max: 1,
				curve: "0.78 + 0.2 u", value: func(_, u float64) float64 { return 0.78 + float64(0.2*u) },
			},
			{
				name: "tint", meaning: "colour of the haze, from warm (−1) to blue (1)", min: -1, max: 1,
				curve: "1.4 u − 0.6", value: func(_, u float64) float64 { return float64(1.4*u) - 0.6 },
			},
			{
				name: "near", meaning: "depth at the lower edge", max: 1,
				curve: "0.12", value: func(_, _ float64) float64 { return 0.12 },
			},
			{
				name: "far", meaning: "depth at and above the horizon", max: 1,
				curve: "1", value: func(_, _ float64) float64 { return 1 },
			},
			{
				name: "horizon", meaning: "height of the horizon, from the upper edge (0) to the lower (1)", max: 0.9,
				curve: "0.2 + 0.25 u", value: func(_, u float64) float64 { return 0.2 + float64(0.25*u) },
			},
			{
				name: "top", meaning: "where in the scene's height the image begins, for a crop of a photo", max: 1,
				curve: "0", value: func(_, _ float64) float64 { return 0 },
			},
			{
				name: "bottom", meaning: "where in the scene's height the image ends", max: 1,
				curve: "1", value: func(_, _ float64) float64 { return 1 },
			},
			{
				name: "wisps", meaning: "how much the density wavers; with near and far alike, none makes an even veil", max: 1,
				curve: "0.4", value: func(_, _ float64) float64 { return 0.4 },
			},
		},
		apply: applyHaze,
	}
}

// The shares of the cues that make up the depth.
const (
	depthGround = 0.6
	depthColour = 0.25
	depthNoise  = 0.15
)

func applyHaze(ctx context.Context, img *Image, p params, seed uint64) error {
	depth, err := sceneDepth(ctx, img, p, newRandom(seed, uint64(Haze), streamField))
	if err != nil {
		return err
	}
	density := newField(newRandom(seed, uint64(Haze), streamField, 1), img.W, img.H, 3, 3)
	beta, near, far := p.get("beta"), p.get("near"), p.get("far")
	waver := p.get("wisps")
	air := airColour(p.get("airlight"), p.get("tint"))
	return eachBand(ctx, img.W, img.H, func(y0, y1 int) {
		wisps := make([]float32, img.W)
		for y := y0; y < y1; y++ {
			density.row(y, wisps)
			row, depths := img.row(y), depth.row(y)
			for x, d := range depths {
				local := beta * (1 - float64(waver/2) + float64(waver*float64(wisps[x])))
				t := float32(exp(-local * Lerp(near, far, float64(d))))
				veil(row[3*x:3*x+3], air, t)
			}
		}
	})
}

// airColour returns the colour of scattered daylight at the given brightness. The tint moves red and blue apart by at
// most 0.08.
func airColour(brightness, tint float64) [3]float32 {
	shift := float64(0.04 * tint)
	return [3]float32{clamp01(float32(brightness - shift)), float32(brightness), clamp01(float32(brightness + shift))}
}

// veil mixes a pixel with the air: t of the pixel, the rest of the air.
func veil(rgb []float32, air [3]float32, t float32) {
	for c := range rgb {
		rgb[c] = clamp01(float32(rgb[c]*t) + float32(air[c]*(1-t)))
	}
}

// sceneDepth guesses a depth in 0..1 for every pixel of a photo, or of the crop of one
// that parameters top and bottom give.
func sceneDepth(ctx context.Context, img *Image, p params, random *random) (*plane, error) {
	noise := newField(random, img.W, img.H, 4, 2)
	horizon, top, bottom := p.get("horizon"), p.get("top"), p.get("bottom")
	depth := newPlane(img.W, img.H)
	if err := eachBand(ctx, img.W, img.H, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			row, rgb := depth.row(y), img.row(y)
			noise.row(y, row)
			ground := groundDepth(Lerp(top, bottom, (float64(y)+0.5)/float64(img.H)), horizon)
			for x, n := range row {
				d := float64(depthGround*ground) + float64(depthColour*colourDepth(rgb[3*x:3*x+3])) + float64(depthNoise*float64(n))
				row[x] = float32(d)
			}
		}
	}); err != nil {
		return nil, err
	}
	guide, err := luminance(ctx, img)
	if err != nil {
		return nil, err
	}
	// The local fit may run past the ends slightly, and the shares seldom meet at 0 or 1 all at once.
	if err := depth.guidedFilter(ctx, guide, max(max(img.W, img.H)/16, 1), 0.01); err != nil {
		return nil, err
	}
	for i, d := range depth.v {
		depth.v[i] = clamp01(float32(1.15*d) - 0.08)
	}
	return depth, nil
}

// groundDepth is the depth of a plane seen in perspective at height v of the picture (0 above, 1 below), 1 from the
// horizon upwards and 0 at the lower edge.
func groundDepth(v, horizon float64) float64 {
	const foreshortening = 0.4
	u := max((v-horizon)/(1-horizon), 0)
	end := foreshortening / (1 + foreshortening)
	return (foreshortening/(u+foreshortening) - end) / (1 - end)
}

// colourDepth is the colour attenuation prior of Zhu et al.: depth grows with brightness and falls with saturation.
func colourDepth(rgb []float32) float64 {
	hi, lo := max(rgb[0], rgb[1], rgb[2]), min(rgb[0], rgb[1], rgb[2])
	if hi == 0 {
		return 0.12
	}
	saturation := float64(hi-lo) / float64(hi)
	return min(max(0.121779+float64(0.959710*float64(hi))-float64(0.780245*saturation), 0), 1)
}
