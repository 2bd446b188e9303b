package imaging

import (
	"bytes"
	"fmt"
	"image"
	"slices"

	"golang.org/x/image/tiff"
)

// TIFF photometric interpretations and other values.
const (
	whiteIsZero = 0
	blackIsZero = 1
	tiffRGB     = 2
	tiffPalette = 3

	compressionCCITT = 2 // to 4: fax coding of bilevel pictures
	compressionG4    = 4

	planarSeparate      = 2
	predictorHorizontal = 2

	extraUnspecified = 0
	extraAssociated  = 1
	extraUnrelated   = 2 // straight alpha
)

// tiffLayout is how the first picture of a file stores its samples.
type tiffLayout struct {
	w, h, bits, samples int
	photometric         uint32
	extra               uint32 // meaning of the sample after the colours
	planar              bool
}

func readTIFFLayout(data []byte) (*tiffStream, *directory, tiffLayout, error) {
	var l tiffLayout
	t, err := openTIFF(data)
	if err != nil {
		return nil, nil, l, err
	}
	d, err := t.dir(t.first)
	if err != nil {
		return nil, nil, l, err
	}
	bits := t.uints(d, tagBitsPerSample)
	if len(bits) == 0 {
		bits = []uint32{1}
	}
	for _, b := range bits {
		if b != bits[0] {
			return nil, nil, l, fmt.Errorf("samples of %d and %d bits in one picture", bits[0], b)
		}
	}
	l = tiffLayout{
		w:           int(t.firstUint(d, tagImageWidth, 0)),
		h:           int(t.firstUint(d, tagImageLength, 0)),
		bits:        int(bits[0]),
		samples:     len(bits),
		photometric: t.firstUint(d, tagPhotometric, whiteIsZero),
		extra:       t.firstUint(d, tagExtraSamples, extraUnspecified),
		planar:      len(bits) > 1 && t.firstUint(d, tagPlanarConfig, 1) == planarSeparate,
	}
	return t, d, l, nil
}

// colours is the number of colour samples a pixel.
func (l tiffLayout) colours() int {
	if l.photometric == tiffRGB {
		return 3
	}
	return 1
}

func (l tiffLayout) hasAlpha() bool {
	return l.samples == l.colours()+1 && (l.extra == extraAssociated || l.extra == extraUnrelated)
}

func (l tiffLayout) channels() int {
	if l.photometric == tiffPalette {
		return 3
	}
	if l.hasAlpha() {
		return l.colours() + 1
	}
	return l.colours()
}

func configTIFF(data []byte) (Config, error) {
	_, _, l, err := readTIFFLayout(data)
	if err != nil {
		return Config{}, err
	}
	cfg := Config{W: l.w, H: l.h, Channels: l.channels(), Depth: 8}
	if l.bits == 16 {
		cfg.Depth = 16
	}
	return cfg, nil
}

func decodeTIFF(data []byte, cfg Config) (*Image, error) {
	t, d, l, err := readTIFFLayout(data)
	if err != nil {
		return nil, err
	}
	var img *Image
	switch {
	case l.planar:
		img, err = decodePlanarTIFF(t, d, l)
	case l.samples == 2 && l.photometric <= blackIsZero:
		img, err = decodeGreyAlphaTIFF(t, d, l)
	default:
		if l.photometric == tiffRGB && l.samples == 4 && !l.hasAlpha() {
			// A fourth sample of unknown meaning is decoded as if it were alpha, and dropped by pack.
			data = t.retagged(d, map[uint16][]uint32{tagExtraSamples: {extraUnrelated}})
		}
		var src image.Image
		if src, err = decodeTIFFStream(data, l.w, l.h); err == nil {
			img, err = pack(src, cfg.Channels, cfg.Depth)
		}
	}
	if err != nil {
		return nil, err
	}
	img.Bilevel = l.bits == 1 && l.photometric <= blackIsZero
	if c := t.firstUint(d, tagCompression, compressionNone); img.Bilevel && l.photometric == blackIsZero &&
		c >= compressionCCITT && c <= compressionG4 {
		// Fax coding calls 0 white, so "black is zero" turns the page into its negative (TIFF 6.0, section 11), which the
		// library does not know.
		for i, v := range img.Pix {
			img.Pix[i] = ^v
		}
	}
	readTIFFMetadata(t, d, &img.Meta)
	return img, nil
}

// decodeTIFFStream decodes after making sure that the library sees the size that was checked.
func decodeTIFFStream(data []byte, w, h int) (image.Image, error) {
	cfg, err := tiff.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if cfg.Width != w || cfg.Height != h {
		return nil, fmt.Errorf("contradictory sizes %d×%d and %d×%d", w, h, cfg.Width, cfg.Height)
	}
	return tiff.Decode(bytes.NewReader(data))
}

// retagged returns a copy of the file whose first directory is d with some tags given other values, or dropped where
// the value is nil. It is how layouts the library does not know are brought to ones it does.
func (t *tiffStream) retagged(d *directory, change map[uint16][]uint32) []byte {
	nd := &directory{}
	for _, e := range d.entries {
		if _, changed := change[e.tag]; !changed {
			nd.entries = append(nd.entries, e)
		}
	}
	for tag, values := range change {
		if values == nil {
			continue
		}
		nd.entries = append(nd.entries, t.longEntry(tag, values...))
	}
	b := bytes.Clone(t.data)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	t.order.PutUint32(b[4:], uint32(len(b)))
	return appendDirectory(b, t.order, nd)
}

func (t *tiffStream) longEntry(tag uint16, values ...uint32) entry {
	e := entry{tag: tag, kind: typeLong, count: uint32(len(values))}
	for _, v := range values {
		e.value = t.order.AppendUint32(e.value, v)
	}
	return e
}

// decodeGreyAlphaTIFF decodes grey with alpha as a grey picture twice as wide, which has the same bytes. The
// difference predictor, which reaches back by one pixel, is undone here instead.
func decodeGreyAlphaTIFF(t *tiffStream, d *directory, l tiffLayout) (*Image, error) {
	if l.bits != 8 && l.bits != 16 {
		return nil, fmt.Errorf("grey with alpha of %d bits is not supported", l.bits)
	}
	change := map[uint16][]uint32{
		tagImageWidth:      {uint32(2 * l.w)},
		tagBitsPerSample:   {uint32(l.bits)},
		tagSamplesPerPixel: {1},
		tagPhotometric:     {blackIsZero},
		tagExtraSamples:    nil,
		tagPredictor:       nil,
	}
	span := l.w
	if tw := t.firstUint(d, tagTileWidth, 0); tw != 0 {
		if int64(tw) > int64(1)<<24 {
			return nil, fmt.Errorf("tiles %d pixels wide", tw)
		}
		span = int(tw)
		change[tagTileWidth] = []uint32{2 * tw}
	}
	src, err := decodeTIFFStream(t.retagged(d, change), 2*l.w, l.h)
	if err != nil {
		return nil, err
	}
	wide, err := pack(src, 1, l.bits)
	if err != nil {
		return nil, err
	}
	wide.W, wide.Channels = l.w, 2
	if t.firstUint(d, tagPredictor, 1) == predictorHorizontal {
		undoPredictor(wide, span)
	}
	return l.finish(wide), nil
}

// undoPredictor turns differences to the pixel on the left into samples; rows are differenced in spans of a tile.
func undoPredictor(img *Image, span int) {
	n := img.Channels
	for y := range img.H {
		for x := range img.W {
			if x%span == 0 {
				continue
			}
			p := (y*img.W + x) * n
			for i := p; i < p+n; i++ {
				if img.Depth == 8 {
					img.Pix[i] += img.Pix[i-n]
				} else {
					img.Pix16[i] += img.Pix16[i-n]
				}
			}
		}
	}
}

// decodePlanarTIFF decodes samples stored in separate planes, each as a grey picture.
func decodePlanarTIFF(t *tiffStream, d *directory, l tiffLayout) (*Image, error) {
	if (l.bits != 8 && l.bits != 16) || (l.photometric != tiffRGB && l.photometric > blackIsZero) ||
		l.samples < l.colours() || l.samples > l.colours()+1 {
		return nil, fmt.Errorf("%d separate planes of %d bits with photometric interpretation %d are not supported",
			l.samples, l.bits, l.photometric)
	}
	offsetTag, countTag := uint16(tagStripOffsets), uint16(tagStripByteCounts)
	if _, tiled := d.find(tagTileWidth); tiled {
		offsetTag, countTag = tagTileOffsets, tagTileByteCounts
	}
	offsets, counts := t.uints(d, offsetTag), t.uints(d, countTag)
	n := len(offsets) / l.samples
	if n == 0 || len(offsets) != len(counts) || len(offsets) != n*l.samples {
		return nil, fmt.Errorf("%d strips for %d planes", len(offsets), l.samples)
	}
	img, err := New(l.w, l.h, l.samples, l.bits)
	if err != nil {
		return nil, err
	}
	for k := range l.samples {
		src, err := decodeTIFFStream(t.retagged(d, map[uint16][]uint32{
			tagBitsPerSample:   {uint32(l.bits)},
			tagSamplesPerPixel: {1},
			tagPhotometric:     {blackIsZero},
			tagExtraSamples:    nil,
			tagPlanarConfig:    nil,
			offsetTag:          offsets[k*n : (k+1)*n],
			countTag:           counts[k*n : (k+1)*n],
		}), l.w, l.h)
		if err != nil {
			return nil, fmt.Errorf("plane %d: %w", k, err)
		}
		plane, err := pack(src, 1, l.bits)
		if err != nil {
			return nil, fmt.Errorf("plane %d: %w", k, err)
		}
		for i, v := range plane.Pix {
			img.Pix[i*l.samples+k] = v
		}
		for i, v := range plane.Pix16 {
			img.Pix16[i*l.samples+k] = v
		}
	}
	return l.finish(img), nil
}

// finish brings samples as stored to the convention of Image: black is zero, alpha is straight, and a last sample of
// unknown meaning is dropped.
func (l tiffLayout) finish(img *Image) *Image {
	n, colours := img.Channels, l.colours()
	if l.photometric == whiteIsZero {
		for i := range img.W * img.H {
			if img.Depth == 8 {
				img.Pix[i*n] = ^img.Pix[i*n]
			} else {
				img.Pix16[i*n] = ^img.Pix16[i*n]
			}
		}
	}
	if n > colours && !l.hasAlpha() {
		out := newLike(img.W, img.H, colours, img.Depth)
		for i := range img.W * img.H {
			if img.Depth == 8 {
				copy(out.Pix[i*colours:(i+1)*colours], img.Pix[i*n:])
			} else {
				copy(out.Pix16[i*colours:(i+1)*colours], img.Pix16[i*n:])
			}
		}
		return out
	}
	if n > colours && l.extra == extraAssociated {
		if img.Depth == 8 {
			unpremultiply8(img)
		} else {
			unpremultiply16(img)
		}
	}
	return img
}

func readTIFFMetadata(t *tiffStream, d *directory, m *Metadata) {
	if e, ok := d.find(tagICC); ok && len(e.value) <= maxICC {
		m.ICC = validICC(e.value)
	}
	if o := t.firstUint(d, tagOrientation, 1); o >= 1 && o <= 8 {
		m.Orientation = int(o)
	}
	if unit := map[uint32]float64{2: 1, 3: 2.54}[t.firstUint(d, tagResolutionUnit, 2)]; unit != 0 {
		m.DensityX = t.rational(d, tagXResolution) * unit
		m.DensityY = t.rational(d, tagYResolution) * unit
	}
	if photo := photoDirectory(t); len(photo.entries) > 0 || len(photo.subs) > 0 {
		m.EXIF = slices.Clip(buildTIFF(t.order, photo))
	}
}
