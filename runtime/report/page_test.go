package report

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func picture(t *testing.T) []byte {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, 3, 2))
	m.Set(1, 1, color.NRGBA{R: 200, A: 255})
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, m))
	return b.Bytes()
}

func fullPage(t *testing.T) *Page {
	t.Helper()
	f := Figure{Caption: "Bars <with> a caption.", SVG: []byte(
		`<svg viewBox="0 0 9 9"><g><text fill="currentColor">rain &amp; &lt;snow&gt;</text></g></svg>`)}
	small := Figure{Image: picture(t), Caption: `a "restored" image`, Pixels: true}
	return &Page{
		Title: "Profile <of> a pool", Subtitle: "256×256 on a CPU & nothing else", Footer: "Made by a test.",
		Sections: []Section{
			{Title: "Table", Blocks: []Block{Text("A paragraph with <b>no</b> markup."), example()}},
			{Title: "Figures", Blocks: []Block{f, row{small, small}}},
			{Title: "Details", Folded: true, Blocks: []Block{example()}},
		},
	}
}

func TestPageIsSelfContainedAndEscaped(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, fullPage(t).Write(&b))
	page := b.String()
	require.Contains(t, page, "<title>Profile &lt;of&gt; a pool</title>")
	require.Contains(t, page, "&lt;b&gt;no&lt;/b&gt;")
	require.Contains(t, page, "rain &amp; &lt;snow&gt;")
	require.Contains(t, page, "Bars &lt;with&gt; a caption.")
	require.Contains(t, page, `src="data:image/png;base64,`)
	require.Contains(t, page, "prefers-color-scheme: dark")
	require.Contains(t, page, "currentColor", "drawings follow the page's colours")
	require.Contains(t, page, "<details>")
	for _, outside := range []string{"<script", "http://", "https://", "<link", "@import", "ZgotmplZ"} {
		require.NotContains(t, page, outside)
	}
	for _, tag := range []string{"svg", "figure", "table", "details", "section", "div", "g", "text"} {
		require.Equal(t, strings.Count(page, "</"+tag+">"), strings.Count(page, "<"+tag+">")+strings.Count(page, "<"+tag+" "), tag)
	}
}

func TestPageFileAppearsWholeOrNotAtAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.html")
	page := fullPage(t)
	require.NoError(t, page.WriteFile(context.Background(), path))
	first, err := os.ReadFile(path)
	require.NoError(t, err)
	page.Sections[0].Blocks = append(page.Sections[0].Blocks, Figure{})
	require.ErrorContains(t, page.WriteFile(context.Background(), path), `section "Table": figure: want either a drawing or an image`)
	second, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, first, second)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, fullPage(t).WriteFile(cancelled, path), context.Canceled)
}

func TestWrongBlocksAreErrors(t *testing.T) {
	wide := &Table{Rows: [][]string{{"a"}}}
	for want, block := range map[string]Block{
		"is nil":              (*Table)(nil),
		"block 0 is nil":      nil,
		"1 cells for 0":       wide,
		"PNG or JPEG":         Figure{Image: []byte("GIF89a")},
		"either a drawing":    Figure{Image: picture(t), SVG: []byte("<svg/>")},
		"figure 1 of a row":   row{{Image: picture(t)}, {}},
		"no <svg>":            Figure{SVG: []byte{}},
		"element <script> is": Figure{SVG: []byte("<svg><script>1</script></svg>")},
	} {
		page := &Page{Sections: []Section{{Blocks: []Block{block}}}}
		require.ErrorContains(t, page.Write(&bytes.Buffer{}), want)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteErrorsArePassedOn(t *testing.T) {
	require.ErrorContains(t, fullPage(t).Write(failing{}), "disk full")
	require.ErrorContains(t, example().WriteText(failing{}), "disk full")
	require.ErrorContains(t, example().WriteCSV(failing{}), "disk full")
}
