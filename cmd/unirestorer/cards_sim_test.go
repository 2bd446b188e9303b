//go:build cuda && cudasim && linux

package main

import (
	"bytes"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

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

// card is the name of one of the simulated GPUs.
const card = `cuda:GPU-518[01]0000-0000-0000-0000-00000000ca0[01]`

// faults are what the simulated driver plays, and what is said of them.
var faults = map[string]string{
	"illegal": "CUDA_ERROR_ILLEGAL_ADDRESS", "ecc": "CUDA_ERROR_ECC_UNCORRECTABLE", "lost": "CUDA_ERROR_UNKNOWN", "hang": "a kernel hangs",
}

// watchdogFor is long where it must not bark. For a hang it is what a run without a fault took in all, and half as much again:
// on a busy machine a healthy worker may be silent for long.
func watchdogFor(kind string, took time.Duration) string {
	if kind == "hang" {
		return (took + took/2 + 5*time.Second).String()
	}
	return "5m"
}

// eachFault plays the faults, one after the other with a hang, for which times matter.
func eachFault(t *testing.T, play func(t *testing.T, kind string)) {
	t.Run("at a time", func(t *testing.T) {
		for kind := range faults {
			if kind != "hang" {
				t.Run(kind, func(t *testing.T) {
					t.Parallel()
					play(t, kind)
				})
			}
		}
	})
	t.Run("hang", func(t *testing.T) { play(t, "hang") })
}

// Whatever happens to a card in the middle, every picture is restored, with the same result, and what happened is said.
func TestPicturesSurviveFailingCards(t *testing.T) {
	const pictures = 5
	in := smallPictures(t, pictures)
	restore := func(t *testing.T, env, watchdog string) (string, map[string]string) {
		out := t.TempDir()
		said := onCards(t, env, "restore", in, "-o", out, "--device", "cuda:all", "--expert", "7", "--watchdog", watchdog)
		return said, results(t, out)
	}
	start := time.Now()
	said, want := restore(t, "", "5m")
	took := time.Since(start)
	require.Len(t, want, pictures)
	require.NotContains(t, said, "failed")
	require.Regexp(t, `(?m)^cuda:GPU-518[01]0000-\S+: \d pictures, \S+ each$`, said)
	require.Contains(t, said, "[cuda:GPU-518")
	eachFault(t, func(t *testing.T, kind string) {
		said, got := restore(t, fmt.Sprintf("%s=*:%s:60:%s", simdriver.FaultVariable, kind, filepath.Join(t.TempDir(), "failed")), watchdogFor(kind, took))
		require.Equal(t, want, got)
		require.Regexp(t, card+` failed: `, said)
		require.Contains(t, said, faults[kind])
		require.Contains(t, said, "done again; started anew in 1s")
	})
}

// Without a process of its own, a card that failed takes the other along; the pictures fail, and say why.
func TestWithoutIsolationAFaultIsEverybodys(t *testing.T) {
	in := smallPictures(t, 3)
	cmd := exec.Command(os.Args[0], "restore", in, "-o", t.TempDir(), "--device", "cuda:0,1", "--expert", "7", "--isolate=false")
	cmd.Env = append(os.Environ(), runAsCommand+"=1", simdriver.FaultVariable+"=*:illegal:60")
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

// Two processes share a GPU that has not the memory for both at a time.
func TestTwoProcessesOnOneOfTheCards(t *testing.T) {
	in := smallPictures(t, 2)
	shared := t.TempDir()
	restore := func(out, memory string) *exec.Cmd {
		cmd := exec.Command(os.Args[0], "restore", in, "-o", out, "--device", "cuda", "--expert", "7", "--device-wait", "1h")
		cmd.Env = append(os.Environ(), runAsCommand+"=1", simdriver.GPUsVariable+"=80", simdriver.MemoryVariable+"="+memory, simdriver.SharedVariable+"="+shared)
		return cmd
	}
	alone := t.TempDir()
	text, err := restore(alone, "64MiB").CombinedOutput()
	require.NoError(t, err, "%s", text)
	want := results(t, alone)
	require.Len(t, want, 2)
	left, err := filepath.Glob(filepath.Join(shared, "gpu*"))
	require.NoError(t, err)
	require.Empty(t, left, "everything was given back")

	// The expert takes 1.17 MiB, and the device keeps a sixteenth free.
	var running [2]*exec.Cmd
	var said [2]bytes.Buffer
	var outs [2]string
	for i := range running {
		outs[i] = t.TempDir()
		running[i] = restore(outs[i], "2MiB")
		running[i].Stdout, running[i].Stderr = &said[i], &said[i]
		require.NoError(t, running[i].Start())
	}
	for i := range running {
		require.NoError(t, running[i].Wait(), "%s", &said[i])
		require.Equal(t, want, results(t, outs[i]))
	}
}

// server is the command serve in a process of its own, on two simulated GPUs.
type server struct {
	cmd  *exec.Cmd
	url  string
	said *bytes.Buffer
	mu   sync.Mutex
}

func (s *server) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.Write(b)
}

func (s *server) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.String()
}

func startServer(t *testing.T, env string, args ...string) *server {
	s := &server{said: &bytes.Buffer{}}
	s.cmd = exec.Command(os.Args[0], append([]string{"serve", "--listen", "127.0.0.1:0", "--grpc-listen", "off", "--timeout", "5m", "--drain-timeout", "5s"}, args...)...)
	s.cmd.Env = append(os.Environ(), runAsCommand+"=1", simdriver.GPUsVariable+"=80,80", env)
	s.cmd.Stderr, s.cmd.Stdout = s, s
	require.NoError(t, s.cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- s.cmd.Wait() }()
	t.Cleanup(func() {
		require.NoError(t, s.cmd.Process.Signal(os.Interrupt))
		<-ended
	})
	address := regexp.MustCompile(`address=(http://\S+)`)
	require.Eventually(t, func() bool {
		m := address.FindStringSubmatch(s.log())
		if m != nil {
			s.url = m[1]
		}
		return m != nil || len(ended) > 0
	}, 4*time.Minute, 20*time.Millisecond)
	require.NotEmpty(t, s.url, s.log())
	require.Eventually(t, func() bool { // a server is ready with its first GPU
		_, metrics := s.get(t, "/metrics")
		return len(regexp.MustCompile(`(?m)^unirestorer_device_up\{.*\} 1$`).FindAllString(metrics, -1)) == 2
	}, 4*time.Minute, 50*time.Millisecond)
	return s
}

// restore has a picture restored.
func (s *server) restore(t *testing.T, picture, options string) string {
	data, err := os.ReadFile(picture)
	require.NoError(t, err)
	resp, err := http.Post(s.url+"/v1/restore?"+options, "image/png", bytes.NewReader(data))
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s\n%s", body, s.log())
	return string(body)
}

func (s *server) get(t *testing.T, path string) (int, string) {
	resp, err := http.Get(s.url + path)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// A server keeps answering while a GPU fails: what was on it is done again, and log and metrics say so.
func TestServerSurvivesFailingCards(t *testing.T) {
	const pictures = 4
	in := smallPictures(t, pictures)
	all := func(t *testing.T, s *server) (answers [pictures]string) {
		var work sync.WaitGroup
		for i := range pictures {
			work.Go(func() { answers[i] = s.restore(t, filepath.Join(in, fmt.Sprintf("%d.png", i)), "expert=7") })
		}
		work.Wait()
		return answers
	}
	s := startServer(t, "", "--device", "cuda:all", "--batch", "1")
	start := time.Now()
	want := all(t, s)
	took := time.Since(start)
	_, metrics := s.get(t, "/metrics")
	require.Contains(t, metrics, `unirestorer_device_up{device="cuda:GPU-51810000-0000-0000-0000-00000000ca01"} 1`)
	require.NotContains(t, s.log(), "failed")

	eachFault(t, func(t *testing.T, kind string) {
		if (kind == "ecc" || kind == "illegal") && os.Getenv("UNIRESTORER_TEST_LONG") == "" {
			t.Skip("pictures of a folder survive it; UNIRESTORER_TEST_LONG=1 here too")
		}
		s := startServer(t, fmt.Sprintf("%s=*:%s:60:%s", simdriver.FaultVariable, kind, filepath.Join(t.TempDir(), "failed")),
			"--device", "cuda:0,1", "--batch", "1", "--watchdog", watchdogFor(kind, took))
		require.Equal(t, want, all(t, s))
		require.Regexp(t, card+` failed: `, s.log())
		require.Contains(t, s.log(), faults[kind])
		_, metrics := s.get(t, "/metrics")
		require.Regexp(t, `unirestorer_device_failures_total\{device="`+card+`"\} [1-9]`, metrics)
		status, _ := s.get(t, "/readyz")
		require.Equal(t, http.StatusOK, status, "the other card works")
		if kind == "lost" { // it cannot be started anew
			require.Eventually(t, func() bool { return regexp.MustCompile(card + ` is taken out: `).MatchString(s.log()) }, 4*time.Minute, 50*time.Millisecond)
			require.Equal(t, want, all(t, s))
		}
	})
}

// A neighbour that keeps a GPU's memory is named, after a while, and a fallback restores the picture all the same.
func TestNeighbourOnOneOfTheCardsIsNamed(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("needs a C compiler")
	}
	dir, shared, out := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "x.png")
	text, err := exec.Command(cc, "-w", "-shared", "-fPIC", "-o", filepath.Join(dir, "libnvidia-ml.so.1"), "../../runtime/cuda/nvml/testdata/nvml.c").CombinedOutput()
	require.NoError(t, err, "%s", text)
	// This process is the neighbour.
	require.NoError(t, os.WriteFile(filepath.Join(shared, fmt.Sprintf("gpu0-%d", os.Getpid())), []byte("67108864"), 0o600))
	restore := func(args ...string) (string, error) {
		picture := filepath.Join(smallPictures(t, 1), "0.png")
		cmd := exec.Command(os.Args[0], append([]string{"restore", picture, "-o", out, "--device", "cuda", "--expert", "7"}, args...)...)
		cmd.Env = append(os.Environ(), runAsCommand+"=1", simdriver.GPUsVariable+"=80", simdriver.MemoryVariable+"=64MiB", simdriver.SharedVariable+"="+shared,
			"LD_LIBRARY_PATH="+dir, "FAKE_NVML_UUID=GPU-51800000-0000-0000-0000-00000000ca00", "FAKE_NVML_PROCESSES=1")
		said, err := cmd.CombinedOutput()
		return string(said), err
	}
	for _, how := range []string{"--isolate=false", "--isolate"} {
		said, err := restore("--device-wait", "10ms", how)
		require.Error(t, err, how)
		require.Contains(t, said, "other processes have 64 MiB of the memory of cuda", how)
		require.Contains(t, said, "(4000 (python3) 60 GiB)", how)
		require.NoFileExists(t, out)
	}
	said, err := restore("--fallback", "cpu")
	require.NoError(t, err, said)
	require.Contains(t, said, "so cpu restored it")
	require.FileExists(t, out)
}

// The self test of doctor notices a GPU that fails, and the command says so.
func TestDoctorSeesWhichOfTheCardsFails(t *testing.T) {
	doctor := func(fault string) (string, error) {
		cmd := exec.Command(os.Args[0], "doctor", "--device", "cuda")
		cmd.Env = append(os.Environ(), runAsCommand+"=1", simdriver.GPUsVariable+"=80", simdriver.FaultVariable+"="+fault)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	said, err := doctor("0:ecc:9")
	require.Error(t, err)
	require.Regexp(t, `(?m)^fault +cuda +self test +.*CUDA_ERROR_ECC_UNCORRECTABLE`, said)
}
