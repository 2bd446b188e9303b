package report

import (
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
)

// Figure is a picture with a caption.
type Figure struct {
	Caption string
	// Alt describes the picture to those who do not see it; empty means the caption.
	Alt string
	// SVG is a drawing, as [SVG] makes them, and becomes a part of the page; or
	SVG []byte
	// Image is a PNG or JPEG file.
	Image []byte
	// Pixels shows an enlarged Image with sharp pixels.
	Pixels bool
}

func (f Figure) html() (template.HTML, error) {
	view := struct {
		Caption, Alt string
		Pixels       bool
		Drawing      template.HTML
		Source       template.URL
	}{Caption: f.Caption, Alt: f.Alt, Pixels: f.Pixels}
	if view.Alt == "" {
		view.Alt = f.Caption
	}
	switch {
	case (f.SVG == nil) == (f.Image == nil):
		return "", errors.New("figure: want either a drawing or an image")
	case f.SVG != nil:
		drawing, err := cleanSVG(f.SVG)
		if err != nil {
			return "", fmt.Errorf("figure: %w", err)
		}
		view.Drawing = template.HTML(drawing)
	default:
		kind := http.DetectContentType(f.Image)
		if kind != "image/png" && kind != "image/jpeg" {
			return "", fmt.Errorf("figure: want a PNG or JPEG file, found %s", kind)
		}
		view.Source = template.URL("data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(f.Image))
	}
	return render("figure", view)
}
