package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/imaging"
	"unirestorer/weights/weightstest"
)

// golden requires the pixels of result i of the small pool's case, within the
// one step that rounding may make.
func golden(t *testing.T, i int, got *imaging.Image) {
	t.Helper()
	want := pixels(t, strings.Replace(photo(i), ".png", "_out.png", 1))
	require.Equal(t, [3]int{want.W, want.H, want.Channels}, [3]int{got.W, got.H, got.Channels})
	for k, v := range want.Pix {
		require.InDelta(t, v, got.Pix[k], 1)
	}
}

func TestPhotosAreRestoredByTheExpertPyTorchChose(t *testing.T) {
	dir := t.TempDir()
	var c struct {
		Images []struct{ Expert any }
	}
	raw, err := os.ReadFile(tinyHints())
	require.NoError(t, err)
	decodeJSON(t, string(raw), &c)
	args := []string{"restore", "-o", dir, "-m", tinyModel(t), "--json"}
	experts := make([]int, 6)
	for i := range experts {
		experts[i] = int(c.Images[i].Expert.(float64))
		args = append(args, photo(i))
	}
	stdout, stderr := ok(t, args...)
	var all []restored
	decodeJSON(t, stdout, &all)
	require.Len(t, all, len(experts))
	for i, r := range all {
		require.Equal(t, experts[i], r.Report.Decision.Expert)
		require.Equal(t, photo(i), r.In)
		require.Empty(t, r.Error)
		golden(t, i, pixels(t, r.Out))
		require.Positive(t, r.Report.Times.Run)
	}
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	require.Len(t, lines, len(experts), "one line an image, no progress bar without a terminal")
	require.Regexp(t, `img5.png → .*img5.png: \d+×\d+, expert 7 "middle 6" \(nafnet_local\) on cpu; automatic, leaf 20 \d+% \(entropy \d\.\d\d\), level middle \d+% \(entropy \d\.\d\d\); decode .*, estimate .*, load .*, restore .*, encode .*`, lines[5])
	require.NotContains(t, stderr, "\r")
}

func TestQuietPrintsNothing(t *testing.T) {
	stdout, stderr := ok(t, "restore", photo(5), "-o", filepath.Join(t.TempDir(), "x.png"), "-m", tinyModel(t), "--quiet")
	require.Empty(t, stdout+stderr)
}

func TestStandardInputAndOutput(t *testing.T) {
	raw, err := os.ReadFile(photo(5))
	require.NoError(t, err)
	code, stdout, stderr := commandIn(context.Background(), bytes.NewReader(raw), "restore", "-", "-o", "-", "-m", tinyModel(t))
	require.Zero(t, code, stderr)
	img, err := imaging.Decode(strings.NewReader(stdout), imaging.Limits{})
	require.NoError(t, err)
	golden(t, 5, img)
	require.Contains(t, stderr, "- → -: ")

	code, stdout, stderr = commandIn(context.Background(), bytes.NewReader(raw), "restore", "-", "-o", "-", "-m", tinyModel(t), "-f", "jpeg", "-q", "80")
	require.Zero(t, code, stderr)
	img, err = imaging.Decode(strings.NewReader(stdout), imaging.Limits{})
	require.NoError(t, err)
	require.Equal(t, imaging.JPEG, img.Meta.Format)

	code, stdout, stderr = commandIn(context.Background(), bytes.NewReader(raw[:100]), "restore", "-", "-o", "-", "-m", tinyModel(t))
	require.Equal(t, exitFailed, code)
	require.Empty(t, stdout, "no half image")
	require.Contains(t, stderr, "restore: standard input: ")
}

func TestFolderIsRestoredOnceAndOneBadFileDoesNotStopTheRest(t *testing.T) {
	in, out := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "out")
	copyFile(t, photo(4), filepath.Join(in, "a.png"))
	copyFile(t, photo(5), filepath.Join(in, "deep", "b.png"))
	require.NoError(t, os.WriteFile(filepath.Join(in, "bad.jpg"), []byte("nothing"), 0o666))
	args := []string{"restore", in, "-o", out, "-m", tinyModel(t), "--json"}

	code, stdout, stderr := command(args...)
	require.Equal(t, exitFailed, code)
	require.Equal(t, []string{".unirestorer-results", "a.png", "deep/b.png"}, names(t, out))
	golden(t, 5, pixels(t, filepath.Join(out, "deep", "b.png")))
	require.Contains(t, stderr, "1 of 3 images failed:\nunirestorer: restore: "+filepath.Join(in, "bad.jpg"))
	var all []restored
	decodeJSON(t, stdout, &all)
	require.Equal(t, []bool{false, true, false}, []bool{all[0].Error != "", all[1].Error != "", all[2].Error != ""})

	// Again: only what is missing.
	before, err := os.Stat(filepath.Join(out, "a.png"))
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(in, "bad.jpg")))
	require.NoError(t, os.Remove(filepath.Join(out, "deep", "b.png")))
	stdout, stderr = ok(t, args...)
	decodeJSON(t, stdout, &all)
	require.Equal(t, []bool{true, false}, []bool{all[0].Skipped, all[1].Skipped})
	require.Contains(t, stderr, "a.png exists, skipped (--overwrite restores it again)")
	after, err := os.Stat(filepath.Join(out, "a.png"))
	require.NoError(t, err)
	require.Equal(t, before.ModTime(), after.ModTime())

	require.NoError(t, os.WriteFile(filepath.Join(out, "a.png"), nil, 0o666))
	ok(t, append(args, "--overwrite")...)
	golden(t, 4, pixels(t, filepath.Join(out, "a.png")))
}

func TestOverridesChooseTheExpert(t *testing.T) {
	model := tinyModel(t)
	for _, c := range []struct {
		args   []string
		mode   string
		expert func(n int) bool
	}{
		{[]string{"--expert", "6"}, "fixed expert", func(n int) bool { return n == 6 }},
		{[]string{"--level", "coarse"}, "fixed level", func(n int) bool { return n == 0 }},
		{[]string{"--level", "2"}, "fixed level", func(n int) bool { return n >= 8 }},
		{[]string{"-k", "3", "--level", "fine"}, "instructed at a fixed level", func(n int) bool { return n == 11 }},
		{[]string{"-k", "leaf 19,leaf 21", "--level", "fine"}, "instructed at a fixed level", func(n int) bool { return n == 27 || n == 29 }},
		{[]string{"-k", "3"}, "instructed", func(n int) bool { return n == 0 || n == 2 || n == 11 }},
	} {
		stdout, _ := ok(t, append([]string{"restore", photo(2), "-o", filepath.Join(t.TempDir(), "x.png"), "-m", model, "--json"}, c.args...)...)
		var all []restored
		decodeJSON(t, stdout, &all)
		d := all[0].Report.Decision
		require.Equal(t, c.mode, string(d.Mode), "%q", c.args)
		require.True(t, c.expert(d.Expert), "%q chose %d", c.args, d.Expert)
		stdout, _ = ok(t, append([]string{"route", photo(2), "-m", model, "--json"}, c.args...)...)
		var routes []routed
		decodeJSON(t, stdout, &routes)
		require.Equal(t, d.Expert, routes[0].Decision.Expert)
		require.Len(t, routes[0].Decision.LeafProbs, 22)
	}
}

func TestComparisonStandsBesideTheResult(t *testing.T) {
	dir := t.TempDir()
	ok(t, "restore", photo(5), "-o", filepath.Join(dir, "x.webp"), "-m", tinyModel(t), "--compare")
	require.Equal(t, []string{"x.compare.png", "x.webp"}, names(t, dir))
	golden(t, 5, pixels(t, filepath.Join(dir, "x.webp")))
	require.Greater(t, pixels(t, filepath.Join(dir, "x.compare.png")).W, 2*pixels(t, photo(5)).W)
}

func TestTilesAndMemoryAreReported(t *testing.T) {
	dir := t.TempDir()
	writePhoto(t, filepath.Join(dir, "in.png"), 150, 90)
	stdout, stderr := ok(t, "restore", filepath.Join(dir, "in.png"), "-o", filepath.Join(dir, "x.png"), "-m", tinyModel(t), "--expert", "7", "--tile", "64", "--json")
	var all []restored
	decodeJSON(t, stdout, &all)
	r := all[0].Report
	for _, side := range []int{r.TileWidth, r.TileHeight} {
		require.LessOrEqual(t, side, 64)
		require.Greater(t, side, 64-16, "shorter by less than the network's grid")
	}
	require.Greater(t, r.TilesX, 1)
	require.Greater(t, r.TilesY, 1)
	require.Positive(t, r.Memory.Arena)
	require.Contains(t, stderr, " tiles of ")
	_, stderr = ok(t, "restore", filepath.Join(dir, "in.png"), "-o", filepath.Join(dir, "y.png"), "-m", tinyModel(t), "--expert", "6", "--tile", "off", "--adapters", "unmerged", "--threads", "1")
	require.Contains(t, stderr, "padded by reflection to 152×92, which the network needs")
	require.NotContains(t, stderr, " tiles of ")
}

func TestSwitchedAndPrefetchedExpertsGiveTheSameFiles(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "in")
	require.NoError(t, os.Mkdir(in, 0o777))
	for i := range 4 {
		copyFile(t, photo(i), filepath.Join(in, fmt.Sprintf("%d.png", i)))
	}
	merged, switched := filepath.Join(dir, "merged"), filepath.Join(dir, "switched")
	for _, expert := range []string{"11", "12"} { // of one base
		ok(t, "restore", in, "-o", filepath.Join(merged, expert), "-m", tinyModel(t), "-e", expert)
		ok(t, "restore", in, "-o", filepath.Join(switched, expert), "-m", tinyModel(t), "-e", expert, "--adapters", "switched", "--prefetch")
	}
	ok(t, "restore", in, "-o", filepath.Join(merged, "routed"), "-m", tinyModel(t))
	ok(t, "restore", in, "-o", filepath.Join(switched, "routed"), "-m", tinyModel(t), "--adapters", "switched", "--prefetch")
	require.NoError(t, filepath.WalkDir(merged, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") { // the journal names options
			return err
		}
		rel, err := filepath.Rel(merged, path)
		require.NoError(t, err)
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(switched, rel))
		require.NoError(t, err)
		require.Equal(t, want, got, rel)
		return nil
	}))
}

func TestFoldersStayWithinTheMemoryBound(t *testing.T) {
	if testing.Short() {
		t.Skip("restores 4 megapixels")
	}
	if runtime.GOOS != "linux" {
		t.Skip("measures memory as Linux reports it")
	}
	dir, out := t.TempDir(), t.TempDir()
	for i, size := range [][2]int{{320, 200}, {1600, 1200}, {200, 1500}, {640, 480}, {97, 53}, {1000, 800}, {512, 512}} {
		writePhoto(t, filepath.Join(dir, fmt.Sprintf("%d.png", i)), size[0], size[1])
	}
	const bound = 160 << 20
	cmd := exec.Command(os.Args[0], "restore", dir, "-o", out, "-m", tinyModel(t), "--memory", fmt.Sprint(bound), "--json")
	cmd.Env = append(os.Environ(), runAsCommand+"=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, peak, err := weightstest.PeakOf(cmd)
	require.NoError(t, err, stderr.String())
	var all []restored
	decodeJSON(t, string(stdout), &all)
	require.Len(t, all, 7)
	t.Logf("peak %d MiB", peak>>20)
	require.LessOrEqual(t, peak, int64(bound+32<<20))
}

func TestLargePhotoStaysWithinTheMemoryBound(t *testing.T) {
	if testing.Short() {
		t.Skip("restores 24 megapixels")
	}
	if runtime.GOOS != "linux" {
		t.Skip("measures memory as Linux reports it")
	}
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.png"), filepath.Join(dir, "out.png")
	writePhoto(t, in, 6000, 4000)
	start := time.Now()
	cmd := exec.Command(os.Args[0], "restore", in, "-o", out, "-m", tinyModel(t), "--expert", "7", "--memory", "1GiB", "--json")
	cmd.Env = append(os.Environ(), runAsCommand+"=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, peak, err := weightstest.PeakOf(cmd)
	require.NoError(t, err, stderr.String())
	var all []restored
	decodeJSON(t, string(stdout), &all)
	rep := all[0].Report
	t.Logf("peak %d MiB in %v, %d×%d tiles of %d×%d, arena %d MiB, %+v", peak>>20, time.Since(start).Round(time.Millisecond),
		rep.TilesX, rep.TilesY, rep.TileWidth, rep.TileHeight, rep.Memory.Arena>>20, rep.Times)
	require.LessOrEqual(t, peak, int64(1<<30))
	require.Equal(t, [2]int{6000, 4000}, [2]int{rep.Width, rep.Height})

	before, after := pixels(t, in), pixels(t, out)
	require.Equal(t, [2]int{6000, 4000}, [2]int{after.W, after.H})
	require.NotEqual(t, before.Pix[:3000], after.Pix[:3000])
	last := after.Pix[len(after.Pix)-3000:]
	require.NotEqual(t, slices.Repeat(last[:1], 3000), last, "the last row is restored too")
}

func TestStrengthAndGuardAreOptionsOfRestore(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "in.png")
	writePhoto(t, in, 40, 32)
	run := func(name string, args ...string) []byte {
		out := filepath.Join(dir, name)
		ok(t, append([]string{"restore", in, "-o", out, "--model", tinyModel(t), "--quiet"}, args...)...)
		img, err := imaging.DecodeFile(out, imaging.Limits{})
		require.NoError(t, err)
		return img.Pix
	}
	source, err := imaging.DecodeFile(in, imaging.Limits{})
	require.NoError(t, err)
	whole, half := run("whole.png"), run("half.png", "--strength", "0.5")
	require.Equal(t, source.Pix, run("none.png", "--strength", "0", "--no-guard"))
	require.NotEqual(t, source.Pix, whole)
	for i := range half {
		require.InDelta(t, (float64(source.Pix[i])+float64(whole[i]))/2, half[i], 0.51)
	}
	code, _, stderr := command("restore", in, "-o", filepath.Join(dir, "x.png"), "--model", tinyModel(t), "--strength", "1.5")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "--strength 1.5: want 0 to 1")
}
