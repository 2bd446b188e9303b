package report

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"strings"

	"unirestorer/weights/atomicfile"
)

// Page is a report as one HTML file.
type Page struct {
	Title string
	// Subtitle says in a line what was reported on, where and with what.
	Subtitle string
	Sections []Section
	// Footer is the last line: how the page was made, say.
	Footer string
}

// Section is a part of a page under a heading of its own.
type Section struct {
	Title string
	// Folded sections are closed until the reader opens them.
	Folded bool
	Blocks []Block
}

// Block is what sections are made of: [Text], *[Table], [Figure] or row.
type Block interface {
	html() (template.HTML, error)
}

// Text is a paragraph.
type Text string

// row is figures side by side, as wide as there is room.
type row []Figure

func (t Text) html() (template.HTML, error) { return render("text", t) }

func (t *Table) html() (template.HTML, error) {
	if t == nil {
		return "", errors.New("table is nil")
	}
	if err := t.check(); err != nil {
		return "", err
	}
	return render("table", t)
}

func (r row) html() (template.HTML, error) {
	var all []template.HTML
	for i, f := range r {
		h, err := f.html()
		if err != nil {
			return "", fmt.Errorf("figure %d of a row: %w", i, err)
		}
		all = append(all, h)
	}
	return render("row", all)
}

//go:embed page.css page.html
var files embed.FS

// templates are parsed once and only read afterwards.
var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"style": func() (template.CSS, error) {
		css, err := files.ReadFile("page.css")
		return template.CSS(css), err
	},
	"heading": Column.heading,
	"right":   func(t *Table, i int) bool { return t.Columns[i].Align == Right },
}).ParseFS(files, "page.html"))

func render(name string, data any) (template.HTML, error) {
	var b strings.Builder
	err := templates.ExecuteTemplate(&b, name, data)
	return template.HTML(b.String()), err
}

// Write writes the page.
func (p *Page) Write(w io.Writer) error {
	type section struct {
		Section
		Content []template.HTML
	}
	var all []section
	for _, s := range p.Sections {
		out := section{Section: s}
		for i, b := range s.Blocks {
			if b == nil {
				return fmt.Errorf("page %q: section %q: block %d is nil", p.Title, s.Title, i)
			}
			h, err := b.html()
			if err != nil {
				return fmt.Errorf("page %q: section %q: %w", p.Title, s.Title, err)
			}
			out.Content = append(out.Content, h)
		}
		all = append(all, out)
	}
	if err := templates.ExecuteTemplate(w, "page", struct {
		*Page
		Parts []section
	}{p, all}); err != nil {
		return fmt.Errorf("page %q: %w", p.Title, err)
	}
	return nil
}

// WriteFile writes the page to a file, which appears when it is complete.
func (p *Page) WriteFile(ctx context.Context, path string) error {
	return atomicfile.Write(ctx, path, p.Write)
}
