package kernels_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/kernels"
	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// Environment of the processes that TestEverySite starts: a folder with images to use instead of those that are built in,
// and a file for what the tests executed.
const (
	imagesVariable   = "UNIRESTORER_TEST_IMAGES"
	executedVariable = "UNIRESTORER_TEST_EXECUTED"
	sitesVariable    = "UNIRESTORER_TEST_SITES"        // the file of results
	folderVariable   = "UNIRESTORER_TEST_SITES_FOLDER" // keeps the images and what tests execute for the next time; may be empty
	strideVariable   = "UNIRESTORER_TEST_SITES_STRIDE" // try every so manyth site
	kindsVariable    = "UNIRESTORER_TEST_SITES_KINDS"  // a regular expression for the kinds of mutations to try
)

// replaced loads the images of a folder instead of those that are built in.
type replaced struct {
	*ptxsim.Device
	folder string
}

func (d replaced) LoadModule(name string, image []byte) (device.Module, error) {
	if other, err := os.ReadFile(filepath.Join(d.folder, name+".ptx")); err == nil {
		image = kernels.ImageFor(other, d.Info().Arch())
	}
	return d.Device.LoadModule(name, image)
}

// libraryOn is the library of the kernels that are tested.
func libraryOn(dev *ptxsim.Device) *kernels.Library {
	if folder := os.Getenv(imagesVariable); folder != "" {
		return kernels.NewLibrary(replaced{dev, folder}, dev.Info().Arch())
	}
	return kernels.NewLibrary(dev, dev.Info().Arch())
}

// ran notes which lines of which kernels the tests execute.
var ran struct {
	sync.Mutex
	test  string
	lines map[string]map[string]map[int]uint64 // by test and kernel
}

// deviceOptions completes the options of a device for tests.
func deviceOptions(o ptxsim.Options) ptxsim.Options {
	if os.Getenv(imagesVariable) != "" {
		o.MaxFindings, o.MaxSteps = 1, 1<<18
	}
	if os.Getenv(executedVariable) != "" {
		o.OnLaunch = func(r ptxsim.Report) {
			ran.Lock()
			defer ran.Unlock()
			if ran.lines == nil {
				ran.lines = map[string]map[string]map[int]uint64{}
			}
			if ran.lines[ran.test] == nil {
				ran.lines[ran.test] = map[string]map[int]uint64{}
			}
			of := ran.lines[ran.test]
			if of[r.Kernel] == nil {
				of[r.Kernel] = map[int]uint64{}
			}
			for line, n := range r.HotLines {
				of[r.Kernel][line] += n
			}
		}
	}
	return o
}

// noteTest says which test runs.
func noteTest(t testing.TB) {
	ran.Lock()
	defer ran.Unlock()
	ran.test = t.Name()
}

// TestMain saves what was executed.
func TestMain(m *testing.M) {
	code := m.Run()
	if path := os.Getenv(executedVariable); path != "" && code == 0 {
		b, err := json.Marshal(ran.lines)
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			panic(err)
		}
	}
	os.Exit(code)
}

// A site is an instruction of a module that stands for a line of its source, and for a kind of mutation.
type site struct {
	Module, Kind, Source string
	Line                 int // of the PTX
	Mutant               string
	Caught               bool
	By                   string
	tests                []string
}

func (s *site) key() string {
	return fmt.Sprintf("%s %s %s %s", s.Module, s.Kind, s.Source, s.Mutant)
}

// siteMutations are the kinds of mutations that are tried at every line of the sources.
var siteMutations = []mutation{
	{"drop a barrier", drop("bar.sync")},
	{"drop a warp barrier", drop("bar.warp.sync")},
	{"drop a wait", drop("cp.async.wait_group")},
	{"drop a commit", drop("cp.async.commit_group")},
	{"drop a fence", drop("membar.gl")},
	{"drop a bound", dropPredicate},
	{"swap operands", swapOperands},
}

var (
	ordered3 = regexp.MustCompile(`^(\s*(?:@!?%p\d+\s+)?(?:sub|div|rem|setp\.(?:lt|le|gt|ge|lo|ls|hi|hs|ltu|leu|gtu|geu))\S*\s+[^,]+), ([^,]+), ([^,;]+);$`)
	ordered4 = regexp.MustCompile(`^(\s*(?:@!?%p\d+\s+)?(?:fma|mad|selp)\S*\s+[^,]+), ([^,]+), ([^,]+), ([^,;]+);$`)
)

// swapOperands exchanges two operands that are not alike: of a difference, a quotient, a comparison, a choice, a product
// and sum; and the fragments of a matrix product.
func swapOperands(line string, after []string) []string {
	if m := ordered3.FindStringSubmatch(line); m != nil && m[2] != m[3] && strings.HasPrefix(m[2], "%") {
		return []string{fmt.Sprintf("%s, %s, %s;", m[1], m[3], m[2])}
	}
	if m := ordered4.FindStringSubmatch(line); m != nil && !strings.Contains(m[1], ".wide") {
		if strings.Contains(m[1], "selp") {
			return []string{fmt.Sprintf("%s, %s, %s, %s;", m[1], m[3], m[2], m[4])}
		}
		if m[3] != m[4] {
			return []string{fmt.Sprintf("%s, %s, %s, %s;", m[1], m[2], m[4], m[3])}
		}
	}
	return swapFragments(line, after)
}

// otherTests do not compare what kernels compute.
const otherTests = "Mutants|EverySite|Counters|WholeSectors|PTX|Rejects|Refuse|Modules"

// TestEverySite breaks the kernels at every line of their sources, one line at a time, and counts what the tests of this
// package notice. It runs where UNIRESTORER_TEST_SITES names a file for the results, which it adds to and does not repeat,
// and needs nvcc.
func TestEverySite(t *testing.T) {
	path := os.Getenv(sitesVariable)
	if path == "" {
		t.Skip(sitesVariable + " names no file for the results")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	folder := cmp.Or(os.Getenv(folderVariable), t.TempDir())
	lines := executedLines(t, self, folder)
	stride := 1
	if text := os.Getenv(strideVariable); text != "" {
		stride, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	kinds, err := regexp.Compile(os.Getenv(kindsVariable))
	require.NoError(t, err)
	done := results(t, path)
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	for _, module := range kernels.Modules() {
		image, err := os.ReadFile(filepath.Join(folder, module+".ptx"))
		require.NoError(t, err)
		text := strings.Split(string(image), "\n")
		sites := slices.DeleteFunc(sitesOf(module, text, lines), func(s site) bool { return !kinds.MatchString(s.Kind) })
		for i, s := range sites {
			if _, ok := done[s.key()]; ok || i%stride != stride/2 {
				continue
			}
			s.try(t, self, text)
			b, err := json.Marshal(s)
			require.NoError(t, err)
			_, err = fmt.Fprintf(file, "%s\n", b)
			require.NoError(t, err)
			done[s.key()] = s
		}
	}
	summarise(t, done)
}

// executedLines makes images with line numbers in a folder, runs the tests with them and returns the lines that each test
// executes of each kernel, how often.
func executedLines(t *testing.T, self, folder string) (lines map[string]map[string]map[int]uint64) {
	executed := filepath.Join(folder, "executed.json")
	if _, err := os.Stat(executed); err != nil {
		out, err := exec.Command("make", "PTX="+folder, "LINEINFO=1", "NVCC="+nvccPath()).CombinedOutput()
		require.NoError(t, err, string(out))
		all := exec.Command(self, "-test.short", "-test.parallel=1", "-test.skip="+otherTests)
		all.Env = append(os.Environ(), imagesVariable+"="+folder, executedVariable+"="+executed, sitesVariable+"=")
		out, err = all.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	b, err := os.ReadFile(executed)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &lines))
	return lines
}

// results reads what earlier runs found.
func results(t *testing.T, path string) map[string]site {
	done := map[string]site{}
	file, err := os.Open(path)
	if err != nil {
		return done
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var s site
		require.NoError(t, json.Unmarshal(lines.Bytes(), &s))
		done[s.key()] = s
	}
	return done
}

// nvccPath is the compiler of the folder CUDA, or that of the path.
func nvccPath() string {
	if cuda := os.Getenv("CUDA"); cuda != "" {
		return filepath.Join(cuda, "bin", "nvcc")
	}
	return "nvcc"
}

var locLine = regexp.MustCompile(`^\s*\.loc\s+(\d+) (\d+)`)
var fileLine = regexp.MustCompile(`^\s*\.file\s+(\d+) "(?:[^"]*/)?([^"/]+)"`)

// sitesOf lists the sites of a module: of all instructions that stand for a line and kind, the one that most tests execute.
func sitesOf(module string, text []string, lines map[string]map[string]map[int]uint64) []site {
	files, best := map[string]string{}, map[string]site{}
	for _, l := range text {
		if m := fileLine.FindStringSubmatch(l); m != nil {
			files[m[1]] = m[2]
		}
	}
	tests := map[int][]string{}
	cost := map[string]uint64{}
	entry := regexp.MustCompile(`\.entry (\w+)`)
	local := map[string]bool{}
	for _, l := range text {
		if m := entry.FindStringSubmatch(l); m != nil {
			local[m[1]] = true
		}
	}
	for test, byKernel := range lines {
		for kernel, at := range byKernel {
			for line, n := range at {
				cost[test] += n
				if local[kernel] {
					tests[line] = append(tests[line], test)
				}
			}
		}
	}
	source := ""
	for i, l := range text {
		if m := locLine.FindStringSubmatch(l); m != nil {
			source = files[m[1]] + ":" + m[2]
		}
		if len(tests[i+1]) == 0 {
			continue
		}
		for _, m := range siteMutations {
			for k, mutant := range m.mutants(l, text[i+1:]) {
				key := fmt.Sprint(m.name, source, k, opcode(l))
				if old, ok := best[key]; ok && len(old.tests) >= len(tests[i+1]) {
					continue
				}
				s := site{Module: module, Kind: m.name, Source: source, Line: i + 1, Mutant: strings.TrimSpace(mutant), tests: slices.Clone(tests[i+1])}
				if s.Mutant == "" {
					s.Mutant = "// " + strings.TrimSpace(l)
				}
				slices.SortFunc(s.tests, func(a, b string) int { return cmp.Or(cmp.Compare(cost[a], cost[b]), cmp.Compare(a, b)) })
				best[key] = s
			}
		}
	}
	out := slices.Collect(maps.Values(best))
	slices.SortFunc(out, func(a, b site) int {
		return cmp.Or(a.Line-b.Line, cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Mutant, b.Mutant))
	})
	return out
}

// opcode is that of a line of PTX, with the guard's presence.
func opcode(l string) string {
	fields := strings.Fields(l)
	if len(fields) > 1 && strings.HasPrefix(fields[0], "@") {
		return "@" + fields[1]
	}
	return fields[0]
}

// At a site are tried the firstTests quickest tests that execute it, one after the other, and then others, spread evenly by
// what they cost, together.
const (
	firstTests = 3
	otherTried = 27
)

// try runs tests that execute a site until one notices the mutant.
func (s *site) try(t *testing.T, self string, text []string) {
	folder := t.TempDir()
	changed := slices.Clone(text)
	changed[s.Line-1] = s.Mutant
	require.NoError(t, os.WriteFile(filepath.Join(folder, s.Module+".ptx"), []byte(strings.Join(changed, "\n")), 0o600))
	var runs [][]string
	for len(s.tests) > 0 && len(runs) < firstTests {
		runs, s.tests = append(runs, s.tests[:1]), s.tests[1:]
	}
	if n := len(s.tests); n > 0 {
		var others []string
		for i := range min(n, otherTried) {
			others = append(others, s.tests[(2*i+1)*n/(2*min(n, otherTried))])
		}
		runs = append(runs, others)
	}
	for _, list := range runs {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		name := together(list)
		run := exec.CommandContext(ctx, self, "-test.short", "-test.failfast", "-test.run="+name)
		run.Env = append(os.Environ(), imagesVariable+"="+folder, sitesVariable+"=")
		_, err := run.CombinedOutput()
		late := ctx.Err() != nil
		cancel()
		if late || err != nil {
			s.Caught, s.By = true, name
			return
		}
	}
}

// together is a pattern for tests: at each level the names that one of them has.
func together(tests []string) string {
	var levels [][]string
	for _, n := range tests {
		for i, p := range strings.Split(n, "/") {
			if i == len(levels) {
				levels = append(levels, nil)
			}
			if q := regexp.QuoteMeta(p); !slices.Contains(levels[i], q) {
				levels[i] = append(levels[i], q)
			}
		}
	}
	var parts []string
	for _, l := range levels {
		parts = append(parts, "^("+strings.Join(l, "|")+")$")
	}
	return strings.Join(parts, "/")
}

// summarise logs the score by kind, and what was not noticed.
func summarise(t *testing.T, done map[string]site) {
	tried, caught := map[string]int{}, map[string]int{}
	var missed []string
	for _, key := range slices.Sorted(maps.Keys(done)) {
		s := done[key]
		tried[s.Kind]++
		if s.Caught {
			caught[s.Kind]++
		} else {
			missed = append(missed, s.Module+", "+s.Source+": "+s.Kind+": "+s.Mutant+" (line "+strconv.Itoa(s.Line)+")")
		}
	}
	sum, found := 0, 0
	for _, m := range siteMutations {
		sum, found = sum+tried[m.name], found+caught[m.name]
		t.Logf("%-22s %4d of %4d", m.name, caught[m.name], tried[m.name])
	}
	require.Positive(t, sum)
	t.Logf("%d of %d, %.1f %%", found, sum, 100*float64(found)/float64(sum))
	t.Logf("not noticed:\n%s", strings.Join(missed, "\n"))
}
