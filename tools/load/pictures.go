package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"os"
	"sync"

	"unirestorer"
	"unirestorer/runtime/degrade"
)

// photo is what all pictures are parts of.
var photo = sync.OnceValues(func() (*degrade.Image, error) {
	f, err := os.Open("testdata/photos/clean.png")
	if err != nil {
		return nil, fmt.Errorf("%w; run from the root of the repository", err)
	}
	defer f.Close()
	img, _, err := image.Decode(f)
	if err != nil {
		return nil, err
	}
	return degrade.FromImage(img)
})

// crop is a part of the photo.
func crop(x, y, w, h int) (*degrade.Image, error) {
	full, err := photo()
	if err != nil {
		return nil, err
	}
	return full.Crop(x%(max(full.W-w, 0)+1), y%(max(full.H-h, 0)+1), w, h)
}

// spoilt degrades a part of the photo and encodes it.
func spoilt(ctx context.Context, spec string, x, y, w, h int, format string) ([]byte, error) {
	img, err := crop(x, y, w, h)
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
