package gpu

import (
	"unirestorer/graph"
	"unirestorer/kernels"
)

// A channel attention's matrix-vector product takes no launch of its own where
// the convolution in front, whose mean it reads, multiplies in its last blocks
// and the product behind, whose input it scales, adds up the shares of the
// factors. Mean and factors are then one tensor in memory: the shares.

// squeezed is the format of t as shares of a channel attention's factors,
// where t is the mean or the factors of one that is fused like that.
func (c chooser) squeezed(t *graph.Tensor, readers [][]*graph.Node, formats []format) (format, bool) {
	switch op := t.Producer.Op.(type) {
	case *graph.Conv:
		if f := formats[op.X.ID]; f.squeeze == op {
			return f, true
		}
	case *graph.Depthwise:
		if !op.Pool || t.Producer.Outputs[1] != t || len(readers[t.ID]) != 1 {
			return format{}, false
		}
		n := readers[t.ID][0]
		d := c.squeezing(op)
		if isSqueeze(n.Op, t) && isLinear(n.Op.(*graph.Conv)) && every(readers[n.Outputs[0].ID], scaledBy(n.Outputs[0])) && d.SqueezeFits() {
			return format{layout: kernels.Plain(t.Shape.C), shares: d.SqueezeGroups(), squeeze: n.Op.(*graph.Conv)}, true
		}
	}
	return format{}, false
}

// squeezing is what decides how a depthwise convolution that squeezes is
// launched.
func (c chooser) squeezing(op *graph.Depthwise) kernels.DepthwiseConv {
	s := op.X.Shape
	out := s.C
	if op.Gate != graph.NoGate {
		out /= 2
	}
	return kernels.DepthwiseConv{
		Images: s.N, Height: s.H, Width: s.W, K: op.Kernel(), OutPitch: kernels.PadC(out), Gate: kernels.Gate(op.Gate),
		Squeeze: &kernels.Squeeze{}, SMs: c.sms,
	}
}

// isLinear tells that a linear layer from as many channels to as many is a
// matrix and a bias.
func isLinear(op *graph.Conv) bool {
	return op.COut() == op.X.Shape.C && op.Norm == nil && op.Act == graph.Identity && op.Gate == graph.NoGate && op.Scale == nil && op.Residual == nil
}

// scaledBy tells which nodes do nothing with t but scale the input of a
// product that takes its factors in shares.
func scaledBy(t *graph.Tensor) func(*graph.Node) bool {
	return func(n *graph.Node) bool {
		op, ok := n.Op.(*graph.Conv)
		if !ok || op.InScale != t || op.X2 != nil || !takesFront(op) {
			return false
		}
		uses := 0
		for _, in := range op.Inputs() {
			if in == t {
				uses++
			}
		}
		return uses == 1
	}
}

// inPlace lets the factors of fused attentions take the memory of the means.
func (l *lowered) inPlace(n *graph.Node) *graph.Tensor {
	if op, ok := n.Op.(*graph.Conv); ok && l.formats[op.X.ID].squeeze == op {
		return op.X
	}
	return nil
}

// squeezeHow packs the matrix of a channel attention of so many channels.
type squeezeHow int

func (h squeezeHow) pack(v [][]float32) ([][]byte, error) {
	w, err := kernels.PackSqueeze(v[0], int(h))
	return [][]byte{halves(w)}, err
}

// zeros identifies the counters of one step. No two steps share them: a kernel
// that runs leaves them at zero, and programs may run at the same time.
type zeros struct{ step *step }

// squeeze is what a depthwise convolution needs to leave factors as shares.
func (e *emitter) squeeze(factors value, groups int) func(at resolver) *kernels.Squeeze {
	op := factors.format.squeeze
	pitch := factors.format.layout.Pitch()
	w := e.use(newWeight(squeezeHow(op.COut()), []int64{2 * int64(pitch) * int64(pitch)}, squeezeHow(op.COut()).pack, op.Weight)).at(0)
	arrived := e.counters(factors.shape.N * groups)
	return func(at resolver) *kernels.Squeeze {
		return &kernels.Squeeze{W: at(w), Arrived: at(arrived), Factors: at(factors.operand)}
	}
}

// counters are n counters of the step at which blocks meet, zero before the
// first run.
func (e *emitter) counters(n int) operand {
	size := 4 * int64(n)
	return e.use(newWeight(zeros{e.step}, []int64{size}, func([][]float32) ([][]byte, error) {
		return [][]byte{make([]byte, size)}, nil
	})).at(0)
}
