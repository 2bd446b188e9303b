package onnx

import (
	"fmt"
	"math"

	"unirestorer/graph"
)

// node writes a node of the graph.
func (e *emitter) node(n *graph.Node) {
	set := func(names ...string) {
		for i, name := range names {
			e.at[n.Outputs[i]] = value{name: name}
		}
	}
	switch op := n.Op.(type) {
	case *graph.Import, *graph.Export:
		// Ports are written before and after all nodes.
	case *graph.Conv:
		set(e.conv(op)...)
	case *graph.Depthwise:
		set(e.depthwise(op)...)
	case *graph.Fold:
		set(e.fold(op))
	case *graph.WindowAttention:
		set(e.windowAttention(op))
	case *graph.Attention:
		set(e.attention(op))
	case *graph.Pool:
		set(e.pool(op))
	case *graph.ChannelNorm:
		set(e.norm(e.in(op.X), op.Norm, 1))
	case *graph.RescaleNorm:
		e.at[n.Outputs[0]], e.at[n.Outputs[1]] = e.rescaleNorm(op)
	case *graph.Pad:
		set(e.padded(op))
	case *graph.Crop:
		set(e.crop(op))
	case *graph.Concat:
		set(e.op("Concat", attrs{"axis": 1}, e.in(op.A), e.in(op.B)))
	case *graph.Tokens:
		set(e.tokens(op))
	case *graph.MulAdd:
		x := e.in(op.A)
		if op.B != nil {
			x = e.op("Mul", nil, x, e.in(op.B))
		}
		if op.C != nil {
			x = e.op("Add", nil, x, e.in(op.C))
		}
		set(x)
	case *graph.SoftReconstruction:
		x := e.in(op.X)
		parts := e.split(e.in(op.KB), 1, op.X.Shape.C)
		set(e.op("Add", nil, e.op("Sub", nil, e.op("Mul", nil, parts[0], x), parts[1]), x))
	case *graph.Sigmoid:
		set(e.op("Sigmoid", nil, e.in(op.X)))
	case *graph.DeformConv:
		set(e.deformConv(op))
	case *graph.SelectiveKernel:
		set(e.selectiveKernel(op))
	case *graph.Prompt:
		set(e.prompt(op))
	case *graph.Resize:
		set(e.resize(op))
	default:
		e.fail(fmt.Errorf("operation %s has no form in ONNX's opset %d here", n.Op.Kind(), e.opset))
	}
	if e.err != nil {
		e.err = fmt.Errorf("node %q: %w", n.Name, e.err)
	}
}

func (e *emitter) conv(c *graph.Conv) []string {
	if c.LowRanks != nil {
		e.fail(fmt.Errorf("branches that differ by image are not written"))
		return []string{""}
	}
	x := e.in(c.X)
	if c.X2 != nil {
		x = e.op("Concat", attrs{"axis": 1}, x, e.in(c.X2))
	}
	if c.Norm != nil {
		x = e.norm(x, c.Norm, 1)
	}
	if c.InScale != nil {
		x = e.op("Mul", nil, x, e.spread(c.InScale, x))
	}
	x = e.affine(x, c.InAffine)
	t := e.product(c, x)
	if l := c.LowRank; l != nil {
		kh, kw := c.Kernel()
		low := e.op("Conv", e.convAttrs(c, kh, kw), e.bordered(c, x), e.param(l.Down))
		low = e.op("Conv", nil, low, e.param(l.Up, l.Up.Dims[0], l.Up.Dims[1], 1, 1))
		t = e.op("Add", nil, t, e.op("Mul", nil, low, e.scalar(l.Scale)))
	}
	channels := c.COut()
	t = e.gate(e.act(t, c.Act), channels, c.Gate)
	if c.Gram != nil {
		rest, gram := e.gram(t, channels, c.Gram)
		return []string{rest, gram}
	}
	if c.Gate != graph.NoGate {
		channels /= 2
	}
	if c.Scale != nil {
		t = e.op("Mul", nil, t, e.channels(c.Scale))
	}
	t = e.shuffle(e.affine(t, c.OutAffine), channels, c.Shuffle)
	if c.Residual != nil {
		t = e.op("Add", nil, t, e.in(c.Residual))
	}
	return []string{t}
}

// spread is a scale that the pixels of x read with the border replicated.
func (e *emitter) spread(s *graph.Tensor, x string) string {
	name := e.in(s)
	if s.Shape.H == 1 && s.Shape.W == 1 {
		return name
	}
	side := func(axis int) (before, after string) {
		missing := e.op("Sub", nil, e.dim(x, axis), e.dim(name, axis))
		before = e.op("Div", nil, missing, e.ivec(2))
		return before, e.op("Sub", nil, missing, before)
	}
	top, bottom := side(2)
	left, right := side(3)
	return e.pad(name, "edge", top, left, bottom, right)
}

func (e *emitter) convAttrs(c *graph.Conv, kh, kw int) attrs {
	pad := c.Pad
	if c.PadMode != graph.Zero {
		pad = 0 // bordered did
	}
	s := c.StrideOr1()
	return attrs{"kernel_shape": []int{kh, kw}, "strides": []int{s, s}, "pads": []int{pad, pad, pad, pad}, "group": c.GroupsOr1()}
}

// bordered pads x where a convolution can't by itself.
func (e *emitter) bordered(c *graph.Conv, x string) string {
	if c.Pad == 0 || c.PadMode == graph.Zero {
		return x
	}
	p := e.ivec(c.Pad)
	return e.pad(x, padModes[c.PadMode], p, p, p, p)
}

// product is the convolution with its bias.
func (e *emitter) product(c *graph.Conv, x string) string {
	if c.Dynamic == nil {
		kh, kw := c.Kernel()
		inputs := []string{e.bordered(c, x), e.param(c.Weight, c.Weight.Dims[0], c.CIn()/c.GroupsOr1(), kh, kw)}
		if c.Bias != nil {
			inputs = append(inputs, e.param(c.Bias, c.Bias.Elems()))
		}
		return e.op("Conv", e.convAttrs(c, kh, kw), inputs...)
	}
	flat := e.op("MatMul", nil, e.in(c.Dynamic), e.reshape(x, 0, 0, -1))
	t := e.op("Reshape", nil, flat, e.join(e.dim(x, 0), e.ivec(c.COut()), e.dim(x, 2), e.dim(x, 3)))
	if c.Bias != nil {
		t = e.op("Add", nil, t, e.channels(c.Bias))
	}
	return t
}

func (e *emitter) depthwise(d *graph.Depthwise) []string {
	c, k := d.X.Shape.C, d.Kernel()
	p := k / 2
	inputs := []string{e.in(d.X), e.param(d.Weight)}
	if d.Bias != nil {
		inputs = append(inputs, e.param(d.Bias, c))
	}
	t := e.op("Conv", attrs{"kernel_shape": []int{k, k}, "pads": []int{p, p, p, p}, "group": c}, inputs...)
	t = e.gate(e.act(t, d.Act), c, d.Gate)
	if d.Gram != nil {
		rest, gram := e.gram(t, c, d.Gram)
		return []string{rest, gram}
	}
	if d.Residual != nil {
		t = e.op("Add", nil, t, e.in(d.Residual))
	}
	if d.Pool {
		return []string{t, e.mean(t, 2, 3)}
	}
	return []string{t}
}

// fold is the dynamic weight, [N, Cout, C].
func (e *emitter) fold(f *graph.Fold) string {
	heads, d, cout := f.Gram.Shape.H, f.Gram.Shape.C, f.Proj.Dims[0]
	logits := e.op("Mul", nil, e.in(f.Gram), e.param(f.Temperature, 1, heads, 1, 1))
	attention := e.op("Softmax", attrs{"axis": -1}, logits)
	proj := e.transpose(e.param(f.Proj, 1, cout, heads, d), 0, 2, 1, 3)
	m := e.transpose(e.op("MatMul", nil, proj, attention), 0, 2, 1, 3)
	return e.reshape(m, 0, cout, heads*d)
}

func (e *emitter) windowAttention(a *graph.WindowAttention) string {
	ws, heads := a.Window, a.Heads
	c := a.QKV.Shape.C / 3
	hd := c / heads
	x := e.in(a.QKV)
	n := e.dim(x, 0)
	window := e.ivec(ws)
	around := func(axis int) (before, after string) {
		m := e.op("Mod", nil, e.op("Sub", nil, window, e.op("Mod", nil, e.dim(x, axis), window)), window)
		if a.Shift == 0 {
			return e.ivec(0), m
		}
		return e.ivec(a.Shift), e.op("Mod", nil, e.op("Add", nil, m, e.ivec(ws-a.Shift)), window)
	}
	top, bottom := around(2)
	left, right := around(3)
	padded := e.pad(x, "reflect", top, left, bottom, right)
	nh, nw := e.op("Div", nil, e.dim(padded, 2), window), e.op("Div", nil, e.dim(padded, 3), window)
	t := e.op("Reshape", nil, padded, e.join(n, e.ivec(3, heads, hd), nh, window, nw, window))
	t = e.transpose(t, 1, 0, 4, 6, 2, 5, 7, 3) // 3, N, windows, heads, tokens, hd
	t = e.reshape(t, 3, -1, heads, ws*ws, hd)
	q, k, v := e.pick(t, 0, 0), e.pick(t, 0, 1), e.pick(t, 0, 2)
	logits := e.op("MatMul", nil, e.op("Mul", nil, q, e.scalar(float32(1/math.Sqrt(float64(hd))))), e.transpose(k, 0, 1, 3, 2))
	logits = e.op("Add", nil, logits, e.param(a.Bias, 1, heads, ws*ws, ws*ws))
	t = e.op("MatMul", nil, e.op("Softmax", attrs{"axis": -1}, logits), v)
	t = e.op("Reshape", nil, t, e.join(n, nh, nw, e.ivec(heads, ws, ws, hd)))
	t = e.transpose(t, 0, 3, 6, 1, 4, 2, 5)
	t = e.op("Reshape", nil, t, e.join(n, e.ivec(c), e.dim(padded, 2), e.dim(padded, 3)))
	ends := e.join(e.op("Add", nil, top, e.dim(x, 2)), e.op("Add", nil, left, e.dim(x, 3)))
	return e.op("Slice", nil, t, e.join(top, left), ends, e.ivec(2, 3))
}

func (e *emitter) attention(a *graph.Attention) string {
	c := a.QKV.Shape.C / 3
	hd := c / a.Heads
	t := e.reshape(e.in(a.QKV), 0, 3, a.Heads, hd, -1)
	q, k, v := e.pick(t, 1, 0), e.pick(t, 1, 1), e.pick(t, 1, 2) // N, heads, hd, tokens
	logits := e.op("MatMul", nil, e.op("Mul", nil, e.transpose(q, 0, 1, 3, 2), e.scalar(float32(1/math.Sqrt(float64(hd))))), k)
	attention := e.op("Softmax", attrs{"axis": -1}, logits)
	return e.reshape(e.op("MatMul", nil, v, e.transpose(attention, 0, 1, 3, 2)), 0, c, 1, -1)
}

// pool averages; a window is cut to the picture when the network runs.
func (e *emitter) pool(p *graph.Pool) string {
	x := e.in(p.X)
	if p.X2 != nil {
		x = e.op("Add", nil, x, e.in(p.X2))
	}
	if p.WindowH == 0 && p.WindowW == 0 {
		return e.mean(x, 2, 3)
	}
	for i, window := range []int{p.WindowH, p.WindowW} {
		axis := 2 + i
		if window == 0 {
			x = e.mean(x, axis)
			continue
		}
		x = e.slidingMean(x, axis, window)
	}
	return x
}

// slidingMean is the mean of a window along an axis, by running sums of what is
// left of the axis' mean.
func (e *emitter) slidingMean(x string, axis, window int) string {
	size := e.dim(x, axis)
	k := e.op("Min", nil, size, e.ivec(window))
	middle := e.mean(x, axis)
	axisName := e.unique("i/axis")
	e.graph.bytes(graphInitializer, intTensor(axisName, nil, []int64{int64(axis)}))
	sums := e.op("CumSum", nil, e.op("Sub", nil, x, middle), axisName)
	zero, one := e.ivec(0), e.ivec(1)
	if axis == 2 {
		sums = e.pad(sums, "constant", one, zero, zero, zero)
	} else {
		sums = e.pad(sums, "constant", zero, one, zero, zero)
	}
	upper := e.op("Slice", nil, sums, k, e.ivec(math.MaxInt32), e.ivec(axis))
	lower := e.op("Slice", nil, sums, zero, e.op("Sub", nil, e.op("Add", nil, size, one), k), e.ivec(axis))
	length := e.op("Cast", attrs{"to": elemFloat}, k)
	return e.op("Add", nil, e.op("Div", nil, e.op("Sub", nil, upper, lower), length), middle)
}

func (e *emitter) rescaleNorm(r *graph.RescaleNorm) (before, after value) {
	x := e.in(r.X)
	mean := e.mean(x, 1, 2, 3)
	moved := e.op("Sub", nil, x, mean)
	std := e.op("Sqrt", nil, e.op("Add", nil, e.mean(e.op("Mul", nil, moved, moved), 1, 2, 3), e.scalar(r.Eps)))
	scale := e.op("Div", nil, e.channels(r.Weight), std)
	before = value{scale, e.op("Sub", nil, e.channels(r.Bias), e.op("Mul", nil, mean, scale))}
	line := func(w, b *graph.Param, v string) string {
		return e.op("Add", nil, e.op("Mul", nil, e.channels(w), v), e.channels(b))
	}
	return before, value{line(r.ScaleWeight, r.ScaleBias, std), line(r.ShiftWeight, r.ShiftBias, mean)}
}

func (e *emitter) padded(p *graph.Pad) string {
	x := e.in(p.X)
	mode, ok := padModes[p.Mode]
	if !ok {
		e.fail(fmt.Errorf("padding %v has no form in ONNX", p.Mode))
		return x
	}
	if p.Multiple == 0 {
		return e.pad(x, mode, e.ivec(p.Top), e.ivec(p.Left), e.ivec(p.Bottom), e.ivec(p.Right))
	}
	m := e.ivec(p.Multiple)
	missing := func(axis int) string {
		return e.op("Mod", nil, e.op("Sub", nil, m, e.op("Mod", nil, e.dim(x, axis), m)), m)
	}
	zero := e.ivec(0)
	return e.pad(x, mode, zero, zero, missing(2), missing(3))
}

// crop cuts back to the size of the first input, or cuts fixed margins.
func (e *emitter) crop(c *graph.Crop) string {
	x := e.in(c.X)
	axes := e.ivec(2, 3)
	if c.Y == 0 && c.X0 == 0 && c.H == e.h && c.W == e.w {
		return e.op("Slice", nil, x, e.ivec(0, 0), e.join(e.dim(e.input, 2), e.dim(e.input, 3)), axes)
	}
	end := func(margin int) int {
		if margin == 0 {
			return math.MaxInt32
		}
		return -margin
	}
	s := c.X.Shape
	return e.op("Slice", nil, x, e.ivec(c.Y, c.X0), e.ivec(end(s.H-c.Y-c.H), end(s.W-c.X0-c.W)), axes)
}

func (e *emitter) tokens(t *graph.Tokens) string {
	c := t.X.Shape.C
	flat := e.reshape(e.in(t.X), 0, c, 1, -1)
	class := e.op("Expand", nil, e.param(t.Class, 1, c, 1, 1), e.join(e.dim(flat, 0), e.ivec(c, 1, 1)))
	x := e.op("Concat", attrs{"axis": 3}, class, flat)
	pos := e.reshape(e.transpose(e.param(t.Pos), 1, 0), 1, c, 1, -1)
	return e.op("Add", nil, x, pos)
}

func (e *emitter) selectiveKernel(s *graph.SelectiveKernel) string {
	c := s.A.Shape.C
	shares := e.op("Softmax", attrs{"axis": 1}, e.reshape(e.in(s.Logits), 0, 2, c, 1, 1))
	t := e.op("Add", nil,
		e.op("Mul", nil, e.in(s.A), e.pick(shares, 1, 0)),
		e.op("Mul", nil, e.in(s.B), e.pick(shares, 1, 1)))
	if s.Residual != nil {
		t = e.op("Add", nil, t, e.in(s.Residual))
	}
	return t
}

// deformConv needs opset 19. Offsets and masks stand in ONNX's order already.
func (e *emitter) deformConv(d *graph.DeformConv) string {
	const taps = 9
	parts := e.split(e.in(d.Offsets), 2*taps, taps)
	bias := e.floats("b", []int{d.Weight.Dims[0]}, make([]float32, d.Weight.Dims[0]))
	a := attrs{"kernel_shape": []int{3, 3}, "pads": []int{1, 1, 1, 1}}
	return e.op("DeformConv", a, e.in(d.X), e.param(d.Weight), parts[0], bias, e.op("Sigmoid", nil, parts[1]))
}

func (e *emitter) prompt(p *graph.Prompt) string {
	d := p.Components.Dims
	weights := e.op("Softmax", attrs{"axis": 1}, e.reshape(e.in(p.Logits), 0, d[0]))
	components := e.reshape(e.transpose(e.param(p.Components), 0, 3, 1, 2), d[0], -1)
	return e.reshape(e.op("MatMul", nil, weights, components), 0, d[3], d[1], d[2])
}

func (e *emitter) resize(r *graph.Resize) string {
	x := e.in(r.X)
	h, w := e.ivec(r.H), e.ivec(r.W)
	if r.Like != nil {
		like := e.in(r.Like)
		h, w = e.dim(like, 2), e.dim(like, 3)
	}
	sizes := e.join(e.dim(x, 0), e.ivec(r.X.Shape.C), h, w)
	return e.op("Resize", attrs{"mode": "linear", "coordinate_transformation_mode": "half_pixel"}, x, "", "", sizes)
}
