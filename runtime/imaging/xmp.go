package imaging

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
)

// companions are properties of XMP that tell of what lies in a JPEG file beside its picture, which a result does not have:
// by namespace, the beginnings of their names, and in words what that is.
var companions = map[string][]struct{ name, words string }{
	"http://ns.adobe.com/hdr-gain-map/1.0/":      {{"", "the gain map (HDR)"}},
	"http://ns.google.com/photos/1.0/container/": {{"Directory", ""}},
	"http://ns.google.com/photos/1.0/camera/":    {{"MotionPhoto", "the video of a motion photo"}, {"MicroVideo", "the video of a motion photo"}},
	"http://ns.adobe.com/xmp/note/":              {{"HasExtendedXMP", ""}},
}

// withoutCompanions takes them out of a packet, whose every other byte stays, and names what they told of. A packet that is no
// XML is kept as it is.
func withoutCompanions(packet []byte) (kept []byte, lost []string) {
	prefixes := map[string]string{}
	gone := func(n xml.Name) bool {
		for _, c := range companions[prefixes[n.Space]] {
			if strings.HasPrefix(n.Local, c.name) {
				if c.words != "" && !slices.Contains(lost, c.words) {
					lost = append(lost, c.words)
				}
				return true
			}
		}
		return false
	}
	d := xml.NewDecoder(bytes.NewReader(packet))
	skipping := 0 // depth of the elements that are left out
	for {
		start := d.InputOffset()
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			return kept, lost
		}
		if err != nil {
			return packet, nil
		}
		text := packet[start:d.InputOffset()]
		switch t := token.(type) {
		case xml.StartElement:
			for _, a := range t.Attr {
				if a.Name.Space == "xmlns" {
					prefixes[a.Name.Local] = a.Value
				}
			}
			if skipping > 0 || gone(t.Name) {
				skipping++
				continue
			}
			for _, a := range t.Attr {
				if gone(a.Name) {
					text = attribute(a.Name).ReplaceAll(text, nil)
				}
			}
		case xml.EndElement:
			if skipping > 0 {
				skipping--
				continue
			}
		}
		if skipping == 0 {
			kept = append(kept, text...)
		}
	}
}

// attribute finds an attribute in the text of a tag.
func attribute(n xml.Name) *regexp.Regexp {
	return regexp.MustCompile(`\s` + regexp.QuoteMeta(n.Space+":"+n.Local) + `\s*=\s*("[^"]*"|'[^']*')`)
}
