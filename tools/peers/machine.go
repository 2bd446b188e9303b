package main

import (
	"bufio"
	"bytes"
	"os"
	"runtime"
	"strings"

	"github.com/pbnjay/memory"
)

// machine describes where a measurement was made.
type machine struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	CPU    string `json:"cpu,omitempty"`
	Cores  int    `json:"cores"`
	Memory uint64 `json:"memory_bytes"`
}

func thisMachine() machine {
	m := machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(), Memory: memory.TotalMemory()}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil { // other systems have no such file
		m.CPU = cpuModel(text)
	}
	return m
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
