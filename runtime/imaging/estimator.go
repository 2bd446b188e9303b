package imaging

import "fmt"

// EstimatorImage returns what the degradation estimator looks at: the image with its shortest side resized to size
// (the longer one to size·long/short, truncated), the middle size×size of that, and then RGB at 8 bits. It is the
// transform of open_clip (torchvision Resize, CenterCrop, then convert to RGB, on a Pillow image) bit for bit; see
// [Image.Resize] for 16-bit images. Conversion to RGB comes last: grey is repeated, alpha dropped. (CMYK files are RGB
// already when they get here; Pillow converts them after resizing, which rounds differently. JPEG pixels are those of
// the standard library's decoder, within three steps of libjpeg's.)
//
// Pass the image as stored, not [Image.Oriented]: upstream's estimator does not apply the EXIF orientation. Only the
// middle is computed, so that extreme shapes cost no more than ordinary ones.
func EstimatorImage(img *Image, size int) (*Image, error) {
	const maxSize = 1 << 14
	if err := img.Check(); err != nil {
		return nil, err
	}
	if size <= 0 || size > maxSize {
		return nil, fmt.Errorf("imaging: estimator size %d is not in 1 to %d", size, maxSize)
	}
	w, h, err := shortestSideTo(img.W, img.H, size)
	if err != nil {
		return nil, err
	}
	part := img.resizePart(w, h, centreRect(w, h, size, size))
	out := newLike(size, size, 3, 8)
	out.Meta = part.Meta
	n := part.Channels
	for i := range size * size {
		p := part.Pix[i*n:]
		if n <= 2 {
			out.Pix[3*i], out.Pix[3*i+1], out.Pix[3*i+2] = p[0], p[0], p[0]
		} else {
			copy(out.Pix[3*i:3*i+3], p)
		}
	}
	return out, nil
}

func shortestSideTo(w, h, size int) (int, int, error) {
	const maxSide = 1 << 31
	short, long := min(w, h), max(w, h)
	if int64(long) >= maxSide/int64(size) {
		return 0, 0, fmt.Errorf("imaging: a side of %d pixels is too long to resize", long)
	}
	resized := int(int64(size) * int64(long) / int64(short))
	if w <= h {
		return size, resized, nil
	}
	return resized, size, nil
}

// EstimatorInput returns the estimator's input tensor for an image, float32 [size, size, 3] (height, width, channel):
// [EstimatorImage] scaled to 0..1 and normalised, (v/255 - mean)/std per channel in single precision as torchvision
// computes it.
func EstimatorInput(img *Image, size int, mean, std [3]float32) ([]float32, error) {
	for c, s := range std {
		if !(s > 0) {
			return nil, fmt.Errorf("imaging: standard deviation %g of channel %d is not positive", s, c)
		}
	}
	small, err := EstimatorImage(img, size)
	if err != nil {
		return nil, err
	}
	var table [3][256]float32
	for c := range table {
		for v := range table[c] {
			table[c][v] = (float32(v)/255 - mean[c]) / std[c]
		}
	}
	out := make([]float32, len(small.Pix))
	for i, v := range small.Pix {
		out[i] = table[i%3][v]
	}
	return out, nil
}
