package quality

import (
	"fmt"
	"math"
	"strings"

	"unirestorer/runtime/imaging"
)

// Colour says on what samples pictures are compared.
type Colour string

// The colours. Y is the luma of BT.601 in the range 16 to 235,
// 16 + (65.481·R + 128.553·G + 24.966·B)/255 at a peak of 255.
const (
	// colourRGB compares three channels; SSIM is their mean.
	colourRGB Colour = "RGB"
	// colourMATLAB rounds Y to whole numbers, half away from zero, as rgb2ycbcr does
	// with integers.
	colourMATLAB Colour = "Y of BT.601, rounded as MATLAB's rgb2ycbcr does"
	// colourBasicSR does not round Y, as BasicSR's to_y_channel.
	colourBasicSR Colour = "Y of BT.601, not rounded, as in BasicSR"
)

// Protocol says how the papers of a task score a picture. Scores of a set are
// means over its pictures.
type Protocol struct {
	Name   string `json:"name"`
	Colour Colour `json:"colour"`
	// Crop is left out at each side, in pixels.
	Crop int `json:"crop"`
	// Shrink averages pictures down for SSIM as DehazeFormer's test does: by
	// n = max(1, round(smaller side/256)), to ⌊W/n⌋×⌊H/n⌋ pixels.
	Shrink bool `json:"shrink_for_ssim"`
	// GTMean scales the restored picture to the mean grey of the target before it
	// is compared, clipped and not rounded. It uses the target, so scores by it
	// compare with nothing else.
	GTMean bool `json:"gt_mean"`
	// Source says whose code scores so.
	Source string `json:"source"`
}

// Protocols lists the known ones; the first is the default.
func Protocols() []Protocol {
	return []Protocol{
		{Name: "rgb", Colour: colourRGB, Source: "PSNR over all samples, SSIM of Wang et al. 2004 by channel"},
		{Name: "rain", Colour: colourMATLAB, Source: "Restormer and MPRNet, Deraining/evaluate_PSNR_SSIM.m"},
		{Name: "rain-basicsr", Colour: colourBasicSR, Source: "BasicSR, calculate_psnr and calculate_ssim with test_y_channel"},
		{Name: "denoise", Colour: colourRGB, Source: "Restormer, Denoising; NAFNet and BasicSR with test_y_channel off"},
		{Name: "deblur", Colour: colourRGB, Source: "NAFNet and BasicSR with test_y_channel and crop_border off"},
		{Name: "lowlight", Colour: colourRGB, Source: "RetinexFormer, Enhancement/test_from_dataset.py"},
		{Name: "dehaze", Colour: colourRGB, Shrink: true, Source: "DehazeFormer, test.py"},
	}
}

// FindProtocol looks a protocol up by its name.
func FindProtocol(name string) (Protocol, error) {
	var names []string
	for _, p := range Protocols() {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Protocol{}, fmt.Errorf("protocol %q: want one of %s", name, strings.Join(names, ", "))
}

// String says in words how pictures are compared.
func (p Protocol) String() string {
	s := p.Name + ": " + string(p.Colour)
	if p.Crop > 0 {
		s += fmt.Sprintf(", %d pixels left out at each side", p.Crop)
	}
	s += "; SSIM by a Gaussian window of 11×11, σ 1.5, inside the picture"
	if p.Shrink {
		s += ", of pictures averaged down to a smaller side of about 256"
	}
	if p.GTMean {
		s += "; GT-mean: the restored picture is scaled to the target's mean grey"
	}
	return s + " (" + p.Source + ")"
}

// Score is how close a picture is to its target.
type Score struct {
	// PSNR in dB; +Inf for equal pictures.
	PSNR float64
	SSIM float64
}

// Measure compares a restored picture with its target. The pictures must have
// one size, of at least 11×11 pixels after cropping and shrinking.
func (p Protocol) Measure(restored, target *imaging.Image) (Score, error) {
	s, err := p.measure(restored, target)
	if err != nil {
		return Score{}, fmt.Errorf("by the protocol %s: %w", p.Name, err)
	}
	return s, nil
}

func (p Protocol) measure(restored, target *imaging.Image) (Score, error) {
	whole, err := newPair(restored, target)
	if err != nil {
		return Score{}, err
	}
	if p.Crop < 0 || 2*p.Crop >= min(whole.w, whole.h) {
		return Score{}, fmt.Errorf("%d pixels cannot be left out at each side of %d×%d", p.Crop, whole.w, whole.h)
	}
	if p.GTMean {
		if whole.a, err = whole.scaledToMean(); err != nil {
			return Score{}, err
		}
	}
	if p.Colour != colourRGB {
		whole.channels = 1
		whole.a, whole.b = whole.luma(whole.a, p.Colour), whole.luma(whole.b, p.Colour)
	}
	inner := whole.cropped(p.Crop)
	score := Score{PSNR: inner.psnr()}
	if p.Shrink {
		inner = inner.shrunk()
	}
	score.SSIM, err = inner.ssim()
	return score, err
}

// luma reads Y of rows that hold RGB.
func (p *pair) luma(rows rowReader, c Colour) rowReader {
	offset := 16 * p.peak / 255
	return func(dst []float64, y, _ int) {
		var rgb [3][]float64
		for i := range rgb {
			rgb[i] = make([]float64, p.w)
			rows(rgb[i], y, i)
		}
		for x := range dst {
			v := (65.481*rgb[0][x]+128.553*rgb[1][x]+24.966*rgb[2][x])/255 + offset
			if c == colourMATLAB {
				v = math.Round(v)
			}
			dst[x] = v
		}
	}
}

func (p *pair) cropped(n int) *pair {
	if n == 0 {
		return p
	}
	within := func(rows rowReader) rowReader {
		return func(dst []float64, y, c int) {
			row := make([]float64, p.w)
			rows(row, y+n, c)
			copy(dst, row[n:])
		}
	}
	return &pair{w: p.w - 2*n, h: p.h - 2*n, channels: p.channels, peak: p.peak, a: within(p.a), b: within(p.b)}
}

// scaledToMean reads the first picture times what makes its mean grey that of
// the second, clipped.
func (p *pair) scaledToMean() (rowReader, error) {
	weights := [3]float64{0.299, 0.587, 0.114}
	grey := func(rows rowReader) float64 {
		return p.sumRows(0, p.h, func(y0, y1 int) (sum float64) {
			row := make([]float64, p.w)
			for y := y0; y < y1; y++ {
				for c, w := range weights {
					rows(row, y, c)
					for _, v := range row {
						sum += w * v
					}
				}
			}
			return sum
		})
	}
	own := grey(p.a)
	if own == 0 {
		return nil, fmt.Errorf("GT-mean of a black picture")
	}
	ratio, rows := grey(p.b)/own, p.a
	return func(dst []float64, y, c int) {
		rows(dst, y, c)
		for x := range dst {
			dst[x] = min(ratio*dst[x], p.peak)
		}
	}, nil
}

// shrunk is the pair averaged down as by PyTorch's adaptive_avg_pool2d: output
// i covers the inputs ⌊i·n/m⌋ to ⌈(i+1)·n/m⌉-1.
func (p *pair) shrunk() *pair {
	ratio := max(1, int(math.RoundToEven(float64(min(p.w, p.h))/256))) // as Python rounds
	if ratio == 1 {
		return p
	}
	w, h := p.w/ratio, p.h/ratio
	average := func(rows rowReader) rowReader {
		return func(dst []float64, y, c int) {
			row, sums := make([]float64, p.w), make([]float64, p.w)
			y0, y1 := y*p.h/h, ((y+1)*p.h+h-1)/h
			for i := y0; i < y1; i++ {
				rows(row, i, c)
				for x, v := range row {
					sums[x] += v
				}
			}
			for x := range dst {
				x0, x1 := x*p.w/w, ((x+1)*p.w+w-1)/w
				var sum float64
				for _, v := range sums[x0:x1] {
					sum += v
				}
				dst[x] = sum / float64((x1-x0)*(y1-y0))
			}
		}
	}
	return &pair{w: w, h: h, channels: p.channels, peak: p.peak, a: average(p.a), b: average(p.b)}
}
