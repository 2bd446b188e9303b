package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
)

// svgElements are the elements that may stand in a page: those that draw. None of them runs or loads anything.
var svgElements = map[string]bool{
	"svg": true, "g": true, "defs": true, "title": true, "desc": true, "path": true, "rect": true, "circle": true,
	"ellipse": true, "line": true, "polyline": true, "polygon": true, "text": true, "tspan": true, "image": true,
	"clipPath": true, "linearGradient": true, "radialGradient": true, "stop": true,
}

// cleanSVG rewrites a drawing so that it can stand in an HTML page: without prologue and comments, with every text
// and attribute escaped anew. Elements and attributes that could run or load something are errors.
func cleanSVG(drawing []byte) (string, error) {
	d := xml.NewDecoder(bytes.NewReader(drawing))
	var b strings.Builder
	var open []string
	drawn := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("read drawing: %w", err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			if len(open) == 0 && (drawn || t.Name.Local != "svg") {
				return "", fmt.Errorf("read drawing: <%s> outside of the drawing", t.Name.Local)
			}
			if err := startSVG(&b, t); err != nil {
				return "", fmt.Errorf("read drawing: %w", err)
			}
			open = append(open, t.Name.Local)
			drawn = true
		case xml.EndElement: // the decoder has matched it
			fmt.Fprintf(&b, "</%s>", t.Name.Local)
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				b.WriteString(html.EscapeString(string(t)))
			}
		}
	}
	if !drawn {
		return "", errors.New("read drawing: no <svg> in it")
	}
	return b.String(), nil
}

func startSVG(b *strings.Builder, t xml.StartElement) error {
	const svgSpace = "http://www.w3.org/2000/svg"
	if !svgElements[t.Name.Local] || (t.Name.Space != "" && t.Name.Space != svgSpace) {
		return fmt.Errorf("element <%s> is not one that drawings may hold", t.Name.Local)
	}
	fmt.Fprintf(b, "<%s", t.Name.Local)
	for _, a := range t.Attr {
		name, value := a.Name.Local, a.Value
		if a.Name.Space == "xmlns" || name == "xmlns" {
			continue // HTML knows the name space
		}
		if err := checkSVG(name, value); err != nil {
			return fmt.Errorf("<%s>: %w", t.Name.Local, err)
		}
		fmt.Fprintf(b, ` %s="%s"`, name, html.EscapeString(value))
	}
	b.WriteByte('>')
	return nil
}

func checkSVG(name, value string) error {
	plain := func(r rune) bool {
		return r < 'A' && r != '-' && (r < '0' || r > '9') || r > 'Z' && r < 'a' && r != '_' || r > 'z'
	}
	lower := strings.ToLower(value)
	switch {
	case name == "" || strings.ContainsFunc(name, plain):
		return fmt.Errorf("attribute name %q", name)
	case strings.HasPrefix(strings.ToLower(name), "on"):
		return fmt.Errorf("attribute %s runs a script", name)
	case name == "href" && !hasAnyPrefix(lower, "#", "data:image/png;base64,", "data:image/jpeg;base64,", "data:image/jpg;base64,"):
		return errors.New("href leads out of the drawing")
	case strings.Contains(strings.ReplaceAll(lower, "url(#", ""), "url(") || strings.Contains(lower, `\`) || strings.Contains(lower, "@import"):
		return fmt.Errorf("attribute %s loads something", name)
	}
	return nil
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}
