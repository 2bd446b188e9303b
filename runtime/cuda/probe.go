//go:build cuda && linux

package cuda

import (
	"bufio"
	"os"
	"strings"

	"gorgonia.org/cu"

	"unirestorer/runtime/cuda/internal/cuext"
)

// Probe asks the driver for its version and for every GPU, without opening any. When the driver does not start, the error
// is that of [List].
func Probe() (Driver, error) {
	d := Driver{Library: loadedLibrary(), Simulated: simulated}
	d.Version = max(cu.Version(), 0) // a driver that is not there tells none
	infos, err := List()
	if err != nil {
		return d, err
	}
	for i, info := range infos {
		s := Status{Info: info}
		gpu, err := cu.GetDevice(i)
		if err != nil {
			return d, failed("cuDeviceGet", err)
		}
		if id, mig, err := cuext.WholeUUID(gpu); err == nil {
			s.GPU, s.MIG = uuid(id, false), mig
		}
		s.ComputeMode, _ = gpu.Attribute(cu.ComputeMode)
		ecc, _ := gpu.Attribute(cu.EccEnabled)
		integrated, _ := gpu.Attribute(cu.Integrated)
		watchdog, _ := gpu.Attribute(cu.KernelExecTimeout)
		s.ECC, s.Integrated, s.Watchdog = ecc != 0, integrated != 0, watchdog != 0
		d.GPUs = append(d.GPUs, s)
	}
	return d, nil
}

// loadedLibrary returns the path of the driver that is loaded in this process.
func loadedLibrary() string {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if at := strings.IndexByte(lines.Text(), '/'); at >= 0 && strings.Contains(lines.Text()[at:], "/libcuda.so") {
			return lines.Text()[at:]
		}
	}
	return ""
}
