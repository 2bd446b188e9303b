// Package video restores clips frame by frame: YUV4MPEG2 streams as they are, and whatever ffmpeg reads through ffmpeg as a
// process of its own.
//
// A clip is cut into scenes. The route of a scene is found once, from its first frames together, and holds for all of it, so
// that no expert changes in the middle. Frames keep the luma and chroma that the expert did not change: what it changed in
// chromaRGB is added to what the clip holds.
package video

import (
	"errors"
	"fmt"
)

// Chroma is how the planes of a frame relate.
type Chroma int

// The kinds of chroma. RGB frames have planes green, blue and red, as ffmpeg's gbrp.
const (
	chroma420 Chroma = iota
	chroma422
	chroma444
	chroma411
	chromaMono
	chromaRGB
)

// Siting is where samples of halved chroma lie.
type Siting int

// The sitings: Left is between two rows and on the even columns (MPEG-2, the usual one), Centre between rows and columns
// (JPEG, MPEG-1), TopLeft on both.
const (
	sitingLeft Siting = iota
	sitingCentre
	sitingTopLeft
)

// Ratio is a fraction; 0/0 and 0/1 mean unknown.
type Ratio struct{ Num, Den int64 }

func (r Ratio) known() bool { return r.Num > 0 && r.Den > 0 }

func (r Ratio) float() float64 {
	if r.Den == 0 {
		return 0
	}
	return float64(r.Num) / float64(r.Den)
}

func (r Ratio) String() string { return fmt.Sprintf("%d/%d", r.Num, r.Den) }

// Format is what all frames of a clip have in common.
type Format struct {
	Width, Height int
	Chroma        Chroma
	// Depth is 8 to 16 bits a sample; above 8 samples are 16-bit little-endian words.
	Depth  int
	Siting Siting
	// FullRange says that samples use all codes; otherwise black is 16 and white 235, at the depth's scale.
	FullRange bool
	Matrix    Matrix
	// Rate is in frames a second; Aspect is that of a pixel.
	Rate, Aspect Ratio
	// Interlacing is the letter of YUV4MPEG2: p, t, b, m or ?.
	Interlacing byte
}

// maxSide bounds the sides of frames, so that sizes are computed without overflow.
const maxSide = 1 << 16

// check reports a format that no frame can have.
func (f *Format) check() error {
	switch {
	case f.Width <= 0 || f.Height <= 0 || f.Width > maxSide || f.Height > maxSide:
		return fmt.Errorf("frames of %d×%d pixels", f.Width, f.Height)
	case f.Depth < 8 || f.Depth > 16:
		return fmt.Errorf("%d bits a sample", f.Depth)
	case f.frameBytes() > 1<<31:
		return fmt.Errorf("frames of %d×%d pixels of %d bits are too large", f.Width, f.Height, f.Depth)
	}
	return nil
}

// shifts are how often width and height of chroma planes are halved.
func (f *Format) shifts() (x, y int) {
	switch f.Chroma {
	case chroma420:
		return 1, 1
	case chroma422:
		return 1, 0
	case chroma411:
		return 2, 0
	}
	return 0, 0
}

// chromaSize is that of planes 1 and 2.
func (f *Format) chromaSize() (w, h int) {
	x, y := f.shifts()
	return (f.Width + 1<<x - 1) >> x, (f.Height + 1<<y - 1) >> y
}

func (f *Format) sampleBytes() int {
	if f.Depth > 8 {
		return 2
	}
	return 1
}

// planes are where the planes lie in a frame's data, in samples; the last entry is the end.
func (f *Format) planes() []int {
	n := f.Width * f.Height
	if f.Chroma == chromaMono {
		return []int{0, n}
	}
	w, h := f.chromaSize()
	return []int{0, n, n + w*h, n + 2*w*h}
}

func (f *Format) frameBytes() int {
	p := f.planes()
	return p[len(p)-1] * f.sampleBytes()
}

// Frame is a picture of a clip.
type Frame struct {
	// Data are the planes, one after the other without padding.
	Data []byte
	// PTS is the time of presentation in ticks of the source, the frame's number where it has none.
	PTS int64
	// Params are what a YUV4MPEG2 stream says of this frame alone.
	Params string
}

// Matrix is how luma and chroma come from red, green and blue.
type Matrix struct {
	Name   string // ffmpeg's
	kr, kb float64
}

var matrices = []Matrix{
	{"bt709", 0.2126, 0.0722}, {"smpte170m", 0.299, 0.114}, {"bt470bg", 0.299, 0.114}, {"fcc", 0.30, 0.11},
	{"smpte240m", 0.212, 0.087}, {"bt2020nc", 0.2627, 0.0593},
}

// matrixOf finds a matrix; where a clip names none it is that which players take, by the size.
func matrixOf(name string, width, height int) (Matrix, error) {
	if name == "" || name == "unknown" || name == "unspecified" || name == "gbr" {
		name = "smpte170m"
		if width >= 1280 || height > 576 {
			name = "bt709"
		}
	}
	for _, m := range matrices {
		if m.Name == name {
			return m, nil
		}
	}
	return Matrix{}, fmt.Errorf("colour matrix %q: %w", name, errors.ErrUnsupported)
}
