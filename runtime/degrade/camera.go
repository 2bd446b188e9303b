package degrade

import (
	"context"
	"math"
)

func cameraInfo() kindInfo {
	return kindInfo{
		name:    "camera",
		heldOut: true,
		aliases: []string{"cameranoise", "raw", "iso"},
		title:   "camera noise",
		formula: "in linear light: to the camera's colours (inverse matrix, divided by the white balance), mosaic, " +
			"y = shot·P(x/shot) + read·n clipped to 0..1, demosaic, white balance, matrix, v' = y^(1/2.2), then light denoising: " +
			"averages over like neighbours in brightness and over all in colour; shot = 10⁻⁴·iso/100, read² = e^(2.18 ln shot + 1.2)",
		source: "the unprocessed camera pipeline and noise levels of Brooks et al., Unprocessing Images for Learned Raw " +
			"Denoising, CVPR 2019; noise model of Foi et al., TIP 2008; demosaicking of Malvar, He and Cutler, ICASSP 2004; " +
			"sigma filter of Lee, 1983",
		stage: stageSensor,
		params: []paramDef{
			{
				name: "iso", meaning: "sensitivity", min: 25, max: 409600,
				curve: "100·2^(7 s)", value: func(s, _ float64) float64 { return 100 * Pow(2, float64(7*s)) },
			},
			{
				name: "denoise", meaning: "strength of the camera's own denoising", max: 1,
				curve: "0.8 u", value: func(_, u float64) float64 { return 0.8 * u },
			},
			{
				name: "red", meaning: "white balance: gain of red", min: 1, max: 4,
				curve: "1.9 + 0.5 u", value: func(_, u float64) float64 { return 1.9 + float64(0.5*u) },
			},
			{
				name: "blue", meaning: "white balance: gain of blue", min: 1, max: 4,
				curve: "1.5 + 0.4 u", value: func(_, u float64) float64 { return 1.5 + float64(0.4*u) },
			},
			{
				name: "matrix", meaning: "how far the camera's colours are from sRGB's, 0 the same", max: 1,
				curve: "0.5 + 0.5 u", value: func(_, u float64) float64 { return 0.5 + float64(0.5*u) },
			},
		},
		apply: applyCamera,
	}
}

// cameraReach is how far a pixel looks: demosaicking 2, denoising of brightness 1 and of colour 3.
const cameraReach = 6

// cameraMatrix turns a typical sensor's colours into linear sRGB; its rows add up to 1, so that white stays white.
var cameraMatrix = matrix3{{1.70, -0.55, -0.15}, {-0.25, 1.50, -0.25}, {0, -0.55, 1.55}}

// colour filters of a mosaic
const (
	filterRed = iota
	filterGreen
	filterBlue
)

// bayer gives the filter over a pixel of an RGGB mosaic.
func bayer(x, y int) int {
	return filterRed + x&1 + y&1
}

func applyCamera(ctx context.Context, img *Image, p params, seed uint64) error {
	shot := 1e-4 * p.get("iso") / 100
	read := math.Sqrt(exp(float64(2.18*log(shot)) + 1.2))
	toSRGB := identity3.towards(cameraMatrix, p.get("matrix"))
	toCamera := toSRGB.inverse()
	gains := [3]float64{p.get("red"), 1, p.get("blue")}

	// A mosaic may begin with any of its four pixels.
	random := newRandom(seed, uint64(Camera), streamField)
	px, py := random.intn(2), random.intn(2)
	sensor := newPlane(img.W, img.H)
	if err := eachBand(ctx, img.W, img.H, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			row, out := img.row(y), sensor.row(y)
			toLinear(row)
			random := newRandom(seed, uint64(Camera), streamPixels, uint64(y))
			for x := range out {
				c := bayer(x+px, y+py)
				light := max(toCamera.row(c, row[3*x:3*x+3])/gains[c], 0)
				v := float64(shot*random.poisson(light/shot)) + float64(read*random.normal())
				out[x] = clamp01(float32(v))
			}
		}
	}); err != nil {
		return err
	}
	if err := eachBand(ctx, img.W, img.H, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			row := img.row(y)
			for x := range img.W {
				rgb := demosaic(sensor, x, y, px, py)
				for c := range rgb {
					rgb[c] = float32(min(float64(rgb[c])*gains[c], 1)) // what is white in the file was full somewhere
				}
				for c := range rgb {
					row[3*x+c] = clamp01(float32(toSRGB.row(c, rgb[:])))
				}
			}
			fromLinear(row)
		}
	}); err != nil {
		return err
	}
	if strength := p.get("denoise"); strength > 0 {
		// The standard deviation of brightness in a fifth of full light, after the slope of the curve there.
		sigma := 1.1 * math.Sqrt(float64(0.2*shot)+float64(read*read))
		return cameraDenoise(ctx, img, float32(strength), float32(2.5*sigma))
	}
	return nil
}

// demosaic interpolates the colours of a pixel after Malvar, He and Cutler: bilinear, corrected by the Laplacian of the
// colour that was measured there.
func demosaic(sensor *plane, x, y, px, py int) [3]float32 {
	at := func(dx, dy int) float32 {
		return sensor.v[reflectIndex(y+dy, sensor.h)*sensor.w+reflectIndex(x+dx, sensor.w)]
	}
	here := at(0, 0)
	horizontal, vertical := at(-1, 0)+at(1, 0), at(0, -1)+at(0, 1)
	diagonal := at(-1, -1) + at(1, -1) + at(-1, 1) + at(1, 1)
	farH, farV := at(-2, 0)+at(2, 0), at(0, -2)+at(0, 2)
	far := farH + farV
	switch c := bayer(x+px, y+py); c {
	case filterGreen:
		alongRow := float32(here*5/8) + float32(horizontal/2) - float32(diagonal/8) - float32(farH/8) + float32(farV/16)
		alongColumn := float32(here*5/8) + float32(vertical/2) - float32(diagonal/8) - float32(farV/8) + float32(farH/16)
		if bayer(x+1+px, y+py) == filterRed {
			return [3]float32{alongRow, here, alongColumn}
		}
		return [3]float32{alongColumn, here, alongRow}
	default:
		green := float32(here/2) + float32((horizontal+vertical)/4) - float32(far/8)
		opposite := float32(here*3/4) + float32(diagonal/4) - float32(far*3/16)
		if c == filterRed {
			return [3]float32{here, green, opposite}
		}
		return [3]float32{opposite, green, here}
	}
}

// cameraDenoise averages brightness over those of the eight neighbours that are within the threshold, and colour over a
// square, and mixes that with the image by strength.
func cameraDenoise(ctx context.Context, img *Image, strength, threshold float32) error {
	brightness := newPlane(img.W, img.H)
	blue, red := newPlane(img.W, img.H), newPlane(img.W, img.H)
	if err := eachBand(ctx, img.W, img.H, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			row := img.row(y)
			for x := range img.W {
				l, cb, cr := toYCC(row[3*x], row[3*x+1], row[3*x+2])
				at := y*img.W + x
				brightness.v[at], blue.v[at], red.v[at] = l, cb, cr
			}
		}
	}); err != nil {
		return err
	}
	radius := int(1.5 + float32(1.5*strength))
	return eachBand(ctx, img.W, img.H, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			row := img.row(y)
			for x := range img.W {
				at := y*img.W + x
				here := brightness.v[at]
				sum, count := float32(0), float32(0)
				for dy := -1; dy <= 1; dy++ {
					line := brightness.row(reflectIndex(y+dy, img.H))
					for dx := -1; dx <= 1; dx++ {
						if v := line[reflectIndex(x+dx, img.W)]; v-here <= threshold && here-v <= threshold {
							sum += v
							count++
						}
					}
				}
				l := here + float32(strength*(sum/count-here))
				cb := blue.v[at] + float32(strength*(squareMean(blue, x, y, radius)-blue.v[at]))
				cr := red.v[at] + float32(strength*(squareMean(red, x, y, radius)-red.v[at]))
				r, g, b := fromYCC(l, cb, cr)
				row[3*x], row[3*x+1], row[3*x+2] = clamp01(r), clamp01(g), clamp01(b)
			}
		}
	})
}

// squareMean averages a plane over a square, cut at the border.
func squareMean(p *plane, x, y, radius int) float32 {
	x0, x1 := max(x-radius, 0), min(x+radius, p.w-1)
	sum := float32(0)
	y0, y1 := max(y-radius, 0), min(y+radius, p.h-1)
	for ; y0 <= y1; y0++ {
		for _, v := range p.row(y0)[x0 : x1+1] {
			sum += v
		}
	}
	y0 = max(y-radius, 0)
	return sum / float32((x1-x0+1)*(y1-y0+1))
}

// toYCC gives brightness in 0..1 and the two colour differences in −0.5..0.5 (ITU-R BT.601, as in JPEG).
func toYCC(r, g, b float32) (y, cb, cr float32) {
	y = float32(0.299*r) + float32(0.587*g) + float32(0.114*b)
	return y, float32(0.564334 * (b - y)), float32(0.713267 * (r - y))
}

// fromYCC is the inverse of toYCC.
func fromYCC(y, cb, cr float32) (r, g, b float32) {
	r, b = y+float32(1.402*cr), y+float32(1.772*cb)
	return r, y - float32(0.344136*cb) - float32(0.714136*cr), b
}

// matrix3 is a 3×3 matrix by rows.
type matrix3 [3][3]float64

var identity3 = matrix3{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}

// row returns the product of row c with a colour.
func (m *matrix3) row(c int, rgb []float32) float64 {
	r := &m[c]
	return float64(r[0]*float64(rgb[0])) + float64(r[1]*float64(rgb[1])) + float64(r[2]*float64(rgb[2]))
}

// towards interpolates between two matrices.
func (m matrix3) towards(o matrix3, t float64) (out matrix3) {
	for i := range out {
		for j := range out[i] {
			out[i][j] = Lerp(m[i][j], o[i][j], t)
		}
	}
	return out
}

// inverse of a matrix that has one.
func (m matrix3) inverse() (out matrix3) {
	minor := func(a, b, c, d int) float64 { return float64(m[a][c]*m[b][d]) - float64(m[a][d]*m[b][c]) }
	det := 0.0
	for j := range 3 {
		det += float64(m[0][j] * minor(1, 2, (j+1)%3, (j+2)%3))
	}
	for i := range 3 {
		for j := range 3 {
			out[j][i] = minor((i+1)%3, (i+2)%3, (j+1)%3, (j+2)%3) / det
		}
	}
	return out
}
