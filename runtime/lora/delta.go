package lora

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"

	"unirestorer/weights"
)

// layerDelta is the difference of two weights of one convolution, full − base, in the form of the matrix that a LoRA
// adapter approximates: D [(Cout/g)·k, Cin·k], whose values in row-major order are those of the difference. By the
// theorem of Eckart and Young its truncated singular value decomposition is the best adapter of each rank in the
// Frobenius norm.
type layerDelta struct {
	// Kernel is k and Groups is g.
	Kernel, Groups int
	// Energy is ‖D‖², the sum of the squared differences.
	Energy float64

	rows, cols int
	matrix     *mat.Dense
	// vectors are the singular vectors of the smaller side as columns, those of the largest values first; values are
	// the squared singular values.
	vectors *mat.Dense
	values  []float64
}

// deltaOf takes the difference of two weights [Cout, Cin/groups, k, k]. Only adapters of ranks up to maxRank can be
// made of it.
//
// The singular vectors of the smaller side of D are the eigenvectors of the smaller of D·Dᵀ and Dᵀ·D, and the vectors
// of the other side are projections of D. That resolves singular values down to about 1e-8 of the largest, below the
// precision of float32 weights.
func deltaOf(base, full *weights.Tensor, groups, maxRank int) (*layerDelta, error) {
	d, err := newDelta(base, full, groups)
	if err != nil {
		return nil, fmt.Errorf("difference of %v and %v: %w", full, base, err)
	}
	if maxRank <= 0 {
		return nil, fmt.Errorf("difference of %v and %v: rank %d is not positive", full, base, maxRank)
	}
	if err := d.decompose(min(maxRank, d.fullRank()) * d.Kernel); err != nil {
		return nil, fmt.Errorf("difference of %v and %v: %w", full, base, err)
	}
	return d, nil
}

func newDelta(base, full *weights.Tensor, groups int) (*layerDelta, error) {
	s := base.Shape
	if len(s) != 4 || !slices.Equal(s, full.Shape) || s[2] != s[3] || base.NumElements() == 0 {
		return nil, fmt.Errorf("two 4-d weights of one shape with a square kernel are needed")
	}
	if groups <= 0 || s[0]%groups != 0 {
		return nil, fmt.Errorf("%d filters in %d groups", s[0], groups)
	}
	d := &layerDelta{Kernel: s[3], Groups: groups, rows: s[0] / groups * s[3], cols: s[1] * groups * s[3]}
	b, err := base.Float32()
	if err != nil {
		return nil, err
	}
	f, err := full.Float32()
	if err != nil {
		return nil, err
	}
	values := make([]float64, len(b))
	for i := range values {
		values[i] = float64(f[i]) - float64(b[i])
		d.Energy += values[i] * values[i]
	}
	if math.IsNaN(d.Energy) || math.IsInf(d.Energy, 0) {
		return nil, fmt.Errorf("not all differences are finite numbers")
	}
	d.matrix = mat.NewDense(d.rows, d.cols, values)
	return d, nil
}

// decompose finds the leading singular values, keep of them, and the vectors of the smaller side.
func (d *layerDelta) decompose(keep int) error {
	side := min(d.rows, d.cols)
	gram := mat.NewSymDense(side, nil)
	if d.rows <= d.cols {
		gram.SymOuterK(1, d.matrix)
	} else {
		gram.SymOuterK(1, d.matrix.T())
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(gram, true) {
		return fmt.Errorf("the singular value decomposition did not converge")
	}
	var all mat.Dense
	eigen.VectorsTo(&all)
	ascending := eigen.Values(nil)
	d.vectors = mat.NewDense(side, keep, nil)
	d.values = make([]float64, keep)
	for i := range keep {
		d.values[i] = max(ascending[side-1-i], 0)
		d.vectors.SetCol(i, mat.Col(nil, side-1-i, &all))
	}
	return nil
}

// fullRank is the smallest rank of an adapter that holds any difference of this shape: rank r stands for r·k columns
// of B, and D has no more than min(Cout/g, Cin)·k independent rows.
func (d *layerDelta) fullRank() int { return min(d.rows, d.cols) / d.Kernel }

// kept is how much of Energy an adapter of a rank holds, ‖D_r‖², up to the largest rank that can be made.
func (d *layerDelta) kept(rank int) float64 {
	sum := 0.0
	for _, v := range d.values[:min(rank*d.Kernel, len(d.values))] {
		sum += v
	}
	return min(sum, d.Energy)
}

// factors gives the adapter of a rank, module.lora_A [r·k, Cin·k] and module.lora_B [(Cout/g)·k, r·k], both F32, for
// alpha = rank: B·A is D_r. Each singular value is shared equally between the two, which keeps both far from the ends
// of F16's range. Columns beyond the rank of D are zero.
func (d *layerDelta) factors(module string, rank int) (a, b *weights.Tensor, err error) {
	if rank > math.MaxInt32/(d.Kernel*(d.rows+d.cols)) {
		return nil, nil, fmt.Errorf("adapter of rank %d of %q: too large", rank, module)
	}
	inner := rank * d.Kernel
	if rank <= 0 || inner > len(d.values) && rank < d.fullRank() {
		return nil, nil, fmt.Errorf("adapter of rank %d of %q: ranks from 1 to %d were prepared", rank, module, len(d.values)/d.Kernel)
	}
	held := min(inner, len(d.values))
	lead := d.vectors.Slice(0, min(d.rows, d.cols), 0, held)
	left, right := mat.NewDense(d.rows, held, nil), mat.NewDense(held, d.cols, nil)
	if d.rows <= d.cols {
		left.Copy(lead)
		right.Mul(lead.T(), d.matrix)
	} else {
		left.Mul(d.matrix, lead)
		right.Copy(lead.T())
	}
	// One side is orthonormal and the other carries the singular values.
	valuesA, valuesB := make([]float32, inner*d.cols), make([]float32, d.rows*inner)
	for i := range held {
		share := math.Sqrt(math.Sqrt(d.values[i]))
		if share == 0 {
			continue
		}
		toA, toB := share, 1/share
		if d.rows <= d.cols {
			toA, toB = toB, toA
		}
		for c := range d.cols {
			valuesA[i*d.cols+c] = float32(toA * right.At(i, c))
		}
		for r := range d.rows {
			valuesB[r*inner+i] = float32(toB * left.At(r, i))
		}
	}
	if a, err = weights.FromFloat32(module+".lora_A", []int{inner, d.cols}, valuesA); err != nil {
		return nil, nil, err
	}
	b, err = weights.FromFloat32(module+".lora_B", []int{d.rows, inner}, valuesB)
	return a, b, err
}
