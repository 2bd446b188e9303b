package gpu

import (
	"unirestorer/graph"
	"unirestorer/kernels"
)

// maxBatch is the number of vectors, one an image, up to which the
// matrix-vector kernel is launched several times.
const maxBatch = 64

// isVectors tells that the matrix-vector kernel computes a convolution: a
// linear layer for a few rows. It takes and makes fp32 as well as fp16.
func isVectors(op *graph.Conv) bool {
	kh, kw := op.Kernel()
	plain := kh == 1 && kw == 1 && op.StrideOr1() == 1 && op.Pad == 0 && op.GroupsOr1() == 1 && op.Weight != nil && op.X2 == nil
	fused := op.InScale != nil || op.InAffine != nil || len(op.Branches()) > 0 || op.OutAffine != nil || op.Shuffle > 1 || op.Shuffle < -1 || op.Gram != nil
	s := op.X.Shape
	few := s.Pixels() <= kernels.MaxVectors || s.Pixels() == s.N && s.N <= maxBatch
	return plain && !fused && few && rowsAtOnce(kernels.PadC(s.C)) > 0
}

// rowsAtOnce is how many rows of that many values one launch takes.
func rowsAtOnce(pitch int) int {
	rows := kernels.MaxVectors
	for rows > 0 && !kernels.GemvFits(rows, pitch) {
		rows--
	}
	return rows
}

// readsVectors tells that an operation reads t as rows for the matrix-vector
// kernel and as nothing else.
func readsVectors(op graph.Op, t *graph.Tensor) bool {
	c, ok := op.(*graph.Conv)
	return ok && isVectors(c) && c.X == t && c.Residual != t
}

// isSqueeze tells that op takes t, the means of images, as partial sums.
func isSqueeze(op graph.Op, t *graph.Tensor) bool {
	return readsVectors(op, t) && t.Shape.Pixels() == t.Shape.N
}

// staysSingle tells that nothing but matrix-vector products, decisions and the
// host read t, so that heads that decide something compute in fp32 throughout.
func staysSingle(t *graph.Tensor, readers []*graph.Node) bool {
	return every(readers, func(n *graph.Node) bool {
		switch n.Op.(type) {
		case *graph.Export, *graph.Route, *graph.Prompt:
			return true
		}
		return readsVectors(n.Op, t)
	})
}

func (e *emitter) vectors(op *graph.Conv) {
	s := op.X.Shape
	pitch, filters := kernels.PadC(s.C), op.COut()
	x, y := e.tensor(op.X), e.out(0)
	if x.format.shares == 0 && !x.format.single {
		x = e.plain(op.X)
	}
	exact := x.format.single || y.format.single
	w := e.use(matrix(op.Weight, filters, s.C, exact)).at(0)
	bias, scale := e.numbers(op.Bias), e.numbers(op.Scale)
	var normWeight, normBias operand
	if op.Norm != nil {
		normWeight, normBias = e.numbers(op.Norm.Weight), e.numbers(op.Norm.Bias)
	}
	residual := e.plain(op.Residual)
	per := rowsAtOnce(pitch)
	for first := 0; first < s.Pixels(); first += per {
		rows := min(per, s.Pixels()-first)
		share := func(v value) operand { return v.rows(first, rows, s.Pixels()) }
		e.launch(func(at resolver) (kernels.Launch, error) {
			v := kernels.VectorProduct{
				Rows: rows, Channels: s.C, Pitch: pitch, W: at(w), W32: exact, Filters: filters, Bias: at(bias), Scale: at(scale),
				Norm: normKind(op.Norm), NormWeight: at(normWeight), NormBias: at(normBias), Eps: epsilon(op.Norm),
				Act: kernels.Activation(op.Act), Gate: kernels.Gate(op.Gate), Residual: at(share(residual)),
			}
			switch {
			case x.format.shares > 0:
				v.Partial, v.Shares, v.Factor = at(share(x)), x.format.shares, meanFactor(op.X)
			case x.format.single:
				v.X32 = at(share(x))
			default:
				v.X = at(share(x))
			}
			if y.format.single {
				v.Y32 = at(share(y))
			} else {
				v.Y = at(share(y))
			}
			return kernels.Gemv(v)
		})
	}
}

// rows is a part of v, which has so many rows in all.
func (v value) rows(first, count, all int) operand {
	o := v.operand
	if o == (operand{}) {
		return o
	}
	row := o.size / int64(all)
	o.offset, o.size = o.offset+int64(first)*row, int64(count)*row
	return o
}

// meanFactor makes a mean of the sum over the image that t was pooled from.
func meanFactor(t *graph.Tensor) float32 {
	image := t.Producer.Outputs[0].Shape
	return float32(1 / float64(image.H*image.W))
}

func epsilon(n *graph.Norm) float32 {
	if n == nil {
		return 0
	}
	return n.Eps
}
