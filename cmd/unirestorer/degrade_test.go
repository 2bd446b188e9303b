package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/degrade"
	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/imaging"
)

func TestDegradedFilesAreWhatTheSpecSays(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.png"), filepath.Join(dir, "deep", "out.png")
	writePhoto(t, in, 60, 40)
	stdout, stderr := ok(t, "degrade", in, "-o", out, "--spec", "noise:0.2+rain:0.6", "--seed", "5", "--json")
	require.Contains(t, stderr, "rain:0.6+noise:0.2@5\n   rain (severity 0.6): density 78")

	spec, err := degrade.ParseSpec("rain:0.6+noise:0.2@5")
	require.NoError(t, err)
	want, err := evaluate.Degrade(context.Background(), pixels(t, in), spec)
	require.NoError(t, err)
	require.Equal(t, want.Pix, pixels(t, out).Pix)

	var report []degraded
	decodeJSON(t, stdout, &report)
	require.Len(t, report, 1)
	require.Equal(t, "rain:0.6+noise:0.2@5", report[0].Spec)
	require.Len(t, report[0].Terms, 2)
	require.NotEmpty(t, report[0].Terms[1].Params[0].Value)

	again := filepath.Join(dir, "again.png")
	_, stderr = ok(t, "degrade", in, "-o", again, "--spec", report[0].Spec, "--quiet")
	require.Empty(t, stderr)
	require.Equal(t, want.Pix, pixels(t, again).Pix, "the report repeats the picture")
}

func TestDegradingFoldersGivesEveryImageItsOwnSeed(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.png", "sub/b.png"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, "in", name)), 0o777))
		writePhoto(t, filepath.Join(dir, "in", name), 40, 30)
	}
	args := []string{"degrade", filepath.Join(dir, "in"), "-o", filepath.Join(dir, "out"), "--spec", "noise:0.5@7", "--format", "bmp"}
	_, stderr := ok(t, args...)
	require.Contains(t, stderr, "noise:0.5@7")
	require.Contains(t, stderr, "noise:0.5@8")
	require.ElementsMatch(t, []string{"a.bmp", "sub/b.bmp"}, names(t, filepath.Join(dir, "out")))
	require.NotEqual(t, pixels(t, filepath.Join(dir, "out", "a.bmp")).Pix, pixels(t, filepath.Join(dir, "out", "sub", "b.bmp")).Pix)

	_, stderr = ok(t, args...)
	require.Contains(t, stderr, "exists, skipped (--overwrite degrades it again)")
	_, stderr = ok(t, append(args, "--overwrite")...)
	require.NotContains(t, stderr, "skipped")
}

func TestDegradeStreams(t *testing.T) {
	in := filepath.Join(t.TempDir(), "in.png")
	writePhoto(t, in, 40, 30)
	data, err := os.ReadFile(in)
	require.NoError(t, err)
	code, stdout, stderr := commandIn(context.Background(), bytes.NewReader(data), "degrade", "-", "-o", "-", "-s", "jpeg:q=10", "-f", "jpeg")
	require.Zero(t, code, stderr)
	img, err := imaging.Decode(bytes.NewReader([]byte(stdout)), imaging.Limits{})
	require.NoError(t, err)
	require.Equal(t, imaging.JPEG, img.Meta.Format)
	require.Equal(t, [2]int{40, 30}, [2]int{img.W, img.H})
}

func TestDegradationsAreListedWithFormulaAndSource(t *testing.T) {
	stdout, _ := ok(t, "degrade", "--list")
	for _, k := range append(degrade.Kinds(), degrade.HeldOutKinds()...) {
		require.Contains(t, stdout, k.String()+": "+k.Title())
		require.Contains(t, stdout, k.Params()[0].Meaning)
	}
	require.Contains(t, stdout, "for evaluation only")
	stdout, _ = ok(t, "degrade", "--list", "--json")
	var list []listedKind
	decodeJSON(t, stdout, &list)
	require.Len(t, list, len(degrade.Kinds())+len(degrade.HeldOutKinds()))
	for _, k := range list {
		require.NotEmpty(t, k.Formula)
		require.NotEmpty(t, k.Source)
		require.NotEmpty(t, k.Params)
	}
}

func TestDegradeRefusesWhatMakesNoSense(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "in.png")
	writePhoto(t, in, 20, 20)
	out := filepath.Join(dir, "x.png")
	for want, args := range map[string][]string{
		"no input given; see unirestorer degrade --help":      {"degrade"},
		"no output given: use -o OUT":                         {"degrade", in},
		"no degradation given: use --spec SPEC":               {"degrade", in, "-o", out},
		`--spec: degradation "frogs"`:                         {"degrade", in, "-o", out, "--spec", "frogs"},
		"severity 2 is outside":                               {"degrade", in, "-o", out, "--spec", "rain:2"},
		`--format "gif"`:                                      {"degrade", in, "-o", out, "--spec", "rain", "--format", "gif"},
		"--quality 101: want 1 to 100":                        {"degrade", in, "-o", out, "--spec", "rain", "--quality", "101"},
		"--json and -o - both want standard output":           {"degrade", in, "-o", "-", "--spec", "rain", "--json"},
		"would replace the input":                             {"degrade", in, "-o", in, "--spec", "rain"},
		"unknown image file extension":                        {"degrade", in, "-o", out + ".xyz", "--spec", "rain"},
		"--list takes no arguments":                           {"degrade", in, "--list"},
		`invalid value "-1" for flag -seed`:                   {"degrade", in, "-o", out, "--spec", "rain", "--seed", "-1"},
		"standard output takes one image":                     {"degrade", in, in, "-o", "-", "--spec", "rain"},
		"standard input needs an output file, not a folder":   {"degrade", "-", "-o", dir, "--spec", "rain"},
		`seed "x" is not a whole number`:                      {"degrade", in, "-o", out, "--spec", "rain@x"},
		"would both be written to " + filepath.Join(dir, "y"): {"degrade", in, in, "-o", filepath.Join(dir, "y"), "--spec", "rain"},
	} {
		code, stdout, stderr := command(args...)
		require.Equal(t, exitUsage, code, "%q: %s", args, stderr)
		require.Contains(t, stdout+stderr, want)
		require.Equal(t, []string{"in.png"}, names(t, dir), "nothing is written")
	}
}

func TestDegradeGoesOnAfterAFileThatFails(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.png"), filepath.Join(dir, "bad.png")
	writePhoto(t, good, 20, 20)
	require.NoError(t, os.WriteFile(bad, []byte("no image"), 0o666))
	out := filepath.Join(dir, "out")
	code, stdout, stderr := command("degrade", bad, good, "-o", out, "--spec", "haze", "--json")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "unirestorer: degrade: "+bad+": ")
	require.Equal(t, []string{"good.png"}, names(t, out))
	var report []degraded
	decodeJSON(t, stdout, &report)
	require.NotEmpty(t, report[0].Error)
	require.Equal(t, "haze:0.5@1", report[1].Spec)

	require.NoError(t, os.MkdirAll(filepath.Join(dir, "empty"), 0o777))
	code, _, stderr = command("degrade", filepath.Join(dir, "empty"), "-o", filepath.Join(dir, "y"), "--spec", "haze")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "no images found")
}

func TestInterruptedDegradeLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "in.png")
	writePhoto(t, in, 20, 20)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	code, stdout, stderr := commandIn(ctx, nil, "degrade", in, "-o", filepath.Join(dir, "out.png"), "--spec", "haze", "--json")
	require.Equal(t, exitInterrupted, code, stderr)
	require.Empty(t, stdout)
	require.Equal(t, []string{"in.png"}, names(t, dir))
}
