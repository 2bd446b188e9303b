package profile

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/pbnjay/memory"
)

// Machine is where a profile was made.
type Machine struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	CPU    string `json:"cpu,omitempty"`
	Cores  int    `json:"cores"`
	Memory uint64 `json:"memory_bytes"`
}

// ThisMachine describes the machine the program runs on.
func ThisMachine() Machine {
	m := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(), Memory: memory.TotalMemory()}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil { // only Linux has it
		m.CPU = cpuModel(text)
	}
	return m
}

func (m Machine) String() string {
	name := m.CPU
	if name == "" {
		name = "unknown processor"
	}
	return fmt.Sprintf("%s (%s/%s, %d cores, %s)", name, m.OS, m.Arch, m.Cores, humanize.IBytes(m.Memory))
}

// cpuModel finds the model's name in the text of /proc/cpuinfo.
func cpuModel(cpuinfo []byte) string {
	lines := bufio.NewScanner(bytes.NewReader(cpuinfo))
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
