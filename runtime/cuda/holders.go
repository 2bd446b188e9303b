//go:build cuda && linux

package cuda

import (
	"os"

	"unirestorer/runtime/cuda/internal/cuext"
	"unirestorer/runtime/cuda/nvml"
)

// Holders names the other processes that hold memory of the GPU, as far as the driver's management library tells. Of a MIG
// slice nothing is known.
func (g *gpu) Holders() (who []string) {
	id, slice, err := cuext.WholeUUID(g.ordinal)
	if err != nil || slice {
		return nil
	}
	s, err := nvml.Read()
	if err != nil {
		return nil
	}
	for _, m := range s.GPUs {
		if m.UUID != uuid(id, false) {
			continue
		}
		for _, p := range m.Processes {
			if int(p.PID) != os.Getpid() {
				who = append(who, p.String())
			}
		}
	}
	return who
}
