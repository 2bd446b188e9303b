// Package floors counts, kernel by kernel, what the networks must move and compute on a GPU, the least time that takes,
// and how well the kernels' accesses fit the memory system. Nothing of it needs a GPU.
package floors

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"unirestorer/kernels"
	"unirestorer/runtime/device"
	"unirestorer/runtime/gpu"
	"unirestorer/tools/gpukit/networks"
)

// Peaks are the rates of a GPU that floors are counted with.
type Peaks struct {
	GPU string
	// Bandwidth is that of device memory in bytes a second.
	Bandwidth float64
	// Tensor and Vector are operations a second on tensor cores, fp16, and on the others, fp32; a multiply-add is two.
	Tensor, Vector float64
	// Launch is what a kernel in a captured graph costs beside its work, in seconds.
	Launch float64
}

// H200 are the rates of an H200: copies were measured at 4.3 TB/s and matrix products at 790 TFLOP/s; 67 TFLOP/s of
// fp32 are the vendor's figure; 1.5 µs between dependent kernels of a graph is an assumption.
func H200() Peaks { return Peaks{"H200", 4.3e12, 790e12, 67e12, 1.5e-6} }

// Row is one kind of launch of a network: a kernel at one launch shape with the same bytes and operations.
type Row struct {
	Kernel string
	Shape  device.Shape
	// Count is how many such launches a run has.
	Count int
	// Bytes is the least that one launch moves, Operations what it computes, as the launcher reports them.
	Bytes, Operations int64
	// Tensor says that the operations run on tensor cores.
	Tensor bool
	// Counts says that blocks meet at counters in memory, which are zero before the first launch.
	Counts bool

	launch *kernels.Launch
}

// Floor is the least time in seconds that one launch takes: that of its bytes or that of its operations.
func (r Row) Floor(p Peaks) float64 {
	rate := p.Vector
	if r.Tensor {
		rate = p.Tensor
	}
	return max(float64(r.Bytes)/p.Bandwidth, float64(r.Operations)/rate)
}

// Network is what a network launches for one image.
type Network struct {
	Name          string
	Height, Width int
	Rows          []Row
}

// Launches is the number of kernels of a run.
func (n Network) Launches() int {
	sum := 0
	for _, r := range n.Rows {
		sum += r.Count
	}
	return sum
}

// Bytes are those of all launches.
func (n Network) Bytes() int64 {
	return n.sum(func(r Row) int64 { return r.Bytes })
}

// Operations are those of all launches.
func (n Network) Operations() int64 {
	return n.sum(func(r Row) int64 { return r.Operations })
}

func (n Network) sum(of func(Row) int64) int64 {
	var sum int64
	for _, r := range n.Rows {
		sum += int64(r.Count) * of(r)
	}
	return sum
}

// Floor is the sum of the launches' floors in seconds.
func (n Network) Floor(p Peaks) float64 {
	sum := 0.0
	for _, r := range n.Rows {
		sum += float64(r.Count) * r.Floor(p)
	}
	return sum
}

// Launch is one of the row's launches. Only that of a network that was placed may run.
func (r Row) Launch() *kernels.Launch { return r.launch }

// target is the GPU that launches are chosen for.
var target = device.Info{
	Name: "H200", Major: 9, SMs: 132, MaxThreadsPerBlock: 1024, MaxThreadsPerSM: 2048, SharedPerBlock: 48 << 10,
	SharedPerBlockOptin: 227 << 10, SharedPerSM: 228 << 10, RegistersPerSM: 65536, MaxGridX: 1<<31 - 1, MaxGridYZ: 65535,
}

// Count lowers a network for an H200 and images of the given size, or of its own if it takes one only.
func Count(n networks.Network, batch, h, w int) (Network, error) {
	return lower(n, batch, h, w, target, func(arena, weights int64) (a, b device.Buffer, err error) {
		return device.Buffer{Ptr: 1 << 40, Size: arena}, device.Buffer{Ptr: 1 << 41, Size: weights}, nil // nobody reads there
	})
}

// Place lowers a network for one square image so that its launches run on a device: memory provides the arena for
// intermediate results, and what all constants share.
func Place(n networks.Network, side int, dev device.Info, memory func(arena, weights int64) (a, w device.Buffer, err error)) (Network, error) {
	return lower(n, 1, side, side, dev, memory)
}

func lower(n networks.Network, batch, h, w int, dev device.Info, memory func(arena, weights int64) (a, b device.Buffer, err error)) (Network, error) {
	if n.Side != 0 {
		h, w = n.Side, n.Side
	}
	g, err := n.Build(nil, batch, h, w)
	if err != nil {
		return Network{}, err
	}
	l, err := gpu.Lower(g, dev)
	if err != nil {
		return Network{}, err
	}
	arena, weights, err := memory(l.Memory().Arena, l.LargestWeight())
	if err != nil {
		return Network{}, err
	}
	launches, err := l.Launches(arena, weights)
	if err != nil {
		return Network{}, err
	}
	rows, err := group(launches)
	if err != nil {
		return Network{}, fmt.Errorf("%s: %w", n.Name, err)
	}
	return Network{Name: n.Name, Height: h, Width: w, Rows: rows}, nil
}

// kind is what launches of one row have in common.
type kind struct {
	kernel            string
	shape             device.Shape
	bytes, operations int64
}

// group sorts launches by kernel, the largest first.
func group(launches [][]*kernels.Launch) ([]Row, error) {
	var rows []Row
	at := map[kind]int{}
	for _, node := range launches {
		for _, l := range node {
			k := kind{l.Kernel, l.Shape, l.Bytes, l.Operations}
			i, ok := at[k]
			if !ok {
				ptx, err := code(l.Module, l.Kernel)
				if err != nil {
					return nil, err
				}
				i = len(rows)
				at[k] = i
				rows = append(rows, Row{
					Kernel: l.Kernel, Shape: l.Shape, Bytes: l.Bytes, Operations: l.Operations, launch: l,
					Tensor: bytes.Contains(ptx, []byte("mma.sync")), Counts: bytes.Contains(ptx, []byte("atom.")),
				})
			}
			rows[i].Count++
		}
	}
	slices.SortStableFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Kernel, b.Kernel), cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Operations, a.Operations),
			cmp.Compare(a.Shape.String(), b.Shape.String()))
	})
	return rows, nil
}
