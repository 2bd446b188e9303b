package simd

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// declared is the signature of every assembly function for a processor that has
// the suffix, by its name without it.
func declared(t *testing.T, arch, suffix string) map[string]string {
	found := map[string]string{}
	files, err := filepath.Glob("*_" + arch + ".go")
	require.NoError(t, err)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body == nil && strings.HasSuffix(f.Name.Name, suffix) {
				found[strings.TrimSuffix(f.Name.Name, suffix)] = signature(f.Type)
			}
		}
	}
	return found
}

// signature has a type for each name.
func signature(f *ast.FuncType) string {
	var s strings.Builder
	for _, p := range f.Params.List {
		for _, name := range p.Names {
			s.WriteString(name.Name + " " + types.ExprString(p.Type) + ", ")
		}
	}
	return s.String()
}

func TestEveryKernelIsThereForEveryProcessor(t *testing.T) {
	want := declared(t, "amd64", "AVX2")
	require.NotEmpty(t, want)
	require.Equal(t, want, declared(t, "amd64", "AVX512"))
	require.Equal(t, want, declared(t, "arm64", "NEON"))
	listed, err := os.ReadFile("gen/list.go")
	require.NoError(t, err)
	for name := range want {
		require.Contains(t, string(listed), strconv.Quote(name), "not in the generator's list")
	}
}

func TestNoInstructionsLackAKernel(t *testing.T) {
	for _, isa := range Available() {
		k, err := For(isa)
		require.NoError(t, err)
		v := reflect.ValueOf(*k)
		for i := range v.NumField() {
			require.False(t, v.Field(i).IsZero() && isa != Generic, "%v lacks %s", isa, v.Type().Field(i).Name)
		}
	}
}

// Instructions that Go's assembler does not know are written as numbers. Here
// another assembler reads the text beside each.
func TestEncodingsAreThoseOfAnAssembler(t *testing.T) {
	clang, err := exec.LookPath("clang")
	if err != nil {
		t.Skip("needs clang")
	}
	line := regexp.MustCompile(`WORD \$0x([0-9a-f]{8}) // (.+)`)
	files, err := filepath.Glob("*_arm64.s")
	require.NoError(t, err)
	words := map[string]uint32{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, m := range line.FindAllStringSubmatch(string(text), -1) {
			word, err := strconv.ParseUint(m[1], 16, 32)
			require.NoError(t, err)
			if known, ok := words[m[2]]; ok {
				require.EqualValues(t, known, word, m[2])
			}
			words[m[2]] = uint32(word)
		}
	}
	require.Greater(t, len(words), 100)
	var texts []string
	for text := range words {
		texts = append(texts, text)
	}
	slices.Sort(texts)
	source, object := filepath.Join(t.TempDir(), "all.s"), filepath.Join(t.TempDir(), "all.o")
	require.NoError(t, os.WriteFile(source, []byte(strings.Join(texts, "\n")+"\n"), 0o644))
	out, err := exec.Command(clang, "--target=aarch64-linux-gnu", "-c", "-o", object, source).CombinedOutput()
	if err != nil && bytes.Contains(out, []byte("No available targets")) {
		t.Skip("this clang has no arm64")
	}
	require.NoError(t, err, "%s", out)
	file, err := elf.Open(object)
	require.NoError(t, err)
	defer file.Close()
	code, err := file.Section(".text").Data()
	require.NoError(t, err)
	require.Len(t, code, 4*len(texts))
	for i, text := range texts {
		require.Equal(t, binary.LittleEndian.Uint32(code[4*i:]), words[text], text)
	}
}
