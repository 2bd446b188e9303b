package report

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func example() *Table {
	t := &Table{
		Caption: "Latency", Columns: []Column{{Name: "expert"}, {Name: "p50", Unit: "ms", Align: Right}},
		Notes: []string{"At 256x256."},
	}
	t.Add("fog", "1.50")
	t.Add("naïve 雨", "12.25")
	t.Add("unknown")
	return t
}

func written(t *testing.T, write func(*bytes.Buffer) error) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, write(&b))
	return b.String()
}

func TestTextColumnsAreAligned(t *testing.T) {
	got := written(t, func(b *bytes.Buffer) error { return example().WriteText(b) })
	require.Equal(t, "Latency\n\n"+
		"expert    p50 (ms)\n"+
		"fog           1.50\n"+
		"naïve 雨     12.25\n"+
		"unknown\n"+
		"\nAt 256x256.\n", got)
}

func TestMarkdownIsAlignedAndEscaped(t *testing.T) {
	table := example()
	table.Add("a|b *c* <d>", "0")
	got := written(t, func(b *bytes.Buffer) error { return table.WriteMarkdown(b) })
	require.Equal(t, strings.Join([]string{
		"**Latency**", "",
		`| expert            | p50 (ms) |`,
		`| ----------------- | -------: |`,
		`| fog               |     1.50 |`,
		`| naïve 雨          |    12.25 |`,
		`| unknown           |          |`,
		`| a\|b \*c\* &lt;d> |        0 |`,
		"", "At 256x256.", "",
	}, "\n"), got)
}

func TestCSVReadsBack(t *testing.T) {
	table := example()
	table.Add("two\nlines, \"quoted\"", "0")
	rows, err := csv.NewReader(strings.NewReader(written(t, func(b *bytes.Buffer) error { return table.WriteCSV(b) }))).ReadAll()
	require.NoError(t, err)
	require.Equal(t, []string{"expert", "p50 (ms)"}, rows[0])
	require.Equal(t, []string{"unknown", ""}, rows[3])
	require.Equal(t, []string{"two\nlines, \"quoted\"", "0"}, rows[4])
}

func TestCSVHoldsNoFormulas(t *testing.T) {
	table := &Table{Columns: []Column{{Name: "file"}}}
	for _, cell := range []string{"=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "-x.png", "-1.5", "+3e-7", "-", "", "a=1", "-Inf"} {
		table.Add(cell)
	}
	rows, err := csv.NewReader(strings.NewReader(written(t, func(b *bytes.Buffer) error { return table.WriteCSV(b) }))).ReadAll()
	require.NoError(t, err)
	var got []string
	for _, row := range rows[1:] {
		got = append(got, row...)
	}
	require.Equal(t, []string{"'=1+1", "'+cmd|' /C calc'!A0", "'-2+3", "'@SUM(A1)", "'\t=1", "'-x.png", "-1.5", "+3e-7", "-", "a=1", "-Inf"}, got)
}

func TestTerminalsGetNoControlCharacters(t *testing.T) {
	table := &Table{Columns: []Column{{Name: "file"}}}
	table.Add("evil\x1b[2Jname\u202egpj.exe\n")
	for _, write := range []func(*bytes.Buffer) error{
		func(b *bytes.Buffer) error { return table.WriteText(b) },
		func(b *bytes.Buffer) error { return table.WriteMarkdown(b) },
	} {
		got := written(t, write)
		require.NotContains(t, got, "\x1b")
		require.NotContains(t, got, "\u202e")
		require.Equal(t, strings.Count(got, "\n"), len(strings.Split(strings.TrimSpace(got), "\n")))
		require.Contains(t, got, "u202egpj.exe")
	}
}

func TestHTMLCellsAreEscaped(t *testing.T) {
	table := example()
	table.Add("<script>alert(1)</script>", `"&`)
	got := written(t, func(b *bytes.Buffer) error {
		h, err := table.html()
		b.WriteString(string(h))
		return err
	})
	require.NotContains(t, got, "<script")
	require.Contains(t, got, "&lt;script&gt;")
	require.Contains(t, got, `<th scope="col" class="right">p50 (ms)</th>`)
	require.Contains(t, got, `<td class="right">1.50</td>`)
}

func TestLongRowsAreRefused(t *testing.T) {
	table := example()
	table.Add("a", "b", "c")
	var b bytes.Buffer
	for _, err := range []error{table.WriteText(&b), table.WriteCSV(&b), table.WriteMarkdown(&b)} {
		require.EqualError(t, err, `table "Latency": row 3 has 3 cells for 2 columns`)
	}
	require.Zero(t, b.Len())
}

func TestNotesAreWrapped(t *testing.T) {
	words := strings.Repeat("four ", 60) + strings.Repeat("x", 130) + " end"
	table := &Table{Notes: []string{words}}
	got := written(t, func(b *bytes.Buffer) error { return table.WriteText(b) })
	require.Equal(t, words, strings.ReplaceAll(strings.TrimSpace(got), "\n", " "), "no word is lost")
	for line := range strings.Lines(got) {
		if !strings.Contains(line, "x") {
			require.LessOrEqual(t, len(strings.TrimSuffix(line, "\n")), 120)
		}
	}
}

func TestDigitsAreThree(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.012345: "0.0123", 1.2345: "1.23", 123.45: "123", 12345.6: "12346", 1e-9: "0.000000"} {
		require.Equal(t, want, Digits(v))
	}
}

func TestNamesAreShownHarmless(t *testing.T) {
	for in, want := range map[string]string{
		"photo ü.png": "photo ü.png", "a\x1b[31m": `a\x1b[31m`, "a\nb": `a\nb`, "\xff\xfe.jpg": `\xff\xfe.jpg`, "a\u202eb": `a\u202eb`, "\ufffd\xff": "\ufffd" + `\xff`,
	} {
		require.Equal(t, want, Printable(in))
	}
}
