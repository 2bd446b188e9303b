package degrade

import (
	"context"
	"math"
)

func lowLightInfo() kindInfo {
	return kindInfo{
		name:    "lowlight",
		aliases: []string{"dark", "low"},
		title:   "low light",
		formula: "in linear light x = v^2.2: e = full·L·x·2^−stops electrons, y = (P(e) + read·n)/full, v' = y^(1/2.2), where " +
			"the illumination L is smooth with mean 1",
		source: "Retinex, image = reflectance × illumination, as in Wei et al., Deep Retinex Decomposition, BMVC 2018; sensor " +
			"noise after Foi et al., Practical Poissonian–Gaussian Noise Modeling, TIP 2008",
		stage: stageExposure,
		params: []paramDef{
			{
				name: "stops", unit: "EV", meaning: "missing exposure", max: 10,
				curve: "5 s", value: func(s, _ float64) float64 { return 5 * s },
			},
			{
				name: "full", unit: "e⁻", meaning: "electrons of a white pixel (full well)", min: 100, max: 1e7,
				curve: "8000", value: func(_, _ float64) float64 { return 8000 },
			},
			{
				name: "read", unit: "e⁻", meaning: "standard deviation of the read noise", max: 1000,
				curve: "3", value: func(_, _ float64) float64 { return 3 },
			},
			{
				name: "uneven", meaning: "how much the illumination varies over the image, in stops", max: 5,
				curve: "s (0.3 + 0.9 u)", value: func(s, u float64) float64 { return s * (0.3 + float64(0.9*u)) },
			},
		},
		apply: applyLowLight,
	}
}

func applyLowLight(ctx context.Context, img *Image, p params, seed uint64) error {
	stops, full, read, uneven := p.get("stops"), p.get("full"), p.get("read"), p.get("uneven")
	illumination := newField(newRandom(seed, uint64(LowLight), streamField), img.W, img.H, 2, 2)
	w := img.W
	return eachBand(ctx, img.W, img.H, func(y0, y1 int) {
		stopsAt := make([]float32, w)
		for y := y0; y < y1; y++ {
			row := img.row(y)
			toLinear(row)
			illumination.row(y, stopsAt)
			random := newRandom(seed, uint64(LowLight), streamPixels, uint64(y))
			for x := range w {
				gain := exp((float64(uneven*(float64(stopsAt[x])-0.5)) - stops) * math.Ln2)
				for c := 3 * x; c < 3*x+3; c++ {
					electrons := random.poisson(full*gain*float64(row[c])) + float64(read*random.normal())
					row[c] = float32(electrons / full)
				}
			}
			fromLinear(row)
		}
	})
}
