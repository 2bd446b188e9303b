//go:build cuda && !cudasim && linux

package cuda_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/cuda"
	"unirestorer/runtime/device"
)

// fakeEnv tells the test binary that its libcuda.so.1 is that of testdata/driver.c.
const fakeEnv = "UNIRESTORER_TEST_DRIVER"

// fakeDriver compiles testdata/driver.c and returns the folder it is in, which TestMain removes.
var fakeDriver = sync.OnceValues(func() (string, error) {
	var err error
	if fakeDir, err = os.MkdirTemp("", "libcuda"); err != nil {
		return "", err
	}
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	cmd := exec.Command(cc, "-O2", "-shared", "-fPIC", "-o", filepath.Join(fakeDir, "libcuda.so.1"), "testdata/driver.c")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile testdata/driver.c: %w\n%s", err, out)
	}
	return fakeDir, nil
})

var fakeDir string

// driverDir returns the folder of the fake driver; without a C compiler it skips the test.
func driverDir(t testing.TB) string {
	dir, err := fakeDriver()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skipf("needs a C compiler: %v", err)
	}
	require.NoError(t, err)
	return dir
}

func TestMain(m *testing.M) {
	code := m.Run()
	if fakeDir != "" {
		_ = os.RemoveAll(fakeDir)
	}
	os.Exit(code)
}

// withDriver runs a test of this binary with the fake driver and returns its output.
func withDriver(t *testing.T, test string, env ...string) string {
	dir := driverDir(t)
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(append(os.Environ(), "LD_LIBRARY_PATH="+dir, fakeEnv+"=1"), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+test, "%s", out)
	return string(out)
}

// inChild skips a test that is meant for withDriver.
func inChild(t testing.TB) {
	if os.Getenv(fakeEnv) == "" {
		t.Skip("runs in the process that withDriver starts")
	}
}

// TestChildOpens logs what becomes of List and Open.
func TestChildOpens(t *testing.T) {
	inChild(t)
	infos, err := cuda.List()
	for _, info := range infos {
		t.Logf("list: %s %s sm_%d", info.Name, info.UUID, info.Arch())
	}
	t.Logf("list: %v", err)
	d, err := cuda.Open("", cuda.Options{})
	t.Logf("open: %v", err)
	if err == nil {
		_, err = d.Alloc(1)
		t.Logf("alloc: %v", err)
		require.NoError(t, d.Close())
	}
}

func TestWithoutADriverTheReasonIsGiven(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestChildOpens$", "-test.v")
	empty := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(empty, "libcuda.so.1"), []byte("not a library"), 0o600))
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+empty, fakeEnv+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "list: no usable NVIDIA GPU: ")
	require.Contains(t, string(out), "libcuda.so.1")
	require.Contains(t, string(out), "install the NVIDIA driver; in a container, start it with access to the GPU")
}

func TestDriverIsBoundAtRunTime(t *testing.T) {
	out := withDriver(t, "TestChildOpens")
	require.Contains(t, out, "list: Fake GPU GPU-abababab-abab-abab-abab-abababababab sm_90")
	require.Contains(t, out, "list: <nil>")
	require.Contains(t, out, "open: <nil>")
	require.Contains(t, out, "alloc: allocate 0.0 MiB of device memory: cuMemAlloc: CUDA_ERROR_NOT_FOUND (500): named symbol not found",
		"a function that the driver lacks is an error, not a crash")
}

func TestSliceOfAGPUHasItsOwnName(t *testing.T) {
	require.Contains(t, withDriver(t, "TestChildOpens", "FAKE_MIG=1"), "list: Fake GPU MIG-1fababab-abab-abab-abab-abababababab sm_90")
}

func TestDriverThatRefusesToStartIsExplained(t *testing.T) {
	for result, want := range map[string]string{
		"100": "no usable NVIDIA GPU: the driver is installed but finds no GPU: see nvidia-smi, and CUDA_VISIBLE_DEVICES if it is set",
		"803": "no usable NVIDIA GPU: cuDeviceGetCount: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803): versions differ; the NVIDIA driver was updated while loaded: reboot",
	} {
		out := withDriver(t, "TestChildOpens", "FAKE_CUINIT="+result)
		require.Contains(t, out, "list: "+want)
		require.Contains(t, out, "open: "+want)
	}
	require.Contains(t, withDriver(t, "TestChildOpens", "FAKE_MAJOR=7"),
		"open: no usable NVIDIA GPU: GPU 0 (Fake GPU) has compute capability 7.0; the kernels need 8.0")
}

func TestLaunchDoesNotAllocate(t *testing.T) {
	withDriver(t, "TestChildLaunches")
}

func TestChildLaunches(t *testing.T) {
	inChild(t)
	launch, end := launcher(t)
	defer end()
	require.NoError(t, launch())
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = launch() }))
}

func TestCancelledWaitReturnsBeforeTheDriver(t *testing.T) {
	withDriver(t, "TestChildCancels", "FAKE_WAIT=300")
}

func TestChildCancels(t *testing.T) {
	inChild(t)
	for _, closeStream := range []bool{true, false} {
		d, err := cuda.Open("", cuda.Options{})
		require.NoError(t, err)
		s, err := d.NewStream()
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, s.Synchronize(ctx), context.DeadlineExceeded)
		require.Less(t, time.Since(start), 150*time.Millisecond)
		if closeStream {
			require.NoError(t, s.Close())
		}
		require.NoError(t, d.Close(), "closing waits for the driver")
		require.GreaterOrEqual(t, time.Since(start), 300*time.Millisecond)
	}
}

// launcher returns a function that enqueues a kernel with five arguments, as the GPU backend does.
func launcher(t testing.TB) (launch func() error, end func()) {
	d, err := cuda.Open("", cuda.Options{})
	require.NoError(t, err)
	m, err := d.LoadModule("m", []byte("ptx"))
	require.NoError(t, err)
	f, err := m.Function("f")
	require.NoError(t, err)
	s, err := d.NewStream()
	require.NoError(t, err)
	var args device.Args
	shape := device.Shape{Grid: device.D1(8), Block: device.D1(64)}
	return func() error {
		args.Reset().Ptr(1).Ptr(2).I32(3).F32(4).I32(5)
		return s.Launch(context.Background(), f, shape, &args)
	}, func() { require.NoError(t, d.Close()) }
}

// BenchmarkLaunch measures the host's part of a launch on a driver that does nothing.
func BenchmarkLaunch(b *testing.B) {
	if os.Getenv(fakeEnv) == "" {
		dir := driverDir(b)
		cmd := exec.Command(os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkLaunch$")
		cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+dir, fakeEnv+"=1")
		out, err := cmd.Output()
		require.NoError(b, err)
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "BenchmarkLaunch") {
				b.Log(strings.TrimSpace(line))
			}
		}
		b.Skip("measured in a process with the fake driver")
	}
	launch, end := launcher(b)
	defer end()
	b.ReportAllocs()
	for b.Loop() {
		if err := launch(); err != nil {
			b.Fatal(err)
		}
	}
}
