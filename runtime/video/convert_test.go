package video

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer"
)

// formats are all kinds of frames, of odd sizes.
func formats() []Format {
	var all []Format
	for _, c := range []Chroma{chroma420, chroma422, chroma444, chroma411, chromaMono, chromaRGB} {
		for _, depth := range []int{8, 10, 12, 16} {
			for _, s := range []Siting{sitingLeft, sitingCentre, sitingTopLeft} {
				for _, full := range []bool{false, true} {
					for _, name := range []string{"bt709", "smpte170m", "bt2020nc"} {
						m, _ := matrixOf(name, 0, 0)
						all = append(all, Format{Width: 35, Height: 21, Chroma: c, Depth: depth, Siting: s, FullRange: full, Matrix: m})
					}
				}
			}
		}
	}
	return all
}

func TestWhatIsNotChangedStaysAsItWas(t *testing.T) {
	for _, f := range formats() {
		frame := noiseFrame(&f, 7)
		p := f.picture(frame)
		require.NoError(t, p.Check())
		require.Equal(t, frame.Data, f.changed(frame, p, p.Clone()).Data)
	}
}

// add adds to sample i, rounded.
func (f *Format) add(data []byte, i int, by float32) {
	f.move(data, i, []int32{int32(math.Floor(float64(by) + 0.5))})
}

// flat is a frame of one colour, from the formulas of the standards.
func flat(f *Format, r, g, b float64) *Frame {
	frame := &Frame{Data: make([]byte, f.frameBytes())}
	black, luma, chroma := f.codes()
	l := f.Matrix.kr*r + (1-f.Matrix.kr-f.Matrix.kb)*g + f.Matrix.kb*b
	values := []float64{l*float64(luma) + float64(black),
		(b-l)/(2-2*f.Matrix.kb)*float64(chroma) + float64(int(1)<<(f.Depth-1)), (r-l)/(2-2*f.Matrix.kr)*float64(chroma) + float64(int(1)<<(f.Depth-1))}
	if f.Chroma == chromaRGB {
		values = []float64{g * float64(luma), b * float64(luma), r * float64(luma)}
	}
	for k, p := range f.planes()[:len(f.planes())-1] {
		for i := p; i < f.planes()[k+1]; i++ {
			f.add(frame.Data, i, float32(values[k]))
		}
	}
	return frame
}

func TestColoursFollowTheStandards(t *testing.T) {
	for _, f := range formats() {
		if f.Chroma == chromaMono {
			continue
		}
		r, g, b := 0.7, 0.45, 0.2
		p := f.picture(flat(&f, r, g, b))
		one, pix := 255.0, func(i int) float64 { return float64(p.Pix[i]) }
		if p.Depth == 16 {
			one, pix = 65535, func(i int) float64 { return float64(p.Pix16[i]) }
		}
		tolerance := one * 2.2 / float64(int(1)<<f.Depth) * 1.2
		worst := 0.0
		for i, want := range []float64{r, g, b} {
			for at := i; at < 35*21*3; at += 3 {
				worst = max(worst, math.Abs(want*one-pix(at)))
			}
		}
		require.Less(t, worst, tolerance, "%+v", f)
		// A change of the whole picture arrives in the frame as that of its colour.
		other := p.Clone()
		to := []float64{0.3, 0.5, 0.8}
		for i := range other.Pix {
			other.Pix[i] = uint8(math.Round(to[i%3] * one))
		}
		for i := range other.Pix16 {
			other.Pix16[i] = uint16(math.Round(to[i%3] * one))
		}
		got, want := f.changed(flat(&f, r, g, b), p, other), flat(&f, to[0], to[1], to[2])
		worst = 0
		for i := range f.planes()[len(f.planes())-1] {
			worst = max(worst, math.Abs(float64(f.sample(want.Data, i)-f.sample(got.Data, i))))
		}
		require.Less(t, worst, 2.01, "%+v", f)
	}
	_, err := matrixOf("ictcp", 0, 0)
	require.ErrorContains(t, err, "ictcp")
	hd, _ := matrixOf("", 1920, 1080)
	sd, _ := matrixOf("unknown", 720, 576)
	require.Equal(t, []string{"bt709", "smpte170m"}, []string{hd.Name, sd.Name})
}

func TestChromaLiesWhereItsSitingSays(t *testing.T) {
	// A ramp of Cb along x and y, sampled where each siting has its samples, must come out as the same ramp.
	for _, s := range []Siting{sitingLeft, sitingCentre, sitingTopLeft} {
		f := Format{Width: 32, Height: 32, Chroma: chroma420, Depth: 16, Siting: s, FullRange: true}
		f.Matrix, _ = matrixOf("bt709", 0, 0)
		ox, oy := 0.0, 0.5
		switch s {
		case sitingCentre:
			ox = 0.5
		case sitingTopLeft:
			oy = 0
		}
		frame := &Frame{Data: make([]byte, f.frameBytes())}
		ramp := func(x, y float64) float64 { return 0.1 + 0.002*x + 0.004*y }
		for y := range 32 {
			for x := range 32 {
				f.add(frame.Data, y*32+x, 0.4*65535)
			}
		}
		for y := range 16 {
			for x := range 16 {
				f.add(frame.Data, 1024+y*16+x, float32(ramp(2*float64(x)+ox, 2*float64(y)+oy)*65535+32768))
				f.add(frame.Data, 1024+256+y*16+x, 32768)
			}
		}
		p := f.picture(frame)
		for y := 1; y < 30; y++ {
			for x := 1; x < 30; x++ {
				b := float64(p.Pix16[(y*32+x)*3+2])/65535 - 0.4
				require.InDelta(t, ramp(float64(x), float64(y)), b/(2-2*f.Matrix.kb), 1e-3, "siting %d at %d, %d", s, x, y)
			}
		}
	}
}

func TestGreyStaysGrey(t *testing.T) {
	f := Format{Width: 4, Height: 2, Chroma: chromaMono, Depth: 10}
	frame := &Frame{Data: make([]byte, f.frameBytes())}
	for i, v := range []float32{0, 64, 502, 940, 1023, 64, 64, 64} {
		f.add(frame.Data, i, v)
	}
	p := f.picture(frame)
	require.Equal(t, 1, p.Channels)
	require.Equal(t, []uint16{0, 0, 32768, 65535, 65535, 0, 0, 0}, p.Pix16, "what is beyond white is cut for the expert")
	after := p.Clone()
	after.Pix16[2] -= 6553
	got := f.changed(frame, p, after)
	require.Equal(t, float32(1023), f.sample(got.Data, 4), "but not lost")
	require.InDelta(t, 502-87.6, f.sample(got.Data, 2), 0.5)
	var _ *unirestorer.Picture = p
}
