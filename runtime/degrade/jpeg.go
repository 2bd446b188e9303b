package degrade

import (
	"bytes"
	"context"
	"fmt"
	"image/jpeg"
	"math"
)

// jpegBlock is the side of the blocks that JPEG codes together where colour is subsampled.
const jpegBlock = 16

func jpegInfo() kindInfo {
	return kindInfo{
		name:    "jpeg",
		aliases: []string{"jpg", "compression"},
		title:   "JPEG compression",
		formula: "encode and decode by baseline JPEG with 4:2:0 colour; the quality scales the quantisation tables",
		source:  "ITU-T T.81 (1992), tables of annex K scaled by quality as in the Independent JPEG Group's library",
		stage:   stageFile,
		params: []paramDef{{
			name: "q", meaning: "quality", min: 1, max: 100, whole: true,
			curve: "95 (5/95)^s, rounded: 20 at s = 0.53", value: func(s, _ float64) float64 {
				return math.Floor(float64(95*Pow(5.0/95, s)) + 0.5)
			},
		}},
		apply: applyJPEG,
	}
}

func applyJPEG(ctx context.Context, img *Image, p params, _ uint64) error {
	if img.W > 65535 || img.H > 65535 {
		return fmt.Errorf("JPEG files hold at most 65535×65535 pixels, the image has %d×%d", img.W, img.H)
	}
	var file bytes.Buffer
	if err := jpeg.Encode(&file, img.ToNRGBA(), &jpeg.Options{Quality: int(p.get("q"))}); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	decoded, err := jpeg.Decode(&file)
	if err != nil {
		return err
	}
	converted, err := FromImage(decoded)
	if err != nil {
		return err
	}
	copy(img.Pix, converted.Pix)
	return nil
}
