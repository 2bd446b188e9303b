package gpu

import (
	"unirestorer/graph"
	"unirestorer/kernels"
)

func (e *emitter) channelNorm(op *graph.ChannelNorm) {
	e.normalise(e.plain(op.X), e.out(0), op.Norm)
}

// normalise applies a normalisation to plain rows.
func (e *emitter) normalise(x, y value, n *graph.Norm) {
	l := x.format.layout
	weight, bias := e.vector(n.Weight, l), operand{}
	if n.Kind == graph.LayerNorm {
		bias = e.vector(n.Bias, l)
	}
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.ChannelNorm(at.tensor(x), at.tensor(y), normKind(n), at(weight), at(bias), n.Eps)
	})
}

func (e *emitter) rescaleNorm(op *graph.RescaleNorm) {
	x, before, after := e.plain(op.X), e.out(0), e.out(1)
	s, l := x.shape, x.format.layout
	partial := e.scratch(8 * int64(s.N*kernels.RescaleShares(s.H*s.W*l.Pitch())))
	var params [6]operand
	for i, p := range [6]*graph.Param{op.Weight, op.Bias, op.ScaleWeight, op.ScaleBias, op.ShiftWeight, op.ShiftBias} {
		params[i] = e.vector(p, l)
	}
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.RescalePartial(at.tensor(x), at(partial))
	})
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.RescaleFinish(at.tensor(x), at(partial), kernels.RescaleParams{
			Weight: at(params[0]), Bias: at(params[1]), ScaleWeight: at(params[2]), ScaleBias: at(params[3]),
			ShiftWeight: at(params[4]), ShiftBias: at(params[5]), Eps: op.Eps,
		}, at(before.operand), at(after.operand))
	})
}
