package include

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// header is what the tests read from cuda.h.
type header struct {
	types      []typeName   // typedefs of one line
	constants  []string     // enumerators and macros that are numbers
	structs    []structType // in the order of the file
	prototypes []string     // whole declarations
	macros     []string     // names that stand for a symbol
}

type typeName struct{ name, is string }

type structType struct {
	name   string
	fields []field
}

type field struct{ name, declaration string }

var (
	oneLine    = regexp.MustCompile(`(?m)^typedef ((?:struct )?[\w ]+[ *])(\w+);$`)
	block      = regexp.MustCompile(`(?ms)^typedef (?:struct|union) \w+ \{\n(.*?)^\} (\w+);$`)
	enumerator = regexp.MustCompile(`(?m)^\t(\w+) = -?\d+,$`)
	number     = regexp.MustCompile(`(?m)^#define (CU\w+) (?:\d|\(\(void)`)
	renaming   = regexp.MustCompile(`(?m)^#define (cu\w+) cu\w+$`)
	prototype  = regexp.MustCompile(`(?ms)^CUresult (cu\w+)\([^;]*\);$`)
	fieldName  = regexp.MustCompile(`(\w+)(?:\[\d+\])?;$`)
)

func parse(t testing.TB, text string) header {
	var h header
	for _, m := range oneLine.FindAllStringSubmatch(text, -1) {
		h.types = append(h.types, typeName{m[2], m[1]})
	}
	for _, m := range block.FindAllStringSubmatch(text, -1) {
		s := structType{name: m[2]}
		for line := range strings.Lines(m[1]) {
			line = strings.TrimSpace(line)
			name := fieldName.FindStringSubmatch(line)
			require.NotNil(t, name, line)
			s.fields = append(s.fields, field{name[1], line})
		}
		h.structs = append(h.structs, s)
	}
	for _, re := range []*regexp.Regexp{enumerator, number} {
		for _, m := range re.FindAllStringSubmatch(text, -1) {
			h.constants = append(h.constants, m[1])
		}
	}
	for _, m := range renaming.FindAllStringSubmatch(text, -1) {
		h.macros = append(h.macros, m[1])
	}
	h.prototypes = prototype.FindAllString(text, -1)
	return h
}

// symbols returns the functions that h declares, under the names that the driver exports.
func (h header) symbols() []string {
	var names []string
	for _, p := range h.prototypes {
		names = append(names, prototype.FindStringSubmatch(p)[1])
	}
	slices.Sort(names)
	return names
}

// program is a C program that declares anew what h declares, which a compiler takes only if both say the same, and
// prints every number that h holds. Compiled with the toolkit's header it must print what it prints with ours.
func (h header) program() string {
	var b strings.Builder
	b.WriteString("#include <cuda.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n#define TEXT_(x) #x\n#define TEXT(x) TEXT_(x)\n")
	for _, p := range h.prototypes {
		fmt.Fprintln(&b, p)
	}
	for i, d := range h.types {
		fmt.Fprintf(&b, "extern %s type%d; extern %s type%d;\n", d.name, i, d.is, i)
	}
	for _, s := range h.structs {
		for _, f := range s.fields {
			name := s.name + "_" + f.name
			fmt.Fprintf(&b, "extern __typeof__(((%s *)0)->%s) %s; extern %s\n", s.name, f.name, name,
				regexp.MustCompile(`\b`+f.name+`\b(\[|;)`).ReplaceAllString(f.declaration, name+"$1"))
		}
	}
	b.WriteString("int main(void)\n{\n")
	for _, c := range h.constants {
		if c != "CUDA_VERSION" {
			fmt.Fprintf(&b, "\tprintf(\"%s %%lld\\n\", (long long)(intptr_t)%s);\n", c, c)
		}
	}
	for _, s := range h.structs {
		fmt.Fprintf(&b, "\tprintf(\"%s %%zu\\n\", sizeof(%s));\n", s.name, s.name)
		for _, f := range s.fields {
			fmt.Fprintf(&b, "\tprintf(\"%s.%s %%zu %%zu\\n\", offsetof(%s, %s), sizeof(((%s *)0)->%s));\n",
				s.name, f.name, s.name, f.name, s.name, f.name)
		}
	}
	for _, m := range h.macros {
		// The toolkit's header can wrap a symbol's name in a macro that chooses the default stream.
		fmt.Fprintf(&b, "\tprintf(\"%s %%s\\n\", TEXT(%s));\n", m, m)
	}
	b.WriteString("}\n")
	return b.String()
}

// compiler returns the C compiler; without one the test is skipped.
func compiler(t testing.TB) string {
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	if _, err := exec.LookPath(cc); err != nil {
		t.Skipf("needs a C compiler: %v", err)
	}
	return cc
}

// output compiles and runs program with the header in folder.
func output(t testing.TB, program, folder string) (string, error) {
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "check.c"), filepath.Join(dir, "check")
	require.NoError(t, os.WriteFile(source, []byte(program), 0o600))
	cmd := exec.Command(compiler(t), "-std=gnu11", "-Wall", "-Werror", "-Wno-unused", "-I"+folder, "-o", binary, source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	out, err := exec.Command(binary).Output()
	return string(out), err
}

// toolkit returns the folder of the header of CUDA 12.4; without one the test is skipped.
func toolkit(t testing.TB) string {
	for _, dir := range []string{os.Getenv("CUDA"), "../../../build/cuda"} {
		if dir == "" {
			continue
		}
		include := filepath.Join(dir, "usr/include")
		if text, err := os.ReadFile(filepath.Join(include, "cuda.h")); err == nil {
			require.Contains(t, string(text), "#define CUDA_VERSION 12040", "%s is not the header of CUDA 12.4", include)
			return include
		}
	}
	t.Skip("needs the header of CUDA 12.4: make toolkit, or CUDA=FOLDER")
	return ""
}

func ours(t testing.TB) string {
	text, err := os.ReadFile("cuda.h")
	require.NoError(t, err)
	return string(text)
}

// disagreement compares a header of ours with the toolkit's.
func disagreement(t testing.TB, text string) error {
	theirs := toolkit(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cuda.h"), []byte(text), 0o600))
	program := parse(t, text).program()
	want, err := output(t, program, theirs)
	if err != nil {
		return fmt.Errorf("the toolkit's header declares otherwise: %w", err)
	}
	got, err := output(t, program, dir)
	if err != nil {
		return fmt.Errorf("this header does not compile: %w", err)
	}
	wants := strings.Split(want, "\n")
	for i, line := range strings.Split(got, "\n") {
		if line != wants[i] {
			return fmt.Errorf("%q, in the toolkit's header %q", line, wants[i])
		}
	}
	return nil
}

func TestHeaderAgreesWithTheToolkit(t *testing.T) {
	text := ours(t)
	h := parse(t, text)
	require.Greater(t, len(h.prototypes), 150)
	require.Greater(t, len(h.constants), 250)
	require.Len(t, h.structs, len(regexp.MustCompile(`(?m)^typedef (struct|union) \w+ \{$`).FindAllString(text, -1)), "every structure is compared")
	require.NoError(t, disagreement(t, text))
}

// A check that finds no fault proves nothing: every kind of fault is made and must be found.
func TestFaultsInTheHeaderAreFound(t *testing.T) {
	text := ours(t)
	for _, change := range []struct{ from, to string }{
		{"CUDA_ERROR_ILLEGAL_ADDRESS = 700", "CUDA_ERROR_ILLEGAL_ADDRESS = 701"},
		{"#define CU_MEMHOSTALLOC_PORTABLE 0x01", "#define CU_MEMHOSTALLOC_PORTABLE 0x02"},
		{"typedef int CUdevice;", "typedef long CUdevice;"},
		{"typedef struct CUmod_st *CUmodule;", "typedef struct CUlib_st *CUmodule;"},
		{"char bytes[16];", "char bytes[8];"},
		{"\tsize_t srcXInBytes;\n\tsize_t srcY;\n\tCUmemorytype", "\tsize_t srcY;\n\tsize_t srcXInBytes;\n\tCUmemorytype"},
		{"\tconst void *srcHost;", "\tvoid *srcHost;"},
		{"\tvoid *userData;\n", ""},
		{"cuMemFree_v2(CUdeviceptr);", "cuMemFree_v2(CUdeviceptr *);"},
		{"cuMemHostAlloc(void **, size_t, unsigned int);", "cuMemHostAlloc(void **, size_t);"},
		{"#define cuMemAlloc cuMemAlloc_v2", "#define cuMemAlloc cuMemAlloc_v3"},
	} {
		changed := strings.Replace(text, change.from, change.to, 1)
		require.NotEqual(t, text, changed, change.from)
		require.Error(t, disagreement(t, changed), "%s instead of %s", change.to, change.from)
	}
}

// lines returns the lines of a file that are not comments.
func lines(t testing.TB, name string) []string {
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	var all []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			all = append(all, line)
		}
	}
	return all
}

// used returns the symbols that the compiled packages call.
func used(t testing.TB) []string {
	text, err := os.ReadFile("../internal/lazy/symbols.h")
	require.NoError(t, err)
	names := []string{"cuInit", "cuDeviceGetCount"}
	for _, m := range regexp.MustCompile(`(?m)^X\((\w+)\)$`).FindAllStringSubmatch(string(text), -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return names
}

func TestHeaderDeclaresWhatIsCalled(t *testing.T) {
	require.Equal(t, used(t), parse(t, ours(t)).symbols())
}

// changed13 are the calls that CUDA 13 binds to another symbol: what cuda.h of 12.4 calls, and what that of 13 does.
var changed13 = map[string]string{
	"cuCtxCreate_v2":         "cuCtxCreate_v4",            // takes a list of parameters
	"cuMemAdvise":            "cuMemAdvise_v2",            // takes a location
	"cuMemPrefetchAsync":     "cuMemPrefetchAsync_v2",     // takes a location and flags
	"cuGraphAddDependencies": "cuGraphAddDependencies_v2", // takes the edges' data
	"cuGraphGetEdges":        "cuGraphGetEdges_v2",        // gives the edges' data
	"cuDeviceGetUuid":        "cuDeviceGetUuid_v2",        // tells a MIG slice from its GPU
	"cuEventElapsedTime":     "cuEventElapsedTime_v2",
}

func TestDriversExportWhatIsCalled(t *testing.T) {
	exported := lines(t, "testdata/driver-12.4.txt")
	declared := lines(t, "testdata/declared-13.0.txt")
	var old []string
	for _, s := range used(t) {
		require.Contains(t, exported, s, "the driver of CUDA 12.4")
		if !slices.Contains(declared, s) {
			old = append(old, s)
		}
	}
	var expected []string
	for s := range changed13 {
		expected = append(expected, s)
	}
	require.ElementsMatch(t, expected, old, "symbols that CUDA 13 keeps for older programs without declaring them")
}

func TestHeaderOfCUDA13DiffersAsWritten(t *testing.T) {
	var b strings.Builder
	b.WriteString("#include <cuda.h>\n#include <stdio.h>\n#define TEXT_(x) #x\n#define TEXT(x) TEXT_(x)\nint main(void)\n{\n")
	for old := range changed13 {
		call := strings.TrimSuffix(old, "_v2")
		fmt.Fprintf(&b, "\tprintf(\"%s %%s\\n\", TEXT(%s));\n", old, call)
	}
	b.WriteString("}\n")
	for folder, want := range map[string]func(string) string{
		"testdata/cuda13": func(old string) string { return changed13[old] },
		".":               func(old string) string { return old },
	} {
		out, err := output(t, b.String(), folder)
		require.NoError(t, err)
		for old := range changed13 {
			require.Contains(t, out, old+" "+want(old)+"\n", folder)
		}
	}
}

// buildCU compiles gorgonia.org/cu and cuext with the given C flags.
func buildCU(t testing.TB, cflags string, env ...string) error {
	cmd := exec.Command("go", "build", "-tags", "cuda", "gorgonia.org/cu", "unirestorer/runtime/cuda/internal/cuext")
	cmd.Env = append(os.Environ(), append(env, "CGO_ENABLED=1", "CGO_CFLAGS=-O0 "+cflags)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w\n%s", err, out.String())
	}
	return nil
}

func TestBuildsWithTheHeaderOfCUDA13OnThePath(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles gorgonia.org/cu twice")
	}
	compiler(t)
	own, err := filepath.Abs(".")
	require.NoError(t, err)
	theirs := filepath.Join(own, "testdata/cuda13")
	err = buildCU(t, "-I"+theirs)
	require.ErrorContains(t, err, "cuMemPrefetchAsync", "with the header of CUDA 13 first, gorgonia.org/cu must not compile: else this test proves nothing")
	require.NoError(t, buildCU(t, "-I"+own+" -I"+theirs, "CPATH="+theirs, "C_INCLUDE_PATH="+theirs))
}
