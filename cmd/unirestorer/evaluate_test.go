package main

import (
	"context"
	"encoding/csv"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/evaluate"
)

// evaluation runs an evaluation of the small pool that must succeed.
func evaluation(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	return ok(t, append([]string{"evaluate", "--model", tinyModel(t)}, args...)...)
}

func TestEvaluateOnPhotosWritesEverything(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "photo.png")
	writePhoto(t, in, 160, 130) // halved
	args := []string{"--synth", in, "--max-side", "80", "--count", "2", "--size", "32", "--case", "rain", "--case", "noise:0.3,sigma=25"}
	if !testing.Short() {
		args = append(args, "--matrix")
	}
	html, table := filepath.Join(dir, "out.html"), filepath.Join(dir, "out.csv")
	stdout, stderr := evaluation(t, append(args, "--ablation", "all", "--html", html, "--csv", table, "--json")...)
	require.Empty(t, stderr)
	var r evaluate.Report
	decodeJSON(t, stdout, &r)
	require.Len(t, r.Records, 4)
	require.Equal(t, "noise:0.3,sigma=25", r.Records[2].Case)
	require.Equal(t, "rain:0.25@9001000000", r.Records[0].Spec)
	require.Len(t, r.Summary.Cases, 3)
	require.Contains(t, r.Set, "photos 1")
	require.Equal(t, "cpu", r.Device.Name)
	if !testing.Short() {
		require.NotNil(t, r.Summary.Matrix)
		require.Equal(t, "oracle", r.Summary.Ablations[len(r.Summary.Ablations)-1].Policy)
	}
	page, err := os.ReadFile(html)
	require.NoError(t, err)
	require.Contains(t, string(page), "data:image/jpeg")
	f, err := os.Open(table)
	require.NoError(t, err)
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	results := 1
	for _, rec := range r.Records {
		for _, q := range rec.Experts {
			if q != nil {
				results++
			}
		}
	}
	require.Len(t, lines, results)
}

func TestEvaluateAsSavedTellsOfEveryWay(t *testing.T) {
	in := filepath.Join(t.TempDir(), "photo.png")
	writePhoto(t, in, 160, 130)
	args := []string{"--as-saved", in, "--count", "2", "--size", "32", "--case", "rain", "--case", "clean"}
	stdout, stderr := evaluation(t, append(args, "--json")...)
	require.Empty(t, stderr)
	var r evaluate.Report
	decodeJSON(t, stdout, &r)
	require.Len(t, r.Records, 2*2*len(evaluate.Ways()))
	require.Len(t, r.AsSaved.Cells, 2*len(evaluate.Ways()))
	require.Len(t, r.AsSaved.Harm, len(evaluate.Ways()))
	require.Equal(t, len(r.Records), r.AsSaved.Calibration.Count+unnamed(r))
	stdout, _ = evaluation(t, args...)
	require.Regexp(t, `(?m)^degradation +n +PNG +q90 +q75 4:2:0 +halved PNG +halved q90$`, stdout)
	require.Contains(t, stdout, "ECE")
}

// unnamed counts the pictures that no leaf of the small pool names.
func unnamed(r evaluate.Report) (n int) {
	for _, c := range r.AsSaved.Cells {
		if c.Right == nil {
			n += c.Count
		}
	}
	return n
}

func TestEqualPairsOfFilesHaveEqualQuality(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b", "a"} {
		target := filepath.Join(dir, "set", "rain", "target", name+".png")
		require.NoError(t, os.MkdirAll(filepath.Dir(target), 0o777))
		writePhoto(t, target, 48, 40)
		ok(t, "degrade", target, "-o", filepath.Join(dir, "set", "rain", "input", name+".bmp"), "--spec", "rain:0.5", "--quiet")
	}
	stdout, stderr := evaluation(t, "--data", filepath.Join(dir, "set"))
	require.Empty(t, stderr)
	require.Regexp(t, `(?m)^rain +2 +\d`, stdout)
	require.Contains(t, stdout, "Routing")
	require.NotContains(t, stdout, "regret")

	stdout, _ = evaluation(t, "--data", filepath.Join(dir, "set"), "--json")
	var r evaluate.Report
	decodeJSON(t, stdout, &r)
	require.Equal(t, r.Records[0].Before, r.Records[1].Before, "both pairs hold the same pictures")
	require.Equal(t, []string{"rain"}, r.Records[0].Kinds)
	require.Contains(t, r.Records[0].Name, "a.bmp")
}

func TestEvaluateNamesPhotosThatAreTooSmall(t *testing.T) {
	dir := t.TempDir()
	writePhoto(t, filepath.Join(dir, "large.png"), 40, 40)
	writePhoto(t, filepath.Join(dir, "small.png"), 40, 20)
	args := []string{"--synth", dir, "--count", "1", "--size", "32", "--case", "clean"}
	stdout, stderr := evaluation(t, args...)
	require.Contains(t, stderr, "small.png is too small for crops of 32 pixels, left out")
	require.Regexp(t, `(?m)^clean +1 +100\.00 +\S+ +– +–`, stdout)
	_, stderr = evaluation(t, append(args, "--quiet")...)
	require.Empty(t, stderr)
}

func TestEvaluateRefusesWhatMakesNoSense(t *testing.T) {
	t.Setenv("UNIRESTORER_MODEL", "")
	dir := t.TempDir()
	in := filepath.Join(dir, "photo.png")
	writePhoto(t, in, 64, 64)
	small := []string{"--synth", in, "--size", "32", "-m", tinyModel(t)}
	for want, args := range map[string][]string{
		"no test set given: use --synth PHOTOS, --as-saved PHOTOS or --data DIR": {},
		"--synth, --as-saved and --data are several":                             {"--synth", in, "--data", dir},
		"--as-saved and --data are several test sets":                            {"--as-saved", in, "--data", dir},
		"--matrix, --ablation and --html go with --synth":                        {"--as-saved", in, "--matrix"},
		"unexpected argument \"x\"":                                              {"--data", dir, "x"},
		"--case goes with --synth":                                               {"--data", dir, "--case", "rain"},
		"--size goes with --synth":                                               {"--data", dir, "--size", "64"},
		`--severity "0": want numbers above 0`:                                   {"--synth", in, "--severity", "0"},
		`--severity "0.5,x"`:                                                     {"--synth", in, "--severity", "0.5,x"},
		`--case: case degradation "frogs"`:                                       {"--synth", in, "--case", "frogs"},
		"--examples -1":                                                          {"--synth", in, "--examples", "-1"},
		"--size 2048 with --max-side 1024":                                       {"--synth", in, "--size", "2048"},
		"there is no folder " + filepath.Join(dir, "no"):                         {"--synth", in, "--html", filepath.Join(dir, "no", "x.html")},
		`--memory "much"`:                                                        {"--synth", in, "--memory", "much"},
		`--ablation: no policy "best"`:                                           append(small, "--ablation", "best"),
		"--ablation: policy oracle needs the results of all":                     append(small, "--ablation", "oracle"),
		"0 crops for each case":                                                  append(small, "--count", "0"),
		"case rain occurs twice":                                                 append(small, "--case", "rain", "--case", "rain"),
		"an empty value":                                                         {"--synth", ""},
	} {
		code, stdout, stderr := command(append([]string{"evaluate"}, args...)...)
		require.Equal(t, exitUsage, code, "%q: %s", args, stderr)
		require.Contains(t, stdout+stderr, want)
		require.Equal(t, []string{"photo.png"}, names(t, dir), "nothing is written")
	}
}

func TestEvaluateFailuresLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "photo.png")
	writePhoto(t, in, 64, 64)
	out := filepath.Join(dir, "out.html")
	for want, args := range map[string][]string{
		"no folders input and target": {"--data", dir},
		"gone":                        {"--synth", filepath.Join(dir, "gone")},
		"no photo keeps 256 pixels":   {"--synth", in},
		"over the memory budget":      {"--synth", in, "--size", "32", "--count", "1", "--memory", "1kB"},
	} {
		code, _, stderr := command(append([]string{"evaluate", "--model", tinyModel(t), "--html", out}, args...)...)
		require.Equal(t, exitFailed, code, "%q: %s", args, stderr)
		require.Contains(t, stderr, want)
		require.Equal(t, []string{"photo.png"}, names(t, dir))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	code, stdout, _ := commandIn(ctx, nil, "evaluate", "--model", tinyModel(t), "--synth", in, "--size", "32", "--html", out)
	require.Equal(t, exitInterrupted, code)
	require.Empty(t, stdout)
	require.Equal(t, []string{"photo.png"}, names(t, dir))
}
