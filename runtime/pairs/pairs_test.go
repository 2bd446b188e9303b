package pairs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNamesOfPublicSetsArePaired(t *testing.T) {
	for how, c := range map[string]struct {
		inputs, targets []string
		want            []Pair
	}{
		"equal names": {[]string{"b.png", "a.jpg"}, []string{"a.png", "b.png"}, []Pair{{"a.jpg", "a.png"}, {"b.png", "b.png"}}},
		"RESIDE": {[]string{"0001_0.8_0.2.jpg", "0001_0.9_0.2.jpg", "1400_10.png"}, []string{"0001.png", "1400.png"},
			[]Pair{{"0001_0.8_0.2.jpg", "0001.png"}, {"0001_0.9_0.2.jpg", "0001.png"}, {"1400_10.png", "1400.png"}}},
		"Rain100": {[]string{"norain-001x2.png", "norain-012x2.png"}, []string{"norain-001.png", "norain-12.png"},
			[]Pair{{"norain-001x2.png", "norain-001.png"}, {"norain-012x2.png", "norain-12.png"}}},
		"Rain100's": {[]string{"rain-001.png", "rain-002.png"}, []string{"norain-001.png", "norain-002.png"},
			[]Pair{{"rain-001.png", "norain-001.png"}, {"rain-002.png", "norain-002.png"}}},
		"words": {[]string{"low00690.png", "x/0001_NOISY_SRGB_010.PNG"}, []string{"normal00690.png", "x/0001_GT_SRGB_010.PNG"},
			[]Pair{{"low00690.png", "normal00690.png"}, {"x/0001_NOISY_SRGB_010.PNG", "x/0001_GT_SRGB_010.PNG"}}},
		"words of": {[]string{"GOPR1/blur/000001.png"}, []string{"GOPR1/sharp/000001.png"}, []Pair{{"GOPR1/blur/000001.png", "GOPR1/sharp/000001.png"}}},
	} {
		pairs, said, err := match(c.inputs, c.targets)
		require.NoError(t, err, how)
		require.Equal(t, c.want, pairs)
		require.True(t, strings.HasPrefix(said, how), said)
	}
}

func TestAmbiguityAndGapsAreRefused(t *testing.T) {
	for _, c := range []struct {
		want            string
		inputs, targets []string
	}{
		{"a_1_2.png fits a_1.png and a.png", []string{"a_1_2.png", "a_3.png"}, []string{"a.png", "a_1.png"}},
		{"low1.png and noisy1.png fit gt1.png", []string{"low1.png", "noisy1.png"}, []string{"gt1.png"}},
		{"b.png has no target of that name", []string{"a.png", "b.png"}, []string{"a.png"}},
		{"b.png has no input of that name", []string{"a.png"}, []string{"a.png", "b.png"}},
		{"a.png and a.jpg have one name", []string{"a.png", "a.jpg"}, []string{"a.png"}},
		{"no images", nil, []string{"a.png"}},
	} {
		_, _, err := match(c.inputs, c.targets)
		require.ErrorContains(t, err, c.want)
	}
}

func TestTreesOfPublicSetsAreRead(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		want  []string // case, kind and number of pairs
	}{
		"RESIDE": {[]string{"hazy/1400_1.png", "hazy/1400_2.png", "gt/1400.png"}, []string{"RESIDE hazy 2"}},
		"GoPro":  {[]string{"G1/blur/1.png", "G1/blur_gamma/1.png", "G1/sharp/1.png", "G2/blur/1.png", "G2/sharp/1.png"}, []string{"GoPro blur 2"}},
		"SIDD":   {[]string{"0001_001/0001_NOISY_SRGB_010.PNG", "0001_001/0001_GT_SRGB_010.PNG", "0002_001/0002_NOISY_SRGB_010.PNG", "0002_001/0002_GT_SRGB_010.PNG"}, []string{"SIDD noisy 2"}},
		"LOL":    {[]string{"our485/low/2.png", "our485/high/2.png", "eval15/low/1.png", "eval15/high/1.png"}, []string{"eval15 low 1", "our485 low 1"}},
		"LOLv2":  {[]string{"Low/low00690.png", "Normal/normal00690.png"}, []string{"LOLv2 low 1"}},
		"kinds":  {[]string{"rain/input/1.png", "rain/target/1.jpg", "blur/input/1.png", "blur/target/1.png"}, []string{"blur blur 1", "rain rain 1"}},
	} {
		dir := write(t, name, c.files)
		cases, err := Tree(dir)
		require.NoError(t, err, name)
		var got []string
		for _, k := range cases {
			got = append(got, k.Name+" "+k.Kind+" "+string(rune('0'+len(k.Pairs))))
			require.NotEmpty(t, k.How)
		}
		if name == "kinds" {
			require.Len(t, got, 2)
			continue
		}
		require.Equal(t, c.want, got)
	}
	_, err := Tree(write(t, "both", []string{"hazy/1.png", "gt/1.png", "clear/1.png"}))
	require.ErrorIs(t, err, errAmbiguous)
	_, err = Tree(write(t, "none", []string{"x/1.png"}))
	require.ErrorContains(t, err, "no folders input and target")
}

func TestFoldersWithinArePairedByTheirPaths(t *testing.T) {
	dir := write(t, "results", []string{"a/x/1.png", "a/.hidden/1.png", "a/note.txt", "b/x/1.jpg"})
	got, how, err := Folders(filepath.Join(dir, "a"), filepath.Join(dir, "b"), true)
	require.NoError(t, err)
	require.Equal(t, "equal names", how)
	require.Equal(t, []Pair{{filepath.Join(dir, "a", "x", "1.png"), filepath.Join(dir, "b", "x", "1.jpg")}}, got)
	_, _, err = Folders(filepath.Join(dir, "gone"), filepath.Join(dir, "b"), true)
	require.ErrorContains(t, err, "gone")
}

func write(t *testing.T, name string, files []string) string {
	dir := filepath.Join(t.TempDir(), name)
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
		require.NoError(t, os.WriteFile(path, nil, 0o666))
	}
	return dir
}

func FuzzMatch(f *testing.F) {
	f.Add("0001_0.8_0.2.png\nrain-1.png", "0001.png\nnorain-001.png")
	f.Add("a_1_2.png", "a.png\na_1.png")
	f.Fuzz(func(t *testing.T, a, b string) {
		inputs, targets := strings.Split(a, "\n"), strings.Split(b, "\n")
		pairs, how, err := match(inputs, targets)
		if err != nil {
			return
		}
		require.NotEmpty(t, how)
		require.Len(t, pairs, len(inputs), "everyone has a partner")
	})
}
