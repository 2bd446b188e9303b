package main

import (
	"encoding/xml"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestArrowsPointDown(t *testing.T) {
	text, err := os.ReadFile("../../docs/design.md")
	require.NoError(t, err)
	d, err := parse(string(text))
	require.NoError(t, err)
	all, err := imports("../..")
	require.NoError(t, err)
	require.Greater(t, len(all), 40)
	for _, wrong := range d.check(all) {
		t.Errorf("docs/design.md: %s", wrong)
	}
	for _, room := range d.rooms {
		if strings.HasPrefix(room.folder, "kernels") {
			for _, used := range room.uses {
				require.False(t, strings.HasPrefix(used, "runtime/"), "kernels import %s", used)
			}
		}
		for _, used := range room.uses {
			require.False(t, strings.HasPrefix(used, "tools/") && !strings.HasPrefix(room.folder, "tools/"), "%s imports %s", room.folder, used)
		}
	}
	for _, s := range steps {
		for _, pkg := range s.packages {
			require.Contains(t, all, strings.TrimSuffix(module+"/"+pkg, "/."), "step %q", s.title)
		}
	}
}

const small = begin + `
### Up
| folder | what lives there | imports |
|---|---|---|
| ` + "`a` | first | b |" + `
### Down
| ` + "`b` | second |" + `
| ` + "`b/c` | third | |" + `
` + end + "\nrest"

func TestUpwardArrowsAndStrangersAreNamed(t *testing.T) {
	for want, imports := range map[string]map[string][]string{
		"unirestorer/b imports unirestorer/a/x, which stands above it": {"unirestorer/a/x": nil, "unirestorer/b": {"unirestorer/a/x"}, "unirestorer/b/c": nil},
		"unirestorer/d has no row":                                     {"unirestorer/a": nil, "unirestorer/b": nil, "unirestorer/b/c": nil, "unirestorer/d": nil},
		"nothing lives in b/c":                                         {"unirestorer/a": {"unirestorer/b"}, "unirestorer/b": nil},
		"unirestorer/b/c/d imports unirestorer/b, which stands above":  {"unirestorer/a": nil, "unirestorer/b": nil, "unirestorer/b/c/d": {"unirestorer/b"}},
	} {
		d, err := parse(small)
		require.NoError(t, err)
		wrong := d.check(imports)
		require.Len(t, wrong, 1, want)
		require.Contains(t, wrong[0], want)
	}
}

func TestLastColumnIsWhatIsImported(t *testing.T) {
	d, err := parse(small)
	require.NoError(t, err)
	require.Empty(t, d.check(map[string][]string{
		"unirestorer/a": {"unirestorer/b/c", "unirestorer/b"}, "unirestorer/a/x": {"unirestorer/a", "unirestorer/b"}, "unirestorer/b": nil, "unirestorer/b/c": nil,
	}))
	out := d.text()
	require.Contains(t, out, "| `a` | first | b, b/c |\n")
	require.Contains(t, out, "| `b` | second | – |\n| `b/c` | third | – |\n")
	require.True(t, strings.HasSuffix(out, "\nrest"))
	again, err := parse(out)
	require.NoError(t, err)
	require.Equal(t, "third", again.rooms[2].about)
	require.Equal(t, "Down", again.rooms[2].group)

	d, err = parse(small)
	require.NoError(t, err)
	require.Empty(t, d.check(map[string][]string{"unirestorer/a": {"unirestorer/b/c", "unirestorer/b"}, "unirestorer/b": {"unirestorer/b/c"}, "unirestorer/b/c": nil}))
	require.Contains(t, d.text(), "| `a` | first | b |\n", "b leads to b/c")

	for _, svg := range []string{d.drawing(), pathDrawing()} {
		for decoder := xml.NewDecoder(strings.NewReader(svg)); ; {
			if _, err := decoder.Token(); err == io.EOF {
				break
			} else {
				require.NoError(t, err)
			}
		}
	}
}

func TestDocumentsWithoutRoomsAreErrors(t *testing.T) {
	for _, text := range []string{"", begin, begin + "\n" + end, "| `a` | b | c |\n" + end} {
		_, err := parse(text)
		require.Error(t, err)
	}
}
