package ptxsim

import "fmt"

// textureOperand describes the operands of a texture or surface instruction.
type textureOperand struct {
	dims    int
	array   bool
	handle  int32   // row
	layer   int32   // row
	coords  []int32 // rows
	integer bool    // texels by number
	float   bool    // the result
	rows    []int32 // of the result
	gather  int     // channel that tld4 gathers, -1 for tex
	outside string  // of surfaces: trap, clamp, zero
	size    int     // what txq and suq ask for: a dimension from 0; 3 for the layers
}

// geometry takes 1d, 2d, 3d, a1d or a2d.
func (t *textureOperand) geometry(m *modset) error {
	switch g := m.one("1d", "2d", "3d", "a1d", "a2d"); {
	case g == "":
		return fmt.Errorf("unsupported geometry")
	case g[0] == 'a':
		t.array, t.dims = true, int(g[1]-'0')
	default:
		t.dims = int(g[0] - '0')
	}
	return nil
}

// place reads [object, {coordinates}], with the layer in front and padded to 1, 2 or 4 coordinates.
func (d *decoder) place(t *textureOperand, o operand, typ dtype) (err error) {
	if o.kind != opdAddress || len(o.list) != 2 || o.off != 0 {
		return fmt.Errorf("operand is not [object, {coordinates}]; samplers of their own are not supported")
	}
	if t.handle, err = d.object(o); err != nil {
		return err
	}
	list := []operand{o.list[1]}
	if list[0].kind == opdVector {
		list = list[0].list
	}
	n := t.dims
	if t.array {
		n++
	}
	if want := map[int]int{1: 1, 2: 2, 3: 4}[n]; len(list) != want {
		return fmt.Errorf("%d coordinates, wants %d", len(list), want)
	}
	if t.array {
		if t.layer, err = d.src32(list[0], tU32); err != nil {
			return err
		}
		list = list[1:]
	}
	for _, c := range list[:t.dims] {
		r, err := d.src32(c, typ)
		if err != nil {
			return err
		}
		t.coords = append(t.coords, r)
	}
	return nil
}

// object returns the row of a texture object's handle.
func (d *decoder) object(o operand) (int32, error) {
	if o.list[0].kind != opdReg {
		return 0, fmt.Errorf("texture and surface references are not supported, only objects")
	}
	return d.src64(o.list[0], tU64)
}

// decTex translates tex and tld4 (PTX ISA 8.4, sections 9.7.9.3 and .4).
func decTex(d *decoder, s *stmt, m *modset, in *inst) error {
	t := &textureOperand{gather: -1}
	if s.op == "tld4" {
		channel := m.one("r", "g", "b", "a")
		if channel == "" {
			return fmt.Errorf("needs the channel")
		}
		t.gather = map[string]int{"r": 0, "g": 1, "b": 2, "a": 3}[channel]
	}
	if m.one("level", "grad", "base") != "" {
		return fmt.Errorf("mipmaps are not supported")
	}
	if err := t.geometry(m); err != nil {
		return err
	}
	if t.gather >= 0 && t.dims != 2 {
		return fmt.Errorf("unsupported geometry")
	}
	if !m.take("v4") {
		return fmt.Errorf("needs .v4")
	}
	to, at := m.typ(), m.typ()
	if to != tF32 && to != tS32 && to != tU32 || at != tF32 && (at != tS32 || t.gather >= 0) {
		return fmt.Errorf("types %v and %v are not supported", to, at)
	}
	if err := s.argc(2, 2); err != nil {
		return err
	}
	t.float, t.integer = to == tF32, at == tS32
	rows, err := d.dsts32(s.args[0], 4)
	if err != nil {
		return err
	}
	t.rows = rows
	in.x.texture, in.class, in.kind, in.exec = t, clGlobalLoad, kExec, execTex
	in.x.elem, in.x.vec, in.x.nc = 1, 1, true
	d.memIndex(in)
	return d.place(t, s.args[1], at)
}

// decSurface translates suld and sust (PTX ISA 8.4, sections 9.7.10.1 and .2).
func decSurface(d *decoder, s *stmt, m *modset, in *inst) error {
	if !m.take("b") {
		return fmt.Errorf("only .b is supported")
	}
	t := &textureOperand{}
	if err := t.geometry(m); err != nil {
		return err
	}
	cacheHints(m)
	x := in.x
	x.vec = 1
	if v := m.one("v2", "v4"); v != "" {
		x.vec = int(v[1] - '0')
	}
	typ := m.typ()
	if t.outside = m.one("trap", "clamp", "zero"); t.outside == "" || !typ.bits() || typ == tB128 || typ.size()*x.vec > 16 {
		return fmt.Errorf("needs .trap, .clamp or .zero, and a type of at most 16 bytes")
	}
	if err := s.argc(2, 2); err != nil {
		return err
	}
	data, at := s.args[0], s.args[1]
	in.class, in.exec = clGlobalLoad, execSurfaceLoad
	if s.op == "sust" {
		data, at = at, data
		in.class, in.exec = clGlobalStore, execSurfaceStore
		d.prog.writesAnything = true
	}
	list, err := elements(data, x.vec)
	if err != nil {
		return err
	}
	x.elem, x.imm, x.nc, x.texture, in.kind = typ.size(), full, s.op == "suld", t, kExec
	for i, o := range list {
		row, wide, err := d.surfaceElement(o, typ, s.op == "sust")
		if err != nil {
			return err
		}
		if i > 0 && wide != x.wide {
			return fmt.Errorf("elements differ in size")
		}
		if o.kind == opdReg && d.fn.regs[o.reg].size() < 4 {
			x.imm = 1<<(8*d.fn.regs[o.reg].size()) - 1
		}
		x.wide = wide
		x.data = append(x.data, row)
	}
	d.memIndex(in)
	return d.place(t, at, tS32)
}

// surfaceElement returns the row of an element that a surface instruction moves.
func (d *decoder) surfaceElement(o operand, typ dtype, source bool) (row int32, wide bool, err error) {
	if source && o.kind != opdReg {
		return d.src(o, typ)
	}
	if o.kind != opdReg {
		return 0, false, fmt.Errorf("destination is not a register")
	}
	row, t := d.reg(o.reg)
	if t == tPred || t.size() < typ.size() {
		return 0, false, fmt.Errorf("operand is a %v register", t)
	}
	return row, t.size() == 8, nil
}

// decTextureQuery translates txq and suq as far as they ask for sizes (PTX ISA 8.4, sections 9.7.9.5 and 9.7.10.4).
func decTextureQuery(d *decoder, s *stmt, m *modset, in *inst) (err error) {
	what := m.one("width", "height", "depth", "array_size")
	if what == "" || m.typ() != tB32 {
		return fmt.Errorf("only sizes can be asked for")
	}
	if err := s.argc(2, 2); err != nil {
		return err
	}
	o := s.args[1]
	if o.kind != opdAddress || len(o.list) != 1 || o.off != 0 {
		return fmt.Errorf("operand is not [object]")
	}
	t := &textureOperand{size: map[string]int{"width": 0, "height": 1, "depth": 2, "array_size": 3}[what]}
	if t.handle, err = d.object(o); err != nil {
		return err
	}
	in.x.texture, in.class, in.kind, in.exec = t, clOther, kExec, execTextureQuery
	in.d, err = d.dst32(s.args[0])
	return err
}
