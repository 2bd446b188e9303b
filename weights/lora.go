package weights

import (
	"fmt"
	"math"
	"runtime"
	"sync"
)

// LoRA is a convolution with a low-rank adapter, as loralib's ConvLoRA stores it (Hu et al., "LoRA: Low-Rank
// Adaptation of Large Language Models", arXiv:2106.09685). For a k×k convolution with g groups,
//
//	Base  [Cout, Cin/g, k, k]    P.conv.weight
//	A     [r·k, Cin·k]           P.lora_A
//	B     [(Cout/g)·k, r·k]      P.lora_B
//
// and the effective weight is Base + (alpha/r)·reshape(B·A), where the product, of shape [(Cout/g)·k, Cin·k], is read
// in row-major order as the shape of Base.
type LoRA struct {
	Base, A, B *Tensor

	// Kernel is k and Groups is g; Rank is r. For an adapter of NewLowRank, Kernel is the rows of B for an output channel.
	Kernel, Groups, Rank int
	// Scale is alpha/r.
	Scale float32
}

// NewLoRA checks the shapes and derives kernel, groups and rank from them. Files do not store alpha; it belongs to
// the configuration of the network.
func NewLoRA(base, a, b *Tensor, alpha float64) (*LoRA, error) {
	if len(base.Shape) != 4 || len(a.Shape) != 2 || len(b.Shape) != 2 {
		return nil, fmt.Errorf("LoRA of %v with %v and %v: a 4-d weight and two matrices are needed", base, a, b)
	}
	l := &LoRA{Base: base, A: a, B: b, Kernel: base.Shape[3]}
	cout, cinPerGroup, k := base.Shape[0], base.Shape[1], l.Kernel
	inner, cols, rows := a.Shape[0], a.Shape[1], b.Shape[0]
	switch {
	case base.NumElements() == 0 || a.NumElements() == 0 || b.NumElements() == 0:
		return nil, fmt.Errorf("LoRA of %v with %v and %v: empty", base, a, b)
	case base.Shape[2] != k:
		return nil, fmt.Errorf("LoRA of %v: the kernel is not square", base)
	case b.Shape[1] != inner || inner%k != 0 || cols%(k*cinPerGroup) != 0:
		return nil, fmt.Errorf("LoRA of %v with %v and %v: the shapes do not fit", base, a, b)
	}
	l.Rank = inner / k
	l.Groups = cols / (k * cinPerGroup)
	if cout%l.Groups != 0 || rows != cout/l.Groups*k {
		return nil, fmt.Errorf("LoRA of %v with %v and %v: the shapes do not fit", base, a, b)
	}
	if math.IsNaN(alpha) || math.IsInf(alpha, 0) {
		return nil, fmt.Errorf("LoRA of %v: alpha is %v", base, alpha)
	}
	l.Scale = float32(alpha / float64(l.Rank))
	return l, nil
}

// NewLowRank is an adapter of any layer, given by its factors as matrices: A [inner, columns] and B [rows, inner], where
// rows·columns are the elements of Base. The effective weight is Base + scale·reshape(B·A), as for NewLoRA; A and B may
// be stored in more dimensions, [inner, Cin, k, k] and [rows, inner, 1, 1].
func NewLowRank(base, a, b *Tensor, scale float64) (*LoRA, error) {
	if len(base.Shape) == 0 || len(a.Shape) < 2 || len(b.Shape) < 2 || base.NumElements() == 0 || a.NumElements() == 0 || b.NumElements() == 0 {
		return nil, fmt.Errorf("LoRA of %v with %v and %v: a weight and two matrices are needed", base, a, b)
	}
	var err error
	if a, err = a.Reshaped(a.Shape[0], a.NumElements()/a.Shape[0]); err != nil {
		return nil, err
	}
	if b, err = b.Reshaped(b.Shape[0], b.NumElements()/b.Shape[0]); err != nil {
		return nil, err
	}
	inner, columns, rows := a.Shape[0], a.Shape[1], b.Shape[0]
	n := base.NumElements()
	if b.Shape[1] != inner || n%columns != 0 || n/columns != rows {
		return nil, fmt.Errorf("LoRA of %v with %v and %v: the shapes do not fit", base, a, b)
	}
	if math.IsNaN(scale) || math.IsInf(scale, 0) {
		return nil, fmt.Errorf("LoRA of %v: the scale is %v", base, scale)
	}
	groups := 1
	if rows%base.Shape[0] != 0 { // a grouped convolution in loralib's form
		groups = base.Shape[0]
	}
	return &LoRA{Base: base, A: a, B: b, Kernel: max(1, rows/base.Shape[0]), Groups: groups, Rank: inner, Scale: float32(scale)}, nil
}

// loraFactors are A and the rows of B in float32.
type loraFactors struct {
	a, b        []float32
	inner, cols int
	scale       float32
}

func (l *LoRA) factors() (*loraFactors, error) {
	a, err := l.A.Float32()
	if err != nil {
		return nil, err
	}
	b, err := l.B.Float32()
	if err != nil {
		return nil, err
	}
	return &loraFactors{a, b, l.A.Shape[0], l.A.Shape[1], l.Scale}, nil
}

// row writes scale·B[i]·A, whose length is cols.
func (f *loraFactors) row(dst []float32, i int) {
	b := f.b[i*f.inner : (i+1)*f.inner]
	clear(dst)
	for j, weight := range b {
		a := f.a[j*f.cols : (j+1)*f.cols]
		for c, v := range a[:len(dst)] {
			dst[c] += float32(weight * v)
		}
	}
	for c := range dst {
		dst[c] *= f.scale
	}
}

// parallelRows calls fn for parts of n rows on all cores.
func parallelRows(n int, fn func(from, to int)) {
	workers := min(runtime.GOMAXPROCS(0), n)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { fn(w*n/workers, (w+1)*n/workers) })
	}
	wg.Wait()
}

// delta computes (alpha/r)·B·A into dst, whose length is the number of elements of Base, in the shape of Base. For a
// depthwise convolution that is the dense [C, 1, k, k].
func (l *LoRA) delta(dst []float32) error {
	if n := l.Base.NumElements(); len(dst) != n {
		return fmt.Errorf("LoRA of %v: %d values do not fit %d", l.Base, n, len(dst))
	}
	f, err := l.factors()
	if err != nil {
		return fmt.Errorf("LoRA of %v: %w", l.Base, err)
	}
	parallelRows(len(dst)/f.cols, func(from, to int) {
		for i := from; i < to; i++ {
			f.row(dst[i*f.cols:(i+1)*f.cols], i)
		}
	})
	return nil
}

// Merged computes the effective weight Base + (alpha/r)·B·A into dst, whose length is the number of elements of Base.
// Base is taken as unmerged; see MergeState.
func (l *LoRA) Merged(dst []float32) error {
	if err := l.delta(dst); err != nil {
		return err
	}
	return addBase(dst, l.Base, 0)
}

// addBase adds the elements of base from the first on to dst.
func addBase(dst []float32, base *Tensor, first int) error {
	part := make([]float32, min(len(dst), chunkBytes/4))
	for len(dst) > 0 {
		n := min(len(dst), len(part))
		if err := base.ReadFloat32At(part[:n], first); err != nil {
			return err
		}
		for i, v := range part[:n] {
			dst[i] += v
		}
		dst, first = dst[n:], first+n
	}
	return nil
}

// LowRank is the adapter of a dense convolution as two convolutions in a row, to be added to the output of the base:
// first Down, k×k with the base's stride and padding, then Up, 1×1, which includes the factor alpha/r.
//
//	Down  [M, Cin, k, k]
//	Up    [Cout, M]          M = k·r·k channels between the two
type LowRank struct {
	Down, Up []float32
	Channels int // M
}

// LowRank returns the un-merged form of the adapter; the convolution must not be grouped.
//
// The rows o·k+i, i = 0…k-1, of B·A are output channel o of the weight, and row i covers the i-th of k equal parts of
// its (c, u, v) in row-major order. So each part has its own copy of the rows of A, in filters that are zero in the
// other parts: filter i·r·k+ρ is A[ρ] in part i, and Up[o, i·r·k+ρ] is alpha/r·B[o·k+i, ρ].
func (l *LoRA) LowRank() (*LowRank, error) {
	if l.Groups != 1 {
		return nil, fmt.Errorf("LoRA of %v: a convolution with %d groups has no low-rank form", l.Base, l.Groups)
	}
	f, err := l.factors()
	if err != nil {
		return nil, fmt.Errorf("LoRA of %v: %w", l.Base, err)
	}
	cout := l.Base.Shape[0]
	filter := l.Base.NumElements() / cout
	k := filter / f.cols // parts of f.cols
	channels, err := countElements([]int{k, f.inner})
	if err != nil {
		return nil, fmt.Errorf("LoRA of %v: %w", l.Base, err)
	}
	for _, shape := range [][]int{{channels, filter}, {cout, channels}} {
		if n, err := countElements(shape); err != nil || n > maxLowRank {
			return nil, fmt.Errorf("LoRA of %v: rank %d is too large for a low-rank form", l.Base, l.Rank)
		}
	}
	out := &LowRank{make([]float32, channels*filter), make([]float32, cout*channels), channels}
	for i := range k {
		for rho := range f.inner {
			m := i*f.inner + rho
			copy(out.Down[m*filter+i*f.cols:], f.a[rho*f.cols:(rho+1)*f.cols])
			for o := range cout {
				out.Up[o*channels+m] = l.Scale * f.b[(o*k+i)*f.inner+rho]
			}
		}
	}
	return out, nil
}

// maxLowRank bounds the elements of either part of a low-rank form, which grow with the square of the kernel size.
const maxLowRank = 1 << 28

// loraContent computes merged weights when they are read.
type loraContent struct{ lora *LoRA }

type loraKey struct {
	base, a, b StorageKey
	scale      float32
}

func (c *loraContent) key() StorageKey {
	l := c.lora
	return StorageKey{owner: loraKey{l.Base.StorageKey(), l.A.StorageKey(), l.B.StorageKey(), l.Scale}, dtype: F32,
		layout: fmt.Sprint(l.Base.Shape)}
}

func (c *loraContent) view() ([]byte, func(), bool, error) { return nil, nil, false, nil }

func (c *loraContent) span(first, n int, scratch *[]byte, fn func([]byte) error) error {
	f, err := c.lora.factors()
	if err != nil {
		return err
	}
	values := make([]float32, n)
	firstRow, lastRow := first/f.cols, (first+n-1)/f.cols
	parallelRows(lastRow-firstRow+1, func(from, to int) {
		row := make([]float32, f.cols)
		for i := firstRow + from; i < firstRow+to; i++ {
			f.row(row, i)
			if at := i*f.cols - first; at < 0 {
				copy(values, row[-at:])
			} else {
				copy(values[at:], row)
			}
		}
	})
	if err := addBase(values, c.lora.Base, first); err != nil {
		return err
	}
	out := grow(scratch, 4*n)
	copyToLittleEndian(out, values)
	return fn(out)
}

// MergedTensor returns the effective weight as an F32 tensor called name that is computed when it is read.
func (l *LoRA) MergedTensor(name string) (*Tensor, error) {
	return newTensor(name, F32, l.Base.Shape, &loraContent{l})
}
