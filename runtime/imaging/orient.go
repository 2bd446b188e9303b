package imaging

import "encoding/binary"

// Oriented returns the image as it should be looked at: pixels turned and mirrored as the EXIF orientation says, and
// orientation 1. An image that is upright already is returned itself.
func (img *Image) Oriented() *Image {
	o := img.Meta.Orientation
	if o < 2 || o > 8 {
		return img
	}
	w, h := img.W, img.H
	if o >= 5 {
		w, h = h, w
	}
	out := newLike(w, h, img.Channels, img.Depth)
	out.Palette, out.Bilevel, out.ColorKey, out.colour = img.Palette, img.Bilevel, img.ColorKey, img.colour
	out.Meta = img.Meta.clone()
	out.Meta.Orientation = 1
	if o >= 5 {
		out.Meta.DensityX, out.Meta.DensityY = img.Meta.DensityY, img.Meta.DensityX
	}
	// Where output pixel (x, y) comes from is linear: x0 + x·(dx) + y·(dy) in pixels of the source.
	base, dx, dy := orientationSteps(o, img.W, img.H)
	if img.Depth == 8 {
		gather(out.Pix, img.Pix, w, h, img.Channels, base, dx, dy)
	} else {
		gather(out.Pix16, img.Pix16, w, h, img.Channels, base, dx, dy)
	}
	return out
}

// orientationSteps gives, for a stored image of w×h pixels, the stored pixel that comes to the top left and the steps in
// the stored image for one pixel right and one pixel down (EXIF 2.32, tag 0x0112).
func orientationSteps(o, w, h int) (base, dx, dy int) {
	right, bottom := w-1, (h-1)*w
	switch o {
	case 2: // mirrored
		return right, -1, w
	case 3: // upside down
		return right + bottom, -1, -w
	case 4: // mirrored and upside down
		return bottom, 1, -w
	case 5: // transposed
		return 0, w, 1
	case 6: // stored lying on its left side
		return bottom, -w, 1
	case 7: // transposed about the other diagonal
		return right + bottom, -w, -1
	case 8: // stored lying on its right side
		return right, w, -1
	}
	return 0, 1, w
}

func gather[T uint8 | uint16](dst, src []T, w, h, channels, base, dx, dy int) {
	parallelRows(h, func(y0, y1 int) {
		i := y0 * w * channels
		for y := y0; y < y1; y++ {
			p := (base + y*dy) * channels
			for range w {
				copy(dst[i:i+channels], src[p:p+channels])
				i += channels
				p += dx * channels
			}
		}
	})
}

// exifOrientation returns the orientation tag of an EXIF stream, or 1 if there is none or it is out of range.
func exifOrientation(exif []byte) int {
	t, err := openTIFF(exif)
	if err != nil {
		return 1
	}
	d, err := t.dir(t.first)
	if err != nil {
		return 1
	}
	e, ok := d.find(tagOrientation)
	if !ok {
		return 1
	}
	v, ok := t.uint(e, 0)
	if !ok || v < 1 || v > 8 {
		return 1
	}
	return int(v)
}

// exifForOutput returns the EXIF stream to write with an image of w×h pixels: orientation and pixel size are those of
// the pixels written, and the thumbnail directory is unlinked. Without EXIF, a stream that holds just the orientation is
// made if that is not 1. A stream too damaged to edit gives nil.
func exifForOutput(m Metadata, w, h int) []byte {
	o := max(m.Orientation, 1)
	if m.EXIF == nil {
		if o == 1 {
			return nil
		}
		return buildTIFF(binary.LittleEndian, &directory{entries: []entry{shortEntry(binary.LittleEndian, tagOrientation, o)}})
	}
	out := append([]byte(nil), m.EXIF...)
	t, err := openTIFF(out)
	if err != nil {
		return nil
	}
	d, err := t.dir(t.first)
	if err != nil {
		return nil
	}
	if e, ok := d.find(tagOrientation); ok && t.setUint(e, uint32(o)) {
		// edited in place: nothing else moves, and maker notes with absolute offsets stay readable
	} else if o != 1 || ok {
		return rewriteEXIF(m.EXIF, o)
	}
	if d.nextAt != 0 {
		t.order.PutUint32(out[d.nextAt:], 0)
	}
	if sub, ok := t.subdir(d, tagExifIFD); ok {
		for tag, v := range map[uint16]int{tagPixelXDimension: w, tagPixelYDimension: h} {
			if e, ok := sub.find(tag); ok {
				t.setUint(e, uint32(v))
			}
		}
	}
	return out
}
