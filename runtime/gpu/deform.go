package gpu

import (
	"unirestorer/graph"
	"unirestorer/kernels"
	"unirestorer/weights/half"
)

// deformHow names the order of a deformable convolution's filters.
type deformHow struct{ filters, channels int }

// pack gives [tap][filter][channel] with both sides padded as the kernel reads
// them.
func (h deformHow) pack(v [][]float32) ([][]byte, error) {
	rows, columns := kernels.DeformPadded(h.filters, h.channels)
	all := make([]float32, kernels.DeformTaps*rows*columns)
	for i, w := range v[0] {
		k, c, f := i%kernels.DeformTaps, i/kernels.DeformTaps%h.channels, i/kernels.DeformTaps/h.channels
		all[(k*rows+f)*columns+c] = w
	}
	packed := make([]uint16, len(all))
	half.F32ToF16(packed, all)
	return [][]byte{halves(packed)}, nil
}

func (e *emitter) deformConv(op *graph.DeformConv) {
	x, offsets, y := e.plain(op.X), e.plain(op.Offsets), e.out(0)
	overflow := e.overflowFlag()
	how := deformHow{op.Weight.Dims[0], op.X.Shape.C}
	rows, columns := kernels.DeformPadded(how.filters, how.channels)
	w := e.use(newWeight(how, []int64{2 * int64(kernels.DeformTaps*rows*columns)}, how.pack, op.Weight)).at(0)
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.DeformConv(at.tensor(x), at.tensor(offsets), at(w), at.tensor(y), at(overflow))
	})
}
