package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// table is text in columns. The first is aligned to the left, the others to the right.
type table struct {
	caption string
	header  []string
	rows    [][]string
	notes   []string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// writeText prints the table for a terminal.
func (t *table) writeText(w io.Writer) error {
	widths := t.widths()
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", t.caption)
	for _, row := range append([][]string{t.header}, t.rows...) {
		b.WriteString(strings.TrimRight(strings.Join(aligned(row, widths), "  "), " "))
		b.WriteByte('\n')
	}
	for _, note := range t.notes {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeMarkdown prints the table as Markdown that is also aligned as text.
func (t *table) writeMarkdown(w io.Writer) error {
	widths := t.widths()
	rule := make([]string, len(widths))
	for i := range widths {
		widths[i] = max(widths[i], 3)
		rule[i] = strings.Repeat("-", widths[i]-1) + ":"
	}
	rule[0] = strings.Repeat("-", widths[0])
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**\n\n", t.caption)
	for i, row := range append([][]string{t.header, rule}, t.rows...) {
		if i != 1 {
			row = escaped(row)
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(aligned(row, widths), " | "))
	}
	for _, note := range t.notes {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *table) widths() []int {
	widths := make([]int, len(t.header))
	for _, row := range append([][]string{t.header}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

func aligned(row []string, widths []int) []string {
	cells := make([]string, len(row))
	for i, cell := range row {
		space := strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(cell)))
		if i == 0 {
			cells[i] = cell + space
		} else {
			cells[i] = space + cell
		}
	}
	return cells
}

func escaped(row []string) []string {
	cells := make([]string, len(row))
	for i, cell := range row {
		cells[i] = strings.ReplaceAll(cell, "|", `\|`)
	}
	return cells
}
