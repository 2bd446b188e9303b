package ptxsim

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
)

// verdict is a piece of PTX and whether ptxas 12.4 takes it.
type verdict struct {
	PTX     string `json:"ptx"`
	Version string `json:"version"`
	Target  string `json:"target"`
	Decl    string `json:"decl,omitempty"`
	Dirs    string `json:"dirs,omitempty"`
	Params  string `json:"params,omitempty"`
	OK      bool   `json:"ok"`
}

// module is a whole module with the piece.
func (v *verdict) module() string {
	params := v.Params
	if params == "" {
		params = ".param .u64 a"
	}
	return fmt.Sprintf(`.version %s
.target %s
.address_size 64
.visible .entry k(%s)
%s
{
.reg .pred %%p<4>; .reg .b16 %%rs<4>; .reg .u16 %%us<4>; .reg .f16 %%h<4>; .reg .f16x2 %%hx<4>; .reg .b32 %%r<8>; .reg .u32 %%u<4>;
.reg .s32 %%s<4>; .reg .f32 %%f<8>; .reg .b64 %%rd<4>; .reg .u64 %%ul<4>; .reg .f64 %%fd<4>;
%s
%s
ret;
}
`, v.Version, v.Target, params, v.Dirs, v.Decl, v.PTX)
}

func corpus(t *testing.T) (all []verdict) {
	b, err := os.ReadFile(filepath.Join("testdata", "refused.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &all))
	require.Greater(t, len(all), 400)
	return all
}

// A module that the assembler refuses does not load; one that it takes does, even if a kernel is not supported.
func TestRefusesWhatTheAssemblerRefuses(t *testing.T) {
	for _, v := range corpus(t) {
		_, err := newModule(newMemory(true), 1<<30, "m", []byte(v.module()))
		if v.OK {
			require.NoError(t, err, "%s for %s", v.PTX, v.Target)
		} else {
			require.Error(t, err, "%s %s%s for %s, version %s", v.Dirs, v.Params, v.PTX, v.Target, v.Version)
		}
	}
}

// The verdicts are those of ptxas, where it is.
func TestVerdictsAreThoseOfTheAssembler(t *testing.T) {
	ptxas, err := exec.LookPath("ptxas")
	if dir := os.Getenv("CUDA"); err != nil && dir != "" {
		ptxas, err = exec.LookPath(filepath.Join(dir, "bin", "ptxas"))
	}
	if err != nil {
		t.Skip("needs ptxas")
	}
	if testing.Short() {
		t.Skip("assembles hundreds of modules")
	}
	out, err := exec.Command(ptxas, "--version").Output()
	require.NoError(t, err)
	if !strings.Contains(string(out), "release 12.4") {
		t.Skipf("the verdicts are those of ptxas 12.4: %s", out)
	}
	dir := t.TempDir()
	for i, v := range corpus(t) {
		path := filepath.Join(dir, fmt.Sprint(i, ".ptx"))
		require.NoError(t, os.WriteFile(path, []byte(v.module()), 0o644))
		arch := v.Target
		if arch == "sm_99" { // a target that is none
			arch = "sm_80"
		}
		out, err := exec.Command(ptxas, "-arch="+arch, path, "-o", filepath.Join(dir, "out")).CombinedOutput()
		require.Equal(t, v.OK, err == nil, "%s for %s, version %s: %s", v.PTX, v.Target, v.Version, out)
	}
}

// What a card refuses when a kernel is loaded or launched, beyond the assembler.
func TestLimitsOfACard(t *testing.T) {
	head := ".version 8.4\n.target sm_80\n.address_size 64\n"
	shared := func(n int) string {
		return fmt.Sprintf(head+".visible .entry k()\n{\n.shared .align 4 .b8 s[%d];\n.reg .b32 %%r<2>;\nmov.u32 %%r1, s;\nst.shared.u32 [%%r1], %%r1;\nret;\n}\n", n)
	}
	dev, err := New(Options{Arch: 80, Registers: map[string]int{"wide": 96}})
	require.NoError(t, err)
	_, err = dev.LoadModule("m", []byte(shared(48<<10)))
	require.NoError(t, err)
	_, err = dev.LoadModule("m", []byte(shared(48<<10+4)))
	require.ErrorContains(t, err, "49156 bytes of static shared memory, at most 49152")

	mod, err := dev.LoadModule("m", []byte(head+".visible .entry wide()\n{\nret;\n}\n"))
	require.NoError(t, err)
	wide, err := mod.Function("wide")
	require.NoError(t, err)
	s, err := dev.NewStream()
	require.NoError(t, err)
	launch := func(grid, block device.Dim3) error {
		return s.Launch(context.Background(), wide, device.Shape{Grid: grid, Block: block}, nil)
	}
	require.NoError(t, launch(device.D1(1), device.D1(640)))
	require.ErrorContains(t, launch(device.D1(1), device.D1(704)), "96 registers for each of 704 threads")
	require.ErrorContains(t, launch(device.D2(1, 65536), device.D1(32)), "grid is too large")
	require.ErrorContains(t, launch(device.D3(1, 1, 65536), device.D1(32)), "grid is too large")
	require.ErrorContains(t, launch(device.D1(1), device.D3(1, 1, 65)), "the kernel allows")
	require.ErrorContains(t, launch(device.D1(1), device.D1(1025)), "the kernel allows")
}
