package imaging

import (
	"bytes"
	"errors"
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

	tiffCMYK      = 5
	tiffYCbCr     = 6
	tiffCIELab    = 8
	tiffICCLab    = 9
	tiffLogL      = 32844
	tiffLogLuv    = 32845
	tiffCFA       = 32803
	tiffLinearRaw = 34892

	formatUnsigned = 1
	formatSigned   = 2
	formatFloat    = 3

	compressionCCITT = 2 // to 4: fax coding of bilevel pictures
	compressionG4    = 4
	tiffJPEG         = 7

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
	compression, format uint32
	icc                 []byte
	usual               bool // a layout that golang.org/x/image/tiff and this file decode; others are libtiff's
}

func (t *tiffStream) layout(d *directory) (tiffLayout, error) {
	var l tiffLayout
	bits := t.uints(d, tagBitsPerSample)
	if len(bits) == 0 {
		bits = []uint32{1}
	}
	samples := int(t.firstUint(d, tagSamplesPerPixel, uint32(len(bits))))
	mixed := slices.ContainsFunc(bits, func(b uint32) bool { return b != bits[0] }) // libtiff takes the first for all
	l = tiffLayout{
		w:           int(t.firstUint(d, tagImageWidth, 0)),
		h:           int(t.firstUint(d, tagImageLength, 0)),
		bits:        int(bits[0]),
		samples:     samples,
		photometric: t.firstUint(d, tagPhotometric, whiteIsZero),
		extra:       t.firstUint(d, tagExtraSamples, extraUnspecified),
		planar:      samples > 1 && t.firstUint(d, tagPlanarConfig, 1) == planarSeparate,
		compression: t.firstUint(d, tagCompression, compressionNone),
		format:      t.firstUint(d, tagSampleFormat, formatUnsigned),
	}
	if e, ok := d.find(tagICC); ok && len(e.value) <= maxICC {
		l.icc = validICC(e.value)
	}
	l.usual = !t.big && l.photometric <= tiffPalette && l.format == formatUnsigned && samples == len(bits) && !mixed &&
		(l.bits == 1 || l.bits == 8 || l.bits == 16 || l.bits == 4 && l.photometric == tiffPalette) &&
		samples <= l.colours()+1 &&
		slices.Contains([]uint32{compressionNone, compressionCCITT, compressionCCITT + 1, compressionG4, 5, compressionDeflate,
			32773, 32946}, l.compression) &&
		t.firstUint(d, tagFillOrder, 1) == 1 && t.firstUint(d, tagT4Options, 0) == 0
	return l, nil
}

// tiffPage is a picture of a file: where its directory is.
type tiffPage struct {
	off uint32
	dir *directory
}

// tiffPages tells pictures from previews, masks and raw sensor data: the directories in a row that are no reduced copies,
// or, where the first is one, those below it that are none.
func tiffPages(t *tiffStream) ([]tiffPage, error) {
	const most = 10000
	var row, below []tiffPage
	seen := map[uint32]bool{}
	var firstErr error
	for off := t.first; off != 0 && !seen[off] && len(row) < most; {
		seen[off] = true
		d, err := t.dir(off)
		if err != nil {
			firstErr = err
			break
		}
		row = append(row, tiffPage{off, d})
		for _, sub := range t.uints(d, tagSubIFDs) {
			if sd, err := t.dir(sub); err == nil && !seen[sub] && len(below) < most {
				seen[sub] = true
				below = append(below, tiffPage{sub, sd})
			}
		}
		off = t.next(d)
	}
	if len(row) == 0 {
		return nil, firstErr
	}
	_, dng := row[0].dir.find(tagDNGVersion)
	for _, p := range append(row[:len(row):len(row)], below...) {
		if v := t.firstUint(p.dir, tagPhotometric, 0); dng || v == tiffCFA || v == tiffLinearRaw {
			return nil, &foreignError{cameraRaw, rawWay}
		}
	}
	if len(t.data) > 10 && string(t.data[8:10]) == "CR" {
		return nil, &foreignError{cameraRaw, rawWay}
	}
	const reduced, mask = 1, 4
	picture := func(p tiffPage) bool { return t.firstUint(p.dir, tagNewSubfileType, 0)&(reduced|mask) == 0 }
	pictures := func(list []tiffPage) []tiffPage {
		return slices.DeleteFunc(slices.Clone(list), func(p tiffPage) bool { return !picture(p) })
	}
	if found := pictures(below); !picture(row[0]) && len(found) > 0 {
		return found, nil
	}
	if found := pictures(row); len(found) > 0 {
		return found, nil
	}
	return row[:1], nil
}

// colours is the number of colour samples a pixel.
func (l tiffLayout) colours() int {
	switch l.photometric {
	case whiteIsZero, blackIsZero, tiffPalette, tiffLogL:
		return 1
	case tiffCMYK:
		return 4
	}
	return 3
}

func (l tiffLayout) hasAlpha() bool {
	return l.samples > l.colours() && (l.extra == extraAssociated || l.extra == extraUnrelated) && l.photometric != tiffCMYK &&
		l.photometric != tiffPalette
}

// channels is what the image will have.
func (l tiffLayout) channels() int {
	n := 3
	if l.photometric <= blackIsZero {
		n = 1
	}
	if l.hasAlpha() {
		n++
	}
	return n
}

// depth is what the image will have.
func (l tiffLayout) depth() int {
	if l.bits <= 8 || slices.Contains([]uint32{tiffPalette, tiffCMYK, tiffYCbCr, tiffLogL, tiffLogLuv}, l.photometric) {
		return 8
	}
	return 16
}

// readTIFF finds the pages of a file and the layout of one.
func readTIFF(data []byte, page int) (t *tiffStream, p tiffPage, l tiffLayout, err error) {
	if t, err = openTIFF(data); err != nil {
		return nil, p, l, err
	}
	pages, err := tiffPages(t)
	if err != nil {
		return nil, p, l, err
	}
	if page >= len(pages) {
		return nil, p, l, fmt.Errorf("page %d of %d", page+1, len(pages))
	}
	l, err = t.layout(pages[page].dir)
	return t, pages[page], l, err
}

func configTIFF(data []byte) (Config, error) { return configTIFFPage(data, 0) }

func configTIFFPage(data []byte, page int) (Config, error) {
	_, _, l, err := readTIFF(data, page)
	if err != nil {
		return Config{}, err
	}
	return Config{W: l.w, H: l.h, Channels: l.channels(), Depth: l.depth()}, nil
}

func decodeTIFF(data []byte, cfg Config) (*Image, error) { return decodeTIFFPage(data, cfg, 0) }

func decodeTIFFPage(data []byte, cfg Config, page int) (*Image, error) {
	t, p, l, err := readTIFF(data, page)
	if err != nil {
		return nil, err
	}
	var img *Image
	if err = errors.New("unusual layout"); l.usual {
		img, err = func() (img *Image, err error) {
			defer guard(&err, TIFF)
			return decodeUsualTIFF(t.startingAt(p.off), p.dir, l, cfg)
		}()
	}
	if err != nil {
		if img, err = decodeTIFFByLibrary(data, p, l, cfg); err != nil {
			return nil, err
		}
	}
	readTIFFMetadata(t, p.dir, &img.Meta)
	if l.photometric == tiffCMYK {
		img.Meta.wasCMYK()
	}
	return img, nil
}

// startingAt is the stream with another first directory.
func (t *tiffStream) startingAt(off uint32) *tiffStream {
	if off == t.first {
		return t
	}
	b := bytes.Clone(t.data)
	t.order.PutUint32(b[4:], off)
	return &tiffStream{data: b, order: t.order, first: off}
}

func decodeUsualTIFF(t *tiffStream, d *directory, l tiffLayout, cfg Config) (img *Image, err error) {
	data := t.data
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
	if img.Bilevel && l.photometric == blackIsZero && l.compression >= compressionCCITT && l.compression <= compressionG4 {
		// Fax coding calls 0 white, so "black is zero" turns the page into its negative (TIFF 6.0, section 11), which the
		// library does not know.
		for i, v := range img.Pix {
			img.Pix[i] = ^v
		}
	}
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
		return img.firstChannels(colours)
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
	readTIFFTexts(t, d, m)
	if photo := photoDirectory(t, d); len(photo.entries) > 0 || len(photo.subs) > 0 {
		m.EXIF = slices.Clip(buildTIFF(t.order, photo))
	}
}
