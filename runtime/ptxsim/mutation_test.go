package ptxsim_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// A subject is a kernel of the samples with inputs and a way to run it to its output.
type subject struct {
	file, kernel string
	run          func(r *rig) ([]byte, error)
}

var subjects = []subject{
	{"gemm.ptx", "gemm", func(r *rig) ([]byte, error) {
		const m, n, k = 66, 68, 136
		rng := rand.New(rand.NewPCG(1, 1))
		a, b, c := r.upload(halves(normals(rng, m*k))), r.upload(halves(normals(rng, n*k))), r.alloc(2*m*n)
		var args device.Args
		err := r.launch("gemm", device.D2(2, 2), device.D1(128), 2*3*128*40, args.Buf(a).Buf(b).Buf(c).I32(m).I32(n).I32(k))
		return r.bytes(c), err
	}},
	{"reduce.ptx", "row_sum", func(r *rig) ([]byte, error) {
		const rows, n = 3, 300
		x, y := r.upload(words(uniform(rows*n))), r.alloc(4*rows)
		var args device.Args
		err := r.launch("row_sum", device.D1(rows), device.D1(256), 0, args.Buf(x).Buf(y).I32(n))
		return r.bytes(y), err
	}},
	{"reduce.ptx", "last_block_sum", func(r *rig) ([]byte, error) {
		x, part, count, y := r.upload(words(uniform(2000))), r.alloc(4*5), r.upload(make([]byte, 4)), r.alloc(4)
		var args device.Args
		err := r.launch("last_block_sum", device.D1(5), device.D1(128), 0, args.Buf(x).Buf(part).Buf(count).Buf(y).I32(2000))
		return r.bytes(y), err
	}},
	{"barriers.ptx", "ring", func(r *rig) ([]byte, error) {
		x, y := r.upload(words(uniform(32*9))), r.alloc(4*32*9)
		var args device.Args
		err := r.launch("ring", device.D1(1), device.D1(64), 0, args.Buf(x).Buf(y).I32(9))
		return r.bytes(y), err
	}},
	{"barriers.ptx", "transpose", func(r *rig) ([]byte, error) {
		x, y := r.upload(words(uniform(50*40))), r.alloc(4*50*40)
		var args device.Args
		err := r.launch("transpose", device.D2(2, 2), device.D2(32, 8), 0, args.Buf(x).Buf(y).I32(50).I32(40))
		return r.bytes(y), err
	}},
	{"barriers.ptx", "warp_scan", func(r *rig) ([]byte, error) {
		v := make([]int32, 256)
		for i := range v {
			v[i] = int32(i*i%97 + 1)
		}
		x, y := r.upload(words(v)), r.alloc(4*256)
		var args device.Args
		err := r.launch("warp_scan", device.D1(2), device.D1(128), 0, args.Buf(x).Buf(y))
		return r.bytes(y), err
	}},
	{"elementwise.ptx", "saxpy", func(r *rig) ([]byte, error) {
		x, y := r.upload(words(uniform(4*300))), r.upload(words(uniform(4*300)))
		var args device.Args
		err := r.launch("saxpy", device.D1(3), device.D1(128), 0, args.Buf(x).Buf(y).F32(2).I32(300))
		return r.bytes(y), err
	}},
}

func uniform(n int) []float32 {
	rng := rand.New(rand.NewPCG(2, 2))
	out := make([]float32, n)
	for i := range out {
		out[i] = rng.Float32() + 0.5
	}
	return out
}

// A mutation changes one line of a kernel; it returns "" for lines it does not apply to.
type mutation struct {
	name   string
	mutate func(line string) string
	spared map[string]int // by kernel: mutants that change nothing, and why, see below
}

var (
	addressOffset = regexp.MustCompile(`\[(%rd?\d+)(\+-?\d+)?\]`)
)

func drop(opcode string) func(string) string {
	return func(line string) string {
		if strings.Contains(line, opcode) {
			return "// dropped"
		}
		return ""
	}
}

var mutations = []mutation{
	{"drop a block barrier", drop("bar.sync"), nil},
	{"drop an arrival", drop("bar.arrive"), nil},
	// The last __syncwarp of warp_scan stands before each thread reads back what it wrote itself.
	{"drop a warp barrier", drop("bar.warp.sync"), map[string]int{"warp_scan": 1}},
	{"drop a wait for copies", drop("cp.async.wait_group"), nil},
	{"drop a commit", drop("cp.async.commit_group"), map[string]int{"gemm": 0}},
	{"drop a fence", drop("membar.gl"), nil},
	{"shift an address", func(line string) string {
		if !strings.Contains(line, "ld.") && !strings.Contains(line, "st.") && !strings.Contains(line, "cp.async") && !strings.Contains(line, "ldmatrix") {
			return ""
		}
		return shiftAddress(line, 16)
	}, nil},
	{"misalign an address", func(line string) string {
		if !strings.Contains(line, "ld.") && !strings.Contains(line, "st.") && !strings.Contains(line, "ldmatrix") {
			return ""
		}
		return shiftAddress(line, 1)
	}, nil},
	{"widen a store", func(line string) string {
		re := regexp.MustCompile(`st\.(shared|global)\.(u32|f32) 	(\[.*\]), (%\w+);`)
		if !re.MatchString(line) {
			return ""
		}
		return re.ReplaceAllString(line, "st.$1.v4.$2 $3, {$4, $4, $4, $4};")
	}, nil},
}

// shiftAddress adds n to the first address of the line.
func shiftAddress(line string, n int) string {
	m := addressOffset.FindStringSubmatchIndex(line)
	if m == nil {
		return ""
	}
	off := 0
	if m[4] >= 0 {
		off, _ = strconv.Atoi(line[m[4]+1 : m[5]])
	}
	return fmt.Sprintf("%s[%s+%d]%s", line[:m[0]], line[m[2]:m[3]], off+n, line[m[1]:])
}

// bodyOf returns the lines of a kernel's body.
func bodyOf(lines []string, kernel string) (first, last int) {
	for i, l := range lines {
		if strings.Contains(l, ".entry "+kernel+"(") {
			first = i
		}
		if first > 0 && l == "}" {
			return first, i
		}
	}
	return first, len(lines)
}

// TestMutantsAreCaught changes the lines that the samples execute, one at a time, and requires that the checker or the comparison with
// the unchanged kernel's output notices, under some schedule.
func TestMutantsAreCaught(t *testing.T) {
	total := map[string]int{}
	for _, s := range subjects {
		text := string(sample(t, s.file))
		r := newRig(t, ptxsim.Options{}, s.file, []byte(text))
		want, err := s.run(r)
		require.NoError(t, err)
		executed := r.dev.LastReport().HotLines
		lines := strings.Split(text, "\n")
		first, last := bodyOf(lines, s.kernel)
		for _, m := range mutations {
			survived := []string{}
			for i := first; i < last; i++ {
				changed := m.mutate(lines[i])
				if changed == "" || executed[i+1] == 0 {
					continue
				}
				total[m.name]++
				mutant := append(append(append([]string{}, lines[:i]...), changed), lines[i+1:]...)
				if !caught(t, s, strings.Join(mutant, "\n"), want) {
					survived = append(survived, fmt.Sprintf("line %d: %s", i+1, lines[i]))
				}
			}
			require.Len(t, survived, m.spared[s.kernel], "%s: %s: %v", s.kernel, m.name, survived)
		}
	}
	for _, m := range mutations {
		require.Positive(t, total[m.name], "%s was never tried", m.name)
	}
}

func caught(t *testing.T, s subject, ptx string, want []byte) bool {
	for _, seed := range []int64{0, 3} {
		r := newRig(t, ptxsim.Options{Seed: seed, MaxSteps: 1 << 16, Workers: 1}, s.file, []byte(ptx))
		got, err := s.run(r)
		if err != nil || !bytes.Equal(got, want) {
			return true
		}
	}
	return false
}
