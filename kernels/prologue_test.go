package kernels_test

import (
	"testing"

	"unirestorer/graph"
	"unirestorer/kernels"
)

// TestPrologueEqualsTheReference covers input scales and affine maps, apart and together, as a launch of their own.
func TestPrologueEqualsTheReference(t *testing.T) {
	in := graph.Shape{N: 2, H: 7, W: 10, C: 21}
	for _, s := range []struct {
		scale  graph.Shape
		affine bool
	}{
		{graph.Shape{N: 2, H: 1, W: 1, C: 21}, false}, {graph.Shape{N: 2, H: 4, W: 7, C: 21}, true}, {in, true}, {graph.Shape{}, true},
	} {
		shapes := []graph.Shape{in}
		if s.scale.C > 0 {
			shapes = append(shapes, s.scale)
		}
		if s.affine {
			shapes = append(shapes, graph.Shape{N: in.N, H: 1, W: 2, C: in.C})
		}
		g := oneOp(t, shapes, func(in []*graph.Tensor) graph.Op {
			c := &graph.Conv{X: in[0], Weight: identity(t, in[0].Shape.C)}
			if s.scale.C > 0 {
				c.InScale = in[1]
			}
			if s.affine {
				c.InAffine = in[len(in)-1]
			}
			return c
		})
		compareGraph(t, g, func(o *one, op graph.Op) [][]float32 {
			c := op.(*graph.Conv)
			l := kernels.Plain(in.C)
			m := kernels.PrologueMap{
				X: o.half(c.X), Y: o.emptyRows(in.Pixels(), l), Images: in.N, Height: in.H, Width: in.W, Pitch: l.Pitch(),
				Scale: o.half(c.InScale), ScaleHeight: s.scale.H, ScaleWidth: s.scale.W, Affine: o.single(c.InAffine),
			}
			o.run(kernels.Prologue(m))
			return [][]float32{o.pixels(m.Y, in.Pixels(), l)}
		})
	}
}
