package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"os"

	"unirestorer"
	"unirestorer/runtime/degrade"
)

const photo = "testdata/photos/clean.png"

// crop reads a part of a photo.
func crop(path string, x, y, w, h int) (*degrade.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w; run from the root of the repository", err)
	}
	defer f.Close()
	img, _, err := image.Decode(f)
	if err != nil {
		return nil, err
	}
	full, err := degrade.FromImage(img)
	if err != nil {
		return nil, err
	}
	return full.Crop(x%(max(full.W-w, 0)+1), y%(max(full.H-h, 0)+1), w, h)
}

// spoilt degrades a part of the photo and encodes it.
func spoilt(ctx context.Context, spec string, x, y, w, h int, format string) ([]byte, error) {
	img, err := crop(photo, x, y, w, h)
	if err != nil {
		return nil, err
	}
	if spec != "" {
		s, err := degrade.ParseSpec(spec)
		if err != nil {
			return nil, err
		}
		if img, err = degrade.Apply(ctx, img, s); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	err = unirestorer.Encode(&b, img.ToNRGBA(), format)
	return b.Bytes(), err
}
