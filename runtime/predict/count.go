package predict

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"unirestorer/graph"
	"unirestorer/kernels"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/device"
	"unirestorer/runtime/gpu"
	"unirestorer/runtime/ptxsim"
)

// sample is how many blocks of a launch are simulated: enough to see blocks at the borders and inside.
var sample = 6

// Counter counts launches on a simulated card.
type Counter struct {
	card   Card
	arch   ptxsim.Arch
	dev    *ptxsim.Device
	lib    *kernels.Library
	stream device.Stream
	seen   map[kind]Counts
	// Operands of the present graph have addresses from low on, below high.
	low, high device.Ptr
}

// kind is what launches that count alike have in common. Arguments decide what a kernel does beside its product, addresses only where.
type kind struct {
	kernel            string
	shape             device.Shape
	bytes, operations int64
	args              string
}

// kindOf takes the addresses out of a launch's arguments, all but whether there is one.
func (c *Counter) kindOf(l *kernels.Launch) kind {
	args := slices.Clone(l.Args.Bytes())
	for i := 0; i+8 <= len(args); i += 8 {
		if at := device.Ptr(binary.LittleEndian.Uint64(args[i:])); at >= c.low && at < c.high {
			binary.LittleEndian.PutUint64(args[i:], 1)
		}
	}
	return kind{l.Kernel, l.Shape, l.Bytes, l.Operations, string(args)}
}

// NewCounter starts a counter.
func NewCounter(c Card) (*Counter, error) {
	arch, ok := ptxsim.ArchOf(c.Arch)
	if !ok {
		return nil, fmt.Errorf("predict for %s: the limits of sm_%d are not known", c.Title, c.Arch)
	}
	// Memory that nobody wrote reads as zeros: what a kernel does depends on sizes, not on values.
	dev, err := ptxsim.New(ptxsim.Options{Arch: c.Arch, NoCheck: true, Memory: 1 << 40, Sample: sample, Latencies: &c.Latencies})
	if err != nil {
		return nil, err
	}
	s, err := dev.NewStream()
	if err != nil {
		return nil, err
	}
	return &Counter{card: c, arch: arch, dev: dev, lib: kernels.NewLibrary(dev, c.Arch), stream: s, seen: map[kind]Counts{}, low: math.MaxUint64}, nil
}

// Close ends the counter.
func (c *Counter) Close() error { return c.dev.Close() }

// Lowered is what a graph becomes on a card: launches and what they count, by node.
type Lowered struct {
	Launches [][]*kernels.Launch
	Counts   [][]Counts
	Memory   backend.Memory
}

// Graph lowers a graph for the card and counts its launches.
func (c *Counter) Graph(ctx context.Context, g *graph.Graph) (_ *Lowered, err error) {
	l, err := gpu.Lower(g, c.card.info())
	if err != nil {
		return nil, err
	}
	var buffers []device.Buffer
	defer func() {
		for _, b := range buffers {
			err = errors.Join(err, c.dev.Free(b))
		}
	}()
	for _, size := range []int64{l.Memory().Arena, max(l.WeightSpace(), 1)} {
		b, err := c.dev.Alloc(size)
		if err != nil {
			return nil, err
		}
		buffers = append(buffers, b)
		c.low, c.high = min(c.low, b.Ptr), max(c.high, b.Ptr+device.Ptr(b.Size))
	}
	launches, err := l.Launches(buffers[0], buffers[1])
	if err != nil {
		return nil, err
	}
	counts := make([][]Counts, len(launches))
	for i, node := range launches {
		for _, launch := range node {
			n, err := c.launch(ctx, launch)
			if err != nil {
				return nil, fmt.Errorf("count %s: %w", g.Nodes[i].Name, err)
			}
			counts[i] = append(counts[i], n)
		}
	}
	return &Lowered{launches, counts, l.Memory()}, nil
}

func (c *Counter) launch(ctx context.Context, l *kernels.Launch) (Counts, error) {
	k := c.kindOf(l)
	if n, ok := c.seen[k]; ok {
		return n, nil
	}
	res, err := kernels.ResourcesOf(l.Kernel, c.card.Arch)
	if err != nil {
		return Counts{}, err
	}
	f, err := c.lib.Function(l.Module, l.Kernel, l.Shape.Shared)
	if err != nil {
		return Counts{}, err
	}
	run := func() (ptxsim.Report, error) {
		if err := c.stream.Launch(ctx, f, l.Shape, &l.Args); err != nil {
			return ptxsim.Report{}, err
		}
		return c.dev.LastReport(), nil
	}
	r, err := run()
	if err != nil {
		return Counts{}, err
	}
	n := counts(r, l, res)
	if !l.Arrived.IsZero() {
		if n.Tail, err = c.tail(l, r, run); err != nil {
			return Counts{}, err
		}
	}
	n.Resident = c.arch.Occupancy(int(l.Shape.Block.Count()), res.Registers, res.Shared+l.Shape.Shared).Blocks
	if l.Shape.Shared == 0 && res.Shared == 0 {
		n.Resident = c.arch.Occupancy(int(l.Shape.Block.Count()), res.Registers, 0).Blocks
	}
	c.seen[k] = n
	return n, nil
}

// tail is what the block that is last to arrive at a counter does beside, in cycles: the launch is run with counters that
// wait for one block only.
func (c *Counter) tail(l *kernels.Launch, before ptxsim.Report, run func() (ptxsim.Report, error)) (float64, error) {
	fill := func(v uint32) error {
		b := make([]byte, l.Arrived.Size)
		for i := 0; i+4 <= len(b); i += 4 {
			binary.LittleEndian.PutUint32(b[i:], v)
		}
		return c.stream.CopyHtoD(l.Arrived, b)
	}
	if err := fill(uint32(l.Arrivals - 1)); err != nil {
		return 0, err
	}
	r, err := run()
	if err != nil {
		return 0, err
	}
	return max(0, r.LongestPath-before.LongestPath), fill(0)
}

// counts scales what a part of the blocks did to all of them.
func counts(r ptxsim.Report, l *kernels.Launch, res kernels.Resources) Counts {
	return CountsOf(r, l.Shape, res.Expansion, float64(l.Bytes))
}

// CountsOf takes the counts from the simulator's report of a launch, of which perhaps only some blocks ran. expansion is
// how many instructions of the machine an instruction of the PTX becomes, bytes what the launch moves to and from device
// memory, each operand once. Resident is left to the caller.
func CountsOf(r ptxsim.Report, shape device.Shape, expansion, bytes float64) Counts {
	all := float64(shape.Grid.Count()) / float64(max(r.Blocks, 1))
	c, by := &r.Counters, func(classes ...string) (sum float64) {
		for _, name := range classes {
			sum += float64(r.Counters.ByClass[name])
		}
		return sum * all * expansion
	}
	times := func(n uint64) float64 { return float64(n) * all }
	return Counts{
		Blocks:       shape.Grid.Count(),
		Instructions: times(c.WarpInstructions) * expansion,
		FP32:         by("float32"), Integer: by("integer", "predicate"), Half: by("half"), Convert: by("convert"), Special: by("special"),
		Tensor:   times(c.TensorMACs),
		Requests: times(c.GlobalLoad.Requests + c.GlobalStore.Requests + c.AsyncCopy.Requests + c.Atomic.Requests + c.SharedLoad.Requests + c.SharedStore.Requests + c.Matrix.Requests),
		// Loads and stores of global memory pass four sectors a cycle through the same data path.
		Wavefronts: times(c.SharedLoad.Wavefronts+c.SharedStore.Wavefronts+c.Matrix.Wavefronts+c.AsyncStore.Wavefronts) + times(c.GlobalLoad.Sectors+c.GlobalStore.Sectors)/4,
		L2:         32 * times(c.Distinct+c.AsyncCopy.Sectors+c.GlobalStore.Sectors+c.Atomic.Sectors),
		HBM:        bytes,
		Path:       r.Path,
		Early:      shape.Programmatic,
	}
}
