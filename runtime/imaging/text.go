package imaging

import (
	"bytes"
	"compress/zlib"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// maxText bounds the texts of one file, inflated.
const maxText = 16 << 20

// Keywords under which PNG holds what other formats have places for.
const (
	pngXMPKey     = "XML:com.adobe.xmp"
	pngIPTCKey    = "Raw profile type iptc" // ImageMagick's form, which ExifTool reads too
	pngCommentKey = "Comment"
)

// readPNGText reads a tEXt, zTXt or iTXt chunk (PNG third edition, section 11.3.3).
func readPNGText(c pngChunk, m *Metadata, budget *int) {
	keyword, rest, ok := bytes.Cut(c.data, []byte{0})
	if !ok || len(keyword) == 0 || len(keyword) > 79 {
		return
	}
	text, ok := unpackPNGText(c.kind, rest, int64(*budget))
	if !ok {
		return
	}
	if *budget -= len(text); *budget < 0 {
		return
	}
	key := latin1(keyword)
	switch {
	case key == pngXMPKey && m.XMP == nil:
		m.XMP = bytes.Clone(text)
	case key == pngIPTCKey && m.IPTC == nil:
		m.IPTC = iptcOf8BIM(rawProfile(text))
	case strings.HasPrefix(key, "Raw profile type "):
		if kind := strings.TrimPrefix(key, "Raw profile type "); kind == "exif" || kind == "APP1" {
			if b := cleanEXIF(rawProfile(text)); b != nil && m.EXIF == nil {
				m.EXIF = b
				return
			}
		}
		m.Dropped = append(m.Dropped, fmt.Sprintf("%q", key))
	default:
		value := string(text)
		if c.kind != "iTXt" {
			value = latin1(text)
		} else if !utf8.ValidString(value) {
			value = strings.ToValidUTF8(value, "\ufffd")
		}
		if key == pngCommentKey {
			m.Comments = append(m.Comments, value)
		} else {
			m.Text = append(m.Text, TextEntry{key, value})
		}
	}
}

// unpackPNGText gives the text of a chunk by what stands behind its keyword: at most one byte more than limit. It is not ok
// where the chunk is damaged.
func unpackPNGText(kind string, rest []byte, limit int64) (text []byte, ok bool) {
	packed := false
	switch kind {
	case "zTXt":
		if len(rest) < 1 || rest[0] != 0 {
			return nil, false
		}
		packed, rest = true, rest[1:]
	case "iTXt":
		if len(rest) < 2 {
			return nil, false
		}
		packed = rest[0] == 1
		parts := bytes.SplitN(rest[2:], []byte{0}, 3) // language, translated keyword, text
		if len(parts) < 3 {
			return nil, false
		}
		rest = parts[2]
	}
	if !packed {
		return rest, true
	}
	z, err := zlib.NewReader(bytes.NewReader(rest))
	if err != nil {
		return nil, false
	}
	text, err = io.ReadAll(io.LimitReader(z, limit+1))
	return text, err == nil
}

// rawProfile decodes "\nname\n  length\nhex…".
func rawProfile(text []byte) []byte {
	parts := bytes.SplitN(bytes.TrimLeft(text, "\n"), []byte("\n"), 3)
	if len(parts) < 3 {
		return nil
	}
	digits := bytes.Join(bytes.Fields(parts[2]), nil)
	out := make([]byte, hex.DecodedLen(len(digits)))
	n, err := hex.Decode(out, digits)
	if err != nil {
		return nil
	}
	return out[:n]
}

func latin1(b []byte) string {
	r := make([]rune, len(b))
	for i, v := range b {
		r[i] = rune(v)
	}
	return string(r)
}

// asLatin1 is the way back; ok is false where a character has no place.
func asLatin1(s string) (b []byte, ok bool) {
	for _, r := range s {
		if r > 255 || r == 0 {
			return nil, false
		}
		b = append(b, byte(r))
	}
	return b, true
}

// pngTextChunks writes texts, comments, XMP and IPTC.
func pngTextChunks(m *Metadata) []pngChunk {
	var out []pngChunk
	if m.XMP != nil {
		out = append(out, pngChunk{"iTXt", append([]byte(pngXMPKey+"\x00\x00\x00\x00\x00"), m.XMP...)})
	}
	if m.IPTC != nil {
		block := photoshopIPTC(m.IPTC)
		var b bytes.Buffer
		fmt.Fprintf(&b, "%s\x00\niptc\n%8d\n", pngIPTCKey, len(block))
		for i := 0; i < len(block); i += 36 {
			fmt.Fprintf(&b, "%x\n", block[i:min(i+36, len(block))])
		}
		out = append(out, pngChunk{"tEXt", b.Bytes()})
	}
	for _, c := range m.Comments {
		out = append(out, pngText(pngCommentKey, c))
	}
	for _, t := range m.Text {
		out = append(out, pngText(t.Key, t.Value))
	}
	return out
}

func pngText(key, value string) pngChunk {
	k, ok := asLatin1(key)
	if !ok || len(k) == 0 || len(k) > 79 {
		k = []byte(pngCommentKey)
	}
	if v, ok := asLatin1(value); ok {
		return pngChunk{"tEXt", append(append(k, 0), v...)}
	}
	return pngChunk{"iTXt", append(append(k, 0, 0, 0, 0, 0), value...)}
}

// 8BIM resources are how Photoshop wraps IPTC in JPEG, PNG and TIFF.
const (
	photoshopPrefix = "Photoshop 3.0\x00"
	resourceIPTC    = 0x0404
)

// iptcOf8BIM finds the IPTC records in Photoshop's resources, with or without the prefix, or takes bare records.
func iptcOf8BIM(b []byte) []byte {
	b = bytes.TrimPrefix(b, []byte(photoshopPrefix))
	if len(b) > 5 && b[0] == 0x1c {
		return bytes.Clone(b)
	}
	for len(b) >= 12 && string(b[:4]) == "8BIM" {
		id := int(b[4])<<8 | int(b[5])
		name := int(b[6])
		at := 6 + (name+2)/2*2 // a Pascal string, padded to even
		if at+4 > len(b) {
			return nil
		}
		n := int(uint32(b[at])<<24 | uint32(b[at+1])<<16 | uint32(b[at+2])<<8 | uint32(b[at+3]))
		if n < 0 || n > len(b)-at-4 {
			return nil
		}
		body := b[at+4 : at+4+n]
		if id == resourceIPTC {
			return bytes.Clone(body)
		}
		b = b[min(len(b), at+4+(n+1)/2*2):]
	}
	return nil
}

// photoshopIPTC wraps IPTC records as an 8BIM resource, without the prefix.
func photoshopIPTC(iptc []byte) []byte {
	n := len(iptc)
	b := []byte{'8', 'B', 'I', 'M', resourceIPTC >> 8, resourceIPTC & 255, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	b = append(b, iptc...)
	if n%2 == 1 {
		b = append(b, 0)
	}
	return b
}
