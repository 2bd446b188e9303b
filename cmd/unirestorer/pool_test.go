package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/pools"
)

func published(name string) string {
	return filepath.Join("..", "..", "testdata", "singles", name, "model.pth")
}

func TestAPoolIsPutTogetherOnTheCommandLine(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "mine")
	stdout, _ := ok(t, "pool", "new", mine, "--router", "nano")
	require.Contains(t, stdout, "rain")
	stdout, _ = ok(t, "pool", "add", mine, published("restormer_rain"), "--kind", "rain", "--name", "base", "--json")
	var added pools.Added
	require.NoError(t, json.Unmarshal([]byte(stdout), &added))
	require.Equal(t, []string{"rain"}, added.Leaves)
	stdout, _ = ok(t, "pool", "add-lora", mine, filepath.Join("..", "..", "testdata", "adapters", "peft"), "--base", "base", "--name", "heavy", "--kind", "snow")
	require.Contains(t, stdout, "adapts 42 layers, scaled by 1.5 2; chosen for snow")
	stdout, _ = ok(t, "pool", "list", mine)
	require.Regexp(t, `(?m)^2 +heavy +restormer +base +snow +fine +snow$`, stdout)
	require.Contains(t, stdout, "no expert, left as they are: lowlight, ")

	out := filepath.Join(dir, "out.png")
	_, stderr := ok(t, "restore", filepath.Join(repository, "testdata", "photos", "rain.png"), "-o", out, "--model", mine)
	require.Contains(t, stderr, `"base" (restormer)`)
	_, stderr = ok(t, "restore", filepath.Join(repository, "testdata", "photos", "clean.png"), "-o", out, "--model", mine)
	require.Contains(t, stderr, "the pool has no expert for clean: the picture is left as it is")

	// What an expert with random weights does is harm, and pool check says so.
	photo := filepath.Join(dir, "photo.png")
	writePhoto(t, photo, 96, 80)
	code, stdout, stderr := command("pool", "check", mine, "--synth", photo, "--case", "rain", "--count", "1", "--size", "64", "--quiet")
	require.Equal(t, exitFailed, code)
	require.Regexp(t, `(?m)^base +-\d+\.\d+$`, stdout)
	require.Contains(t, stderr, "base harms rain, which it was added for")

	ok(t, "lora", "export", "heavy", "--model", mine, "-o", filepath.Join(dir, "adapter"))
	require.FileExists(t, filepath.Join(dir, "adapter", "adapter_config.json"))
	stdout, _ = ok(t, "lora", "export", "heavy", "--model", mine, "-o", filepath.Join(dir, "a.safetensors"), "--form", "loralib")
	require.Contains(t, stdout, "alpha/r is")
	ok(t, "export", "base", "--model", mine, "-o", filepath.Join(dir, "base.onnx"))
	ok(t, "export", "estimator", "--model", mine, "-o", filepath.Join(dir, "estimator.onnx"), "--weights", "fp16")
	ok(t, "export", "heavy", "--model", mine, "-o", filepath.Join(dir, "heavy.safetensors"))
	stdout, _ = ok(t, "inspect", filepath.Join(dir, "heavy.safetensors"))
	require.Contains(t, stdout, "restormer")
	ok(t, "pool", "remove", mine, "heavy")
	stdout, _ = ok(t, "pool", "list", mine, "--json")
	require.NotContains(t, stdout, "heavy")
}

func TestSingleNetworksGoWhereModelsGo(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.png")
	in := filepath.Join("..", "..", "testdata", "singles", "nafnet", "in.png")
	_, stderr := ok(t, "restore", in, "-o", out, "--model", published("nafnet"))
	require.Contains(t, stderr, `"model" (nafnet) on cpu; only expert`)
	_, stderr = ok(t, "restore", in, "-o", out, "--model", published("nafnet"), "--net-args", `{"train_size":32}`)
	require.Contains(t, stderr, "(nafnet_local)")
	_, stderr = ok(t, "restore", in, "-o", out, "--model", published("restormer_gray"))
	require.Contains(t, stderr, "the network is one for grey pictures: colours are lost")
	stdout, _ := ok(t, "route", in, "--model", published("nafnet"))
	require.Contains(t, stdout, "only expert")
	stdout, _ = ok(t, "profile", "--model", published("nafnet_baseline"), "--size", "32x32")
	require.Contains(t, stdout, "nafnet_baseline")
	ok(t, "lora", "extract", "--base", published("restormer_rain"), "--full", published("restormer_rain"), "--rank", "1", "-o", filepath.Join(dir, "extracted"), "--quiet")
	require.FileExists(t, filepath.Join(dir, "extracted", "config.json"))
	photo := filepath.Join(dir, "photo.png")
	writePhoto(t, photo, 96, 80)
	stdout, _ = ok(t, "evaluate", "--model", published("nafnet"), "--synth", photo, "--case", "rain", "--count", "1", "--size", "64", "--quiet")
	require.Contains(t, stdout, "rain")
}

func TestPoolUsageErrors(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "mine")
	ok(t, "pool", "new", mine)
	text := filepath.Join(dir, "text.pth")
	require.NoError(t, os.WriteFile(text, []byte("no network"), 0o666))
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"pool", "new"}, exitUsage, "want one DIR"},
		{[]string{"pool", "new", mine}, exitFailed, "exists and is not empty"},
		{[]string{"pool", "add", mine, published("nafnet")}, exitUsage, "no --kind given"},
		{[]string{"pool", "add", mine}, exitUsage, "want DIR and one file"},
		{[]string{"pool", "add", mine, text, "--kind", "rain"}, exitFailed, "neither a safetensors file nor a PyTorch checkpoint"},
		{[]string{"pool", "add", mine, published("nafnet"), "--kind", "rain", "--net-args", "{"}, exitUsage, "--net-args"},
		{[]string{"pool", "add-lora", mine, text, "--kind", "rain"}, exitUsage, "no --base given"},
		{[]string{"pool", "add-lora", mine, text, "--kind", "rain", "--base", "x", "--lora-scale", "0"}, exitUsage, "--lora-scale"},
		{[]string{"pool", "remove", mine, "x"}, exitFailed, `no expert is called "x"`},
		{[]string{"pool", "list", filepath.Join(dir, "none")}, exitFailed, "none"},
		{[]string{"pool", "check", mine}, exitUsage, "no test set given"},
		{[]string{"pool", "fit-router", mine}, exitUsage, "no --examples given"},
		{[]string{"pool", "fit-router", mine, "--examples", dir}, exitFailed, "holds no pictures"},
		{[]string{"export", "coarse", "-o", "x.pb"}, exitUsage, "ends in .onnx or .safetensors"},
		{[]string{"export", "-o", "x.onnx"}, exitUsage, "name one, or estimator"},
		{[]string{"export", "coarse", "-o", "x.onnx", "--weights", "int8"}, exitUsage, "want fp32 or fp16"},
		{[]string{"export", "estimator", "-o", filepath.Join(dir, "x.safetensors")}, exitFailed, "write it as ONNX"},
		{[]string{"lora", "export", "coarse", "-o", filepath.Join(dir, "x")}, exitFailed, "it is no adapter but a whole restormer"},
		{[]string{"restore", text, "-o", "x.png", "--net-args", "{}"}, exitUsage, "net-args"},
		{[]string{"restore", text, "-o", "x.png", "--model", text}, exitFailed, "neither a safetensors file"},
	} {
		code, _, stderr := command(c.args...)
		require.Equal(t, c.code, code, "%q: %s", c.args, stderr)
		require.Contains(t, stderr, c.want, "%q", c.args)
	}
}
