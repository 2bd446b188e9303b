package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// Align is the side of a column that its cells keep to.
type Align uint8

// The sides of a column. Numbers go to the right.
const (
	Left Align = iota
	Right
)

// Column is the head of a column.
type Column struct {
	Name string
	// Unit stands behind the name in parentheses; empty for none.
	Unit  string
	Align Align
}

func (c Column) heading() string {
	if c.Unit == "" {
		return c.Name
	}
	return c.Name + " (" + c.Unit + ")"
}

// Table is text in columns.
type Table struct {
	// Caption stands above the table; empty for none.
	Caption string
	Columns []Column
	// Rows have as many cells as there are columns, or fewer: the others are empty.
	Rows [][]string
	// Notes stand below the table.
	Notes []string
}

// Add appends a row.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }

// check refuses rows that are longer than the head.
func (t *Table) check() error {
	for i, row := range t.Rows {
		if len(row) > len(t.Columns) {
			return fmt.Errorf("table %q: row %d has %d cells for %d columns", t.Caption, i, len(row), len(t.Columns))
		}
	}
	return nil
}

// grid is the head and the rows, all of the same length, each cell passed through clean.
func (t *Table) grid(clean func(string) string) [][]string {
	head := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		head[i] = clean(c.heading())
	}
	all := [][]string{head}
	for _, row := range t.Rows {
		cells := make([]string, len(t.Columns))
		for i, cell := range row {
			cells[i] = clean(cell)
		}
		all = append(all, cells)
	}
	return all
}

// WriteText prints the table with aligned columns for a terminal, and notes in lines of at most 120
// columns. Control characters are printed as escapes.
func (t *Table) WriteText(w io.Writer) error {
	if err := t.check(); err != nil {
		return err
	}
	var b strings.Builder
	if t.Caption != "" {
		fmt.Fprintf(&b, "%s\n\n", Printable(t.Caption))
	}
	rows := t.grid(Printable)
	widths := t.widths(rows, 0)
	for _, row := range rows {
		b.WriteString(strings.TrimRight(strings.Join(t.aligned(row, widths), "  "), " "))
		b.WriteByte('\n')
	}
	t.notes(&b, func(note string) string { return wrapped(Printable(note)) })
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteMarkdown prints the table as Markdown that is aligned as text too.
func (t *Table) WriteMarkdown(w io.Writer) error {
	if err := t.check(); err != nil {
		return err
	}
	var b strings.Builder
	if t.Caption != "" {
		fmt.Fprintf(&b, "**%s**\n\n", markdown(t.Caption))
	}
	rows := t.grid(markdown)
	widths := t.widths(rows, 3)
	rule := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		rule[i] = strings.Repeat("-", widths[i])
		if c.Align == Right {
			rule[i] = rule[i][1:] + ":"
		}
	}
	for i, row := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(t.aligned(row, widths), " | "))
		if i == 0 {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(rule, " | "))
		}
	}
	t.notes(&b, markdown)
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteCSV writes the head and the rows as RFC 4180 has it, without caption and notes, each cell as [Cell] has it.
func (t *Table) WriteCSV(w io.Writer) error {
	if err := t.check(); err != nil {
		return err
	}
	out := csv.NewWriter(w)
	return out.WriteAll(t.grid(Cell))
}

// Cell is a text as a file of CSV has it: an apostrophe stands before one that spreadsheets would run as a formula, which a
// name from elsewhere may be. Numbers stay as they are.
func Cell(s string) string {
	if s == "" || !strings.ContainsRune("=+-@\t\r\n", rune(s[0])) {
		return s
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil || s == "-" {
		return s
	}
	return "'" + s
}

func (t *Table) notes(b *strings.Builder, clean func(string) string) {
	for _, note := range t.Notes {
		fmt.Fprintf(b, "\n%s\n", clean(note))
	}
}

func (t *Table) widths(rows [][]string, least int) []int {
	widths := make([]int, len(t.Columns))
	for i := range widths {
		widths[i] = least
		for _, row := range rows {
			widths[i] = max(widths[i], uniseg.StringWidth(row[i]))
		}
	}
	return widths
}

func (t *Table) aligned(row []string, widths []int) []string {
	cells := make([]string, len(row))
	for i, cell := range row {
		space := strings.Repeat(" ", max(0, widths[i]-uniseg.StringWidth(cell)))
		if t.Columns[i].Align == Right {
			cells[i] = space + cell
		} else {
			cells[i] = cell + space
		}
	}
	return cells
}

// wrapped breaks a paragraph into lines of at most 120 columns where there are
// words to break it between.
func wrapped(s string) string {
	const most = 120
	var b strings.Builder
	column := 0
	for i, word := range strings.Split(s, " ") {
		width := uniseg.StringWidth(word)
		switch {
		case i == 0:
		case column+1+width > most:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += width
	}
	return b.String()
}

// Printable escapes what would move a terminal's cursor or change its state, and bytes that are no text.
func Printable(s string) string {
	if strings.IndexFunc(s, control) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case control(r):
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// control tells which characters are not for printing, those that change the direction of text among them.
func control(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }

var markdownEscapes = strings.NewReplacer(
	`\`, `\\`, `|`, `\|`, `*`, `\*`, "`", "\\`", `<`, `&lt;`, `[`, `\[`, `]`, `\]`,
)

func markdown(s string) string { return markdownEscapes.Replace(Printable(s)) }

// Digits prints three significant digits and all those before the point, without an exponent, and at most six behind it.
func Digits(v float64) string {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Sprintf("%g", v)
	}
	after := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	return strconv.FormatFloat(v, 'f', min(after, 6), 64)
}
