package simd

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/instructions.txt")

// codeSize is what a kernel's code holds.
type codeSize struct {
	all     int // instructions
	largest int // those of the largest loop that has no loop inside: what runs for each value
	work    int // multiply-adds in that loop
}

var (
	functionLine = regexp.MustCompile(`^TEXT ·(\w+)\(SB\)`)
	labelLine    = regexp.MustCompile(`^(\w+):$`)
	jumpLine     = regexp.MustCompile(`^(?:J[A-Z]+|B[A-Z]{2}|CBN?Z|TBN?Z)\s+(?:.*, )?(\w+)$`)
)

// codeSizes reads the instructions of every function of an assembly file.
func codeSizes(text string) map[string]codeSize {
	sizes := map[string]codeSize{}
	var name string
	var lines []string
	labels := map[string]int{}
	flush := func() {
		if name != "" {
			sizes[name] = sizeOf(lines, labels)
		}
		lines, labels = nil, map[string]int{}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch m := functionLine.FindStringSubmatch(line); {
		case m != nil:
			flush()
			name = m[1]
		case labelLine.MatchString(line):
			labels[strings.TrimSuffix(line, ":")] = len(lines)
		case line == "" || strings.HasPrefix(line, "//") || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "DATA") || strings.HasPrefix(line, "GLOBL"):
		default:
			lines = append(lines, line)
		}
	}
	flush()
	return sizes
}

func sizeOf(lines []string, labels map[string]int) codeSize {
	s := codeSize{all: len(lines)}
	type loop struct{ from, to int }
	var loops []loop
	for at, line := range lines {
		if m := jumpLine.FindStringSubmatch(line); m != nil {
			if from, ok := labels[m[1]]; ok && from <= at {
				loops = append(loops, loop{from, at})
			}
		}
	}
	for _, l := range loops {
		inner := slices.ContainsFunc(loops, func(o loop) bool { return o != l && o.from >= l.from && o.to <= l.to })
		if size := l.to - l.from + 1; !inner && size > s.largest {
			s.largest, s.work = size, 0
			for _, line := range lines[l.from : l.to+1] {
				if strings.Contains(line, "FMADD") || strings.Contains(line, "fmla") {
					s.work++
				}
			}
		}
	}
	return s
}

// Times differ from machine to machine; what the generator writes does not. A
// change of any kernel's size has to be recorded: go test -run Recorded -update.
func TestSizesOfKernelsAreAsRecorded(t *testing.T) {
	var b strings.Builder
	b.WriteString("# kernel: instructions in all; in its largest innermost loop; multiply-adds among these\n")
	files, err := filepath.Glob("*.s")
	require.NoError(t, err)
	found := map[string]codeSize{}
	var names []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for name, size := range codeSizes(string(text)) {
			found[name] = size
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		s := found[name]
		fmt.Fprintf(&b, "%s %d %d %d\n", name, s.all, s.largest, s.work)
	}
	const recorded = "testdata/instructions.txt"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o777))
		require.NoError(t, os.WriteFile(recorded, []byte(b.String()), 0o666))
	}
	want, err := os.ReadFile(recorded)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String(), "vector kernels have changed: see what they do now and record it with -update")
}

func TestLoopsAreFound(t *testing.T) {
	sizes := codeSizes("TEXT ·f(SB), NOSPLIT, $0\n\tMOVQ a, b\nouter:\n\tADDQ x, y\ninner:\n\tVFMADD231PS a, b, c\n\tDECQ k\n\tJNZ inner\n\tJMP outer\n\tRET\n")
	require.Equal(t, map[string]codeSize{"f": {all: 7, largest: 3, work: 1}}, sizes)
}
