package unirestorer_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer"
)

// TestProgramOutsideTheRepositoryEmbedsTheRuntime builds testdata/embed as a module of its own, the way docs/embed.md
// tells, and runs it.
func TestProgramOutsideTheRepositoryEmbedsTheRuntime(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	here, err := os.Getwd()
	require.NoError(t, err)
	source, err := os.ReadFile("testdata/embed/main.go")
	require.NoError(t, err)
	require.LessOrEqual(t, ownLines(string(source)), 15)

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), source, 0o666))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), fmt.Appendf(nil,
		"module example.org/embed\n\ngo %s\n\nrequire unirestorer v0.0.0\n\nreplace unirestorer => %s\n", goVersion(t), here), 0o666))
	sums, err := os.ReadFile("go.sum")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o666))
	program := filepath.Join(dir, "embed")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	goTool(t, dir, "build", "-mod=mod", "-o", program, ".")

	out := filepath.Join(dir, "out.png")
	text, err := exec.Command(program, photo, out).CombinedOutput()
	require.NoError(t, err, "%s", text)
	before, err := unirestorer.DecodeFile(photo)
	require.NoError(t, err)
	after, err := unirestorer.DecodeFile(out)
	require.NoError(t, err)
	require.Equal(t, before.Bounds(), after.Bounds())
	require.False(t, samePixels(before, after))
}

// ownLines counts the lines of a program that say something, without its package clause and imports.
func ownLines(source string) int {
	source = regexp.MustCompile(`(?s)^.*?\nimport \(.*?\n\)\n`).ReplaceAllString(source, "")
	n := 0
	for line := range strings.Lines(source) {
		if strings.TrimSpace(line) != "" {
			n++
		}
	}
	return n
}

// goVersion is the one that go.mod asks for.
func goVersion(t *testing.T) string {
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^go (.*)$`).FindSubmatch(mod)
	require.NotNil(t, found)
	return string(found[1])
}

// goTool runs the go command in a folder, with what is on this machine.
func goTool(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "go %s: %s", strings.Join(args, " "), out)
}
