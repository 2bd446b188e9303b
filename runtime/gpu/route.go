package gpu

import (
	"unirestorer/graph"
	"unirestorer/kernels"
)

// route decides in fp32: what makes the logits keeps it, see staysSingle.
func (e *emitter) route(op *graph.Route) {
	leaves, levels := op.Tree()
	l, s, override, y := e.single(op.Leaves), e.single(op.Levels), e.single(op.Override), e.out(0)
	var experts []int32
	for _, leaf := range op.Experts {
		for _, expert := range leaf {
			experts = append(experts, int32(expert))
		}
	}
	w := e.use(table(experts)).at(0)
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.Route(y.shape.N, kernels.RouteOptions{
			Leaves: leaves, Levels: levels, LeafPitch: l.format.layout.Pitch(), LevelPitch: s.format.layout.Pitch(), Single: true,
			LeafLogits: at(l.operand), LevelLogits: at(s.operand), Override: at(override.operand), OverridePitch: override.format.layout.Pitch(),
			Experts: at(w), OutPitch: y.format.layout.Pitch(),
		}, at(y.operand))
	})
}
