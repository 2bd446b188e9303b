package main

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/profile"
)

// brief keeps measurements short; their figures say nothing.
func brief(args ...string) []string {
	return append(args, "--quiet", "--max-time", "50ms", "--min-runs", "8", "--peak-gflops", "100", "--peak-gbs", "10")
}

func profiled(t *testing.T, args ...string) *profile.Profile {
	t.Helper()
	out, _ := ok(t, append([]string{"profile", "--json"}, args...)...)
	p, err := profile.Read(strings.NewReader(out))
	require.NoError(t, err)
	return p
}

func TestProfileMeasuresTheChosenNetworks(t *testing.T) {
	p := profiled(t, brief("-m", tinyModel(t), "-e", "0", "-e", "7", "--estimator", "--size", "32,40x24", "--batch", "1,2", "--nodes")...)
	require.Len(t, p.Networks, 2*2+2*2*2)
	require.Equal(t, 100e9, p.Peaks.Operations)
	for _, n := range p.Networks {
		require.NotEmpty(t, n.Measured.Samples)
		require.NotEmpty(t, n.Parts)
		require.Positive(t, n.Stored)
	}
	last := p.Networks[len(p.Networks)-1]
	require.Equal(t, []int{7, 40, 24, 2}, []int{last.Index, last.Width, last.Height, last.Batch})

	out, _ := ok(t, "inspect", tinyModel(t), "--size", "32x32", "--json")
	var info inspected
	decodeJSON(t, out, &info)
	require.Equal(t, info.Parts[2].MACs, p.Networks[4].Cost.MACs, "inspect and profile count the same")
	require.Equal(t, info.Parts[2].Params, p.Networks[4].Parameters)
}

func TestProfileWritesTableTraceAndPage(t *testing.T) {
	dir := t.TempDir()
	images := filepath.Join(dir, "images")
	for i := range 3 {
		copyFile(t, photo(i), filepath.Join(images, filepath.Base(photo(i))))
	}
	require.NoError(t, os.WriteFile(filepath.Join(images, "broken.png"), []byte("no image"), 0o666))
	html, trace := filepath.Join(dir, "p.html"), filepath.Join(dir, "t.json")
	out, errs := ok(t, brief("profile", "-m", tinyModel(t), "--expert", "1", "--size", "32", "--gpu", "a100", "--images", images,
		"--memory", "100MB", "--html", html, "--trace", trace, "--nodes")...)
	for _, want := range []string{"Networks: counted", "Measured on cpu", "Predicted on NVIDIA A100", "As routed: 3 images, costed at 32×32", "by stage", "under a bound of 95 MiB"} {
		require.Contains(t, out, want)
	}
	require.Contains(t, errs, "not routed: ")
	require.Contains(t, errs, "broken.png")
	page, err := os.ReadFile(html)
	require.NoError(t, err)
	require.Contains(t, string(page), "The pool as routed")
	data, err := os.ReadFile(trace)
	require.NoError(t, err)
	require.True(t, json.Valid(data))
	require.ElementsMatch(t, []string{"images/broken.png", "images/img0.png", "images/img1.png", "images/img2.png", "p.html", "t.json"}, names(t, dir))
}

func TestProfileOnTheSimulatorCountsAndPredicts(t *testing.T) {
	p := profiled(t, "-m", tinyModel(t), "--device", "sim", "--gpu", "l4", "--size", "16", "-e", "7", "--quiet")
	require.Len(t, p.Networks, 1)
	n := p.Networks[0]
	require.Nil(t, n.Measured)
	require.NotEmpty(t, n.Counters)
	require.Positive(t, n.Predicted.Seconds())
	require.Equal(t, "l4", p.Predicted.Name)
}

func TestReleasedNetworksNeedNoCheckpoint(t *testing.T) {
	out, _ := ok(t, "profile", "--released", "--unique", "--device", "sim", "--count-up-to", "0", "--csv", "--quiet")
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 1+2+30)
	require.Equal(t, []string{"expert", "7", "middle 6", "nafnet_local", "256", "256", "1", "67888835"}, rows[10][:8])
}

func TestProfileDiffFindsWhatChanged(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, change func(*profile.Profile)) string {
		p := profiled(t, brief("-m", tinyModel(t), "-e", "7", "--size", "16")...)
		p.Networks[0].Measured.Samples = []float64{1.01, 1.02, 1.03, 1.04, 1.05, 1.06, 1.07, 1.08}
		p.Networks[0].Measured.Contention = nil // as on a quiet machine
		change(p)
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		require.NoError(t, err)
		require.NoError(t, p.Write(f))
		require.NoError(t, f.Close())
		return path
	}
	before := write("a.json", func(*profile.Profile) {})
	after := write("b.json", func(p *profile.Profile) {
		p.Machine.CPU = "another"
		for i := range p.Networks[0].Measured.Samples {
			p.Networks[0].Measured.Samples[i] *= 1.5
		}
	})
	busy := write("busy.json", func(p *profile.Profile) {
		p.Networks[0].Measured.Contention = &profile.Contention{Reasons: []string{"others used 2.0 of 2 cores"}}
	})
	code, _, errs := command("profile", "diff", before, busy, "--fail-above", "400")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "not judged, for the machine was busy: middle 6 16×16, batch 1")
	out, errs := ok(t, "profile", "diff", before, after)
	require.Contains(t, out, "worse")
	require.Contains(t, errs, "warning: machines differ")
	_, _ = ok(t, "profile", "diff", before, before, "--fail-above", "0")
	code, out, errs = command("profile", "diff", before, after, "--json", "--fail-above", "20")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "grown by 50.0 %, more than 20 %")
	var d profile.Difference
	decodeJSON(t, out, &d)
	require.InDelta(t, 0.5, d.Regression(), 1e-9)
	_, _ = ok(t, "profile", "diff", before, after, "--fail-above", "60")
}

func TestPicturesArriveAtARate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "path.json")
	stdout, _ := ok(t, "profile", "--model", published("nafnet"), "--rate", "20", "--clients", "2", "--for", "500ms", "--size", "32", "--trace", path, "--json")
	var l profile.Load
	require.NoError(t, json.Unmarshal([]byte(stdout), &l))
	require.Zero(t, l.Failed)
	var stages []string
	for _, s := range l.Stages {
		stages = append(stages, s.Name)
	}
	for _, want := range []string{"decode", "turn", "run", "encode"} {
		require.Contains(t, stages, want)
	}
	require.FileExists(t, path)
}

func TestProgramsProfileInTurns(t *testing.T) {
	t.Setenv(runAsCommand, "1") // the test's own program stands for both
	self, err := os.Executable()
	require.NoError(t, err)
	args := brief("profile", "--model", tinyModel(t), "--expert", "0", "--size", "32", "--against", self, "--rounds", "6", "--quiet", "--json")
	stdout, _ := ok(t, args...)
	var a profile.Against
	require.NoError(t, json.Unmarshal([]byte(stdout), &a))
	require.Len(t, a.Networks, 1)
	require.Len(t, a.Networks[0].SamplesA, 6)
	require.Len(t, a.Networks[0].SamplesB, 6)
	code, _, stderr := command(brief("profile", "--against", "/bin/false", "--rounds", "3", "--quiet")...)
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "--rounds 3")
	code, _, stderr = command(brief("profile", "--against", "/bin/false", "--rounds", "6", "--quiet")...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "/bin/false")
}

func TestProfileRefusesWhatMakesNoSense(t *testing.T) {
	model := tinyModel(t)
	for want, args := range map[string][]string{
		"--nodes does not go with":     {"-m", model, "--rate", "1", "--nodes"},
		"go with --rate":               {"-m", model, "--clients", "2"},
		"--for 0s: want positive":      {"-m", model, "--rate", "1", "--for", "0s"},
		"do not run on NVIDIA T4":      {"-m", model, "--gpu", "t4"},
		"--csv does not go with":       {"-m", model, "--against", "x", "--csv"},
		"--against nosuchprogram":      {"-m", model, "--against", "nosuchprogram"},
		"takes no argument":            {"-m", model, "folder"},
		"--released and --model":       {"--released", "-m", model},
		"expert 99: the pool has 0":    {"-m", model, "-e", "99"},
		`--size "12x": want N or WxH`:  {"-m", model, "--size", "12x"},
		`--size "0": want`:             {"-m", model, "--size", "0"},
		`--batch "1,,2": want`:         {"-m", model, "--batch", "1,,2"},
		"unknown GPU":                  {"-m", model, "--gpu", "voodoo"},
		"unknown device":               {"-m", model, "--device", "abacus"},
		"--json and --csv":             {"-m", model, "--json", "--csv"},
		"give both":                    {"-m", model, "--memory", "1GB"},
		`--memory "much"`:              {"-m", model, "--memory", "much", "--images", "x"},
		"runs in real time":            {"-m", model, "--images", "x", "--device", "sim"},
		"given together":               {"-m", model, "--peak-gbs", "1"},
		"at least one":                 {"-m", model, "--min-runs", "0"},
		"--adapters":                   {"-m", model, "--adapters", "glued"},
		"want two profiles":            {"diff", "a.json"},
		"alpha between":                {"diff", "a.json", "b.json", "--alpha", "2"},
		"--fail-above -1: want 0 or":   {"diff", "a.json", "b.json", "--fail-above=-1"},
		"--threads -1: want 0 or more": {"-m", model, "--threads=-1"},
		"--threads -2: want 0 or more": {"-m", model, "--device", "sim", "--threads=-2"},
	} {
		code, _, errs := command(append([]string{"profile"}, args...)...)
		require.Equal(t, exitUsage, code, "%v: %s", args, errs)
		require.Contains(t, errs, want)
	}
	code, _, errs := command("profile", "diff", photo(0), photo(0))
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "not a profile")
	code, _, errs = command("profile", "-m", model, "--quiet", "--images", t.TempDir())
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "no image files in it")
}
