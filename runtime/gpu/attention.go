package gpu

import (
	"unirestorer/graph"
	"unirestorer/kernels"
)

func (e *emitter) windowAttention(op *graph.WindowAttention) {
	tokens := op.Window * op.Window
	qkv, y, overflow := e.plain(op.QKV), e.out(0), e.overflowFlag()
	bias := e.use(matrix(op.Bias, op.Heads*tokens, tokens, false)).at(0)
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.WindowAttention(at.tensor(qkv), at.tensor(y), at(bias), op.Heads, op.Window, op.Shift, at(overflow))
	})
}

func (e *emitter) attention(op *graph.Attention) {
	qkv, y, overflow := e.plain(op.QKV), e.out(0), e.overflowFlag()
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.Attention(at.tensor(qkv), at.tensor(y), op.Heads, at(overflow))
	})
}
