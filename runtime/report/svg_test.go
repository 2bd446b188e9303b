package report

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDrawingsLoseNothingButTheirProlog(t *testing.T) {
	got, err := cleanSVG([]byte(`<?xml version="1.0"?><!-- made by hand -->
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9">
<g transform="scale(1, -1)"><path d="M0,0L1,1" style="fill:none;stroke:#fff"/></g>
<text x="1">a &lt; b &amp; c</text><image xlink:href="data:image/png;base64,AA=="/><rect clip-path="url(#c)"/></svg>`))
	require.NoError(t, err)
	require.Equal(t, `<svg viewBox="0 0 9 9">
<g transform="scale(1, -1)"><path d="M0,0L1,1" style="fill:none;stroke:#fff"></path></g>
<text x="1">a &lt; b &amp; c</text><image href="data:image/png;base64,AA=="></image><rect clip-path="url(#c)"></rect></svg>`, got)
}

func TestHostileDrawingsAreRefused(t *testing.T) {
	for drawing, want := range map[string]string{
		`<svg><script>alert(1)</script></svg>`:                       "<script>",
		`<svg><foreignObject><div/></foreignObject></svg>`:           "<foreignObject>",
		`<svg><style>@import url(x)</style></svg>`:                   "<style>",
		`<svg onload="alert(1)"/>`:                                   "runs a script",
		`<svg><g OnClick="alert(1)"/></svg>`:                         "runs a script",
		`<svg><image href="https://example.com/a.png"/></svg>`:       "leads out",
		`<svg><image href="data:image/svg+xml;base64,AA"/></svg>`:    "leads out",
		`<svg><rect style="fill:url(https://example.com)"/></svg>`:   "loads something",
		`<svg><rect style="fill:u\72l(https://example.com)"/></svg>`: "loads something",
		`<svg><rect`:          "EOF",
		`<svg><g></svg>`:      "closed by",
		`<html><svg/></html>`: "outside of the drawing",
		`<svg/><svg/>`:        "outside of the drawing",
		`no drawing`:          "no <svg>",
		``:                    "no <svg>",
		`<svg xmlns:h="http://www.w3.org/1999/xhtml"><h:title/></svg>`: "may hold",
	} {
		_, err := cleanSVG([]byte(drawing))
		require.ErrorContains(t, err, want, drawing)
	}
}

func FuzzCleanSVG(f *testing.F) {
	for _, s := range []string{
		`<svg width="10pt" viewBox="0 0 9 9"><g transform="scale(1,-1)"><path d="M0,0L1,1" style="fill:none"/><text x="1">title</text></g></svg>`,
		`<svg><script>alert(1)</script></svg>`, `<svg onload="a"/>`, `<svg><image href="data:image/png;base64,AA"/>x&lt;</svg>`,
		`<svg><![CDATA[<script>]]></svg>`, `<!DOCTYPE svg [<!ENTITY a "b">]><svg>&a;</svg>`, `<svg a="&quot;><script>"/>`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, drawing []byte) {
		clean, err := cleanSVG(drawing)
		if err != nil {
			return
		}
		// What comes out is well formed, passes again unchanged and holds only what is allowed.
		again, err := cleanSVG([]byte(clean))
		require.NoError(t, err)
		require.Equal(t, clean, again)
		d := xml.NewDecoder(strings.NewReader(clean))
		for {
			token, err := d.Token()
			if err == io.EOF {
				return
			}
			require.NoError(t, err)
			if start, ok := token.(xml.StartElement); ok {
				require.True(t, svgElements[start.Name.Local])
				for _, a := range start.Attr {
					require.False(t, strings.HasPrefix(strings.ToLower(a.Name.Local), "on"))
				}
			}
		}
	})
}
