package doctor

// processorLines are about the host's side.
func processorLines(s system) []Line {
	var lines []Line
	const faster = "networks run several times slower on the CPU than with AVX2"
	switch {
	case s.Instructions != "generic":
		lines = append(lines, ok("cpu", "instructions", "%s, %s", s.Arch, s.Instructions))
	case s.Arch == "amd64":
		lines = append(lines, warn("cpu", "instructions", "in a virtual machine, pass the host's processor through (QEMU: -cpu host)", "no AVX2: %s", faster))
	default:
		lines = append(lines, warn("cpu", "instructions", "use a GPU, or a machine with x86-64 or arm64", "plain Go on %s: %s", s.Arch, faster))
	}
	if s.Threads < s.Cores {
		lines = append(lines, warn("cpu", "cores", "raise the control group's cpu.max (docker run --cpus) or GOMAXPROCS", "%d of %d may be used", s.Threads, s.Cores))
	} else {
		lines = append(lines, ok("cpu", "cores", "%d", s.Cores))
	}
	switch {
	case s.Allowed < 1<<30:
		lines = append(lines, warn("host", "memory", "allow 1 GiB or more (docker run --memory), or keep pictures small", "%s may be used of %s", size(s.Allowed), size(s.Memory)))
	case s.Allowed < s.Memory:
		lines = append(lines, ok("host", "memory", "a control group allows %s of %s", size(s.Allowed), size(s.Memory)))
	default:
		lines = append(lines, ok("host", "memory", "%s", size(s.Memory)))
	}
	return lines
}
