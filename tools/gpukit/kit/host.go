package kit

import (
	"os"
	"os/exec"
	"runtime"
	"strings"

	"unirestorer/tools/gpukit/results"
)

// host describes the machine around the GPU. What cannot be found out stays empty.
func host(m *results.Machine) {
	m.Cores, m.System = runtime.NumCPU(), runtime.GOOS+"/"+runtime.GOARCH
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if out, err := exec.Command("ldd", "--version").Output(); err == nil {
		m.Libc = firstLine(string(out))
	}
}
