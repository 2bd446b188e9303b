package ptxsim

import "fmt"

func decLdmatrix(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(2, 2); err != nil {
		return err
	}
	if !m.take("sync") || !m.take("aligned") || !m.take("m8n8") {
		return fmt.Errorf("needs .sync.aligned.m8n8")
	}
	x := in.x
	switch m.one("x1", "x2", "x4") {
	case "x1":
		x.n = 1
	case "x2":
		x.n = 2
	case "x4":
		x.n = 4
	default:
		return fmt.Errorf("needs .x1, .x2 or .x4")
	}
	if m.take("trans") {
		x.mode = "trans"
	}
	x.space = m.space()
	if m.typ() != tB16 || x.space != spShared && x.space != spGeneric {
		return fmt.Errorf("needs shared memory and .b16")
	}
	x.elem, x.vec = 16, 1
	regs, addr := s.args[0], s.args[1]
	in.exec = execLdmatrix
	if s.op == "stmatrix" {
		regs, addr = addr, regs
		in.exec = execStmatrix
	}
	rows, err := d.dsts32(regs, x.n)
	if err != nil {
		return err
	}
	x.rows = rows
	in.class = clMatrixMove
	if err := d.address(addr, in); err != nil {
		return err
	}
	return d.sync(in, nil)
}

func decMovmatrix(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(2, 2); err != nil {
		return err
	}
	for _, name := range []string{"sync", "aligned", "m8n8", "trans", "b16"} {
		if !m.take(name) {
			return fmt.Errorf("needs .%s", name)
		}
	}
	in.class, in.exec = clMatrixMove, execMovmatrix
	if err := d.operands(in, s.args, tB32); err != nil {
		return err
	}
	return d.sync(in, nil)
}

func decMMA(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(4, 4); err != nil {
		return err
	}
	if !m.take("sync") || !m.take("aligned") || !m.take("row") || !m.take("col") {
		return fmt.Errorf("needs .sync.aligned, .row and .col")
	}
	h, ok := m.shape()
	if !ok {
		return fmt.Errorf("needs a shape")
	}
	fast := false
	for _, t := range m.list {
		fast = fast || t == "f16" || t == "bf16" || t == "tf32"
	}
	fast = fast && h.m == 16 && h.n == 8 && h.k <= 16
	for _, t := range m.list {
		fast = fast && t != "e4m3" && t != "e5m2"
	}
	if !fast {
		return decMMAGeneral(d, s, m, in, h)
	}
	td, ta, tb, tc := m.typ(), m.typ(), m.typ(), m.typ()
	if ta != tb || td != tc {
		return fmt.Errorf("operand types differ")
	}
	k := h.k
	x := in.x
	x.typ = ta
	nc := 4
	var na, nb int
	switch {
	case (ta == tF16 || ta == tBF16) && (k == 16 || k == 8):
		in.exec, x.n = execMMA, k/8
		na, nb = 2*x.n, x.n
	case ta == tTF32 && (k == 8 || k == 4):
		in.exec, x.n = execMMATF32, k/4
		na, nb = 2*x.n, x.n
	default:
		return fmt.Errorf("shape and types are not supported")
	}
	switch {
	case td == tF16 && ta == tF16:
		nc, x.m = 2, 16
	case td != tF32:
		return fmt.Errorf("accumulator type %v is not supported", td)
	}
	for i, want := range []int{nc, na, nb, nc} {
		list, err := elements(s.args[i], want)
		if err != nil {
			return err
		}
		rows := make([]int32, want)
		for j, o := range list {
			if i == 0 {
				rows[j], err = d.dst32(o)
			} else if t := tB32; i == 3 && nc == 4 {
				rows[j], err = d.src32(o, tF32)
			} else {
				rows[j], err = d.src32(o, t)
			}
			if err != nil {
				return err
			}
		}
		if i == 0 {
			defer func() { x.rows = append(x.rows, rows...) }()
		} else {
			x.rows = append(x.rows, rows...)
		}
	}
	in.class = clTensor
	return d.sync(in, nil)
}
