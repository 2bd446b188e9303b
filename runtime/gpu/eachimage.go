package gpu

import "unirestorer/graph"

// eachImage launches every image's operation on the stretches of memory that
// hold that image. Tensors have the formats that one operation for the whole
// batch would give them: parameters have no say in them.
func (e *emitter) eachImage(op *graph.EachImage) {
	whole := e.node
	for i := range op.Ops {
		e.node = op.Image(whole, i)
		e.emit()
	}
	e.node = whole
}

// form is an operation that reads and writes as op does. For an operation that
// differs by image that is one of an image; a low-rank branch, which some may
// have and others not, decides the kernel, so one with a branch is taken.
func form(op graph.Op) graph.Op {
	each, ok := op.(*graph.EachImage)
	if !ok {
		return op
	}
	for _, one := range each.Ops {
		if c, ok := one.(*graph.Conv); ok && len(c.Branches()) > 0 {
			return one
		}
	}
	return each.Ops[0]
}

// forAll gives nodes with operations of that form.
func forAll(nodes []*graph.Node) []*graph.Node {
	all := make([]*graph.Node, len(nodes))
	for i, n := range nodes {
		same := *n
		same.Op = form(n.Op)
		all[i] = &same
	}
	return all
}
