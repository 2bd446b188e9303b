package platform

import (
	"fmt"
	"strings"

	"unirestorer/runtime/cuda"
	"unirestorer/runtime/device"
	"unirestorer/runtime/gpu"
)

// Devices returns the names of the devices that a name means: "cuda:all" is every GPU that the kernels run on, "cuda:0,2" and
// "cuda:GPU-4f2a,MIG-77" are several, by index or UUID; any other name is itself.
func Devices(name string) ([]string, error) {
	list, several := strings.CutPrefix(name, cudaName+":")
	if !several || list != "all" && !strings.Contains(list, ",") {
		return []string{name}, nil
	}
	infos, err := cuda.List()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return among(name, list, infos)
}

// among finds the GPUs that a list names.
func among(name, list string, infos []device.Info) ([]string, error) {
	var names []string
	if list == "all" {
		for _, i := range infos {
			if i.Arch() >= gpu.MinArch {
				names = append(names, identity(i))
			}
		}
		if len(names) == 0 {
			return nil, fmt.Errorf("open %s: %w: the kernels need compute capability %d.%d", name, cuda.ErrNoDevice, gpu.MinArch/10, gpu.MinArch%10)
		}
		return names, nil
	}
	seen := map[int]string{}
	for which := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(which) == "" {
			return nil, fmt.Errorf("%w %q: a name is empty", ErrUnknownDevice, name)
		}
		at, err := cuda.Choose(infos, which)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", name, err)
		}
		if other, twice := seen[at]; twice {
			return nil, fmt.Errorf("%w %q: %s and %s are the same GPU", ErrUnknownDevice, name, other, which)
		}
		seen[at] = which
		names = append(names, identity(infos[at]))
	}
	return names, nil
}

// identity names a GPU so that a process which counts them otherwise finds the same.
func identity(i device.Info) string { return cudaName + ":" + i.UUID }
