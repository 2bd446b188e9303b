package predict

import "math"

// Term is a resource that can set the pace of a kernel.
type Term string

// Terms.
const (
	Issue     Term = "issue"     // of instructions by the four schedulers of a multiprocessor
	Tensor    Term = "tensor"    // tensor cores
	FP32      Term = "fp32"      // multiply-adds and the like
	Integer   Term = "integer"   // addresses, comparisons, logic
	Half      Term = "half"      // pairs of fp16
	Convert   Term = "convert"   // between types
	Special   Term = "special"   // exponentials, reciprocals, roots
	Requests  Term = "requests"  // of the load and store unit
	Shared    Term = "shared"    // passes over the banks of shared memory
	L2        Term = "l2"        // bytes between L2 and the multiprocessors
	HBM       Term = "hbm"       // bytes to and from device memory
	Latency   Term = "latency"   // waves of blocks times the dependent steps of one
	Launching Term = "launching" // the gap between kernels is longer than the kernel
)

// Terms lists all, in the order of reports.
func Terms() []Term {
	return []Term{Issue, Tensor, FP32, Integer, Half, Convert, Special, Requests, Shared, L2, HBM, Latency}
}

// Counts are what one launch does. Instructions are of warps and of the machine's code.
type Counts struct {
	Blocks                                uint64
	Resident                              int // blocks that fit a multiprocessor
	Instructions                          float64
	FP32, Integer, Half, Convert, Special float64
	Tensor                                float64 // multiply-adds
	Requests                              float64 // instructions of the load and store unit
	Wavefronts                            float64
	L2                                    float64 // bytes
	HBM                                   float64 // bytes, each operand once
	Path                                  float64 // dependent cycles of a block
	Tail                                  float64 // of what the last block of all does beside, in cycles
	Early                                 bool    // starts before the kernel in front has ended
}

// Time is how long a launch takes in seconds.
type Time struct {
	Terms   map[Term]float64
	Kernel  float64 // the longest of them
	Gap     float64
	Binding Term
}

// Total is the kernel and the gap before it.
func (t Time) Total() float64 { return t.Kernel + t.Gap }

// Time prices counts.
func (c Card) Time(n Counts) Time {
	// What a multiprocessor does is decided by the one that has most blocks.
	blocks := float64(n.Blocks)
	most := math.Ceil(blocks/float64(c.SMs)) / max(blocks, 1)
	lanes := func(instructions, rate float64) float64 { return 32 * instructions * most / rate / c.Clock }
	resident := max(n.Resident, 1)
	waves := math.Ceil(blocks / float64(c.SMs*resident))
	t := Time{Gap: c.Gap, Terms: map[Term]float64{
		Issue:    n.Instructions * most / 4 / c.Clock,
		Tensor:   n.Tensor * most / c.Tensor / c.Clock,
		FP32:     lanes(n.FP32, c.FP32),
		Integer:  lanes(n.Integer, c.Integer),
		Half:     lanes(n.Half, c.Half),
		Convert:  lanes(n.Convert, c.Convert),
		Special:  lanes(n.Special, c.Special),
		Requests: n.Requests * most / c.Clock,
		Shared:   n.Wavefronts * most / c.Clock,
		L2:       n.L2 / c.L2,
		// Half of L2 is taken to hold what the kernels before left there.
		HBM:     max(0, n.HBM-c.L2Size/2) / c.HBM,
		Latency: waves * n.Path / c.Clock,
	}}
	if n.Early {
		t.Gap = c.EarlyGap
	}
	for _, term := range Terms() {
		if s := t.Terms[term]; s > t.Kernel {
			t.Kernel, t.Binding = s, term
		}
	}
	if n.Tail > 0 {
		t.Kernel += n.Tail / c.Clock
	}
	if t.Gap > t.Kernel {
		t.Binding = Launching
	}
	return t
}
