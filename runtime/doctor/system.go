package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/pbnjay/memory"

	"unirestorer/kernels"
	"unirestorer/runtime/cpu/simd"
	"unirestorer/runtime/cuda"
	"unirestorer/runtime/cuda/nvml"
	"unirestorer/runtime/gpu"
	"unirestorer/runtime/ledger"
)

// system is what a machine says of itself.
type system struct {
	OS, Arch string
	// Root is the file system from "/" on, Env the environment.
	Root fs.FS
	Env  func(name string) string
	// Usable tells why a file cannot be opened for reading and writing, Writable why no file can be made in a folder.
	Usable   func(file string) error
	Writable func(folder string) error

	Driver    cuda.Driver
	DriverErr error
	NVML      nvml.System
	NVMLErr   error
	Free      map[int]int64 // free bytes of a GPU by its index, where NVML does not tell

	Target, PTX string // of the kernels' PTX: "sm_80", "8.4"

	Instructions    string // "avx512"
	Cores, Threads  int    // of the machine, and what may be used of them
	Memory, Allowed int64  // bytes of the machine, and what the process may have

	// NeedGPU makes a missing GPU a fault.
	NeedGPU bool
}

// read asks this machine.
func read(ctx context.Context) (system, error) {
	if err := ctx.Err(); err != nil {
		return system{}, err
	}
	s := system{
		OS: runtime.GOOS, Arch: runtime.GOARCH, Root: os.DirFS("/"), Env: os.Getenv, Usable: usable, Writable: writable,
		Free: map[int]int64{}, Cores: runtime.NumCPU(), Threads: runtime.GOMAXPROCS(0),
		Memory: int64(memory.TotalMemory()), Allowed: ledger.Available(),
	}
	isas := simd.Available()
	s.Instructions = isas[len(isas)-1].String()
	var err error
	if s.Target, s.PTX, err = target(); err != nil {
		return system{}, err
	}
	s.Driver, s.DriverErr = cuda.Probe()
	s.NVML, s.NVMLErr = nvml.Read()
	for _, g := range s.Driver.GPUs {
		if s.managed(g) != nil && s.managed(g).Memory != nil && !g.MIG {
			continue
		}
		d, err := cuda.Open(fmt.Sprint(g.Index), cuda.Options{})
		if err != nil {
			continue // the self test says why
		}
		if free, _, err := d.Memory(); err == nil {
			s.Free[g.Index] = free
		}
		if err := d.Close(); err != nil {
			return system{}, err
		}
	}
	return s, nil
}

// managed is what NVML says of the whole GPU that g is or belongs to; nil if nothing.
func (s system) managed(g cuda.Status) *nvml.GPU {
	for i := range s.NVML.GPUs {
		if s.NVML.GPUs[i].UUID == g.GPU {
			return &s.NVML.GPUs[i]
		}
	}
	return nil
}

var (
	ptxTarget  = regexp.MustCompile(`(?m)^\.target (sm_\w+)`)
	ptxVersion = regexp.MustCompile(`(?m)^\.version ([\d.]+)`)
)

// target reads what the embedded kernels are written for.
func target() (arch, version string, err error) {
	for _, m := range kernels.Modules() {
		image, err := kernels.Image(m, gpu.MinArch)
		if err != nil {
			return "", "", err
		}
		a, v := ptxTarget.FindSubmatch(image), ptxVersion.FindSubmatch(image)
		if a == nil || v == nil {
			return "", "", fmt.Errorf("kernels %s: no target in the PTX", m)
		}
		arch, version = string(a[1]), string(v[1])
	}
	return arch, version, nil
}

// usable opens a file for reading and writing, as the driver does with its devices.
func usable(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// writable makes a file in a folder, or in the nearest one above it that exists, and removes it.
func writable(folder string) error {
	for {
		if _, err := os.Stat(folder); err == nil || folder == filepath.Dir(folder) {
			break
		}
		folder = filepath.Dir(folder)
	}
	f, err := os.CreateTemp(folder, ".unirestorer-*")
	if err != nil {
		return err
	}
	return firstError(f.Close(), os.Remove(f.Name()))
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// exists tells whether a file is there.
func (s system) exists(file string) bool {
	_, err := fs.Stat(s.Root, strings.TrimPrefix(path.Clean(file), "/"))
	return err == nil
}

func (s system) read(file string) string {
	data, err := fs.ReadFile(s.Root, strings.TrimPrefix(file, "/"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// Kinds of machines whose drivers lie in places of their own.
func (s system) wsl() bool {
	return strings.Contains(strings.ToLower(s.read("/proc/version")), "microsoft")
}
func (s system) jetson() bool { return s.exists("/etc/nv_tegra_release") }

// hasNVIDIA tells whether something of the machine shows an NVIDIA GPU, whatever the driver says.
func (s system) hasNVIDIA() bool {
	if s.jetson() || s.wsl() && s.exists("/dev/dxg") && s.exists("/usr/lib/wsl/lib") || s.exists("/proc/driver/nvidia/version") {
		return true
	}
	vendors, _ := fs.Glob(s.Root, "sys/bus/pci/devices/*/vendor")
	for _, v := range vendors {
		// The class of graphics and compute devices begins with 03.
		if s.read(v) == "0x10de" && strings.HasPrefix(s.read(path.Join(path.Dir(v), "class")), "0x03") {
			return true
		}
	}
	return false
}
