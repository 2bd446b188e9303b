package ptxsim

import (
	"fmt"
	"slices"
)

// Copies of boxes of tensors (PTX ISA 8.4, sections 5.5 and 9.7.8.24.9 to .13): they are bulk copies whose bytes lie where a
// tensor map says. Elements outside of the tensor are zero (or NaN) in shared memory and are not stored to global memory;
// the mbarrier counts all bytes of the box.

// tensor describes a tensor copy's operands.
type tensor struct {
	rank   int
	base   int32 // row of the map's generic address
	off    int64
	coords []int32 // rows
	im2col bool
	shifts []int32 // rows of the offsets of a copy in im2col mode
}

// tensorOperand reads [map, {coordinates}].
func (d *decoder) tensorOperand(o operand, rank int) (*tensor, error) {
	if o.kind != opdAddress || len(o.list) != 2 || o.list[1].kind != opdVector {
		return nil, fmt.Errorf("operand is not [map, {coordinates}]")
	}
	list := o.list[1].list
	if len(list) != rank && !(rank == 1 && len(list) == 1) {
		return nil, fmt.Errorf("%d coordinates for %d dimensions", len(list), rank)
	}
	t := &tensor{rank: rank, off: o.off}
	var wide bool
	var err error
	if t.base, wide, err = d.base(o); err != nil || !wide {
		return nil, fmt.Errorf("the map's address is not of 64 bits")
	}
	for _, c := range list {
		r, err := d.src32(c, tS32)
		if err != nil {
			return nil, err
		}
		t.coords = append(t.coords, r)
	}
	return t, nil
}

// decTensor translates cp.async.bulk.tensor and cp.reduce.async.bulk.tensor; op is the operation of a reduction.
func (d *decoder) decTensor(s *stmt, m *modset, in *inst, op string) (err error) {
	im2col := m.one("im2col", "im2col_no_offs")
	dims := m.one("1d", "2d", "3d", "4d", "5d")
	if dims == "" {
		return fmt.Errorf("needs the number of dimensions")
	}
	rank := int(dims[0] - '0')
	m.take("tile")
	if im2col != "" && rank < 3 {
		return fmt.Errorf("im2col mode needs three to five dimensions")
	}
	x := in.x
	args := s.args
	if cacheHints(m) && len(args) > 0 {
		args = args[:len(args)-1]
	}
	x.bulk, x.elem, x.vec = true, 1, 1
	d.memIndex(in)
	first := m.one("shared::cluster", "global")
	switch {
	case op == "" && first == "shared::cluster" && m.take("global") && m.take("mbarrier::complete_tx::bytes"):
		want := 3
		if m.take("multicast::cluster") {
			x.multicast, want = true, 4
			d.prog.distributed = true
		}
		var shifts []operand
		if im2col == "im2col" && len(args) == want+1 {
			shifts = args[3].list
			args = slices.Delete(slices.Clone(args), 3, 4)
		} else if im2col != "" {
			return fmt.Errorf("wrong operands")
		}
		if len(args) != want || args[0].kind != opdAddress || args[2].kind != opdAddress {
			return fmt.Errorf("wrong operands")
		}
		in.exec, x.space = execTensorLoad, spShared
		if x.tensor, err = d.tensorOperand(args[1], rank); err != nil {
			return err
		}
		if err := d.shifts(x.tensor, im2col, shifts); err != nil {
			return err
		}
		if err := d.address(args[0], in); err != nil {
			return err
		}
		return d.completion(args[2:], x)
	case first == "global" && m.take("shared::cta") && m.take("bulk_group"):
		if len(args) != 2 || args[1].kind != opdAddress {
			return fmt.Errorf("wrong operands")
		}
		in.exec, x.space, x.mode = execTensorStore, spGlobal, op
		d.prog.writesAnything = true
		if x.tensor, err = d.tensorOperand(args[0], rank); err != nil {
			return err
		}
		if x.tensor.im2col = im2col != ""; im2col == "im2col" {
			return fmt.Errorf("stores in im2col mode have no offsets (.im2col_no_offs)")
		}
		in.b, x.wide, err = d.base(args[1])
		x.m = int(args[1].off)
		return err
	}
	return fmt.Errorf("unsupported form of tensor copy")
}

// tensorMap reads the map of a lane's copy, and its coordinates. It reports and returns false if there is none.
func (w *warp) tensorMap(in *inst, l int) (t TensorMap, at [5]int64, ok bool) {
	x := in.x.tensor
	addr := w.r64[x.base][l] + uint64(x.off)
	if addr%64 != 0 {
		w.fatal(in, l, Misaligned, "tensor map at 0x%x, not at a multiple of 64", addr)
		return t, at, false
	}
	t, ok = decodeTensorMap(w.generic(l, addr, TensorMapSize))
	switch {
	case !ok:
		w.fatal(in, l, TensorMapMisuse, "there is no tensor map at 0x%x, as cuTensorMapEncodeTiled makes them, or it was changed", addr)
	case t.Rank != x.rank:
		w.fatal(in, l, TensorMapMisuse, "the copy has %d dimensions, the tensor map %d", x.rank, t.Rank)
		ok = false
	}
	if ok && t.Im2col != x.im2col {
		w.fatal(in, l, TensorMapMisuse, "the copy is in im2col mode: %v, the tensor map: %v", x.im2col, t.Im2col)
		ok = false
	}
	for i, c := range x.coords {
		at[i] = int64(int32(w.r32[c][l]))
	}
	return t, at, ok
}

// tensorGlobal checks a run of global memory of a tensor copy and returns its allocation, nil after a finding.
func (w *warp) tensorGlobal(in *inst, l int, r row, kind accessKind) *allocation {
	a := w.blk.launch.mem.find(r.from, uint64(r.inside))
	switch {
	case a == nil:
		w.fatal(in, l, OutOfBounds, "the tensor map leads to 0x%x: %s", r.from, w.blk.launch.mem.explain(r.from, uint64(r.inside)))
		return nil
	case kind.writes() && a.readOnly:
		w.fatal(in, l, ReadOnly, "copy to constant %v", a)
		return nil
	}
	w.addr[l] = r.from
	ctr := &w.blk.ctr.AsyncCopy
	if kind != accCopy {
		ctr = &w.blk.ctr.GlobalStore
	}
	w.checkGlobalBulk(in, a, l, r.inside, kind, ctr)
	return a
}

// sharedBox checks the place of a box in shared memory.
func (w *warp) sharedBox(in *inst, l int, addr uint64) bool {
	if addr%128 != 0 {
		w.fatal(in, l, Misaligned, "shared address 0x%x: boxes of tensors lie at multiples of 128", addr)
		return false
	}
	return true
}

func execTensorLoad(w *warp, in *inst) {
	x := in.x.tensor
	for rest := w.mask; rest != 0; rest &= rest - 1 {
		l := lowest(rest)
		t, coords, ok := w.tensorMap(in, l)
		if !ok {
			return
		}
		span, _ := t.image()
		to, ok := w.arrivals(in, l, span)
		if !ok || !w.sharedBox(in, l, uint64(to[0].dst)) {
			return
		}
		data := make([]byte, span)
		base := to[0].dst
		var runs, sources []extent
		var from *allocation
		fill := byte(0)
		if t.NaN {
			fill = 0xff
		}
		inner := t.count(0) * t.Type.Size()
		t.rows(coords, w.shiftsOf(x, l), func(r row) bool {
			n := inner
			if r.scattered {
				n = r.outside + r.inside
			}
			line := slices.Repeat([]byte{fill}, n)
			if r.inside > 0 {
				if from = w.tensorGlobal(in, l, r, accCopy); from == nil {
					return false
				}
				copy(line[r.outside:], from.data[r.from-from.base:][:r.inside])
				sources = append(sources, extent{r.from, r.from + uint64(r.inside)})
			}
			for k, v := range line {
				data[t.mixed(base, r.at+k)-base] = v
			}
			if t.Swizzle == 0 {
				if last := len(runs) - 1; last >= 0 && runs[last].hi == uint64(r.at) {
					runs[last].hi += uint64(n)
				} else {
					runs = append(runs, extent{uint64(r.at), uint64(r.at + n)})
				}
				return true
			}
			for k := 0; k < n; k += 16 {
				at := uint64(t.mixed(base, r.at+k) - base)
				runs = append(runs, extent{at, at + uint64(min(16, n-k))})
			}
			return true
		})
		if w.blk.failed {
			return
		}
		var landed func()
		if from != nil {
			landed = w.globalInFlight(l, from, sources)
		}
		if !w.issue(in, l, to, data, runs, landed) {
			return
		}
	}
}

func execTensorStore(w *warp, in *inst) {
	x, b := in.x, w.blk
	for rest := w.mask; rest != 0; rest &= rest - 1 {
		l := lowest(rest)
		t, coords, ok := w.tensorMap(in, l)
		if !ok {
			return
		}
		span, _ := t.image()
		src, ok := w.bulkShared(in, l, w.laneAddress(in.b, x.wide, int64(x.m), l), span, nil)
		if !ok || !w.sharedBox(in, l, uint64(src)) {
			return
		}
		c := &bulkCopy{w: w, lane: l, in: in, pc: w.pc, group: b.bulk.committed[w.id*lanes+l]}
		kind := accWrite
		if x.mode != "" {
			if err := c.reduceBy(x.mode, t.Type); err != nil {
				w.fatal(in, l, TensorMapMisuse, "%v", err)
				return
			}
			kind = accStrong
		}
		size := t.Type.Size()
		t.rows(coords, [3]int64{}, func(r row) bool {
			if r.inside == 0 {
				return true
			}
			to := w.tensorGlobal(in, l, r, kind)
			if to == nil {
				return false
			}
			// Pieces stay together within 16 bytes of shared memory.
			for k := 0; k < r.inside; {
				at := r.at + r.outside + k
				n := min(16-at%16, r.inside-k)
				if t.Swizzle == 0 {
					n = r.inside - k
				}
				c.parts = append(c.parts, bulkPart{t.mixed(src, at), to, r.from - to.base + uint64(k), n})
				k += n
			}
			return true
		})
		if w.blk.failed {
			return
		}
		c.elem = size
		w.begin(c)
	}
}
