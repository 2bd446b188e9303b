package imaging

import (
	"bytes"
	"encoding/binary"
)

// EXIF is a TIFF stream without pixels: directories of tagged values, some of which point to further directories. Two
// ways of changing one are used here. Values of fixed size are edited in place, which moves nothing and so keeps maker
// notes, whose private offsets count from the start of the stream. Where tags have to be added, or taken out of or put
// into a TIFF file, the tags worth keeping are copied to a new stream and maker notes are left behind.

// TIFF and EXIF tags (TIFF 6.0; EXIF 2.32).
const (
	tagImageWidth       = 0x0100
	tagImageLength      = 0x0101
	tagBitsPerSample    = 0x0102
	tagCompression      = 0x0103
	tagPhotometric      = 0x0106
	tagStripOffsets     = 0x0111
	tagOrientation      = 0x0112
	tagSamplesPerPixel  = 0x0115
	tagRowsPerStrip     = 0x0116
	tagStripByteCounts  = 0x0117
	tagXResolution      = 0x011a
	tagYResolution      = 0x011b
	tagPlanarConfig     = 0x011c
	tagResolutionUnit   = 0x0128
	tagPredictor        = 0x013d
	tagTileWidth        = 0x0142
	tagTileLength       = 0x0143
	tagTileOffsets      = 0x0144
	tagTileByteCounts   = 0x0145
	tagExtraSamples     = 0x0152
	tagNewSubfileType   = 0x00fe
	tagFillOrder        = 0x010a
	tagDescription      = 0x010e
	tagMake             = 0x010f
	tagT4Options        = 0x0124
	tagSubIFDs          = 0x014a
	tagSampleFormat     = 0x0153
	tagXMP              = 0x02bc
	tagIPTC             = 0x83bb
	tagPhotoshop        = 0x8649
	tagDNGVersion       = 0xc612
	tagICC              = 0x8773
	tagExifIFD          = 0x8769
	tagGPSIFD           = 0x8825
	tagMakerNote        = 0x927c
	tagPixelXDimension  = 0xa002
	tagPixelYDimension  = 0xa003
	tagInteroperability = 0xa005
)

// keptTag reports whether a tag of the first directory describes the photo rather than the file that holds it.
func keptTag(tag uint16) bool {
	switch tag {
	case 0x010e, // ImageDescription
		0x010f, 0x0110, // Make, Model
		0x0131, 0x0132, // Software, DateTime
		0x013b, 0x013c, // Artist, HostComputer
		0x4746, 0x4749, // Rating
		0x8298,                                 // Copyright
		0x9c9b, 0x9c9c, 0x9c9d, 0x9c9e, 0x9c9f: // title, comment, author, keywords, subject as Windows writes them
		return true
	}
	return false
}

// cleanEXIF returns a copy of an EXIF stream without the "Exif" prefix some containers add, or nil if it is not one.
func cleanEXIF(b []byte) []byte {
	b = bytes.TrimPrefix(b, []byte(exifPrefix))
	t, err := openTIFF(b)
	if err != nil || t.big {
		return nil
	}
	if _, err := t.dir(t.first); err != nil {
		return nil
	}
	return bytes.Clone(b)
}

// compactEXIF rewrites a stream without thumbnail and maker notes.
func compactEXIF(exif []byte) []byte { return rewriteEXIF(exif, exifOrientation(exif)) }

// rewriteEXIF copies the tags worth keeping to a new stream with the given orientation. It returns nil if nothing is
// worth keeping.
func rewriteEXIF(exif []byte, orientation int) []byte {
	t, err := openTIFF(exif)
	if err != nil {
		return nil
	}
	d := &directory{}
	if src, err := t.dir(t.first); err == nil {
		d = photoDirectory(t, src)
	}
	if orientation != 1 {
		d.entries = append(d.entries, shortEntry(t.order, tagOrientation, orientation))
	}
	for _, tag := range []uint16{tagXResolution, tagYResolution, tagResolutionUnit} {
		if src, err := t.dir(t.first); err == nil {
			if e, ok := src.find(tag); ok {
				d.entries = append(d.entries, e)
			}
		}
	}
	if len(d.entries) == 0 && len(d.subs) == 0 {
		return nil
	}
	return buildTIFF(t.order, d)
}

// photoDirectory gathers what a TIFF stream says about the photo: descriptive tags and the EXIF, GPS and
// interoperability directories.
func photoDirectory(t *tiffStream, src *directory) *directory {
	out := &directory{}
	budget := min(len(t.data), maxEXIF)
	out.copyFrom(src, keptTag, &budget)
	out.addSub(tagExifIFD, copySub(t, src, tagExifIFD, &budget))
	out.addSub(tagGPSIFD, copySub(t, src, tagGPSIFD, &budget))
	return out
}

// copySub copies the directory that a pointer tag leads to, and the interoperability directory below it.
func copySub(t *tiffStream, from *directory, tag uint16, budget *int) *directory {
	out := &directory{}
	sub, ok := t.subdir(from, tag)
	if !ok {
		return out
	}
	out.copyFrom(sub, func(tag uint16) bool {
		switch tag {
		case tagMakerNote, tagExifIFD, tagGPSIFD, tagInteroperability:
			return false
		}
		return true
	}, budget)
	if tag == tagExifIFD {
		out.addSub(tagInteroperability, copySub(t, sub, tagInteroperability, budget))
	}
	return out
}

// maxEXIF bounds the values copied out of one stream: directories may point to the same bytes many times over.
const maxEXIF = 16 << 20

func shortEntry(order binary.AppendByteOrder, tag uint16, v int) entry {
	return entry{tag: tag, kind: typeShort, count: 1, value: order.AppendUint16(nil, uint16(v))}
}
