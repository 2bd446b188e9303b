package ptxsim

import (
	"time"

	"unirestorer/runtime/device"
)

// requestCounters count requests to global memory. A request is one instruction of one warp.
type requestCounters struct {
	Requests uint64 `json:"requests"`
	Sectors  uint64 `json:"sectors"` // distinct 32-byte sectors, summed over requests
	Bytes    uint64 `json:"bytes"`   // asked for by active lanes
}

func (c *requestCounters) merge(o requestCounters) {
	c.Requests += o.Requests
	c.Sectors += o.Sectors
	c.Bytes += o.Bytes
}

// SectorsPerRequest returns the mean number of sectors, 0 without requests.
func (c requestCounters) SectorsPerRequest() float64 { return ratio(c.Sectors, c.Requests) }

// Efficiency returns the share of the moved sectors' bytes that lanes asked for. It exceeds 1 where lanes ask for
// the same bytes.
func (c requestCounters) Efficiency() float64 { return ratio(c.Bytes, 32*c.Sectors) }

func ratio(a, b uint64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// bankCounters count requests to shared memory.
type bankCounters struct {
	Requests   uint64 `json:"requests"`
	Wavefronts uint64 `json:"wavefronts"` // passes over the banks
	Conflicts  uint64 `json:"conflicts"`  // passes beyond those a conflict-free layout needs
}

func (c *bankCounters) add(got, ideal uint64) {
	c.Requests++
	c.Wavefronts += got
	c.Conflicts += got - ideal
}

func (c *bankCounters) merge(o bankCounters) {
	c.Requests += o.Requests
	c.Wavefronts += o.Wavefronts
	c.Conflicts += o.Conflicts
}

// memCounters are the counters kept while a block runs.
type memCounters struct {
	GlobalLoad  requestCounters `json:"global_load"`
	GlobalStore requestCounters `json:"global_store"`
	AsyncCopy   requestCounters `json:"async_copy"` // cp.async, the side of global memory
	Atomic      requestCounters `json:"atomic"`     // on global memory
	SharedLoad  bankCounters    `json:"shared_load"`
	SharedStore bankCounters    `json:"shared_store"`
	AsyncStore  bankCounters    `json:"async_store"` // cp.async, the side of shared memory
	Matrix      bankCounters    `json:"matrix"`      // ldmatrix and stmatrix
	SharedAtom  uint64          `json:"shared_atomics"`
	// Distributed counts requests to the shared memory of other blocks of a cluster.
	Distributed uint64 `json:"distributed_shared,omitempty"`
	Barriers    uint64 `json:"barriers"` // completed block barriers
	TensorMACs  uint64 `json:"tensor_macs"`
	// Distinct counts each sector that a block loads once, as if the rest came from L1; with Options.Latencies.
	Distinct uint64 `json:"distinct_sectors,omitempty"`
}

func (c *memCounters) merge(o *memCounters) {
	c.GlobalLoad.merge(o.GlobalLoad)
	c.GlobalStore.merge(o.GlobalStore)
	c.AsyncCopy.merge(o.AsyncCopy)
	c.Atomic.merge(o.Atomic)
	c.SharedLoad.merge(o.SharedLoad)
	c.SharedStore.merge(o.SharedStore)
	c.AsyncStore.merge(o.AsyncStore)
	c.Matrix.merge(o.Matrix)
	c.SharedAtom += o.SharedAtom
	c.Distributed += o.Distributed
	c.Barriers += o.Barriers
	c.TensorMACs += o.TensorMACs
	c.Distinct += o.Distinct
}

// Counters are figures of one launch. They depend on the kernel, its arguments and its launch shape only, not on
// the machine or the seed (a kernel whose control flow depends on the order of atomics excepted).
type Counters struct {
	WarpInstructions uint64            `json:"warp_instructions"`
	LaneInstructions uint64            `json:"lane_instructions"` // of active lanes
	ByClass          map[string]uint64 `json:"by_class"`          // warp instructions
	memCounters
}

// Conflicts returns the bank conflicts of all kinds of requests to shared memory.
func (c Counters) Conflicts() uint64 {
	return c.SharedLoad.Conflicts + c.SharedStore.Conflicts + c.AsyncStore.Conflicts + c.Matrix.Conflicts
}

// Report describes a finished launch.
type Report struct {
	Kernel   string       `json:"kernel"`
	Shape    device.Shape `json:"shape"`
	Blocks   uint64       `json:"blocks"` // that ran: all, or Options.Sample
	Counters Counters     `json:"counters"`
	// Path is the mean critical path of a block in cycles, LongestPath the longest, with Options.Latencies.
	Path        float64        `json:"path,omitempty"`
	LongestPath float64        `json:"longest_path,omitempty"`
	Registers   int            `json:"registers"` // per thread, from Options.Registers or an estimate
	Occupancy   Occupancy      `json:"occupancy"` // on the simulated architecture
	Wall        time.Duration  `json:"-"`         // time the simulation took
	HotLines    map[int]uint64 `json:"-"`         // executions by PTX line, summed over warps
	Findings    []Finding      `json:"findings,omitempty"`
	Touched     []Range        `json:"-"` // with Options.Footprints
}

// count turns executions by instruction into counters by class.
func (p *program) count(counts, laneCt []uint64, c *Counters, hot map[int]uint64) {
	var by [numClasses]uint64
	for i := range p.code {
		in := &p.code[i]
		if in.kind == kJump || in.kind == kNote || counts[i] == 0 {
			continue
		}
		by[in.class] += counts[i]
		c.WarpInstructions += counts[i]
		c.LaneInstructions += laneCt[i]
		hot[int(in.line)] += counts[i]
	}
	c.ByClass = map[string]uint64{}
	for k, n := range by {
		if n != 0 {
			c.ByClass[classNames[k]] = n
		}
	}
}
