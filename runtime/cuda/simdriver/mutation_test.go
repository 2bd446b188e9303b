//go:build cuda && cudasim && linux

package simdriver_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A hostMutation breaks one rule of CUDA in the code that drives it. It is found by what it means, so that it survives
// edits of that code.
type hostMutation struct {
	name string
	dir  string // below runtime
	// edit returns pieces of a file's source to replace, none if the file is not meant.
	edit  func(file *ast.File, src string) []edit
	tests string   // package
	run   []string // which of its tests, group after group
}

type edit struct {
	from, to int // offsets
	text     string
}

// inFunc edits the body of a function, which is named "Recv.Name" or "Name".
func inFunc(name string, f func(body *ast.BlockStmt, src string) []edit) func(*ast.File, string) []edit {
	return func(file *ast.File, src string) (all []edit) {
		for _, d := range file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && funcName(fn) == name {
				all = append(all, f(fn.Body, src)...)
			}
		}
		return all
	}
}

func funcName(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	t := fn.Recv.List[0].Type
	if p, ok := t.(*ast.StarExpr); ok {
		t = p.X
	}
	return t.(*ast.Ident).Name + "." + fn.Name.Name
}

// replaceCalls replaces the calls of what ends with a name, such as "stream.Synchronize".
func replaceCalls(callee, with string) func(*ast.BlockStmt, string) []edit {
	return func(body *ast.BlockStmt, src string) (all []edit) {
		ast.Inspect(body, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok || !strings.HasSuffix("."+src[c.Fun.Pos()-1:c.Fun.End()-1], "."+callee) {
				return true
			}
			all = append(all, edit{int(c.Pos()) - 1, int(c.End()) - 1, with})
			return false
		})
		return all
	}
}

// replaceAssignments replaces the assignments to a field.
func replaceAssignments(field, with string) func(*ast.BlockStmt, string) []edit {
	return func(body *ast.BlockStmt, _ string) (all []edit) {
		ast.Inspect(body, func(n ast.Node) bool {
			a, ok := n.(*ast.AssignStmt)
			if ok && len(a.Lhs) == 1 {
				if s, ok := a.Lhs[0].(*ast.SelectorExpr); ok && s.Sel.Name == field {
					all = append(all, edit{int(a.Pos()) - 1, int(a.End()) - 1, with})
				}
			}
			return true
		})
		return all
	}
}

// afterDeclaration puts a statement behind the declaration of a variable.
func afterDeclaration(name, statement string) func(*ast.BlockStmt, string) []edit {
	return func(body *ast.BlockStmt, _ string) (all []edit) {
		for _, s := range body.List {
			d, ok := s.(*ast.DeclStmt)
			if ok && d.Decl.(*ast.GenDecl).Specs[0].(*ast.ValueSpec).Names[0].Name == name {
				all = append(all, edit{int(s.End()) - 1, int(s.End()) - 1, "\n" + statement + "\n"})
			}
		}
		return all
	}
}

// inC replaces text in a C function of a file's preamble.
func inC(function, old, with string) func(*ast.File, string) []edit {
	return func(_ *ast.File, src string) []edit {
		at := strings.Index(src, function+"(")
		if at < 0 {
			return nil
		}
		end := strings.Index(src[at:], "\n}")
		if i := strings.Index(src[at:at+max(end, 0)], old); i >= 0 {
			return []edit{{at + i, at + i + len(old), with}}
		}
		return nil
	}
}

// everywhere replaces all of a text.
func everywhere(old, with string) func(*ast.File, string) []edit {
	return func(_ *ast.File, src string) (all []edit) {
		for at := 0; ; at += len(old) {
			i := strings.Index(src[at:], old)
			if i < 0 {
				return all
			}
			at += i
			all = append(all, edit{at, at + len(old), with})
		}
	}
}

var throughCUDA = []string{"(Replay|Switch|UsableThroughCUDA).*", "ThroughCUDA"}

const noError = "error(nil)"

var hostMutations = []hostMutation{
	{"results copied out without waiting", "gpu", inFunc("Program.finish", replaceCalls("stream.Synchronize", noError)), "gpu", throughCUDA},
	{"weight upload not waited for", "gpu", inFunc("weightStore.load", replaceCalls("stream.Synchronize", noError)), "gpu", throughCUDA},
	{"adapter merge not waited for", "gpu", inFunc("Program.fill", replaceCalls("stream.Synchronize", noError)), "gpu", throughCUDA},
	{"next run does not wait for a cancelled one", "gpu", inFunc("arena.settle", replaceCalls("stream.Synchronize", noError)), "gpu", throughCUDA},
	{"memory freed under a running kernel", "gpu", inFunc("Program.Close", afterDeclaration("errs", "errs = append(errs, p.backend.arena.freeMemory())")), "gpu", throughCUDA},
	{"host memory of a copy not kept reachable", "cuda", inFunc("stream.hold", replaceAssignments("held", "_ = b")), "cuda", []string{""}},
	{"stream closed without waiting", "cuda", inFunc("stream.Close", replaceCalls("cuext.Synchronize", noError)), "cuda", []string{""}},
	{"wait for an event dropped", "cuda", inFunc("stream.Wait", replaceCalls("s.Wait", noError)), "cuda", []string{""}},
	{"launch without a current context", "cuda/internal/cuext", inC("CUresult launch", "cuCtxSetCurrent(ctx)", "CUDA_SUCCESS"), "cuda", []string{""}},
	{"goroutine not locked to its thread", "cuda", inFunc("gpu.current", func(b *ast.BlockStmt, src string) []edit {
		return append(replaceCalls("runtime.LockOSThread", "runtime.KeepAlive(nil)")(b, src), replaceCalls("runtime.UnlockOSThread", "runtime.KeepAlive(nil)")(b, src)...)
	}), "cuda", []string{""}},
	{"capture of the global mode", "cuda/internal/cuext", everywhere("C.CU_STREAM_CAPTURE_MODE_RELAXED", "C.CUstreamCaptureMode(0)"), "cuda", []string{""}},
	{"dynamic shared memory not asked for", "cuda", inFunc("function.SetMaxDynamicShared", replaceCalls("cuext.SetMaxDynamicShared", noError)), "cuda", []string{""}},
}

// overlay writes the mutated files of m and an overlay for the go command that puts them in place, and returns its path.
func (m *hostMutation) overlay(t *testing.T, runtimeDir string) string {
	files, err := filepath.Glob(filepath.Join(runtimeDir, m.dir, "*.go"))
	require.NoError(t, err)
	replace := map[string]string{}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		src, err := os.ReadFile(path)
		require.NoError(t, err)
		file, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ParseComments)
		require.NoError(t, err)
		edits := m.edit(file, string(src))
		if len(edits) == 0 {
			continue
		}
		slices.SortFunc(edits, func(a, b edit) int { return b.from - a.from })
		for _, e := range edits {
			src = slices.Concat(src[:e.from], []byte(e.text), src[e.to:])
		}
		to := filepath.Join(t.TempDir(), filepath.Base(path))
		require.NoError(t, os.WriteFile(to, src, 0o644))
		replace[path] = to
	}
	require.NotEmpty(t, replace, "the code that %q means was not found", m.name)
	out, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	to := filepath.Join(t.TempDir(), "overlay.json")
	require.NoError(t, os.WriteFile(to, out, 0o644))
	return to
}

// Each of the ways in which a program most easily breaks CUDA's rules makes the tests on the simulated driver fail.
func TestHostMutationsAreCaught(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the tests once for each mutation")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command")
	}
	runtimeDir, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	for _, m := range hostMutations {
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			binary := filepath.Join(t.TempDir(), "mutant.test")
			build := exec.Command("go", "test", "-c", "-vet=off", "-tags=cuda cudasim", "-overlay="+m.overlay(t, runtimeDir), "-o", binary, "./"+m.tests)
			build.Dir = runtimeDir
			out, err := build.CombinedOutput()
			require.NoError(t, err, "%s", out)
			for _, run := range m.run { // what takes long comes last
				cmd := exec.Command(binary, "-test.failfast", "-test.timeout=10m", "-test.run="+run)
				cmd.Dir = filepath.Join(runtimeDir, m.tests)
				if out, err = cmd.CombinedOutput(); err != nil {
					break
				}
			}
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit, "nothing noticed: %s", out)
			require.NotContains(t, string(out), "test timed out")
			t.Log(firstFailure(string(out)))
		})
	}
}

// firstFailure returns what failed first.
func firstFailure(out string) string {
	for line := range strings.Lines(out) {
		if strings.Contains(line, "FAIL") || strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "faults:") {
			return strings.TrimSpace(line)
		}
	}
	return fmt.Sprint(len(out), " bytes of output")
}
