package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/runtime/imaging"
	"unirestorer/weights"
)

func TestRouteExplainsEachPhoto(t *testing.T) {
	stdout, stderr := ok(t, "route", photo(2), photo(5), "-m", tinyModel(t))
	require.Empty(t, stderr)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	require.Len(t, lines, 3)
	require.Regexp(t, `^IMAGE +EXPERT +NAME +ARCHITECTURE +WHY$`, lines[0])
	require.Regexp(t, `img2.png +12 +fine 4 +lora_restormer +automatic, leaf 4 \d+% \(entropy \d\.\d\d\), level fine \d+% \(entropy \d\.\d\d\)$`, lines[1])
	require.Regexp(t, `img5.png +7 +middle 6 +nafnet_local +automatic`, lines[2])

	bad := filepath.Join(t.TempDir(), "bad.png")
	require.NoError(t, os.WriteFile(bad, nil, 0o666))
	code, stdout, stderr := command("route", bad, photo(5), "-m", tinyModel(t), "--json")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "unirestorer: route: "+bad)
	var all []routed
	decodeJSON(t, stdout, &all)
	require.NotEmpty(t, all[0].Error)
	require.Nil(t, all[0].Decision)
	d := all[1].Decision
	require.Equal(t, []int{20, 1, 7}, []int{d.Leaf, d.Level, d.Expert})
	h := 0.0
	for _, p := range d.LeafProbs {
		h -= float64(p) * math.Log(float64(p))
	}
	require.InDelta(t, h, d.LeafEntropy, 1e-6)
}

func TestModelComesFromTheEnvironmentToo(t *testing.T) {
	t.Setenv("UNIRESTORER_MODEL", tinyModel(t))
	stdout, _ := ok(t, "route", photo(5))
	require.Contains(t, stdout, "nafnet_local")
}

func TestInspectShowsModelsAndFiles(t *testing.T) {
	folder, _ := ok(t, "inspect", tinyModel(t))
	require.Contains(t, folder, "model folder")
	require.Regexp(t, `(?m)^ *12 +fine 4 +lora_restormer +[\d,]+ +\d+ `, folder)
	require.Regexp(t, `(?m)^16 +leaf 16 .*0 5 24$`, folder)
	require.Contains(t, folder, "at 256x256")
	checkpoint, _ := ok(t, "inspect", pth(), "--hints", tinyHints(), "--size", "64x48")
	require.Contains(t, checkpoint, "pytorch zip")
	require.Contains(t, checkpoint, "at 64x48")

	var m inspected
	stdout, _ := ok(t, "inspect", tinyModel(t), "--json")
	decodeJSON(t, stdout, &m)
	require.Equal(t, weights.FormatFolder, m.Format)
	require.Len(t, m.Parts, 32, "estimator, router and experts")
	require.Len(t, m.Model.Experts, 30)
	require.Empty(t, m.Tensors)
	for _, p := range m.Parts {
		require.Positive(t, p.Params)
		require.Positive(t, p.MACs)
		require.Positive(t, p.Nodes)
	}
	require.Equal(t, []int{16, 17}, m.Parts[2+5].Leaves)
	require.Len(t, m.Parts[2].Leaves, 22)

	file := filepath.Join(goldens, "nafnet", "weights.safetensors")
	stdout, _ = ok(t, "inspect", file, "--json")
	m = inspected{}
	decodeJSON(t, stdout, &m)
	require.Equal(t, weights.FormatSafetensors, m.Format)
	require.Equal(t, "nafnet", m.Model.Experts[0].Architecture)
	require.Len(t, m.Parts, 1)
	text, _ := ok(t, "inspect", file, "--tensors")
	require.Regexp(t, `(?m)^intro.weight +F32 +\[8 3 3 3\] +864$`, text)
	// A pool that is not whole is shown as the tensors that it is.
	part := filepath.Join(t.TempDir(), "part.safetensors")
	f, err := weights.Open(pth())
	require.NoError(t, err)
	defer f.Close()
	x, err := f.Tensor("l0_experts.0.output.weight")
	require.NoError(t, err)
	require.NoError(t, weights.WriteSafetensors(t.Context(), part, []*weights.Tensor{x}, nil))
	text, _ = ok(t, "inspect", part)
	require.Contains(t, text, "note: no complete model: the checkpoint holds no degradation encoder")
	require.Contains(t, text, "l0_experts.0.output.weight")

	with, _ := ok(t, "inspect", tinyModel(t), "--tensors")
	require.Contains(t, with, "l2_experts.3.encoder_level1.0.attn.qkv.lora_A")
}

func TestConvertWritesAModelWithLabelsAndProvenance(t *testing.T) {
	dir := t.TempDir()
	var labels []models.Leaf
	for range 22 {
		labels = append(labels, models.Leaf{Name: "x", Kinds: []string{"dust"}})
	}
	labels[4].Name, labels[4].Kinds = "streaks", []string{"rain"}
	raw, err := json.Marshal(labels)
	require.NoError(t, err)
	list, out := filepath.Join(dir, "labels.json"), filepath.Join(dir, "model")
	require.NoError(t, os.WriteFile(list, raw, 0o666))
	args := []string{"convert", pth(), filepath.Join(filepath.Dir(pth()), "daclip.pt"), "-o", out, "--hints", tinyHints(), "--labels", list, "--license", "none", "--json"}
	stdout, _ := ok(t, args...)
	var report struct {
		Experts int
		Stored  weights.FolderSummary
		Unused  []string
	}
	decodeJSON(t, stdout, &report)
	require.Equal(t, 30, report.Experts)
	require.Positive(t, report.Stored.Tensors)
	require.Contains(t, report.Unused, "gamma")

	f, err := weights.OpenFolder(out)
	require.NoError(t, err)
	defer f.Close()
	c, err := models.ParseConfig(f.Config())
	require.NoError(t, err)
	require.Equal(t, "streaks", c.Tree.Leaves[4].Name)
	p := c.Provenance
	require.Equal(t, "none", p.License)
	require.Equal(t, []string{"model.pth", "daclip.pt"}, []string{p.Sources[0].Name, p.Sources[1].Name})
	info, err := os.Stat(pth())
	require.NoError(t, err)
	require.Equal(t, info.Size(), p.Sources[0].Bytes)
	require.Len(t, p.Sources[0].SHA256, 64)

	stdout, _ = ok(t, "route", photo(2), "-m", out, "-k", "RAIN")
	require.Contains(t, stdout, "instructed, streaks 100%")
	code, _, stderr := command("route", photo(2), "-m", out, "-k", "snow")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "known are 0 to 21, x, dust, streaks, rain")

	code, _, stderr = command(args...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "exists and is not empty")
	ok(t, append(args, "--overwrite", "--dtype", "f16")...)
	require.NoError(t, os.WriteFile(list, []byte(`[]`), 0o666))
	code, _, stderr = command(append(args, "--overwrite")...)
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "0 labels for 22 leaves")
}

func TestEveryPrecisionRestoresNearlyTheSame(t *testing.T) {
	dir := t.TempDir()
	var first *imaging.Image
	for _, dtype := range []string{"keep", "exact", "f16"} {
		model := filepath.Join(dir, dtype)
		ok(t, "convert", pth(), "-o", model, "--hints", tinyHints(), "--dtype", dtype, "--quiet")
		out := filepath.Join(dir, dtype+".png")
		ok(t, "restore", photo(5), "-o", out, "-m", model)
		img := pixels(t, out)
		golden(t, 5, img)
		if first == nil {
			first = img
		}
		if dtype == "exact" {
			require.Equal(t, first.Pix, img.Pix)
		}
	}
}

func TestVerifyTellsWhetherCasesPass(t *testing.T) {
	good := filepath.Join(goldens, "nafnet")
	stdout, stderr := ok(t, "verify", good, "--trace")
	require.Empty(t, stderr)
	require.Regexp(t, `(?m)^nafnet +y0 +\S+ +\S+ +\S+ +ok$`, stdout)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	require.Regexp(t, `^1 of 1 cases passed on cpu, \d+ comparisons$`, lines[len(lines)-1])

	stdout, stderr = ok(t, "verify", good, photo(0))
	require.Contains(t, stderr, "note: "+photo(0)+" is no folder and so no case, skipped")
	require.Contains(t, stdout, "1 of 1 cases passed")
	code, _, stderr := command("verify", photo(0), photo(1))
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "no case found")

	code, stdout, _ = command("verify", good, "--max-abs", "1e-12", "--failed")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stdout, "DIFFERS")
	require.Contains(t, stdout, "0 of 1 cases passed on cpu")

	code, stdout, stderr = command("verify", good, t.TempDir(), "--json")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "config.json")
	var reports []struct {
		Case   string
		OK     bool
		Checks []any
	}
	decodeJSON(t, stdout, &reports)
	require.Len(t, reports, 1)
	require.True(t, reports[0].OK)
	require.NotEmpty(t, reports[0].Checks)
}
