package imaging

import (
	"fmt"
	"image"
)

// EstimatorView says what the degradation estimator looks at: Size×Size pixels of an image.
//
// Without Fragments that is the image with its shortest side resized to Size (the longer one to Size·long/short,
// truncated) and the middle of it. With Fragments it is a mosaic of Fragments×Fragments tiles at full resolution, one
// from the middle of each cell of a grid over the image (grid mini-patch sampling, FAST-VQA, arXiv 2207.02595): resizing
// takes away noise, blur and compression, tiles keep them. Tiles start at multiples of 8 pixels, on the grid of JPEG, and
// an image whose shortest side is less than Size is enlarged to it first.
type EstimatorView struct {
	Size, Fragments int
}

// Check reports what is wrong with the view.
func (v EstimatorView) Check() error {
	const maxSize = 1 << 14
	if v.Size <= 0 || v.Size > maxSize {
		return fmt.Errorf("imaging: estimator size %d is not in 1 to %d", v.Size, maxSize)
	}
	if v.Fragments < 0 || v.Fragments > 0 && v.Size%v.Fragments != 0 {
		return fmt.Errorf("imaging: an estimator view of %d pixels does not split into %d fragments", v.Size, v.Fragments)
	}
	return nil
}

// estimatorImage returns the view of an image that the degradation estimator gets, RGB at 8 bits. Without fragments it
// is the transform of open_clip (torchvision Resize, CenterCrop, then convert to RGB, on a Pillow image) bit for bit; see
// [Image.Resize] for 16-bit images. Conversion to RGB comes last: grey is repeated, alpha dropped. (CMYK files are RGB
// already when they get here; Pillow converts them after resizing, which rounds differently. JPEG pixels are those of
// the standard library's decoder, within three steps of libjpeg's.)
//
// Pass the image as stored, not [Image.Oriented]: upstream's estimator does not apply the EXIF orientation. Only what is
// in the view is computed, so that extreme shapes cost no more than ordinary ones.
func estimatorImage(img *Image, view EstimatorView) (*Image, error) {
	if err := img.Check(); err != nil {
		return nil, err
	}
	if err := view.Check(); err != nil {
		return nil, err
	}
	size := view.Size
	w, h := img.W, img.H
	if view.Fragments == 0 || min(w, h) < size {
		var err error
		if w, h, err = shortestSideTo(w, h, size); err != nil {
			return nil, err
		}
	}
	out := newLike(size, size, 3, 8)
	out.Meta = img.Meta.clone()
	if view.Fragments == 0 {
		out.place(img.resizePart(w, h, centreRect(w, h, size, size)).inSRGB(img), 0, 0)
		return out, nil
	}
	tile := size / view.Fragments
	for row := range view.Fragments {
		for column := range view.Fragments {
			x, y := fragment(w, view.Fragments, column, tile), fragment(h, view.Fragments, row, tile)
			out.place(img.resizePart(w, h, image.Rect(x, y, x+tile, y+tile)).inSRGB(img), column*tile, row*tile)
		}
	}
	return out, nil
}

// inSRGB converts a part of an image as the colours of the image ask for.
func (img *Image) inSRGB(of *Image) *Image {
	if of.colour != nil {
		img.eachPixel(of.colour.toSRGB)
	}
	return img
}

// fragment is where the tile of cell i of a side of length pixels starts.
func fragment(length, cells, i, tile int) int {
	const block = 8 // JPEG's
	low, high := i*length/cells, (i+1)*length/cells
	start := low + (high-low-tile)/2
	return start - start%block
}

// place writes the colour of 8-bit part, in any number of channels, to the RGB image at (x, y).
func (img *Image) place(part *Image, x, y int) {
	n := part.Channels
	for row := range part.H {
		dst := img.Pix[3*((y+row)*img.W+x):][:3*part.W]
		src := part.Pix[row*part.W*n:][:part.W*n]
		for i := range part.W {
			if p := src[i*n:]; n <= 2 {
				dst[3*i], dst[3*i+1], dst[3*i+2] = p[0], p[0], p[0]
			} else {
				copy(dst[3*i:3*i+3], p)
			}
		}
	}
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

// EstimatorInput returns the estimator's input tensor for an image, float32 [Size, Size, 3] (height, width, channel):
// [estimatorImage] scaled to 0..1 and normalised, (v/255 - mean)/std per channel in single precision as torchvision
// computes it.
func EstimatorInput(img *Image, view EstimatorView, mean, std [3]float32) ([]float32, error) {
	for c, s := range std {
		if !(s > 0) {
			return nil, fmt.Errorf("imaging: standard deviation %g of channel %d is not positive", s, c)
		}
	}
	small, err := estimatorImage(img, view)
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
