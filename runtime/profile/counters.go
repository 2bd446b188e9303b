package profile

import (
	"cmp"
	"slices"

	"unirestorer/runtime/ptxsim"
)

// Counters add up what the simulator counted for all launches of one kernel.
// They are the same on every machine.
type Counters struct {
	Kernel   string `json:"kernel"`
	Launches int    `json:"launches"`
	// Instructions count warps; ByClass splits them.
	Instructions uint64            `json:"warp_instructions"`
	ByClass      map[string]uint64 `json:"by_class"`
	// TensorMACs are the multiply-adds of tensor cores.
	TensorMACs uint64 `json:"tensor_macs"`
	// Requests are instructions of a warp that read or write global memory, or
	// copy from it asynchronously; Sectors are the 32-byte pieces they touch, and
	// Requested the bytes that lanes asked for.
	Requests  uint64 `json:"global_requests"`
	Sectors   uint64 `json:"global_sectors"`
	Requested uint64 `json:"global_bytes_requested"`
	// Conflicts are passes over shared memory's banks beyond those needed.
	Conflicts uint64 `json:"bank_conflicts"`
	// Registers of a thread, and the lowest share of a multiprocessor's warps
	// that launches can keep busy at once; registers are an estimate where no
	// assembler ran.
	Registers int     `json:"registers"`
	Occupancy float64 `json:"occupancy"`
}

// sectorsPerRequest is the mean number of sectors of a request to global
// memory.
func (c *Counters) sectorsPerRequest() float64 {
	if c.Requests == 0 {
		return 0
	}
	return float64(c.Sectors) / float64(c.Requests)
}

// countersOf adds up reports by kernel, most instructions first.
func countersOf(reports []ptxsim.Report) []Counters {
	by := map[string]*Counters{}
	for _, r := range reports {
		c := by[r.Kernel]
		if c == nil {
			c = &Counters{Kernel: r.Kernel, ByClass: map[string]uint64{}, Occupancy: r.Occupancy.Share}
			by[r.Kernel] = c
		}
		n := &r.Counters
		c.Launches++
		c.Instructions += n.WarpInstructions
		for class, count := range n.ByClass {
			c.ByClass[class] += count
		}
		c.TensorMACs += n.TensorMACs
		c.Requests += n.GlobalLoad.Requests + n.GlobalStore.Requests + n.AsyncCopy.Requests + n.Atomic.Requests
		c.Sectors += n.GlobalLoad.Sectors + n.GlobalStore.Sectors + n.AsyncCopy.Sectors + n.Atomic.Sectors
		c.Requested += n.GlobalLoad.Bytes + n.GlobalStore.Bytes + n.AsyncCopy.Bytes + n.Atomic.Bytes
		c.Conflicts += n.Conflicts()
		c.Registers = max(c.Registers, r.Registers)
		c.Occupancy = min(c.Occupancy, r.Occupancy.Share)
	}
	all := make([]Counters, 0, len(by))
	for _, c := range by {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b Counters) int {
		return cmp.Or(cmp.Compare(b.Instructions, a.Instructions), cmp.Compare(a.Kernel, b.Kernel))
	})
	return all
}
