package graph

import (
	"fmt"
	"math"
	"reflect"
)

// Scaled gives a graph that computes the same with every tensor multiplied by a power of two, so that what is stored in
// half precision keeps its distance from both ends of the range: tensor t holds t·2^exps[t.ID]. The powers are multiplied
// into weights, biases, factors and the epsilons of normalisations, exactly; no node is added. Ports keep their values
// but for outputs, which the host multiplies by 2^-exps. Without ranges the graph is returned as it is.
//
// What is added or blended shares a power; GELU, softmax and the host's inputs fix theirs at 1, products add theirs:
//
//	conv(x·2^a)·2^(z-a)   = conv(x)·2^z     the sum's power z is free, up to an activation that is not homogeneous
//	norm(x·2^a, ε·4^a)    = norm(x)         normalised channels have no power
//	q·2^a, k·2^-a         attention's logits are what they were
//	gelu(a), b·2^y        of a gate only the second half has one
func (g *Graph) Scaled() (*Graph, []int) {
	if !g.Ranges.known() {
		return g, make([]int, len(g.Tensors))
	}
	s := &scaler{
		g: g, parent: make([]int, len(g.Tensors)), fixed: make([]bool, len(g.Tensors)), exp: make([]int, len(g.Tensors)),
		parted: g.parted(), parts: map[*Tensor][]int{}, after: map[*Tensor][2]int{},
	}
	for i := range s.parent {
		s.parent[i] = i
	}
	for _, n := range g.Nodes {
		s.constrain(n)
	}
	s.choose()
	exps := make([]int, len(g.Tensors))
	for i := range exps {
		exps[i] = s.exp[s.find(i)]
	}
	for t := range s.parts { // no power as a whole
		exps[t.ID] = 0
	}
	return s.build(), exps
}

const (
	// rangeTarget is the binary order that the largest value of a tensor gets: eleven below fp16's end, nineteen above
	// its subnormal numbers.
	rangeTarget = 5
	// weightFloor is the least order of the largest weight of a product in fp16.
	weightFloor = -8
	weightCeil  = 12
	// maxExponent bounds the powers, so that epsilons stay normal numbers.
	maxExponent = 40
)

// scaler finds the powers and multiplies them in.
type scaler struct {
	g        *Graph
	parent   []int // union-find over tensors that share a power
	fixed    []bool
	exp      []int
	products []*MulAdd
	parted   map[*Tensor]*Node  // what reads a tensor whose parts have powers of their own
	parts    map[*Tensor][]int  // those powers
	after    map[*Tensor][2]int // powers of the rows of an affine map behind a convolution
}

func (s *scaler) find(i int) int {
	for s.parent[i] != i {
		s.parent[i] = s.parent[s.parent[i]]
		i = s.parent[i]
	}
	return i
}

func (s *scaler) tie(a, b *Tensor) {
	if a == nil || b == nil {
		return
	}
	x, y := s.find(a.ID), s.find(b.ID)
	s.parent[x] = y
	s.fixed[y] = s.fixed[y] || s.fixed[x]
}

func (s *scaler) fix(all ...*Tensor) {
	for _, t := range all {
		if t != nil {
			s.fixed[s.find(t.ID)] = true
		}
	}
}

func (s *scaler) of(t *Tensor) int {
	if t == nil {
		return 0
	}
	return s.exp[s.find(t.ID)]
}

// constrain notes what a node's operation asks of the powers of its tensors.
func (s *scaler) constrain(n *Node) {
	switch op := firstOp(n.Op).(type) {
	case *Import, *RescaleNorm:
		s.fix(n.Outputs...)
	case *Export, *ChannelNorm:
	case *Conv:
		s.constrainConv(n, op)
	case *Depthwise:
		s.tie(n.Outputs[0], op.Residual)
		if op.Pool {
			s.tie(n.Outputs[0], n.Outputs[1])
		}
		if op.Gram != nil {
			s.fix(n.Outputs[1])
		}
		if op.Act == GELU {
			s.fix(n.Outputs[0])
		}
	case *Fold:
		s.fix(op.Gram)
	case *Attention:
		s.constrainAttention(n, op.QKV)
	case *WindowAttention:
		s.constrainAttention(n, op.QKV)
	case *Pool:
		s.tie(op.X, op.X2)
		s.tie(n.Outputs[0], op.X)
	case *Pad, *Crop, *Tokens, *Resize:
		s.tie(n.Outputs[0], op.Inputs()[0])
	case *Concat:
		s.tie(n.Outputs[0], op.A)
		s.tie(n.Outputs[0], op.B)
	case *MulAdd:
		s.tie(n.Outputs[0], op.C)
		if op.B == nil {
			s.tie(n.Outputs[0], op.A)
		} else {
			s.products = append(s.products, op)
		}
	case *SoftReconstruction:
		// One tensor holds the factor, which is none's power, and the term, which
		// would have X's.
		s.fix(op.KB, op.X, n.Outputs[0])
	case *Sigmoid:
		s.fix(op.X, n.Outputs[0])
	case *SelectiveKernel:
		s.fix(op.Logits)
		for _, t := range []*Tensor{op.A, op.B, op.Residual} {
			s.tie(n.Outputs[0], t)
		}
	default: // of operations not known here nothing is assumed
		s.fix(op.Inputs()...)
		s.fix(n.Outputs...)
	}
}

func (s *scaler) constrainAttention(n *Node, qkv *Tensor) {
	if s.parted[qkv] == nil {
		s.fix(qkv)
		s.fix(n.Outputs...)
	}
}

func (s *scaler) constrainConv(n *Node, op *Conv) {
	y := n.Outputs[0]
	s.tie(y, op.Residual)
	if op.Gram != nil {
		s.fix(n.Outputs[1])
	}
	if op.Act == GELU {
		s.fix(y)
	}
	adapted := op.Weight != nil && op.Weight.Adapter != nil || len(op.Branches()) > 0
	if op.X2 != nil && adapted {
		s.tie(op.X, op.X2) // adapters scale by rows
	}
	if op.Dynamic != nil {
		if _, ok := op.Dynamic.Producer.Op.(*Fold); !ok || len(s.readers(op.Dynamic)) != 1 {
			s.fix(op.Dynamic, op.X, op.InScale, y)
		}
	}
	if op.InAffine != nil {
		if _, ok := op.InAffine.Producer.Op.(*RescaleNorm); !ok {
			s.fix(op.X)
		}
	}
	if op.OutAffine != nil {
		if _, ok := op.OutAffine.Producer.Op.(*RescaleNorm); !ok || len(s.readers(op.OutAffine)) != 1 {
			s.fix(y)
		}
	}
}

func (s *scaler) readers(t *Tensor) (all []*Node) {
	for _, n := range s.g.Nodes {
		for _, in := range n.Op.Inputs() {
			if in == t {
				all = append(all, n)
			}
		}
	}
	return all
}

// order is the binary order of a range: the least k with v ≤ 2^k.
func order(v float32) int {
	_, e := math.Frexp(float64(v))
	return e
}

// weightOrder gives the order of a node's weights, segment i; -2, an ordinary one, where it is not known.
func (s *scaler) weightOrder(n *Node, i int) int {
	w := s.g.Ranges.Weights[n.Name]
	if i >= len(w) || w[i] == 0 {
		return -2
	}
	return order(w[i])
}

// widestWeight is the order of all of a node's weights.
func (s *scaler) widestWeight(n *Node) int {
	w := s.g.Ranges.Weights[n.Name]
	if len(w) == 0 {
		return -2
	}
	most := float32(0)
	for _, v := range w {
		most = max(most, v)
	}
	if most == 0 {
		return -2
	}
	return order(most)
}

// choose sets the powers.
func (s *scaler) choose() {
	most := make([]float32, len(s.g.Tensors))
	for _, t := range s.g.Tensors {
		if r := s.g.Ranges.Tensors[t.Name]; len(r) == 1 {
			i := s.find(t.ID)
			most[i] = max(most[i], r[0])
		} else if n := s.parted[t]; n != nil && len(r) == 3 && attends(n) { // the result is a mean of v
			i := s.find(n.Outputs[0].ID)
			most[i] = max(most[i], r[2])
		}
	}
	for i, v := range most {
		if !s.fixed[s.find(i)] && s.parent[i] == i && v > 0 {
			s.exp[i] = min(max(rangeTarget-order(v), -maxExponent), maxExponent)
		}
	}
	for _, p := range s.products {
		s.chooseProduct(p)
	}
	for range 2 {
		for _, n := range s.g.Nodes {
			if op, ok := firstOp(n.Op).(*Conv); ok {
				s.limit(n, op)
			}
		}
	}
	segments := s.g.Parts()
	for t, n := range s.parted {
		r := s.g.Ranges.Tensors[t.Name]
		powers := make([]int, len(segments[t]))
		known := len(r) == len(powers)
		switch {
		case attends(n):
			if known && r[0] > 0 && r[1] > 0 {
				powers[0] = min(max((order(r[1])-order(r[0]))/2, -maxExponent), maxExponent)
			}
			powers[1], powers[2] = -powers[0], s.of(n.Outputs[0])
		case known:
			for i, v := range r {
				if v > 0 {
					powers[i] = min(max(rangeTarget-order(v), -maxExponent), maxExponent)
				}
			}
		}
		s.parts[t] = powers
	}
}

func attends(n *Node) bool {
	switch n.Op.(type) {
	case *Attention, *WindowAttention:
		return true
	}
	return false
}

// chooseProduct makes the powers of A·B add up to that of the result.
func (s *scaler) chooseProduct(p *MulAdd) {
	a, b, y := s.find(p.A.ID), s.find(p.B.ID), s.find(p.C.ID)
	uses := 0
	for _, q := range s.products {
		for _, t := range []*Tensor{q.A, q.B, q.C} {
			if s.find(t.ID) == b {
				uses++
			}
		}
	}
	if uses == 1 && !s.fixed[b] {
		s.exp[b] = s.exp[y] - s.exp[a]
	} else {
		for _, i := range []int{a, b, y} {
			s.fixed[i], s.exp[i] = true, 0
		}
	}
}

// limit keeps the weights of a product within what fp16 holds well.
func (s *scaler) limit(n *Node, op *Conv) {
	if op.Weight == nil || op.Norm != nil || op.InAffine != nil || op.Scale != nil || op.OutAffine != nil {
		return // the input has no power, or a factor behind the sums takes it
	}
	if s.parted[n.Outputs[0]] != nil {
		return // every part has the power that suits it
	}
	x := s.find(op.X.ID)
	z := s.of(n.Outputs[0])
	w := s.widestWeight(n)
	if most := z + w - weightFloor - s.of(op.InScale); s.exp[x] > most && !s.fixed[x] {
		s.exp[x] = most
	}
	y := s.find(n.Outputs[0].ID)
	if most := weightCeil - w + s.exp[x] + s.of(op.InScale); s.exp[y] > most && !s.fixed[y] {
		s.exp[y] = most
	}
}

// build makes the graph with the powers multiplied in.
func (s *scaler) build() *Graph {
	g := *s.g
	g.Nodes, g.Tensors, g.Ranges = nil, make([]*Tensor, len(s.g.Tensors)), nil
	place := func(t *Tensor) *Tensor { return g.Tensors[t.ID] }
	for _, t := range s.g.Tensors {
		c := *t
		g.Tensors[t.ID] = &c
	}
	segments := s.g.Segments()
	ops := make([]Op, len(s.g.Nodes))
	// Affine maps come before the convolution that says what their powers are.
	for i := len(s.g.Nodes) - 1; i >= 0; i-- {
		ops[i] = s.scaled(s.g.Nodes[i], segments[s.g.Nodes[i]])
	}
	for i, n := range s.g.Nodes {
		m := *n
		if e, ok := ops[i].(*EachImage); ok {
			each := &EachImage{}
			for _, op := range e.Ops {
				each.Ops = append(each.Ops, withTensors(op, place))
			}
			m.Op = each
		} else {
			m.Op = withTensors(ops[i], place)
		}
		m.Outputs = nil
		for _, t := range n.Outputs {
			c := g.Tensors[t.ID]
			c.Producer = &m
			m.Outputs = append(m.Outputs, c)
		}
		g.Nodes = append(g.Nodes, &m)
	}
	return &g
}

// scaled gives a node's operation with the powers in it.
func (s *scaler) scaled(n *Node, segments []int) Op {
	if e, ok := n.Op.(*EachImage); ok {
		each := &EachImage{}
		for _, op := range e.Ops {
			each.Ops = append(each.Ops, s.scaledOp(n, op, segments))
		}
		return each
	}
	return s.scaledOp(n, n.Op, segments)
}

func (s *scaler) scaledOp(n *Node, op Op, segments []int) Op {
	y := 0
	if len(n.Outputs) > 0 {
		y = s.of(n.Outputs[0])
	}
	switch op := op.(type) {
	case *Conv:
		return s.scaledConv(n, *op, segments, y)
	case *Depthwise:
		return s.scaledDepthwise(n, *op, segments, y)
	case *Fold:
		c := *op
		r := s.readers(n.Outputs[0])
		if len(r) == 1 {
			if conv, ok := firstOp(r[0].Op).(*Conv); ok && conv.Dynamic == n.Outputs[0] {
				y = s.sumPower(r[0], conv) - s.input(conv)
			}
		}
		c.Proj = scaleRows(op.Proj, []int{op.Proj.Dims[0]}, []int{y})
		return &c
	case *ChannelNorm:
		c := *op
		norm := s.scaledNorm(op.Norm, op.X)
		norm.Weight, norm.Bias = scaleAll(norm.Weight, y), scaleAll(norm.Bias, y)
		c.Norm = norm
		return &c
	case *RescaleNorm:
		c := *op
		x := s.of(op.X)
		c.Eps = float32(math.Ldexp(float64(op.Eps), 2*x))
		rows := s.after[n.Outputs[1]]
		c.ScaleWeight, c.ScaleBias = scaleAll(op.ScaleWeight, rows[0]-x), scaleAll(op.ScaleBias, rows[0])
		c.ShiftWeight, c.ShiftBias = scaleAll(op.ShiftWeight, rows[1]-x), scaleAll(op.ShiftBias, rows[1])
		return &c
	case *Tokens:
		c := *op
		c.Class, c.Pos = scaleAll(op.Class, y), scaleAll(op.Pos, y)
		return &c
	}
	return op
}

func (s *scaler) scaledNorm(n *Norm, x *Tensor) *Norm {
	c := *n
	c.Eps = float32(math.Ldexp(float64(n.Eps), 2*s.of(x)))
	return &c
}

// input is the power of what a convolution sums over.
func (s *scaler) input(op *Conv) int {
	e := s.of(op.InScale)
	if op.Norm == nil && op.InAffine == nil {
		e += s.of(op.X)
	}
	return e
}

// sumPower is the power of a convolution's sums, after the gate: the result's, unless a factor follows that makes up the
// difference; then the one that suits the weights.
func (s *scaler) sumPower(n *Node, op *Conv) int {
	y := s.of(n.Outputs[0])
	if op.Dynamic != nil || op.Act == GELU || op.Gate == GELUGate || op.Scale == nil && op.OutAffine == nil {
		return y
	}
	if op.OutAffine != nil && len(s.readers(op.OutAffine)) != 1 {
		return 0
	}
	if op.Gate == SimpleGate {
		return s.input(op)*2 - s.weightOrder(n, 0) - s.weightOrder(n, 1)
	}
	return s.input(op) - s.widestWeight(n)
}

func (s *scaler) scaledConv(n *Node, c Conv, segments []int, y int) Op {
	if c.Norm != nil {
		c.Norm = s.scaledNorm(c.Norm, c.X)
	}
	in := s.input(&c)
	z := s.sumPower(n, &c)
	rows := make([]int, len(segments)) // of the sums, by segment
	switch parts, ok := s.parts[n.Outputs[0]]; {
	case ok:
		rows = parts
	case c.Gate == SimpleGate:
		rows[0] = (z + s.weightOrder(n, 1) - s.weightOrder(n, 0)) / 2
		rows[1] = z - rows[0]
	case c.Gate == GELUGate:
		rows[1] = z
	case c.Act == GELU:
		// The sum must be what it is.
	case c.Gram != nil:
		for i := range 2 {
			rows[i] = s.gramPower(n, i)
		}
		rows[2] = z
	default:
		rows[0] = z
	}
	if c.Dynamic == nil {
		first, second := in, in
		if c.X2 != nil {
			second = s.of(c.X2)
		}
		c.Weight = scaleWeight(c.Weight, segments, rows, c.X.Shape.C, first, second)
		c.LowRank = scaleBranch(c.LowRank, segments, rows, in)
		if c.LowRanks != nil {
			all := make([]*LowRank, len(c.LowRanks))
			seen := map[*LowRank]*LowRank{}
			for i, l := range c.LowRanks {
				if l != nil && seen[l] == nil {
					seen[l] = scaleBranch(l, segments, rows, in)
				}
				all[i] = seen[l]
			}
			c.LowRanks = all
		}
	}
	c.Bias = scaleRows(c.Bias, segments, rows)
	if c.Act == GELU {
		z = 0
	}
	switch {
	case c.OutAffine != nil && len(s.readers(c.OutAffine)) == 1:
		s.after[c.OutAffine] = [2]int{y - z, y}
	case c.Scale != nil:
		c.Scale = scaleAll(c.Scale, y-z)
	}
	return &c
}

// gramPower is the power of q or k, which unit length takes away again.
func (s *scaler) gramPower(n *Node, i int) int {
	if r := s.g.Ranges.Tensors[n.Name+gramSuffix]; len(r) == 3 && r[i] > 0 {
		return min(max(rangeTarget-order(r[i]), -maxExponent), maxExponent)
	}
	return s.of(n.Outputs[0])
}

// gramSuffix behind a node's name is where Ranges have the orders of q, k and v that a Gram matrix is made of.
const gramSuffix = "#qkv"

// GramRange is the name under which Ranges hold what a node makes a Gram matrix of.
func GramRange(n *Node) string { return n.Name + gramSuffix }

func (s *scaler) scaledDepthwise(n *Node, d Depthwise, segments []int, y int) Op {
	in := s.parts[d.X]
	if in == nil {
		in = make([]int, len(segments))
		for i := range in {
			in[i] = s.of(d.X)
		}
	}
	rows := make([]int, len(segments))
	switch {
	case d.Gate == SimpleGate:
		rows[0] = y / 2
		rows[1] = y - rows[0]
	case d.Gate == GELUGate:
		rows[1] = y
	case d.Act == GELU:
	case d.Gram != nil:
		rows[0], rows[1], rows[2] = s.gramPower(n, 0), s.gramPower(n, 1), y
	default:
		rows[0] = y
	}
	weights := make([]int, len(rows))
	for i, r := range rows {
		weights[i] = r - in[i]
	}
	d.Weight, d.Bias = scaleRows(d.Weight, segments, weights), scaleRows(d.Bias, segments, rows)
	return &d
}

// scaledKey identifies a parameter multiplied by powers of two.
type scaledKey struct {
	from any
	how  string
}

// scaleParam multiplies element i of a parameter by 2^power(i).
func scaleParam(p *Param, how string, power func(i int) int) *Param {
	var key any
	if p.Key != nil {
		key = scaledKey{p.Key, how}
	}
	q := NewParam(p.Name, p.Dims, key, func(dst []float32) error {
		if err := p.Read(dst); err != nil {
			return err
		}
		for i := range dst {
			if k := power(i); k != 0 && dst[i] != 0 {
				dst[i] = float32(math.Ldexp(float64(dst[i]), k))
			}
		}
		return nil
	})
	return q
}

// scaleAll multiplies a parameter by one power of two; nil stays nil.
func scaleAll(p *Param, k int) *Param {
	if p == nil || k == 0 {
		return p
	}
	q := scaleParam(p, fmt.Sprintf("2^%d", k), func(int) int { return k })
	q.Adapter = scaleAdapter(p, []int{p.Elems()}, []int{k})
	return q
}

// scaleRows multiplies runs of a parameter's rows.
func scaleRows(p *Param, segments, powers []int) *Param {
	if p == nil || reflect.ValueOf(powers).Len() == 0 || allZero(powers) {
		return p
	}
	if len(powers) == 1 {
		return scaleAll(p, powers[0])
	}
	row := rowPowers(p, segments, powers)
	q := scaleParam(p, fmt.Sprintf("rows %v 2^%v", segments, powers), row)
	q.Adapter = scaleAdapter(p, segments, powers)
	return q
}

// rowPowers gives the power of element i, whose row is one of the runs'.
func rowPowers(p *Param, segments, powers []int) func(i int) int {
	rows := 0
	for _, n := range segments {
		rows += n
	}
	width := p.Elems() / rows
	return func(i int) int {
		r := i / width
		for k, n := range segments {
			if r < n {
				return powers[k]
			}
			r -= n
		}
		return 0
	}
}

func allZero(v []int) bool {
	for _, k := range v {
		if k != 0 {
			return false
		}
	}
	return true
}

// scaleWeight turns a weight for inputs and sums as they were into one for those multiplied by powers: of the inputs'
// first channels, and of those behind them.
func scaleWeight(p *Param, segments, rows []int, channels, first, second int) *Param {
	if first == second {
		powers := make([]int, len(rows))
		for i, r := range rows {
			powers[i] = r - first
		}
		return scaleRows(p, segments, powers)
	}
	kernel := 1
	for _, d := range p.Dims[2:] {
		kernel *= d
	}
	width := p.Dims[1] * kernel
	row := rowPowers(p, segments, rows)
	return scaleParam(p, fmt.Sprintf("rows %v 2^%v columns %d 2^-%d 2^-%d", segments, rows, channels, first, second), func(i int) int {
		if i%width < channels*kernel {
			return row(i) - first
		}
		return row(i) - second
	})
}

// scaleBranch does the same for a low-rank branch: the factor behind takes it all.
func scaleBranch(l *LowRank, segments, rows []int, in int) *LowRank {
	if l == nil {
		return nil
	}
	c := *l
	powers := make([]int, len(rows))
	for i, r := range rows {
		powers[i] = r - in
	}
	c.Up = scaleRows(l.Up, segments, powers)
	return &c
}

// scaleAdapter scales what an adapted parameter is made from.
func scaleAdapter(p *Param, segments, powers []int) *Adapter {
	a := p.Adapter
	if !a.LowRank() {
		return a
	}
	c := *a
	c.Base = scaleRows(a.Base, segments, powers)
	if len(powers) == 1 {
		c.B = scaleAll(a.B, powers[0])
		return &c
	}
	// Row r of B belongs to element r·columns of the parameter.
	columns := a.A.Dims[1]
	inner := a.B.Dims[1]
	row := rowPowers(p, segments, powers)
	c.B = scaleParam(a.B, fmt.Sprintf("rows %v 2^%v of %v", segments, powers, p.Dims), func(i int) int { return row(i / inner * columns) })
	return &c
}
