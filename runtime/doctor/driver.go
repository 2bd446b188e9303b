package doctor

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"unirestorer/runtime/cuda"
)

// oldest is the CUDA whose PTX the kernels are written in, as drivers number it, and the first release for it.
const (
	oldest        = 12040
	oldestRelease = 550
)

// places are where a driver's library lies that the dynamic loader does not look for by itself.
var places = []string{
	"/usr/lib/wsl/lib", "/usr/lib/aarch64-linux-gnu/nvidia", "/usr/lib/aarch64-linux-gnu/tegra",
	"/usr/local/nvidia/lib64", "/usr/lib/x86_64-linux-gnu/nvidia/current", "/usr/lib64/nvidia", "/run/opengl-driver/lib",
}

func programLine(s system) []Line {
	const subject, check = "program", "cuda"
	if !errors.Is(s.DriverErr, cuda.ErrNotBuilt) {
		return []Line{ok(subject, check, "built with CUDA, %s/%s", s.OS, s.Arch)}
	}
	do := "take the program for Linux from a release, or build it with -tags cuda"
	if s.OS != "linux" {
		do = "CUDA is supported on Linux; on Windows, run the Linux program in WSL 2"
	}
	text := fmt.Sprintf("built without CUDA, %s/%s", s.OS, s.Arch)
	if s.NeedGPU || s.hasNVIDIA() {
		return []Line{fault(subject, check, do, "%s", text)}
	}
	return []Line{warn(subject, check, do, "%s", text)}
}

func (s system) withoutCUDA() bool { return errors.Is(s.DriverErr, cuda.ErrNotBuilt) }

func driverLines(s system) []Line {
	if s.withoutCUDA() {
		return nil
	}
	const subject = "driver"
	var lines []Line
	switch {
	case s.Driver.Simulated:
		lines = []Line{ok(subject, "library", "simulated: no GPU is used")}
	case s.Driver.Library == "":
		return []Line{s.missingLibrary()}
	default:
		lines = append([]Line{ok(subject, "library", "%s", s.Driver.Library)}, s.moduleLines()...)
	}

	switch version := cudaVersion(s.Driver.Version); {
	case s.Driver.Version == 0:
	case s.Driver.Version < oldest:
		lines = append(lines, fault(subject, "version", fmt.Sprintf("update the NVIDIA driver to release %d or newer", oldestRelease),
			"for CUDA %s; the kernels need %s", version, cudaVersion(oldest)))
	default:
		lines = append(lines, ok(subject, "version", "for CUDA %s%s", version, release(s.NVML.Driver)))
	}
	if s.DriverErr != nil {
		lines = append(lines, fault(subject, "start", "see what the text says; nvidia-smi shows whether the driver itself works", "%v", s.DriverErr))
	} else {
		lines = append(lines, ok(subject, "start", "%d usable to this process", len(s.Driver.GPUs)))
	}
	switch {
	case s.NVMLErr != nil:
		lines = append(lines, warn(subject, "nvml", "install the driver's libnvidia-ml.so.1; in a container, NVIDIA_DRIVER_CAPABILITIES=compute,utility brings it",
			"no word on memory's holders, clocks and errors: %v", s.NVMLErr))
	default:
		lines = append(lines, ok(subject, "nvml", "%d in the machine", len(s.NVML.GPUs)))
	}
	return lines
}

func release(version string) string {
	if version == "" {
		return ""
	}
	return ", release " + version
}

func cudaVersion(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

// missingLibrary says why no driver could be loaded, and looks where one might lie.
func (s system) missingLibrary() Line {
	const subject, check = "driver", "library"
	why := strings.TrimPrefix(fmt.Sprint(s.DriverErr), cuda.ErrNoDevice.Error()+": ")
	why, _, _ = strings.Cut(why, ";")
	for _, p := range places {
		if s.exists(path.Join(p, "libcuda.so.1")) {
			return fault(subject, check, "export LD_LIBRARY_PATH="+p+", or name the folder in /etc/ld.so.conf.d and run ldconfig",
				"%s is there, but not where the loader looks: %s", path.Join(p, "libcuda.so.1"), why)
		}
	}
	do := "install the NVIDIA driver; in a container, start it with access to the GPU (docker run --gpus all)"
	switch {
	case s.wsl():
		do = "install the NVIDIA driver on Windows (none in Linux): it brings /usr/lib/wsl/lib"
	case s.jetson():
		do = "install nvidia-l4t-cuda: it brings the driver's libcuda.so.1"
	}
	if s.NeedGPU || s.hasNVIDIA() {
		return fault(subject, check, do, "%s", why)
	}
	return warn(subject, check, do, "none, and no NVIDIA GPU is seen in this machine: networks run on the CPU")
}

var moduleVersion = regexp.MustCompile(`Module\S*\s+(?:for \S+\s+)?(\d+\.\d+(?:\.\d+)?)`)

// moduleLines are about the part of the driver in the kernel.
func (s system) moduleLines() []Line {
	const subject = "driver"
	if s.wsl() {
		if !s.exists("/dev/dxg") {
			return []Line{fault(subject, "devices", "run wsl --update on Windows, and wsl --version to see that it is WSL 2", "/dev/dxg is missing")}
		}
		return []Line{ok(subject, "devices", "/dev/dxg, by way of Windows")}
	}
	if s.jetson() {
		return nil // the driver is part of the system there
	}
	version := moduleVersion.FindStringSubmatch(s.read("/proc/driver/nvidia/version"))
	if version == nil {
		return []Line{fault(subject, "module", "load it: modprobe nvidia; if that fails, dmesg says why (Secure Boot, a kernel that the driver was not built for)",
			"the library is there, the kernel's module is not loaded")}
	}
	lines := []Line{ok(subject, "module", "release %s", version[1])}
	if lib := s.NVML.Driver; lib != "" && lib != version[1] {
		lines[0] = fault(subject, "module", "reboot: the driver was updated while its module was loaded", "release %s, the library is of %s", version[1], lib)
	}
	var missing, refused []string
	for _, d := range []string{"/dev/nvidiactl", "/dev/nvidia-uvm"} {
		switch {
		case !s.exists(d):
			missing = append(missing, d)
		case s.Usable(d) != nil:
			refused = append(refused, d)
		}
	}
	switch {
	case len(missing) > 0:
		lines = append(lines, fault(subject, "devices", "nvidia-modprobe -u -c 0 makes them; a container must be given them", "missing: %s", strings.Join(missing, ", ")))
	case len(refused) > 0:
		lines = append(lines, fault(subject, "devices", "put the user into the group that owns them (often video or render)", "no permission: %s", strings.Join(refused, ", ")))
	default:
		lines = append(lines, ok(subject, "devices", "/dev/nvidiactl and /dev/nvidia-uvm can be used"))
	}
	return lines
}

// visibleLines say what the environment hides.
func visibleLines(s system) []Line {
	if s.withoutCUDA() || s.Driver.Library == "" && !s.Driver.Simulated {
		return nil
	}
	const subject, check = "environment", "visible"
	value := s.Env("CUDA_VISIBLE_DEVICES")
	all, shown := len(s.NVML.GPUs), len(s.Driver.GPUs)
	if value == "" {
		if order := s.Env("CUDA_DEVICE_ORDER"); order != "PCI_BUS_ID" && unlike(s.Driver.GPUs) {
			return []Line{warn(subject, check, "set CUDA_DEVICE_ORDER=PCI_BUS_ID to count as nvidia-smi does, or name GPUs by UUID",
				"GPUs of different kinds are counted with the fastest first, unlike in nvidia-smi")}
		}
		return []Line{ok(subject, check, "CUDA_VISIBLE_DEVICES is not set")}
	}
	if bad, n := s.firstBad(value); bad != "" {
		do := fmt.Sprintf("mend %q in CUDA_VISIBLE_DEVICES: the driver passes over it and all that follows", bad)
		if n == 0 {
			return []Line{fault(subject, check, do, "CUDA_VISIBLE_DEVICES=%s shows none", value)}
		}
		return []Line{warn(subject, check, do, "CUDA_VISIBLE_DEVICES=%s shows only the first %d", value, n)}
	}
	text := fmt.Sprintf("CUDA_VISIBLE_DEVICES=%s shows %d", value, shown)
	if all > shown {
		text += fmt.Sprintf(" of %d", all)
	}
	return []Line{ok(subject, check, "%s; cuda:0 is the first of them", text)}
}

// firstBad finds the first entry of CUDA_VISIBLE_DEVICES that names no GPU, and how many stand before it.
func (s system) firstBad(value string) (bad string, before int) {
	for entry := range strings.SplitSeq(value, ",") {
		entry = strings.TrimSpace(entry)
		n, err := strconv.Atoi(entry)
		switch {
		case err == nil && (n < 0 || s.NVMLErr == nil && n >= len(s.NVML.GPUs)):
			return entry, before
		case err != nil && !strings.HasPrefix(entry, "MIG-") && s.NVMLErr == nil && !s.anyUUID(entry):
			return entry, before
		case entry == "":
			return "(empty)", before
		}
		before++
	}
	return "", before
}

func (s system) anyUUID(prefix string) bool {
	for _, g := range s.NVML.GPUs {
		if strings.HasPrefix(prefix, "GPU-") && strings.HasPrefix(g.UUID, prefix) {
			return true
		}
	}
	return false
}

// unlike tells whether GPUs are of different kinds.
func unlike(gpus []cuda.Status) bool {
	for _, g := range gpus {
		if g.Name != gpus[0].Name {
			return true
		}
	}
	return false
}

// kernelLines are about the code that GPUs run.
func kernelLines(s system) []Line {
	if s.withoutCUDA() || len(s.Driver.GPUs) == 0 {
		return nil
	}
	const subject = "kernels"
	var lines []Line
	text := fmt.Sprintf("PTX %s for %s, compiled by the driver for each kind of GPU", s.PTX, s.Target)
	if v := s.Env("CUDA_DISABLE_PTX_JIT"); v == "1" {
		lines = append(lines, fault(subject, "code", "unset CUDA_DISABLE_PTX_JIT", "%s; CUDA_DISABLE_PTX_JIT=1 forbids that", text))
	} else {
		lines = append(lines, ok(subject, "code", "%s", text))
	}
	const again = "; every start compiles the kernels anew, which takes seconds"
	folder := s.Env("CUDA_CACHE_PATH")
	if folder == "" && s.Env("HOME") != "" {
		folder = path.Join(s.Env("HOME"), ".nv/ComputeCache")
	}
	switch err := errors.New("neither CUDA_CACHE_PATH nor HOME is set"); {
	case s.Env("CUDA_CACHE_DISABLE") == "1":
		lines = append(lines, warn(subject, "cache", "unset CUDA_CACHE_DISABLE", "CUDA_CACHE_DISABLE=1%s", again))
	case folder == "":
		lines = append(lines, warn(subject, "cache", "set CUDA_CACHE_PATH to a folder that can be written to", "%v%s", err, again))
	default:
		if err = s.Writable(folder); err != nil {
			lines = append(lines, warn(subject, "cache", "set CUDA_CACHE_PATH to a folder that can be written to", "%s: %v%s", folder, err, again))
			break
		}
		lines = append(lines, ok(subject, "cache", "%s", folder))
	}
	return lines
}
