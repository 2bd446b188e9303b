//go:build cuda && cudasim && linux

package main

import (
	"bytes"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/cuda/simdriver"
)

// smallPictures makes n pictures of a few pixels, each another part of the sample.
func smallPictures(t *testing.T, n int) string {
	f, err := os.Open("../../testdata/photos/rain.png")
	require.NoError(t, err)
	defer f.Close()
	img, err := png.Decode(f)
	require.NoError(t, err)
	dir := t.TempDir()
	for i := range n {
		part := image.NewNRGBA(image.Rect(0, 0, 16, 16))
		draw.Draw(part, part.Rect, img, image.Pt(16*i, 40), draw.Src)
		var b bytes.Buffer
		require.NoError(t, png.Encode(&b, part))
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.png", i)), b.Bytes(), 0o600))
	}
	return dir
}

// onCards runs the command in a process of its own, with two simulated GPUs, and returns what it says.
func onCards(t *testing.T, env string, args ...string) string {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), runAsCommand+"=1", simdriver.GPUsVariable+"=80,80", env)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// results reads the pictures in a folder.
func results(t *testing.T, dir string) map[string]string {
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	all := map[string]string{}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") { // the journal tells when sources changed
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		require.NoError(t, err)
		all[f.Name()] = string(data)
	}
	return all
}

// Whatever happens to a card in the middle, every picture is restored, with the same result, and what happened is said.
func TestPicturesSurviveFailingCards(t *testing.T) {
	const pictures = 5
	in := smallPictures(t, pictures)
	restore := func(env, watchdog string) (string, map[string]string) {
		out := t.TempDir()
		said := onCards(t, env, "restore", in, "-o", out, "--device", "cuda:all", "--expert", "7", "--watchdog", watchdog)
		return said, results(t, out)
	}
	said, want := restore("", "1m")
	require.Len(t, want, pictures)
	require.NotContains(t, said, "failed")
	require.Regexp(t, `(?m)^cuda:GPU-51800000-\S+: \d pictures, \S+ each$`, said)
	require.Contains(t, said, "[cuda:GPU-51800000-")
	require.Contains(t, said, "[cuda:GPU-51810000-")
	for kind, text := range map[string]string{
		"illegal": "CUDA_ERROR_ILLEGAL_ADDRESS", "ecc": "CUDA_ERROR_ECC_UNCORRECTABLE", "lost": "CUDA_ERROR_UNKNOWN", "hang": "a kernel hangs",
	} {
		watchdog := "1m"
		if kind == "hang" {
			watchdog = "15s"
		}
		said, got := restore(fmt.Sprintf("%s=1:%s:60:%s", simdriver.FaultVariable, kind, filepath.Join(t.TempDir(), "failed")), watchdog)
		require.Equal(t, want, got, kind)
		require.Contains(t, said, "cuda:GPU-51810000-0000-0000-0000-00000000ca01 failed: ", kind)
		require.Contains(t, said, text, kind)
		require.Contains(t, said, "done again; started anew in 1s", kind)
	}
}

// Without a process of its own, a card that failed takes the other along; the pictures fail, and say why.
func TestWithoutIsolationAFaultIsEverybodys(t *testing.T) {
	in := smallPictures(t, 3)
	cmd := exec.Command(os.Args[0], "restore", in, "-o", t.TempDir(), "--device", "cuda:0,1", "--expert", "7", "--isolate=false")
	cmd.Env = append(os.Environ(), runAsCommand+"=1", simdriver.FaultVariable+"=1:illegal:60")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "CUDA_ERROR_ILLEGAL_ADDRESS")
	require.True(t, strings.Contains(string(out), "is taken out") || strings.Contains(string(out), "workers broke at it"), "%s", out)
}

// With CUDA_LAUNCH_BLOCKING=1 the error of a fault names picture, expert, node and kernel.
func TestFaultOnCardsNamesTheKernel(t *testing.T) {
	in := smallPictures(t, 1)
	cmd := exec.Command(os.Args[0], "restore", filepath.Join(in, "0.png"), "-o", filepath.Join(t.TempDir(), "x.png"), "--device", "cuda", "--expert", "7")
	cmd.Env = append(os.Environ(), runAsCommand+"=1", "CUDA_LAUNCH_BLOCKING=1", simdriver.FaultVariable+"=0:illegal:40")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Regexp(t, `0\.png: expert 7 \(nafnet_local\): run nafnet_local: .*kernel \w+ \(grid`, string(out))
	require.Contains(t, string(out), "CUDA_ERROR_ILLEGAL_ADDRESS")
	require.NotContains(t, string(out), "launched before it")
}

// A profiler sees the picture's stages, the expert, and the nodes that kernels and graph nodes come from.
func TestProfilerOfCardsSeesNames(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("needs a C compiler")
	}
	dir := t.TempDir()
	library, file := filepath.Join(dir, "injection.so"), filepath.Join(dir, "ranges")
	text, err := exec.Command(cc, "-shared", "-fPIC", "-o", library, "../../runtime/nvtx/testdata/injection.c").CombinedOutput()
	require.NoError(t, err, "%s", text)
	t.Setenv("FAKE_NVTX", file)
	picture := filepath.Join(smallPictures(t, 1), "0.png")
	onCards(t, "NVTX_INJECTION64_PATH="+library, "restore", picture, "-o", filepath.Join(dir, "x.png"), "--device", "cuda", "--expert", "7")
	ranges, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, name := range []string{"decode " + picture, "estimate", "load fine-2-clean", "run fine-2-clean", "encode " + filepath.Join(dir, "x.png"), "intro"} {
		require.Regexp(t, `(?m)^start \d+ `+name+`$`, string(ranges))
	}
	require.Equal(t, strings.Count(string(ranges), "start "), strings.Count(string(ranges), "end "))
}
