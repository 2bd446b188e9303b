// Package platform finds the devices of this machine and opens backends on
// them by name.
package platform

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"

	"github.com/dustin/go-humanize"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu"
	"unirestorer/runtime/cuda"
	"unirestorer/runtime/device"
	"unirestorer/runtime/gpu"
	"unirestorer/runtime/ptxsim"
)

// Device is a device that a backend can or could run on.
type Device struct {
	// Name opens it.
	Name string `json:"name"`
	// Description says what it is.
	Description string `json:"description"`
	// Available tells whether it can be opened; Reason why not, and what to do.
	Available bool   `json:"available"`
	Reason    string `json:"reason,omitempty"`
}

// Names of backends.
const (
	cpuName  = "cpu"
	simName  = "sim"
	cudaName = "cuda"
)

// Options shape a backend.
type Options struct {
	// Threads bounds the CPU threads of the cpu and sim backends; 0 means all
	// cores.
	Threads int
}

// ErrUnknownDevice reports a name that no backend answers to.
var ErrUnknownDevice = errors.New("unknown device")

// Open opens the backend of that name: "cpu" or nothing, "sim" or
// "sim:memory=SIZE" for a simulated card with that much memory, "cuda" for the
// first GPU, "cuda:N" or "cuda:UUID" for a certain one.
func Open(name string, opt Options) (backend.Backend, error) {
	kind, which, chosen := strings.Cut(name, ":")
	switch {
	case name == cpuName || name == "":
		return cpu.New(cpu.Options{Threads: opt.Threads})
	case kind == simName && (!chosen || which != ""):
		memory, err := simMemory(which)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", name, err)
		}
		if opt.Threads < 0 {
			return nil, fmt.Errorf("start sim backend: %d threads", opt.Threads)
		}
		dev, err := ptxsim.New(ptxsim.Options{Workers: opt.Threads, Memory: memory})
		if err != nil {
			return nil, fmt.Errorf("start sim backend: %w", err)
		}
		// Launched one by one, a finding names the node it is in.
		return open(dev, gpu.Options{Name: simName, NoGraphs: true})
	case kind == cudaName && (which == "all" || strings.Contains(which, ",")):
		return nil, fmt.Errorf("%w %q here: restore, serve and doctor take several GPUs, this takes one", ErrUnknownDevice, name)
	case kind == cudaName && (!chosen || which != ""):
		// As for other CUDA programs: every kernel is launched by itself and waited for, so that an error names it.
		blocking := os.Getenv("CUDA_LAUNCH_BLOCKING") == "1"
		dev, err := cuda.Open(which, cuda.Options{Synchronous: blocking})
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", name, err)
		}
		return open(dev, gpu.Options{Name: cudaName, NoGraphs: blocking})
	}
	return nil, fmt.Errorf("%w %q: the devices command lists those there are", ErrUnknownDevice, name)
}

// simMemory reads what a simulated card is to have, 0 for the usual.
func simMemory(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	value, ok := strings.CutPrefix(s, "memory=")
	n, err := humanize.ParseBytes(value)
	if !ok || err != nil || n == 0 || n > math.MaxInt64 {
		return 0, fmt.Errorf("%w: %q is no option of the simulator; memory=16MiB is", ErrUnknownDevice, s)
	}
	return int64(n), nil
}

// open hands a device to a backend, which closes it.
func open(dev device.Device, opts gpu.Options) (backend.Backend, error) {
	b, err := gpu.New(dev, opts)
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	return b, nil
}

// List tells of every device this program knows to use.
func List() []Device {
	return append([]Device{
		cpuDevice(),
		{Name: simName, Available: true, Description: "simulated GPU: runs the kernels' PTX on the CPU and checks every access; very slow"},
	}, gpus()...)
}

func cpuDevice() Device {
	d := Device{Name: cpuName, Available: true}
	if b, err := cpu.New(cpu.Options{}); err != nil {
		d.Available, d.Reason = false, err.Error()
	} else {
		d.Description = fmt.Sprintf("%s, %d threads", b.Info().Device, runtime.GOMAXPROCS(0))
		b.Close() // nothing was compiled
	}
	return d
}

// gpus lists the CUDA devices, or says why there is none.
func gpus() []Device {
	infos, err := cuda.List()
	if err == nil && len(infos) == 0 {
		err = cuda.ErrNoDevice
	}
	if err != nil {
		return []Device{{Name: cudaName, Reason: err.Error()}}
	}
	var all []Device
	for _, i := range infos {
		d := Device{Name: fmt.Sprintf("%s:%d", cudaName, i.Index), Available: true}
		d.Description = fmt.Sprintf("%s, compute capability %d.%d, %d MiB, %s", i.Name, i.Major, i.Minor, i.TotalMemory>>20, i.UUID)
		if i.Arch() < gpu.MinArch {
			d.Available = false
			d.Reason = fmt.Sprintf("%s: the kernels need compute capability %d.%d or newer", d.Description, gpu.MinArch/10, gpu.MinArch%10)
		}
		all = append(all, d)
	}
	return all
}
