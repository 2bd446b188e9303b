package imaging

import (
	"bytes"
	"fmt"
	"strings"
)

const (
	markerCOM   = 0xfe
	markerAPP13 = 0xed

	xmpPrefix    = "http://ns.adobe.com/xap/1.0/\x00"
	xmpExtension = "http://ns.adobe.com/xmp/extension/\x00"
)

// jpegTexts gathers XMP, IPTC and comments from the segments of a JPEG, and names the rest.
type jpegTexts struct {
	photoshop []byte
	extended  bool
}

func (j *jpegTexts) segment(marker byte, p []byte, m *Metadata) {
	switch {
	case marker == markerAPP1 && bytes.HasPrefix(p, []byte(xmpPrefix)):
		if m.XMP == nil {
			xmp, lost := withoutCompanions(bytes.Clone(p[len(xmpPrefix):]))
			m.XMP, m.Dropped = xmp, append(m.Dropped, lost...)
		}
	case marker == markerAPP1 && bytes.HasPrefix(p, []byte(xmpExtension)):
		j.extended = true
	case marker == markerAPP13 && bytes.HasPrefix(p, []byte(photoshopPrefix)):
		j.photoshop = append(j.photoshop, p[len(photoshopPrefix):]...)
	case marker == markerCOM:
		if len(p) > 0 {
			s := strings.TrimRight(string(p), "\x00")
			m.Comments = append(m.Comments, strings.ToValidUTF8(latin1IfNotUTF8(s), "?"))
		}
	case marker == markerAPP2 && bytes.HasPrefix(p, []byte("MPF\x00")):
		m.Dropped = append(m.Dropped, "further pictures (MPF)")
	}
}

func (j *jpegTexts) finish(m *Metadata) {
	m.IPTC = iptcOf8BIM(j.photoshop)
	if j.extended {
		m.Dropped = append(m.Dropped, "extended XMP")
	}
}

func latin1IfNotUTF8(s string) string {
	if strings.ToValidUTF8(s, "") == s {
		return s
	}
	return latin1([]byte(s))
}

// readTIFFTexts reads XMP and IPTC of a TIFF directory.
func readTIFFTexts(t *tiffStream, d *directory, m *Metadata) {
	if e, ok := d.find(tagXMP); ok && len(e.value) > 0 && len(e.value) <= maxText {
		m.XMP = bytes.Clone(e.value)
	}
	if e, ok := d.find(tagIPTC); ok && len(e.value) <= maxText {
		m.IPTC = iptcOf8BIM(t.swapped(e))
	}
	if e, ok := d.find(tagPhotoshop); ok && m.IPTC == nil && len(e.value) <= maxText {
		m.IPTC = iptcOf8BIM(e.value)
	}
	if sub, ok := t.subdir(d, tagExifIFD); ok {
		if _, ok := sub.find(tagMakerNote); ok {
			m.Dropped = append(m.Dropped, "maker notes")
		}
	}
}

// swapped is the bytes of an entry that writers gave as LONG although it is bytes: some programs then swap them.
func (t *tiffStream) swapped(e entry) []byte {
	b := bytes.Clone(e.value)
	if e.kind == typeLong && len(b) >= 4 && b[0] != 0x1c && b[3] == 0x1c {
		for i := 0; i+4 <= len(b); i += 4 {
			b[i], b[i+1], b[i+2], b[i+3] = b[i+3], b[i+2], b[i+1], b[i]
		}
	}
	return b
}

// tiffTexts are the entries for XMP and IPTC.
func tiffTexts(m *Metadata) []entry {
	var out []entry
	if m.XMP != nil {
		out = append(out, entry{tag: tagXMP, kind: typeByte, count: uint32(len(m.XMP)), value: m.XMP})
	}
	if m.IPTC != nil {
		out = append(out, entry{tag: tagIPTC, kind: typeUndef, count: uint32(len(m.IPTC)), value: m.IPTC})
	}
	return out
}

// hasMakerNote tells whether EXIF has maker notes, for the report.
func hasMakerNote(exif []byte) bool {
	t, err := openTIFF(exif)
	if err != nil {
		return false
	}
	d, err := t.dir(t.first)
	if err != nil {
		return false
	}
	sub, ok := t.subdir(d, tagExifIFD)
	if !ok {
		return false
	}
	_, ok = sub.find(tagMakerNote)
	return ok
}

// jpegEXIF is the EXIF that fits a JPEG segment, and in words what had to go for it: first maker notes, then whatever value
// is largest.
func jpegEXIF(img *Image) (exif []byte, lost []string) {
	const room = maxSegment - len(exifPrefix)
	exif = exifForOutput(img.Meta, img.W, img.H)
	if len(exif) <= room {
		return exif, nil
	}
	if hasMakerNote(exif) {
		lost = append(lost, "maker notes (too large for JPEG)")
	}
	exif = compactEXIF(exif)
	for len(exif) > room {
		smaller, tag := withoutLargest(exif)
		if smaller == nil || len(smaller) >= len(exif) {
			return nil, append(lost, "EXIF (too large for JPEG)")
		}
		exif = smaller
		lost = append(lost, fmt.Sprintf("EXIF tag %s (too large for JPEG)", exifTagName(tag)))
	}
	return exif, lost
}

func exifTagName(tag uint16) string {
	switch tag {
	case 0x9286:
		return "UserComment"
	case tagDescription:
		return "ImageDescription"
	}
	return fmt.Sprintf("0x%04x", tag)
}

// withoutLargest rewrites a stream without its largest value.
func withoutLargest(exif []byte) ([]byte, uint16) {
	t, err := openTIFF(exif)
	if err != nil {
		return nil, 0
	}
	src, err := t.dir(t.first)
	if err != nil {
		return nil, 0
	}
	d := photoDirectory(t, src)
	for _, tag := range []uint16{tagOrientation, tagXResolution, tagYResolution, tagResolutionUnit} {
		if e, ok := src.find(tag); ok {
			d.entries = append(d.entries, e)
		}
	}
	var from *directory
	at, size := 0, 0
	var walk func(d *directory)
	walk = func(d *directory) {
		for i, e := range d.entries {
			if len(e.value) > size {
				from, at, size = d, i, len(e.value)
			}
		}
		for _, sub := range d.subs {
			walk(sub)
		}
	}
	walk(d)
	if from == nil {
		return nil, 0
	}
	tag := from.entries[at].tag
	from.entries = append(from.entries[:at:at], from.entries[at+1:]...)
	return buildTIFF(t.order, d), tag
}

// Losses names, in words for a user, what writing img as f will not keep. It is empty if everything is kept.
func Losses(img *Image, f Format) []string {
	var out []string
	add := func(lost bool, what string) {
		if lost {
			out = append(out, what)
		}
	}
	m := img.Meta
	add(f == JPEG, "exact pixels (JPEG compresses with loss)")
	add(img.HasAlpha() && (f == JPEG || f == BMP), "transparency (flattened on white)")
	add(img.Depth == 16 && f != PNG && f != TIFF, "16-bit depth (rounded to 8)")
	add(img.needsSRGB(f), fmt.Sprintf("colours outside sRGB (%s is converted)", img.colourSpace()))
	add(m.EXIF != nil && f == BMP, "EXIF")
	if f == JPEG {
		_, lost := jpegEXIF(img)
		out = append(out, lost...)
		add(len(m.XMP)+len(xmpPrefix) > maxSegment, "XMP (too large for JPEG)")
		add(len(m.IPTC) > maxIPTC, "IPTC (too large for JPEG)")
		add(m.ICC != nil && !jpegHoldsICC(m.ICC), "ICC profile (too large for JPEG)")
	}
	add(f == TIFF && hasMakerNote(m.EXIF), "maker notes")
	add(m.ICC != nil && !img.needsSRGB(f) && (f == BMP || iccFor(m.ICC, img.Grey() && f != WebP) == nil), "ICC profile")
	add(m.XMP != nil && f == BMP, "XMP")
	add(m.IPTC != nil && (f == BMP || f == WebP), "IPTC")
	add(len(m.Comments) > 0 && (f == BMP || f == WebP || f == TIFF), "comments")
	add((m.DensityX > 0 || m.DensityY > 0) && f == WebP && m.EXIF == nil, "resolution")
	if len(m.Text) > 0 && f != PNG {
		var keys []string
		for _, t := range m.Text {
			keys = append(keys, t.Key)
		}
		add(true, fmt.Sprintf("texts (%s)", strings.Join(keys, ", ")))
	}
	return append(out, m.Dropped...)
}

// needsSRGB reports whether pixels have to become sRGB because f cannot say what they are.
func (img *Image) needsSRGB(f Format) bool {
	switch {
	case img.colour == nil:
		return false
	case f == BMP:
		return true
	case img.colour.chunks:
		return f != PNG
	}
	return iccFor(img.Meta.ICC, img.Grey() && f != WebP) == nil || f == JPEG && !jpegHoldsICC(img.Meta.ICC)
}

// maxIPTC is what fits an APP13 segment with the 8BIM header around it.
const maxIPTC = maxSegment - len(photoshopPrefix) - 14

func jpegHoldsICC(icc []byte) bool { return len(icc) <= 255*(maxSegment-len(iccPrefix)-2) }
