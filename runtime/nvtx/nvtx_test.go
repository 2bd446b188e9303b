//go:build cuda && linux

package nvtx

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestChildRanges(t *testing.T) {
	if os.Getenv("FAKE_NVTX") == "" {
		t.Skip("runs in a process with a profiler")
	}
	require.True(t, Active())
	outer := Range("restore rain.png")
	inner := Range("run fine-7-rain")
	done := make(chan struct{})
	go func() { inner(); close(done) }()
	<-done
	outer()
}

func TestProfilerSeesRanges(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("needs a C compiler")
	}
	dir := t.TempDir()
	library, file := filepath.Join(dir, "injection.so"), filepath.Join(dir, "ranges")
	out, err := exec.Command(cc, "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, "testdata/injection.c").CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.Command(os.Args[0], "-test.run=^TestChildRanges$")
	cmd.Env = append(os.Environ(), "NVTX_INJECTION64_PATH="+library, "FAKE_NVTX="+file)
	out, err = cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "start 1 restore rain.png\nstart 2 run fine-7-rain\nend 2\nend 1\n", string(text))
}

func TestWithoutAProfilerNothingIsDone(t *testing.T) {
	if os.Getenv("NVTX_INJECTION64_PATH") != "" {
		t.Skip("a profiler is there")
	}
	require.False(t, Active())
	require.Zero(t, testing.AllocsPerRun(100, func() { Range("x")() }))
}

func TestProfilerThatIsNoneIsPassedOver(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestWithBrokenProfiler$")
	cmd.Env = append(os.Environ(), "NVTX_INJECTION64_PATH=/no/such/library.so")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func TestWithBrokenProfiler(t *testing.T) {
	if os.Getenv("NVTX_INJECTION64_PATH") != "/no/such/library.so" {
		t.Skip("runs in a process with a profiler that is none")
	}
	require.False(t, Active())
	Range("x")()
}
