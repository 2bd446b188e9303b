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
			{
				name: "lamps", meaning: "pixels brighter than 1 − 0.25·lamps keep their light, as lamps and windows do", max: 1,
				curve: "0", value: func(_, _ float64) float64 { return 0 },
			},
			{
				name: "partly", meaning: "how much light part of the scene, about half, keeps", max: 1,
				curve: "0", value: func(_, _ float64) float64 { return 0 },
			},
			{
				name: "gamma", meaning: "exponent of a curve that the developed values go through", min: 0.25, max: 8,
				curve: "1", value: func(_, _ float64) float64 { return 1 },
			},
			{
				name: "cast", meaning: "colour of the light, from blue (−1) to orange (1)", min: -1, max: 1,
				curve: "0", value: func(_, _ float64) float64 { return 0 },
			},
		},
		apply: applyLowLight,
	}
}

func applyLowLight(ctx context.Context, img *Image, p params, seed uint64) error {
	stops, full, read, uneven := p.get("stops"), p.get("full"), p.get("read"), p.get("uneven")
	illumination := newField(newRandom(seed, uint64(LowLight), streamField), img.W, img.H, 2, 2)
	var lit *field
	lamps, partly, cast := p.get("lamps"), p.get("partly"), p.get("cast")
	if partly > 0 {
		lit = newField(newRandom(seed, uint64(LowLight), streamField, 1), img.W, img.H, 1.5, 2)
	}
	light := [3]float64{1 + float64(0.35*cast), 1, 1 - float64(0.35*cast)}
	develop := newCurve(p.get("gamma"))
	w := img.W
	return eachBand(ctx, img.W, img.H, func(y0, y1 int) {
		stopsAt, litAt := make([]float32, w), make([]float32, w)
		for y := y0; y < y1; y++ {
			row := img.row(y)
			if lit != nil {
				lit.row(y, litAt)
			}
			kept := keptLight(row, litAt, lamps, partly)
			toLinear(row)
			illumination.row(y, stopsAt)
			random := newRandom(seed, uint64(LowLight), streamPixels, uint64(y))
			for x := range w {
				missing := stops - float64(uneven*(float64(stopsAt[x])-0.5))
				if kept != nil {
					missing *= 1 - float64(kept[x])
				}
				gain := exp(-missing * math.Ln2)
				for c := range 3 {
					electrons := random.poisson(full*gain*light[c]*float64(row[3*x+c])) + float64(read*random.normal())
					row[3*x+c] = float32(electrons / full)
				}
			}
			fromLinear(row)
			develop.apply(row)
		}
	})
}

// keptLight gives the share of its exposure in stops that each pixel of a row keeps, or nil where none does.
func keptLight(row, lit []float32, lamps, partly float64) []float32 {
	if lamps == 0 && partly == 0 {
		return nil
	}
	kept := make([]float32, len(lit))
	for x := range kept {
		k := 0.0
		if lamps > 0 {
			brightest := float64(max(row[3*x], row[3*x+1], row[3*x+2]))
			k = Smoothstep(min(max((brightest-(1-float64(0.25*lamps)))/0.08, 0), 1))
		}
		k = max(k, float64(partly*Smoothstep(min(max(float64((float64(lit[x])-0.4)*5), 0), 1))))
		kept[x] = float32(k)
	}
	return kept
}

// curve is a power law as a table, nil for the exponent 1.
type curve []float32

const curveSteps = 1024

func newCurve(exponent float64) curve {
	if exponent == 1 {
		return nil
	}
	c := make(curve, curveSteps+2)
	for i := range c {
		c[i] = float32(min(Pow(float64(i)/curveSteps, exponent), 1))
	}
	return c
}

func (c curve) apply(values []float32) {
	if c == nil {
		return
	}
	for i, v := range values {
		f := float32(clamp01(v) * curveSteps)
		k := int(f)
		values[i] = c[k] + float32((f-float32(k))*(c[k+1]-c[k]))
	}
}
