package main

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/lora"
)

// extraction is what lora extract reports as JSON.
type extraction struct {
	Adapters []extracted `json:"adapters"`
}

func TestExtractedAdaptersRunAsExperts(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	var rep extraction
	stdout, _ := ok(t, "lora", "extract", "--model", tinyModel(t), "--base", "coarse 0", "--full", "15", "--full", "fine 8",
		"--rank", "2", "-o", out, "--json", "--quiet")
	decodeJSON(t, stdout, &rep)
	require.Len(t, rep.Adapters, 2)
	require.Equal(t, []int{30, 31}, []int{rep.Adapters[0].Expert, rep.Adapters[1].Expert})
	m, err := experts.OpenModel(out)
	require.NoError(t, err)
	defer m.Close()
	require.Len(t, m.Config.Experts, 32)
	e := m.Config.Experts[31]
	require.Equal(t, models.LoRARestormerName, e.Architecture)
	require.Equal(t, 0, *e.Base)
	require.Equal(t, m.Config.Experts[16].Level, e.Level)
	require.Contains(t, m.Config.Provenance.Notes[len(m.Config.Provenance.Notes)-1], "adapter of rank 2")
	for _, a := range rep.Adapters {
		require.Greater(t, a.Kept, 0.0)
		require.Less(t, a.Kept, 1.0)
		require.Less(t, a.Bytes, a.FullBytes)
		restored := filepath.Join(dir, strconv.Itoa(a.Expert)+".png")
		ok(t, "restore", photo(0), "-o", restored, "--model", out, "--expert", strconv.Itoa(a.Expert), "--quiet")
		require.FileExists(t, restored)
	}
}

// The base's tensors are in the new folder once, so adapters cost what they say.
func TestAdaptersShareTheirBaseInTheFolder(t *testing.T) {
	dir := t.TempDir()
	var rep extraction
	stdout, _ := ok(t, "lora", "extract", "--model", tinyModel(t), "--base", "0", "--full", "15", "--rank", "1", "-o", filepath.Join(dir, "out"), "--json", "--quiet")
	decodeJSON(t, stdout, &rep)
	m, err := experts.OpenModel(filepath.Join(dir, "out"))
	require.NoError(t, err)
	defer m.Close()
	base, err := m.Source.Tensor("l0_experts.0.latent.0.attn.qkv.weight")
	require.NoError(t, err)
	shared, err := m.Source.Tensor(m.Config.Experts[30].Prefix + "latent.0.attn.qkv.conv.weight")
	require.NoError(t, err)
	require.Equal(t, base.StorageKey(), shared.StorageKey())
}

func TestReplacedExpertsGiveTheirPlaceAndWeights(t *testing.T) {
	dir := t.TempDir()
	stdout, _ := ok(t, "lora", "extract", "--model", tinyModel(t), "--base", "0", "--full", "15", "--rank", "2", "--replace", "-o", filepath.Join(dir, "out"))
	require.Contains(t, stdout, `expert 15 "fine 7-lora-r2": rank 2 of fine 7 - coarse 0`)
	require.Contains(t, stdout, "latent.0.attn.qkv_dwconv")
	m, err := experts.OpenModel(filepath.Join(dir, "out"))
	require.NoError(t, err)
	defer m.Close()
	require.Len(t, m.Config.Experts, 30)
	require.Equal(t, "fine 7-lora-r2", m.Config.Experts[15].Name)
	_, err = m.Source.Tensor("l2_experts.7.output.weight")
	require.Error(t, err, "the full expert's weights are left out")
}

func TestExpertsOfAnotherFolderAreAdapted(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	var rep extraction
	stdout, _ := ok(t, "lora", "extract", "--base", tinyModel(t)+"#0", "--full", tinyModel(t)+"#15", "--rank", "2", "-o", out, "--json", "--quiet")
	decodeJSON(t, stdout, &rep)
	require.Equal(t, 30, rep.Adapters[0].Expert)

	// One model as two folders: the full expert comes along.
	other := filepath.Join(dir, "other")
	require.NoError(t, os.CopyFS(other, os.DirFS(out)))
	stdout, _ = ok(t, "lora", "extract", "--model", tinyModel(t), "--base", "0", "--full", other+"#16", "--rank", "2", "-o", filepath.Join(dir, "both"), "--json", "--quiet")
	decodeJSON(t, stdout, &rep)
	m, err := experts.OpenModel(filepath.Join(dir, "both"))
	require.NoError(t, err)
	defer m.Close()
	require.Len(t, m.Config.Experts, 32)
	require.Equal(t, []string{"fine 8", "fine 8-lora-r2"}, []string{m.Config.Experts[30].Name, m.Config.Experts[31].Name})
}

func TestLoRAUsageErrors(t *testing.T) {
	t.Setenv("UNIRESTORER_MODEL", "")
	model, dir := tinyModel(t), t.TempDir()
	out := filepath.Join(dir, "out")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"lora", "frob"}, exitUsage, `no command "lora frob"`},
		{[]string{"lora", "extract", "--model", model}, exitUsage, "want --base EXPERT"},
		{[]string{"lora", "extract", "--frob"}, exitUsage, "frob"},
		{[]string{"lora", "extract", "--model", model, "--base", "0", "--full", "15", "--rank", "-1", "-o", out}, exitUsage, "--rank -1"},
		{[]string{"lora", "extract", "--model", model, "--base", "0", "--full", "15", "--rank", "1", "--dtype", "f8", "-o", out}, exitUsage, "--dtype"},
		{[]string{"lora", "extract", "--model", model, "--base", "0", "--full", "99", "--rank", "1", "-o", out}, exitUsage, "expert 99: the pool has 0 to 29"},
		{[]string{"lora", "extract", "--model", model, "--base", "0", "--full", "nowhere", "--rank", "1", "-o", out}, exitUsage, `no expert is called "nowhere"`},
		{[]string{"lora", "extract", "--model", model, "--base", "0", "--full", "9", "--rank", "1", "-o", out}, exitFailed, "the networks differ"},
		{[]string{"lora", "extract", "--model", model, "--base", "0", "--full", "29", "--rank", "1", "-o", out}, exitFailed, "must be of architecture restormer"},
		{[]string{"lora", "extract", "--model", model, "--base", "0", "--full", "0", "--rank", "1", "--replace", "-o", out}, exitFailed, "it is the base"},
		{[]string{"compare-lora", "--model", model, "--pair", "15"}, exitUsage, "want FULL:OTHER"},
		{[]string{"compare-lora", "--model", model, "--pair", "15:29"}, exitUsage, "is a nafnet_local"},
		{[]string{"compare-lora", "--model", model, "--pair", "15:77"}, exitUsage, "expert 77"},
		{[]string{"compare-lora", "--model", model, "--ranks", "0"}, exitUsage, "--ranks"},
		{[]string{"compare-lora", "--model", model, "--ranks", "1,x"}, exitUsage, "--ranks"},
		{[]string{"compare-lora", "--model", model, "--side", "0"}, exitUsage, "--side"},
		{[]string{"compare-lora", "--model", model, "--plot", "x.pdf"}, exitUsage, ".svg or .png"},
		{[]string{"compare-lora", "--model", model, "--html", filepath.Join(dir, "none", "x.html")}, exitUsage, "there is no folder"},
		{[]string{"compare-lora", "--model", model, "stray"}, exitUsage, "unexpected argument"},
		{[]string{"compare-lora", "--released", "--model", model}, exitUsage, "exclude each other"},
	} {
		code, _, stderr := command(c.args...)
		require.Equal(t, c.code, code, "%q: %s", c.args, stderr)
		require.Contains(t, stderr, c.want, "%q", c.args)
	}
	require.NoDirExists(t, out)
}

func TestCompareLoRAMeasuresAndDraws(t *testing.T) {
	dir := t.TempDir()
	writePhoto(t, filepath.Join(dir, "photo.png"), 96, 80)
	at := func(name string) string { return filepath.Join(dir, name) }
	stdout, _ := ok(t, "compare-lora", "--model", tinyModel(t), "--pair", "15:11", "--ranks", "1,2", "--synth", at("photo.png"),
		"--case", "noise", "--count", "2", "--size", "32", "--budget", "1ms", "--json", "--quiet", "--plot", at("p.svg"), "--html", at("p.html"))
	var r lora.Comparison
	decodeJSON(t, stdout, &r)
	require.Len(t, r.Pairs, 1)
	require.Equal(t, lora.Pair{Full: 15, LoRA: 11, Base: 0}, r.Pairs[0].Pair)
	require.Equal(t, 2, r.Pairs[0].Pictures)
	require.Len(t, r.Pairs[0].Candidates, 6)
	require.NotEmpty(t, r.Pairs[0].Verdict.Text)
	svg, err := os.ReadFile(at("p.svg"))
	require.NoError(t, err)
	require.Contains(t, string(svg), "<svg")
	page, err := os.ReadFile(at("p.html"))
	require.NoError(t, err)
	require.Contains(t, string(page), "Verdict")

	stdout, _ = ok(t, "compare-lora", "--model", tinyModel(t), "--pair", "fine 7:coarse 0", "--ranks", "1", "--no-times", "--side", "32", "--quiet")
	require.Contains(t, stdout, "Verdict on fine 7: Quality was not measured")
	require.NotContains(t, stdout, "PSNR")
}
