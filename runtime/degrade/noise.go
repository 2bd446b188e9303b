package degrade

import "context"

func noiseInfo() kindInfo {
	return kindInfo{
		name:    "noise",
		aliases: []string{"gaussian", "gaussiannoise", "gauss", "awgn"},
		title:   "Gaussian noise",
		formula: "y = clip(x + σ n), n ~ N(0, 1) independent per pixel and channel",
		source:  "additive white Gaussian noise as in Zhang et al., Beyond a Gaussian Denoiser (DnCNN), TIP 2017",
		stage:   stageSensor,
		params: []paramDef{{
			name: "sigma", unit: "/255", meaning: "standard deviation in steps of an 8-bit image", max: 255,
			curve: "75 s", value: func(s, _ float64) float64 { return 75 * s },
		}},
		apply: applyNoise,
	}
}

func applyNoise(ctx context.Context, img *Image, p params, seed uint64) error {
	sigma := p.get("sigma") / 255
	return eachRow(ctx, img, seed, Noise, func(random *random, row []float32) {
		for i, v := range row {
			row[i] = clamp01(v + float32(sigma*random.normal()))
		}
	})
}

func poissonInfo() kindInfo {
	return kindInfo{
		name:    "poisson",
		aliases: []string{"shot", "shotnoise", "poissonnoise", "photon"},
		title:   "Poisson noise",
		formula: "y = clip(P(peak·x)/peak), P(λ) Poisson with mean λ; the standard deviation is √(x/peak)",
		source: "shot noise as in Foi et al., Practical Poissonian–Gaussian Noise Modeling, TIP 2008; on pixel values, by " +
			"peak, as usual in Poisson denoising since Mäkitalo and Foi, TIP 2011",
		stage: stageSensor,
		params: []paramDef{{
			name: "peak", unit: "photons", meaning: "photons counted in a white pixel", min: 0.1, max: 1e9,
			curve: "8/s²: mid-grey is as noisy as at a Gaussian σ of 64 s",
			value: func(s, _ float64) float64 { s = max(s, 1e-3); return 8 / float64(s*s) },
		}},
		apply: applyPoisson,
	}
}

func applyPoisson(ctx context.Context, img *Image, p params, seed uint64) error {
	peak := p.get("peak")
	return eachRow(ctx, img, seed, Poisson, func(random *random, row []float32) {
		for i, v := range row {
			row[i] = clamp01(float32(random.poisson(peak*float64(v)) / peak))
		}
	})
}

func impulseInfo() kindInfo {
	return kindInfo{
		name:    "impulse",
		aliases: []string{"saltpepper", "saltandpepper"},
		title:   "impulse noise",
		formula: "a pixel is replaced by black or white, evenly, with the given probability",
		source:  "salt-and-pepper noise, e.g. Chan, Ho and Nikolova, TIP 2005",
		stage:   stageSensor,
		heldOut: true,
		params: []paramDef{{
			name: "rate", meaning: "share of replaced pixels", max: 1,
			curve: "0.3 s", value: func(s, _ float64) float64 { return 0.3 * s },
		}},
		apply: applyImpulse,
	}
}

func applyImpulse(ctx context.Context, img *Image, p params, seed uint64) error {
	rate := p.get("rate")
	return eachRow(ctx, img, seed, Impulse, func(random *random, row []float32) {
		for x := 0; x < len(row); x += 3 {
			u := random.uniform()
			if u >= rate {
				continue
			}
			v := float32(0)
			if u < rate/2 {
				v = 1
			}
			row[x], row[x+1], row[x+2] = v, v, v
		}
	})
}

// eachRow calls fn for every row with a stream of random numbers of that row's own, so that rows may be processed in any
// order.
func eachRow(ctx context.Context, img *Image, seed uint64, kind Kind, fn func(random *random, row []float32)) error {
	return eachBand(ctx, img.W, img.H, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			fn(newRandom(seed, uint64(kind), streamPixels, uint64(y)), img.row(y))
		}
	})
}
