package ptxsim

import (
	"fmt"
	"math"
)

// atomFunc returns new memory content from the old one and the operands.
type atomFunc = func(old, b, c uint64) uint64

// atomOp returns the operation of atom and red by name and type.
func atomOp(op string, t dtype) (atomFunc, error) {
	size := t.size()
	cut := func(f atomFunc) atomFunc {
		if size == 8 {
			return f
		}
		mask := uint64(1)<<(8*size) - 1
		return func(old, b, c uint64) uint64 { return f(old, b, c) & mask }
	}
	sx := func(v uint64) int64 { return int64(v<<(64-8*size)) >> (64 - 8*size) }
	switch op {
	case "exch":
		if t == tB32 || t == tB64 {
			return func(_, b, _ uint64) uint64 { return b }, nil
		}
	case "cas":
		if t == tB16 || t == tB32 || t == tB64 {
			return func(old, b, c uint64) uint64 {
				if old == b {
					return c
				}
				return old
			}, nil
		}
	case "and", "or", "xor":
		if t != tB32 && t != tB64 {
			break
		}
		return map[string]atomFunc{
			"and": func(old, b, _ uint64) uint64 { return old & b },
			"or":  func(old, b, _ uint64) uint64 { return old | b },
			"xor": func(old, b, _ uint64) uint64 { return old ^ b },
		}[op], nil
	case "inc", "dec":
		if t != tU32 {
			break
		}
		if op == "inc" {
			return func(old, b, _ uint64) uint64 {
				if old >= b {
					return 0
				}
				return old + 1
			}, nil
		}
		return func(old, b, _ uint64) uint64 {
			if old == 0 || old > b {
				return b
			}
			return old - 1
		}, nil
	case "min", "max":
		isMax := op == "max"
		switch {
		case t == tU32 || t == tU64:
			return func(old, b, _ uint64) uint64 {
				if (b > old) == isMax {
					return b
				}
				return old
			}, nil
		case t == tS32 || t == tS64:
			return cut(func(old, b, _ uint64) uint64 {
				if (sx(b) > sx(old)) == isMax {
					return b
				}
				return old
			}), nil
		case t == tF16x2 || t == tBF16x2 || t == tF16 || t == tBF16:
			return halfAtom(t, func(h half) func(a, b, c uint32) uint32 { return halfMinMax(h, isMax, false) }), nil
		}
	case "add":
		switch t {
		case tU32, tS32, tU64, tS64:
			return cut(func(old, b, _ uint64) uint64 { return old + b }), nil
		case tF32:
			return func(old, b, _ uint64) uint64 {
				return uint64(canon(math.Float32frombits(uint32(old)) + math.Float32frombits(uint32(b))))
			}, nil
		case tF64:
			return func(old, b, _ uint64) uint64 {
				return canon64(math.Float64frombits(old) + math.Float64frombits(b))
			}, nil
		case tF16, tF16x2, tBF16, tBF16x2:
			return halfAtom(t, func(h half) func(a, b, c uint32) uint32 { return halfOp(h, "add") }), nil
		}
	}
	return nil, fmt.Errorf("atomic %s on %v is not supported", op, t)
}

func halfAtom(t dtype, op func(half) func(a, b, c uint32) uint32) atomFunc {
	h := halfF16
	if t == tBF16 || t == tBF16x2 {
		h = halfBF16
	}
	f := op(h)
	if t.size() == 2 {
		return func(old, b, _ uint64) uint64 { return uint64(f(uint32(old), uint32(b), 0)) }
	}
	return func(old, b, _ uint64) uint64 {
		x, y := uint32(old), uint32(b)
		return uint64(f(x&0xffff, y&0xffff, 0) | f(x>>16, y>>16, 0)<<16)
	}
}

// execAtom executes atom and red, lane after lane.
func execAtom(w *warp, in *inst) {
	w.addresses(in)
	x := in.x
	mask := w.mask
	var shared uint32
	switch x.space {
	case spShared:
		shared, mask = mask, 0
	case spGeneric:
		var local uint32
		mask, shared, local = w.byWindow(mask)
		for m := local; m != 0; m &= m - 1 {
			w.report(in, lowest(m), OutOfBounds, spLocal, w.addr[lowest(m)], "atomics on local memory are not defined")
		}
	}
	size := uint64(x.elem)
	for mask != 0 {
		a, ok, done := w.locate(in, mask, size, true)
		if ok != 0 {
			w.checkGlobal(in, a, ok, size, accStrong, &w.blk.ctr.Atomic)
			w.offsets(a.base)
			wrote := w.atomLanes(in, a.data, ok)
			w.pollAtomic(in, ok)
			does := releases
			if in.d >= 0 { // what nobody looks at is not observed
				does |= observes
			}
			w.orders(in, wrote, does)
			w.orders(in, ok&^wrote, does&observes)
		}
		mask &^= done
	}
	if shared == 0 {
		return
	}
	if w.prog.distributed {
		w.eachBlock(in, shared, func(b *block, mask uint32) { w.atomShared(b, in, mask) })
		return
	}
	w.atomShared(w.blk, in, shared)
}

// atomShared executes an atomic on the shared memory of a block.
func (w *warp) atomShared(b *block, in *inst, mask uint32) {
	if mask = w.sharedBounds(in, mask, uint64(in.x.elem)); mask == 0 {
		return
	}
	if b.launch.check {
		w.sharedTouch(b, in, mask, in.x.elem, true, true)
	}
	w.blk.ctr.SharedAtom++
	w.offs = w.addr
	w.atomLanes(in, b.shared, mask)
	w.pollAtomic(in, mask)
}

// pollAtomic notes what an atomic gave its first lane.
func (w *warp) pollAtomic(in *inst, mask uint32) {
	switch l := lowest(mask); {
	case in.d < 0:
	case in.x.wide:
		w.poll(in, l, w.r64[in.d][l])
	default:
		w.poll(in, l, uint64(w.r32[in.d][l]))
	}
}

// atomLanes executes an atomic, lane after lane, and returns the lanes that wrote: all but those whose cas failed.
func (w *warp) atomLanes(in *inst, data []byte, mask uint32) (wrote uint32) {
	wrote = mask
	x := in.x
	for m := mask; m != 0; m &= m - 1 {
		l := lowest(m)
		for e := range x.vec {
			p := data[w.offs[l]+uint64(e*x.elem/x.vec):]
			n := x.elem / x.vec
			old := loadSmall(p, n)
			var b, c uint64
			if x.wide {
				b, c = w.r64[x.data[e]][l], w.r64[in.c][l]
			} else {
				b, c = uint64(w.r32[x.data[e]][l]), uint64(w.r32[in.c][l])
			}
			if x.cas && old != b {
				wrote &^= 1 << l
			}
			storeSmall(p, n, x.atom(old, b, c))
			if in.d < 0 {
				continue
			}
			if x.wide {
				w.r64[in.d][l] = old
			} else {
				w.r32[in.d][l] = uint32(old)
			}
		}
	}
	return wrote
}
