package ptxsim

import "fmt"

// wmma: which lane holds which element of a fragment is the implementation's own affair (PTX ISA 8.4, 9.7.13.3.1), so
// elements lie in the order in which the layout has them in memory: of registers with per elements each, lane l's
// register i begins at element (l·registers + i)·per, and starts again where the matrix ends. Sums have no layout of
// their own and lie by rows.

// wmmaRegisters gives the registers of a fragment (PTX ISA 8.4, 9.7.13.3).
func wmmaRegisters(which string, e elemKind, h matrixShape) (int, error) {
	square := h == matrixShape{16, 16, 16}
	tall, flat := h == matrixShape{32, 8, 16}, h == matrixShape{8, 32, 16}
	small := h.m == 8 && h.n == 8
	if which == "c" || which == "d" {
		switch {
		case e.name == "f64" && h == matrixShape{8, 8, 4}, e.name == "s32" && small && h.k > 4:
			return 2, nil
		case square || tall || flat || h == matrixShape{16, 16, 8}:
			switch e.name {
			case "f16":
				return 4, nil
			case "f32", "s32":
				return 8, nil
			}
		}
		return 0, fmt.Errorf("shape and types are not supported")
	}
	extent := h.m
	if which == "b" {
		extent = h.n
	}
	switch {
	case e.name == "f16" && (square || tall || flat):
		return 8, nil
	case e.bits == 16 && (square || tall || flat), (e.name == "s8" || e.name == "u8") && (square || tall || flat):
		return extent * h.k / lanes / e.per(), nil
	case e.name == "tf32" && h == matrixShape{16, 16, 8}:
		return 4, nil
	case e.name == "f64" && h == matrixShape{8, 8, 4}, e.bits == 4 && h == matrixShape{8, 8, 32}, e.bits == 1 && h == matrixShape{8, 8, 128}:
		return 1, nil
	}
	return 0, fmt.Errorf("shape and types are not supported")
}

// wmmaFragment lays out a fragment of a matrix of rows×cols.
func wmmaFragment(f *fragment, n, rows, cols int, byRows bool) {
	per, total := f.elem.per(), rows*cols
	f.at = func(l, i, j int) (int, int) {
		e := ((l*n+i)*per + j) % total
		if byRows {
			return e / cols, e % cols
		}
		return e % rows, e / rows
	}
}

func decWmma(d *decoder, s *stmt, m *modset, in *inst) error {
	op := m.one("load", "store", "mma")
	if op == "" || !m.take("sync") || !m.take("aligned") {
		return fmt.Errorf("needs .load, .store or .mma with .sync.aligned")
	}
	if op == "mma" {
		return decWmmaMMA(d, s, m, in)
	}
	which := m.one("a", "b", "c", "d")
	layout := m.one("row", "col")
	h, ok := m.shape()
	space := m.space()
	e := m.elem()
	if which == "" || layout == "" || !ok || e.bits == 0 {
		return fmt.Errorf("needs a matrix, a layout, a shape and a type")
	}
	n, err := wmmaRegisters(which, e, h)
	if err != nil {
		return err
	}
	args := s.args
	if err := s.argc(2, 3); err != nil {
		return err
	}
	regs, addr := args[0], args[1]
	if op == "store" {
		regs, addr = addr, regs
	}
	rows, cols := h.m, h.n
	switch which {
	case "a":
		cols = h.k
	case "b":
		rows = h.k
	}
	f := &fragment{elem: e}
	sum := which == "c" || which == "d"
	wmmaFragment(f, n, rows, cols, layout == "row" || sum)
	if err := d.fragment(regs, f, n, op == "load"); err != nil {
		return err
	}
	if err := d.address(addr, in); err != nil {
		return err
	}
	stride := int32(-1)
	if len(args) == 3 {
		if stride, err = d.src32(args[2], tU32); err != nil {
			return err
		}
	}
	x := in.x
	x.space = space
	x.elem, x.vec = max(4, e.bits/8), 1
	t := &wmmaTransfer{f: f, byRows: layout == "row", rows: rows, cols: cols, stride: stride, store: op == "store"}
	// Two halves of a register that are apart in memory go one by one.
	if t.apart = sum && e.name == "f16" && layout == "col"; t.apart {
		x.elem = 2
		t.half = d.newRow32()
	}
	in.class = clMatrixMove
	d.memIndex(in)
	in.exec = t.exec
	return d.sync(in, nil)
}

// wmmaTransfer moves a fragment between registers and memory.
type wmmaTransfer struct {
	f          *fragment
	byRows     bool // layout in memory
	rows, cols int
	stride     int32 // row of it, -1 if lines follow each other
	store      bool
	apart      bool
	half       int32 // row for one half of a register
}

func (t *wmmaTransfer) exec(w *warp, in *inst) {
	if !w.wholeWarp(in) {
		return
	}
	w.addresses(in)
	base := w.addr
	x := *in.x
	sub := *in
	sub.x, sub.kind = &x, kExec
	parts := 1
	if t.apart {
		parts = 2
	}
	for i, r := range t.f.rows {
		for part := range parts {
			for l := range lanes {
				row, col := t.f.at(l, i, part)
				line, at := row, col
				step := t.cols
				if !t.byRows {
					line, at, step = col, row, t.rows
				}
				if t.stride >= 0 {
					step = int(w.r32[t.stride][l])
				}
				w.addr[l] = base[l] + uint64((line*step+at)*t.f.elem.bits/8)
			}
			x.wide = t.f.wide
			x.data, x.imm = []int32{r}, full
			if t.apart {
				x.data = []int32{t.half}
				if t.store {
					for l := range lanes {
						w.r32[t.half][l] = w.r32[r][l] >> (16 * part) & 0xffff
					}
				}
			}
			t.move(w, &sub)
			if t.apart && !t.store {
				for l := range lanes {
					w.r32[r][l] = w.r32[r][l]&^(0xffff<<(16*part)) | w.r32[t.half][l]<<(16*part)
				}
			}
		}
	}
}

// move transfers one element a lane at w.addr.
func (t *wmmaTransfer) move(w *warp, in *inst) {
	global, shared := full, uint32(0)
	switch in.x.space {
	case spShared:
		global, shared = 0, full
	case spGeneric:
		var local uint32
		global, shared, local = w.byWindow(full)
		if local != 0 {
			w.report(in, lowest(local), OutOfBounds, spLocal, w.addr[lowest(local)], "wmma cannot access local memory")
		}
	}
	switch {
	case t.store && global != 0:
		w.stGlobal(in, global)
	case global != 0:
		w.ldGlobal(in, global)
	}
	switch {
	case t.store && shared != 0:
		w.stShared(in, shared)
	case shared != 0:
		w.ldShared(in, shared)
	}
}

func decWmmaMMA(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(4, 4); err != nil {
		return err
	}
	p := &matrixProduct{}
	if p.bitOp = m.one("xor", "and"); p.bitOp != "" && !m.take("popc") {
		return fmt.Errorf("needs .popc")
	}
	la, lb := m.one("row", "col"), m.one("row", "col")
	h, ok := m.shape()
	if la == "" || lb == "" || !ok {
		return fmt.Errorf("needs layouts and a shape")
	}
	m.round()
	p.shape, p.saturate = h, m.take("satfinite")
	p.d.elem = m.elem()
	second, third, fourth := m.elem(), m.elem(), m.elem()
	if fourth.bits == 0 { // products of halves name only the types of the sums
		p.a.elem, p.b.elem, p.c.elem = elemKinds["f16"], elemKinds["f16"], second
		if third.bits != 0 {
			return fmt.Errorf("needs two types or four")
		}
	} else {
		p.a.elem, p.b.elem, p.c.elem = second, third, fourth
	}
	var n [4]int
	for i, f := range []*fragment{&p.a, &p.b, &p.c, &p.d} {
		var err error
		if n[i], err = wmmaRegisters([]string{"a", "b", "c", "d"}[i], f.elem, h); err != nil {
			return err
		}
	}
	wmmaFragment(&p.a, n[0], h.m, h.k, la == "row")
	wmmaFragment(&p.b, n[1], h.k, h.n, lb == "row")
	wmmaFragment(&p.c, n[2], h.m, h.n, true)
	wmmaFragment(&p.d, n[3], h.m, h.n, true)
	return d.product(s, in, p, n[0], n[1], n[2])
}
