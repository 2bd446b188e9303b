package kernels_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// A mutation changes one line of a kernel's PTX. It gives all ways to do so that are worth trying, none for a line it does
// not apply to. after are the lines that follow.
type mutation struct {
	name    string
	mutants func(line string, after []string) []string
}

var mutations = []mutation{
	{"drop a block barrier", drop("bar.sync")},
	{"drop a warp barrier", drop("bar.warp.sync")},
	{"drop a wait for copies", drop("cp.async.wait_group")},
	{"drop a fence", drop("membar.gl")},
	{"drop an atomic", drop("atom.")},
	{"shift an address", shiftAddresses},
	{"narrow a store", narrowStore},
	{"widen a store", widenStore},
	{"drop a predicate", dropPredicate},
	{"swap operands of a product", swapFragments},
}

var (
	guarded   = regexp.MustCompile(`^\s*@!?%p\d+\s+`)
	access    = regexp.MustCompile(`^\s*(@!?%p\d+\s+)?(ld|st|atom)(\.volatile)?\.(global|shared)[.\w]*?(\.v[24])?\.[bfsu](8|16|32|64)\s`)
	address   = regexp.MustCompile(`\[(%rd?\d+)(\+-?\d+)?\]`)
	store     = regexp.MustCompile(`^(\s*(?:@!?%p\d+\s+)?st(?:\.volatile)?\.(?:global|shared))(\.v[24])?\.([bfsu]\d+)\s+\[(%rd?\d+)(\+-?\d+)?\], (\{.*\}|%\w+);`)
	fragments = regexp.MustCompile(`^(\s*mma\.\S+ \{[^}]*\}), \{([^}]*)\}, \{([^}]*)\}, (.*)$`)
)

func drop(opcode string) func(string, []string) []string {
	return func(line string, _ []string) []string {
		if strings.Contains(line, opcode) {
			return []string{""}
		}
		return nil
	}
}

// shiftAddresses moves each address of a line on by one element: a whole vector where the access is one, so that it
// stays aligned.
func shiftAddresses(line string, _ []string) []string {
	width := 16
	switch m := access.FindStringSubmatch(line); {
	case m != nil:
		width, _ = strconv.Atoi(m[6])
		width /= 8
		if m[5] != "" {
			width *= int(m[5][2] - '0')
		}
	case !strings.Contains(line, "ldmatrix") && !strings.Contains(line, "cp.async."):
		return nil
	}
	var all []string
	for _, m := range address.FindAllStringSubmatchIndex(line, -1) {
		old := 0
		if m[4] >= 0 {
			old = offset(line[m[4]:m[5]])
		}
		all = append(all, fmt.Sprintf("%s[%s+%d]%s", line[:m[0]], line[m[2]:m[3]], old+width, line[m[1]:]))
	}
	return all
}

// dropPredicate executes what a predicate guards in any case: an instruction, or a few that a branch skips and that touch
// memory, such as a check of bounds. Branches that only choose between ways to do the same are none.
func dropPredicate(line string, after []string) []string {
	m := guarded.FindString(line)
	if m == "" {
		return nil
	}
	if !strings.Contains(line, "bra") {
		return []string{strings.Replace(line, m, "\t", 1)}
	}
	label := strings.TrimSuffix(strings.TrimSpace(line[strings.LastIndexByte(line, '$'):]), ";") + ":"
	touches := false
	for _, l := range after[:min(len(after), 40)] {
		if l == label {
			if touches {
				return []string{""}
			}
			return nil
		}
		if strings.HasSuffix(l, ":") || strings.Contains(l, "bra") {
			return nil
		}
		touches = touches || access.MatchString(l) || strings.Contains(l, "cp.async.c")
	}
	return nil
}

// widenStore writes a scalar or a pair once more behind itself, unless the thread soon stores there, where it would do
// away with that.
func widenStore(line string, after []string) []string {
	m := store.FindStringSubmatch(line)
	if m == nil || m[2] == ".v4" {
		return nil
	}
	bytes, _ := strconv.Atoi(m[3][1:])
	bytes /= 8
	values, vector := strings.Trim(m[6], "{}"), ".v2"
	if m[2] == ".v2" {
		bytes, vector = 2*bytes, ".v4"
	}
	if bytes > 8 {
		return nil
	}
	for _, l := range after[:min(len(after), 60)] {
		if n := store.FindStringSubmatch(l); n != nil && n[4] == m[4] && offset(n[5]) == offset(m[5])+bytes {
			return nil
		}
	}
	return []string{fmt.Sprintf("%s%s.%s [%s%s], {%s,%s};", m[1], vector, m[3], m[4], m[5], values, values)}
}

// narrowStore writes the first half of a vector.
func narrowStore(line string, _ []string) []string {
	m := store.FindStringSubmatch(line)
	if m == nil || m[2] == "" {
		return nil
	}
	values, vector := strings.Split(strings.Trim(m[6], "{}"), ","), ""
	first := values[0]
	if m[2] == ".v4" {
		first, vector = fmt.Sprintf("{%s,%s}", values[0], values[1]), ".v2"
	}
	return []string{fmt.Sprintf("%s%s.%s [%s%s], %s;", m[1], vector, m[3], m[4], m[5], first)}
}

// offset is that of an address, "+16" or nothing.
func offset(s string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(s, "+"))
	return n
}

// swapFragments exchanges two registers of the left operand, and of the right one.
func swapFragments(line string, _ []string) []string {
	m := fragments.FindStringSubmatch(line)
	if m == nil {
		return nil
	}
	a, b := strings.Split(m[2], ","), strings.Split(m[3], ",")
	if len(a) != 4 || len(b) != 2 {
		return nil
	}
	return []string{
		fmt.Sprintf("%s, {%s,%s,%s,%s}, {%s}, %s", m[1], a[1], a[0], a[2], a[3], m[3], m[4]),
		fmt.Sprintf("%s, {%s}, {%s,%s}, %s", m[1], m[2], b[1], b[0], m[4]),
	}
}

// onlyKernel is the PTX of a module with one of its kernels.
func onlyKernel(ptx, kernel string) string {
	const entry = "\n.visible .entry "
	parts := strings.Split(ptx, entry)
	for _, p := range parts[1:] {
		if strings.HasPrefix(p, kernel+"(") {
			return parts[0] + entry + p
		}
	}
	return ""
}
