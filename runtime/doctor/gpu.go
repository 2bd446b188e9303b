package doctor

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	"unirestorer/runtime/cuda"
	"unirestorer/runtime/cuda/nvml"
	"unirestorer/runtime/gpu"
)

// enough is the free memory that any network of the released model at a few megapixels fits in.
const enough = 2 << 30

func gpuLines(s system) []Line {
	var lines []Line
	for _, g := range s.Driver.GPUs {
		lines = append(lines, s.gpu(g)...)
	}
	// GPUs that NVML knows to be broken are not shown by the driver at all.
	for _, m := range s.NVML.GPUs {
		if m.Error != "" {
			lines = append(lines, fault(fmt.Sprintf("GPU %d", m.Index), "health", "reset it (nvidia-smi --gpu-reset) or reboot; dmesg | grep Xid says what happened", "%s", m.Error))
		}
	}
	return lines
}

func (s system) gpu(g cuda.Status) []Line {
	subject := fmt.Sprintf("cuda:%d", g.Index)
	m := s.managed(g)
	if m == nil {
		m = &nvml.GPU{}
	}
	lines := []Line{capability(subject, g)}
	lines = append(lines, s.memory(subject, g, m)...)
	lines = append(lines, mode(subject, g, m), s.mps(subject, m), mig(subject, g, m))
	lines = append(lines, health(subject, g, m)...)
	lines = append(lines, clocks(subject, m)...)
	if m.Link != nil {
		lines = append(lines, link(subject, *m.Link))
	}
	if g.Watchdog {
		lines = append(lines, warn(subject, "watchdog", "use a GPU without a display, or keep pictures small", "a display is attached: the driver ends kernels that run for seconds"))
	} else {
		lines = append(lines, ok(subject, "watchdog", "none: kernels may run as long as they take"))
	}
	return lines
}

func capability(subject string, g cuda.Status) Line {
	const check = "capability"
	if g.Arch() < gpu.MinArch {
		return fault(subject, check, "use a newer GPU (Ampere, Ada, Hopper, Blackwell) or --device cpu",
			"%s has compute capability %d.%d; the kernels need %d.%d", g.Name, g.Major, g.Minor, gpu.MinArch/10, gpu.MinArch%10)
	}
	kind := ""
	if g.Integrated {
		kind = ", shares the host's memory"
	}
	return ok(subject, check, "%s, compute capability %d.%d, %s%s", g.Name, g.Major, g.Minor, g.UUID, kind)
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func (s system) memory(subject string, g cuda.Status, m *nvml.GPU) []Line {
	const check = "memory"
	free, known := s.Free[g.Index]
	total := g.TotalMemory
	if m.Memory != nil && !g.MIG {
		free, known, total = int64(m.Memory.Free), true, int64(m.Memory.Total)
	}
	if !known {
		return []Line{warn(subject, check, "see the lines before and after: the GPU could not be opened", "free memory is not known")}
	}
	text := fmt.Sprintf("%s of %s free%s", size(free), size(total), holders(m.Processes))
	if free < min(enough, total/2) {
		return []Line{warn(subject, check, "end what holds it, or name another GPU; --device-memory bounds what this program takes", "%s", text)}
	}
	return []Line{ok(subject, check, "%s", text)}
}

// holders lists who holds memory.
func holders(ps []nvml.Process) string {
	if len(ps) == 0 {
		return ""
	}
	var names []string
	for _, p := range ps {
		names = append(names, p.String())
	}
	return "; held by " + strings.Join(names, ", ")
}

func mode(subject string, g cuda.Status, m *nvml.GPU) Line {
	const check = "mode"
	mode := uint32(g.ComputeMode)
	if m.ComputeMode != nil {
		mode = *m.ComputeMode
	}
	switch {
	case mode == nvml.Prohibited:
		return fault(subject, check, "nvidia-smi -c DEFAULT", "compute mode is prohibited: no program may use this GPU")
	case mode == nvml.ExclusiveProcess && len(m.Processes) > 0:
		return fault(subject, check, "end that process, or nvidia-smi -c DEFAULT", "compute mode is exclusive, and process %d has the GPU", m.Processes[0].PID)
	case mode == nvml.ExclusiveProcess:
		return warn(subject, check, "nvidia-smi -c DEFAULT, unless one process is meant to have it", "compute mode is exclusive: one process at a time")
	}
	return ok(subject, check, "compute mode is default: processes share the GPU")
}

// mps is about the multi-process service, which puts the kernels of several processes on one GPU at the same time.
func (s system) mps(subject string, m *nvml.GPU) Line {
	const check = "mps"
	served := false
	for _, p := range m.Processes {
		served = served || p.MPS || strings.HasSuffix(p.Name, "nvidia-cuda-mps-server")
	}
	pipe := s.Env("CUDA_MPS_PIPE_DIRECTORY")
	if pipe == "" {
		pipe = "/tmp/nvidia-mps"
	}
	switch running := s.exists(pipe + "/control"); {
	case running && !served && s.Env("CUDA_MPS_PIPE_DIRECTORY") != "":
		return ok(subject, check, "its control is in %s; the server starts with the first client", pipe)
	case !running && s.Env("CUDA_MPS_PIPE_DIRECTORY") != "":
		return fault(subject, check, "start nvidia-cuda-mps-control -d, or unset CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_PIPE_DIRECTORY=%s, and no service answers there", pipe)
	case served || running:
		return warn(subject, check, "a fault of any client ends all of them: give this program a GPU of its own if others are not trusted", "the multi-process service is in use")
	}
	return ok(subject, check, "not in use")
}

func mig(subject string, g cuda.Status, m *nvml.GPU) Line {
	const check = "mig"
	switch {
	case m.MIG != nil && m.MIG.Current != m.MIG.Pending:
		return warn(subject, check, "nvidia-smi --gpu-reset, with nothing running on it", "MIG mode changes at the next reset")
	case g.MIG:
		return ok(subject, check, "a slice of %s: %d multiprocessors", g.GPU, g.SMs)
	case m.MIG != nil && m.MIG.Current:
		return fault(subject, check, "make slices (nvidia-smi mig -cgi … -C) and name one as cuda:MIG-…", "MIG is on, and this is no slice")
	}
	return ok(subject, check, "off: the whole GPU")
}

// health is about memory errors.
func health(subject string, g cuda.Status, m *nvml.GPU) []Line {
	ecc := g.ECC
	if m.ECC != nil {
		ecc = m.ECC.Current
	}
	var lines []Line
	switch {
	case m.ECC != nil && m.ECC.Current != m.ECC.Pending:
		lines = append(lines, warn(subject, "ecc", "reboot or nvidia-smi --gpu-reset", "memory protection changes at the next reset"))
	case m.Uncorrected != nil && *m.Uncorrected > 0:
		lines = append(lines, fault(subject, "ecc", "nvidia-smi --gpu-reset; if they come back, have the GPU replaced", "%d uncorrectable memory errors since the driver was loaded", *m.Uncorrected))
	case ecc:
		lines = append(lines, ok(subject, "ecc", "memory is protected, no uncorrectable errors"))
	default:
		lines = append(lines, ok(subject, "ecc", "memory is not protected"))
	}
	switch {
	case m.RepairFailed != nil && *m.RepairFailed:
		lines = append(lines, fault(subject, "repair", "have the GPU replaced", "rows of its memory could not be remapped"))
	case m.RepairPending != nil && *m.RepairPending:
		lines = append(lines, warn(subject, "repair", "nvidia-smi --gpu-reset, with nothing running on it", "bad memory is retired at the next reset"))
	case m.RepairPending != nil:
		lines = append(lines, ok(subject, "repair", "no memory waits to be retired"))
	}
	return lines
}

// clocks are about what slows a GPU down.
func clocks(subject string, m *nvml.GPU) []Line {
	var lines []Line
	if m.Throttle != nil {
		temperature := ""
		if m.Temperature != nil {
			temperature = fmt.Sprintf(", %d °C", *m.Temperature)
		}
		var why []string
		for _, r := range []struct {
			bit  uint64
			text string
		}{
			{nvml.ThermalSlowdown | nvml.HardwareThermal, "heat"}, {nvml.PowerBrake, "the power supply's brake"},
			{nvml.HardwareSlowdown, "hardware slowdown"}, {nvml.PowerCap, "the power limit"}, {nvml.ApplicationClocks, "clocks that were set"},
		} {
			if *m.Throttle&r.bit != 0 {
				why = append(why, r.text)
			}
		}
		if len(why) > 0 {
			lines = append(lines, warn(subject, "clocks", "nvidia-smi -q -d PERFORMANCE,CLOCK,POWER shows more: see to cooling, the supply, or nvidia-smi -rac",
				"held down by %s%s", strings.Join(why, ", "), temperature))
		} else {
			lines = append(lines, ok(subject, "clocks", "not held down%s", temperature))
		}
	}
	if m.PowerLimit != nil && m.PowerDefault != nil {
		limit, usual := *m.PowerLimit/1000, *m.PowerDefault/1000
		if limit < usual {
			lines = append(lines, warn(subject, "power", fmt.Sprintf("nvidia-smi -pl %d, unless the limit is meant", usual), "limited to %d W of %d W", limit, usual))
		} else {
			lines = append(lines, ok(subject, "power", "limit %d W", limit))
		}
	}
	return lines
}

// link is about the connection to the host. Its generation falls while the GPU idles, its width does not.
func link(subject string, l nvml.Link) Line {
	if l.Width < l.MaxWidth {
		return warn(subject, "pcie", "reseat the card, or put it into a wider slot", "%d of %d lanes: copies take up to %d times as long", l.Width, l.MaxWidth, l.MaxWidth/max(l.Width, 1))
	}
	return ok(subject, "pcie", "%d lanes, up to generation %d", l.Width, l.MaxGeneration)
}
