package imaging

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"runtime"

	"unirestorer/runtime/imaging/codecs"
)

// Probe is what a file's header tells before a pixel is decoded: shape, and the memory that decoding takes.
type Probe struct {
	Config
	// FileBytes is the size of the file, which is in memory while it is decoded.
	FileBytes int64
	// DecodeBytes bounds what decoding holds at a time, in bytes: the file, the decoder's own buffers and the pixels.
	DecodeBytes int64
}

// PixelBytes is what the pixels of an [Image] of this shape take.
func (c Config) PixelBytes() int64 {
	return satMul(satMul(int64(c.W), int64(c.H)), int64(c.Channels*c.Depth/8))
}

// probeBytes reads the header of a file in memory.
func probeBytes(data []byte, limits Limits) (Probe, error) {
	cfg, _, err := configBytes(data, limits)
	if err != nil {
		return Probe{}, err
	}
	p := Probe{Config: cfg, FileBytes: int64(len(data))}
	p.DecodeBytes = satAdd(satAdd(p.FileBytes, decodeWork(data, cfg)), cfg.PixelBytes())
	return p, nil
}

// Probe is what decoding the next picture takes.
func (p *Pictures) Probe() Probe {
	all := Probe{Config: p.Config, FileBytes: int64(len(p.data))}
	all.DecodeBytes = satAdd(satAdd(all.FileBytes, decodeWork(p.data, p.Config)), p.PixelBytes())
	return all
}

// ProbeFile reads the header of a named file and no more of it than that needs, where the system can map files. Errors
// start with the path.
func ProbeFile(path string, limits Limits) (p Probe, err error) {
	f, err := os.Open(path)
	if err != nil {
		return Probe{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Probe{}, err
	}
	if !st.Mode().IsRegular() {
		return Probe{}, fmt.Errorf("%s: not a regular file", path)
	}
	if limit := limits.withDefaults().MaxBytes; st.Size() > limit {
		return Probe{}, fmt.Errorf("%s: %w: file of %d bytes, the limit is %d", path, ErrTooLarge, st.Size(), limit)
	}
	err = viewFile(f, st.Size(), func(data []byte) error {
		p, err = probeBytes(data, limits)
		return err
	})
	if err != nil {
		return Probe{}, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// codecSlack covers a codec's tables and buffers that do not grow with the picture.
const codecSlack = 2 << 20

// decodeWork bounds what a decoder holds beside the file and the pixels.
func decodeWork(data []byte, c Config) int64 {
	pixels := satMul(int64(c.W), int64(c.H))
	native := int64(4) // bytes a pixel of the library's image
	if c.Depth == 16 {
		native = 8
	}
	if c.Channels == 1 {
		native = int64(c.Depth / 8)
	}
	switch c.Format {
	case PNG:
		if interlaced := len(data) > 28 && data[28] != 0; interlaced {
			native *= 2 // the last passes are half and a quarter of it
		}
	case JPEG:
		// Planes of whole blocks; all coefficients, four bytes each, where there are several scans.
		samples := min(max(int64(c.Channels), 1), 4)
		if cmykJPEG(data) {
			samples = 4
		}
		native = samples
		if progressiveJPEG(data) {
			native *= 5
		}
		pixels = satMul(int64(c.W+32), int64(c.H+32))
	case WebP:
		native = 16 // argb of the transforms, their tables, the image
	case TIFF:
		native *= 2 // a strip may be the whole picture
		if _, p, l, err := readTIFF(data, 0); err == nil && !l.usual {
			// libtiff's copies of the file and of a strip, which may be the whole picture, and the samples as numbers.
			native = satMul(int64(min(max(l.samples, 4), 32)), int64(3*max(l.bits, 8)/8)) + 4
			return satAdd(satMul(pixels, native), satAdd(codecs.TIFFMemory(len(data), 0)+decoderWindow(data, p.dir), codecSlack))
		}
	case GIF:
		native = 8 + mostWidened // two canvases, and a frame
	}
	return satAdd(satMul(pixels, native), codecSlack)
}

// EncodeWork bounds what writing a picture of this shape as f holds beside its pixels, in bytes.
func (c Config) EncodeWork(f Format) int64 {
	pixels := satMul(int64(c.W), int64(c.H))
	each := int64(4)
	switch f {
	case PNG:
		switch {
		case c.Depth == 8 && c.Channels <= 2:
			each = 1
		case c.Depth == 16:
			each = 16
		}
	case JPEG, BMP:
		if c.Channels <= 2 {
			each = 1
		}
		if f == JPEG { // rows of blocks at work, in buffers that double
			return satAdd(satMul(pixels, each), codecSlack+satMul(int64(c.W), 16*3*4*3*4*int64(runtime.GOMAXPROCS(0))))
		}
	case WebP:
		each = 90 // the encoder's dictionaries, its result, and the check of it
	case TIFF:
		each = 3 * int64(c.Channels*c.Depth/8) // compressed strips, which may not compress, in buffers that double
	}
	return satAdd(satMul(pixels, each), codecSlack)
}

// progressiveJPEG tells whether the frame header is that of a progressive picture, or lossless coding's, or is missing.
func progressiveJPEG(data []byte) bool {
	progressive := true
	jpegSegments(data, func(marker byte, _ []byte) {
		if marker == 0xc0 || marker == 0xc1 {
			progressive = false
		}
	})
	return progressive
}

// cmykJPEG tells whether the frame has four components.
func cmykJPEG(data []byte) bool {
	four := false
	jpegSegments(data, func(marker byte, p []byte) {
		if marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc && len(p) > 5 {
			four = p[5] == 4
		}
	})
	return four
}

// satAdd and satMul stay at the largest number instead of overflowing. Neither takes negative numbers.
func satAdd(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func satMul(a, b int64) int64 {
	if b != 0 && a > math.MaxInt64/b {
		return math.MaxInt64
	}
	return a * b
}

// readWhole is viewFile where files cannot be mapped.
func readWhole(f *os.File, size int64, view func([]byte) error) error {
	var b bytes.Buffer
	b.Grow(int(size))
	if _, err := b.ReadFrom(f); err != nil {
		return fmt.Errorf("read image: %w", err)
	}
	return view(b.Bytes())
}
