package ptxsim

// Arch holds the limits of one streaming multiprocessor, as NVIDIA's programming guide lists them by compute
// capability. Sizes are in bytes.
type Arch struct {
	SM              int `json:"sm"` // 80 for sm_80
	MaxThreads      int `json:"max_threads"`
	MaxBlocks       int `json:"max_blocks"`
	Registers       int `json:"registers"`
	Shared          int `json:"shared"`           // for all blocks together
	SharedPerBlock  int `json:"shared_per_block"` // with opting in
	SharedReserved  int `json:"shared_reserved"`  // by the system, per block
	SharedGranule   int `json:"shared_granule"`
	RegisterGranule int `json:"register_granule"` // registers are given to warps in multiples of this
}

// Archs are the architectures whose occupancy can be computed.
var archs = [...]Arch{
	{80, 2048, 32, 65536, 164 << 10, 163 << 10, 1024, 128, 256},
	{86, 1536, 16, 65536, 100 << 10, 99 << 10, 1024, 128, 256},
	{87, 1536, 16, 65536, 164 << 10, 163 << 10, 1024, 128, 256},
	{89, 1536, 24, 65536, 100 << 10, 99 << 10, 1024, 128, 256},
	{90, 2048, 32, 65536, 228 << 10, 227 << 10, 1024, 128, 256},
	{100, 2048, 32, 65536, 228 << 10, 227 << 10, 1024, 128, 256},
	{110, 1536, 24, 65536, 228 << 10, 227 << 10, 1024, 128, 256},
	{120, 1536, 24, 65536, 100 << 10, 99 << 10, 1024, 128, 256},
}

// ArchOf returns the limits of a compute capability, 80 for sm_80; ok is false for one that is not known.
func ArchOf(sm int) (a Arch, ok bool) {
	for _, a := range archs {
		if a.SM == sm {
			return a, true
		}
	}
	return Arch{}, false
}

// Occupancy says how many blocks of a kernel one multiprocessor holds, and what limits them.
type Occupancy struct {
	Blocks int     `json:"blocks"`
	Warps  int     `json:"warps"`
	Share  float64 `json:"share"` // of the warps the multiprocessor can hold
	Limit  string  `json:"limit"` // "threads", "blocks", "registers" or "shared"
}

// Occupancy computes how many blocks of the given threads, registers per thread and shared memory per block
// (static and dynamic) fit one multiprocessor.
func (a Arch) Occupancy(threads, registers, shared int) Occupancy {
	if threads <= 0 {
		return Occupancy{}
	}
	warps := (threads + lanes - 1) / lanes
	up := func(v, g int) int { return (v + g - 1) / g * g }
	o := Occupancy{Blocks: a.MaxThreads / (warps * lanes), Limit: "threads"}
	limit := func(n int, what string) {
		if n < o.Blocks {
			o.Blocks, o.Limit = n, what
		}
	}
	limit(a.MaxBlocks, "blocks")
	if registers > 0 {
		// Registers are allocated by warp, and warps by the four schedulers.
		perWarp := up(registers*lanes, a.RegisterGranule)
		limit(a.Registers/4/perWarp*4/warps, "registers")
	}
	if shared > 0 {
		limit(a.Shared/up(shared+a.SharedReserved, a.SharedGranule), "shared")
	}
	o.Warps = o.Blocks * warps
	o.Share = float64(o.Warps*lanes) / float64(a.MaxThreads)
	return o
}
