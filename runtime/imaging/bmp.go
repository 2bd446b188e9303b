package imaging

import (
	"bytes"
	"image"
	"image/color"
	"io"

	"golang.org/x/image/bmp"
)

func configBMP(data []byte) (Config, error) {
	bc, err := bmp.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return Config{}, err
	}
	cfg := Config{W: bc.Width, H: bc.Height, Channels: 3, Depth: 8}
	if p, ok := bc.ColorModel.(color.Palette); ok && greyRamp(p) {
		cfg.Channels = 1
	}
	return cfg, nil
}

// greyRamp reports whether a palette is black and white, or entry i is grey level i: then the file is a grey image in
// the only way BMP has for one.
func greyRamp(p color.Palette) bool {
	step := 1
	if len(p) == 2 {
		step = 255
	}
	for i, c := range p {
		v := uint8(i * step)
		if c != (color.RGBA{v, v, v, 255}) {
			return false
		}
	}
	return true
}

func decodeBMP(data []byte, cfg Config) (*Image, error) {
	src, err := bmp.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	switch s := src.(type) {
	case *image.Paletted:
		if cfg.Channels == 3 {
			return pack(s, 3, 8)
		}
		grey := newLike(cfg.W, cfg.H, 1, 8)
		grey.Bilevel = len(s.Palette) == 2
		for i, p := range s.Pix {
			grey.Pix[i] = p
			if grey.Bilevel {
				grey.Pix[i] = p * 255
			}
		}
		return grey, nil
	case *image.NRGBA:
		// Many writers of 32-bit BMP leave the fourth byte zero: alpha that is the same everywhere is no alpha.
		if alphaVaries(s.Pix) {
			return pack(s, 4, 8)
		}
	}
	return pack(src, 3, 8)
}

func alphaVaries(rgba []uint8) bool {
	for i := 7; i < len(rgba); i += 4 {
		if rgba[i] != rgba[3] {
			return true
		}
	}
	return len(rgba) > 3 && rgba[3] != 0 && rgba[3] != 255
}

func encodeBMP(w io.Writer, img *Image, _ EncodeOptions) error {
	if img.Grey() {
		return bmp.Encode(w, greyOf(img))
	}
	return bmp.Encode(w, flattenedRGBA(img))
}
