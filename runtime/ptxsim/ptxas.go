package ptxsim

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strconv"
)

// Resources are what the assembler says a kernel needs.
type Resources struct {
	Registers  int `json:"registers"`   // per thread
	Shared     int `json:"shared"`      // static shared memory in bytes
	SpillBytes int `json:"spill_bytes"` // stores and loads of spilled registers
	StackBytes int `json:"stack_bytes"` // local memory per thread
}

var (
	asmEntry  = regexp.MustCompile(`Compiling entry function '([^']+)' for '(sm_\w+)'`)
	asmStack  = regexp.MustCompile(`(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads`)
	asmUsed   = regexp.MustCompile(`Used (\d+) registers`)
	asmShared = regexp.MustCompile(`(\d+) bytes smem`)
)

// ParseAssemblerReport reads what "ptxas -v" prints and returns the resources of each kernel by name. The register
// counts can be given to a device as Options.Registers.
func ParseAssemblerReport(r io.Reader) (map[string]Resources, error) {
	out := map[string]Resources{}
	name := ""
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		text := lines.Text()
		if m := asmEntry.FindStringSubmatch(text); m != nil {
			name = m[1]
			out[name] = Resources{}
			continue
		}
		if name == "" {
			continue
		}
		res := out[name]
		for _, f := range []struct {
			re  *regexp.Regexp
			dst []*int
		}{{asmStack, []*int{&res.StackBytes, &res.SpillBytes, new(int)}}, {asmUsed, []*int{&res.Registers}}, {asmShared, []*int{&res.Shared}}} {
			m := f.re.FindStringSubmatch(text)
			if m == nil {
				continue
			}
			for i, d := range f.dst {
				n, err := strconv.Atoi(m[i+1])
				if err != nil {
					return nil, fmt.Errorf("assembler report: kernel %s: %w", name, err)
				}
				*d += n
			}
			if f.re == asmStack {
				res.SpillBytes += *f.dst[2]
			}
		}
		out[name] = res
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("assembler report: %w", err)
	}
	return out, nil
}
