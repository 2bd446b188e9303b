package kernels_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/kernels"
)

// nvcc finds the compiler: $NVCC, whatever its state, or one on the PATH or where toolkits usually lie that is of 12.4 and
// finds its headers.
func nvcc(t *testing.T) string {
	if named := os.Getenv("NVCC"); named != "" {
		return named
	}
	probe := filepath.Join(t.TempDir(), "probe.cu")
	require.NoError(t, os.WriteFile(probe, []byte("#include <cuda_fp16.h>\n"), 0o666))
	for _, c := range []string{"nvcc", "/usr/local/cuda-12.4/bin/nvcc", "/opt/cuda-12.4/bin/nvcc", "/usr/local/cuda/bin/nvcc"} {
		path, err := exec.LookPath(c)
		if err != nil {
			continue
		}
		version, err := exec.Command(path, "--version").Output()
		if err != nil || !strings.Contains(string(version), "release 12.4") {
			continue
		}
		if exec.Command(path, "-E", "-o", os.DevNull, probe).Run() == nil {
			return path
		}
	}
	return ""
}

// TestCommittedPTXIsWhatTheSourcesCompileTo needs nvcc 12.4 and half a minute; -short skips it.
func TestCommittedPTXIsWhatTheSourcesCompileTo(t *testing.T) {
	if testing.Short() {
		t.Skip("compiling all kernels is not short")
	}
	compiler := nvcc(t)
	if compiler == "" {
		t.Skip("no nvcc 12.4 that finds its headers in $NVCC, on the PATH or in /usr/local and /opt: cannot tell whether the PTX is stale")
	}
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("no make")
	}
	dir := t.TempDir()
	out, err := exec.Command("make", "-s", "NVCC="+compiler, "PTX="+dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	sources, err := filepath.Glob("*.cu")
	require.NoError(t, err)
	require.Len(t, kernels.Modules(), len(sources), "a PTX image for each source")
	for _, s := range sources {
		module := strings.TrimSuffix(s, ".cu")
		committed, err := os.ReadFile(filepath.Join("ptx", module+".ptx"))
		require.NoError(t, err)
		fresh, err := os.ReadFile(filepath.Join(dir, module+".ptx"))
		require.NoError(t, err)
		require.True(t, string(fresh) == string(committed), "%s.ptx is stale: make -C kernels NVCC=%s", module, compiler)
	}
}

func TestUnknownModulesAreErrors(t *testing.T) {
	_, err := kernels.Image("nothing", 90)
	require.ErrorContains(t, err, `"nothing"`)
}

// Programmatic launches need kernels that wait for those in front of them; devices before compute capability 9.0 have no
// such instruction.
func TestEveryKernelAwaitsItsPredecessors(t *testing.T) {
	for _, module := range kernels.Modules() {
		image, err := kernels.Image(module, 90)
		require.NoError(t, err)
		require.True(t, strings.Contains(string(image), "\n.target sm_90\n"), module)
		entries := strings.Split(string(image), ".visible .entry ")
		for _, entry := range entries[1:] {
			name, body, _ := strings.Cut(entry, "(")
			// What stands before the wait depends on sizes alone.
			before, after, found := strings.Cut(body, "griddepcontrol.wait;")
			require.True(t, found, "%s waits", name)
			require.False(t, strings.Contains(after, "griddepcontrol.wait;"), "%s waits once", name)
			for _, access := range []string{"\tld.global", "\tst.global", "\tatom.", "\tred.", "\tcp.async"} {
				require.False(t, strings.Contains(before, access), "%s:%s before it waits", name, access)
			}
		}
		portable, err := kernels.Image(module, 89)
		require.NoError(t, err)
		require.True(t, strings.Contains(string(portable), ".target sm_80"), module)
		require.False(t, strings.Contains(string(portable), "griddepcontrol"), module)
	}
}
