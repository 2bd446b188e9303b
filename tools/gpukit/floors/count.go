// Package floors says, kernel by kernel, what the networks do on a GPU, how long that is predicted to take and what binds.
// Nothing of it needs a GPU.
package floors

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"unirestorer/kernels"
	"unirestorer/runtime/device"
	"unirestorer/runtime/gpu"
	"unirestorer/runtime/predict"
	"unirestorer/tools/gpukit/networks"
)

// Row is one kind of launch of a network: a kernel at one launch shape with the same bytes and operations.
type Row struct {
	Kernel string
	Shape  device.Shape
	// Count is how many such launches a run has.
	Count int
	// Bytes is the least that one launch moves, Operations what it computes, as the launcher reports them.
	Bytes, Operations int64
	// Meets says that blocks meet at counters in memory, which are zero before the first launch.
	Meets bool
	// Counts are what a launch does, where it was counted.
	Counts predict.Counts

	launch *kernels.Launch
}

// Network is what a network launches for one image.
type Network struct {
	Name          string
	Height, Width int
	Rows          []Row
}

// launches is the number of kernels of a run.
func (n Network) launches() int {
	sum := 0
	for _, r := range n.Rows {
		sum += r.Count
	}
	return sum
}

// bytes are those of all launches.
func (n Network) bytes() int64 {
	return n.sum(func(r Row) int64 { return r.Bytes })
}

// operations are those of all launches.
func (n Network) operations() int64 {
	return n.sum(func(r Row) int64 { return r.Operations })
}

func (n Network) sum(of func(Row) int64) int64 {
	var sum int64
	for _, r := range n.Rows {
		sum += int64(r.Count) * of(r)
	}
	return sum
}

// Time is the sum over launches of the kernels' times and of the gaps in front of them on a card, in seconds, and Issue
// that of issuing the kernels' instructions, which no schedule beats.
func (n Network) Time(c predict.Card) (kernels, gaps, issue float64) {
	for _, r := range n.Rows {
		t := c.Time(r.Counts)
		kernels += float64(r.Count) * t.Kernel
		gaps += float64(r.Count) * t.Gap
		issue += float64(r.Count) * t.Terms[predict.Issue]
	}
	return kernels, gaps, issue
}

// Launch is one of the row's launches. Only that of a network that was placed may run.
func (r Row) Launch() *kernels.Launch { return r.launch }

// Count lowers a network for the card of a counter and images of the given size, or of its own if it takes one only, and
// counts its launches.
func Count(ctx context.Context, c *predict.Counter, n networks.Network, batch, h, w int) (Network, error) {
	if n.Side != 0 {
		h, w = n.Side, n.Side
	}
	g, err := n.Build(nil, batch, h, w)
	if err != nil {
		return Network{}, err
	}
	l, err := c.Graph(ctx, g)
	if err != nil {
		return Network{}, err
	}
	rows, err := group(l.Launches, l.Counts)
	if err != nil {
		return Network{}, fmt.Errorf("%s: %w", n.Name, err)
	}
	return Network{Name: n.Name, Height: h, Width: w, Rows: rows}, nil
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
	arena, weights, err := memory(l.Memory().Arena, l.WeightSpace())
	if err != nil {
		return Network{}, err
	}
	launches, err := l.Launches(arena, weights)
	if err != nil {
		return Network{}, err
	}
	rows, err := group(launches, nil)
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
	counts            predict.Counts // where they were counted
}

// group sorts launches by kernel, the largest first.
func group(launches [][]*kernels.Launch, counts [][]predict.Counts) ([]Row, error) {
	var rows []Row
	at := map[kind]int{}
	for i, node := range launches {
		for j, l := range node {
			k := kind{kernel: l.Kernel, shape: l.Shape, bytes: l.Bytes, operations: l.Operations}
			if counts != nil {
				k.counts = counts[i][j]
			}
			row, ok := at[k]
			if !ok {
				ptx, err := code(l.Module, l.Kernel)
				if err != nil {
					return nil, err
				}
				row = len(rows)
				at[k] = row
				rows = append(rows, Row{
					Kernel: l.Kernel, Shape: l.Shape, Bytes: l.Bytes, Operations: l.Operations, launch: l,
					Meets: bytes.Contains(ptx, []byte("atom.")),
				})
				if counts != nil {
					rows[row].Counts = counts[i][j]
				}
			}
			rows[row].Count++
		}
	}
	slices.SortStableFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Kernel, b.Kernel), cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Operations, a.Operations),
			cmp.Compare(a.Shape.String(), b.Shape.String()))
	})
	return rows, nil
}
