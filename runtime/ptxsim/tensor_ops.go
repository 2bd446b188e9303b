package ptxsim

import (
	"encoding/binary"
	"math"
)

// tile8 is an 8×8 matrix of floats by rows. A register that holds two halves per lane is one such tile of a tensor
// core's operand: lane 4r+c has the elements 2c and 2c+1 of row r.
type tile8 = [64]float32

// wholeWarp reports lanes that miss an instruction which all 32 must execute.
func (w *warp) wholeWarp(in *inst) bool {
	if w.mask == full {
		return true
	}
	w.fatal(in, lowest(w.mask), WarpDivergence, "only lanes 0x%08x execute an instruction that needs the whole warp", w.mask)
	return false
}

// expandF16 and expandBF16 convert a register of pairs to a tile.
func expandF16Go(t *tile8, r *row32) {
	for i, v := range r {
		t[2*i], t[2*i+1] = f16to32(v&0xffff), f16to32(v>>16)
	}
}

func expandBF16(t *tile8, r *row32) {
	for i, v := range r {
		t[2*i], t[2*i+1] = math.Float32frombits(v<<16), math.Float32frombits(v&0xffff0000)
	}
}

// mmaTilesGo adds a·bᵀ to acc, for two tiles of rows and a tile b by columns, as registers hold it, in ascending k
// with a rounding after each step. Products of halves and of tf32 values are exact in a float, so that it makes no
// difference whether they are fused with the sum; those of bfloat16 can leave the range of a float and are fused.
func mmaTilesGo(acc, a *[2]tile8, b *tile8, exact bool) {
	for h := range acc {
		for i := 0; i < 64; i += 8 {
			row := a[h][i : i+8 : i+8]
			for n := range 8 {
				col := b[8*n : 8*n+8 : 8*n+8]
				s := acc[h][i+n]
				for k, v := range row {
					if exact {
						s += float32(v * col[k])
					} else {
						s = fma32(v, col[k], s)
					}
				}
				acc[h][i+n] = s
			}
		}
	}
}

// execMMA computes d = a·b + c for a 16×8 tile: x.n tiles along k; rows in x.rows: a, b, c registers, then d.
func execMMA(w *warp, in *inst) {
	if !w.wholeWarp(in) {
		return
	}
	x := in.x
	kt := x.n // 8-wide steps along k
	na, nb := 2*kt, kt
	nc := 4
	if x.m == 16 {
		nc = 2
	}
	ra, rb, rc, rd := x.rows[:na], x.rows[na:na+nb], x.rows[na+nb:na+nb+nc], x.rows[na+nb+nc:]
	var acc [2]tile8
	w.loadAcc(&acc, rc)
	var a [2]tile8
	var b tile8
	for k := range kt {
		if x.typ == tBF16 {
			expandBF16(&b, &w.r32[rb[k]])
			expandBF16(&a[0], &w.r32[ra[2*k]])
			expandBF16(&a[1], &w.r32[ra[2*k+1]])
		} else {
			expandF16(&b, &w.r32[rb[k]])
			expandF16(&a[0], &w.r32[ra[2*k]])
			expandF16(&a[1], &w.r32[ra[2*k+1]])
		}
		mmaTiles(&acc, &a, &b, x.typ == tF16)
	}
	w.storeAcc(&acc, rd)
	w.blk.ctr.TensorMACs += uint64(16 * 8 * 8 * kt)
}

// execMMATF32 is execMMA for tf32 operands: four k values a register.
func execMMATF32(w *warp, in *inst) {
	if !w.wholeWarp(in) {
		return
	}
	x := in.x
	steps := x.n // registers of b: four k values each
	ra, rb, rc, rd := x.rows[:2*steps], x.rows[2*steps:3*steps], x.rows[3*steps:3*steps+4], x.rows[3*steps+4:]
	var acc [2]tile8
	w.loadAcc(&acc, rc)
	var a [2]tile8
	var b tile8
	cut := func(v uint32) float32 { return math.Float32frombits(v &^ 0x1fff) }
	for s := range steps {
		for l := range lanes {
			i := l/4*8 + l%4 + 4*s
			a[0][i], a[1][i] = cut(w.r32[ra[2*s]][l]), cut(w.r32[ra[2*s+1]][l])
			b[i] = cut(w.r32[rb[s]][l])
		}
	}
	mmaTiles(&acc, &a, &b, true)
	w.storeAcc(&acc, rd)
	w.blk.ctr.TensorMACs += uint64(16 * 8 * 4 * steps)
}

// loadAcc and storeAcc move a 16×8 accumulator between registers (four of floats or two of pairs of halves) and
// two tiles.
func (w *warp) loadAcc(acc *[2]tile8, rows []int32) {
	for h := range 2 {
		if len(rows) == 2 {
			expandF16(&acc[h], &w.r32[rows[h]])
			continue
		}
		interleave(&acc[h], &w.r32[rows[2*h]], &w.r32[rows[2*h+1]])
	}
}

func (w *warp) storeAcc(acc *[2]tile8, rows []int32) {
	for h := range 2 {
		if len(rows) == 2 {
			d := &w.r32[rows[h]]
			for i := range d {
				d[i] = f32toF16(acc[h][2*i]) | f32toF16(acc[h][2*i+1])<<16
			}
			continue
		}
		deinterleave(&w.r32[rows[2*h]], &w.r32[rows[2*h+1]], &acc[h])
	}
}

func interleaveGo(t *tile8, even, odd *row32) {
	for i := range even {
		t[2*i], t[2*i+1] = math.Float32frombits(even[i]), math.Float32frombits(odd[i])
	}
}

func deinterleaveGo(even, odd *row32, t *tile8) {
	for i := range even {
		even[i], odd[i] = canon(t[2*i]), canon(t[2*i+1])
	}
}

// execLdmatrix loads x.n 8×8 matrices of 16-bit elements. Lane 8m+r gives the address of row r of matrix m.
func execLdmatrix(w *warp, in *inst) {
	if !w.wholeWarp(in) || !w.matrixRows(in, false) {
		return
	}
	data := w.blk.shared
	for m := range in.x.n {
		d := &w.r32[in.x.rows[m]]
		rows := w.addr[8*m : 8*m+8]
		if in.x.mode != "trans" {
			for r, at := range rows {
				from, to := data[at:][:16], d[4*r:][:4]
				for i := range to {
					to[i] = binary.LittleEndian.Uint32(from[4*i:])
				}
			}
			continue
		}
		for l := range d {
			lo := data[rows[2*(l%4)]+uint64(l/4*2):]
			hi := data[rows[2*(l%4)+1]+uint64(l/4*2):]
			d[l] = uint32(binary.LittleEndian.Uint16(lo)) | uint32(binary.LittleEndian.Uint16(hi))<<16
		}
	}
}

// execStmatrix is the inverse of execLdmatrix.
func execStmatrix(w *warp, in *inst) {
	if !w.wholeWarp(in) || !w.matrixRows(in, true) {
		return
	}
	data := w.blk.shared
	for m := range in.x.n {
		s := &w.r32[in.x.rows[m]]
		rows := w.addr[8*m : 8*m+8]
		for l, v := range s {
			if in.x.mode == "trans" {
				binary.LittleEndian.PutUint16(data[rows[2*(l%4)]+uint64(l/4*2):], uint16(v))
				binary.LittleEndian.PutUint16(data[rows[2*(l%4)+1]+uint64(l/4*2):], uint16(v>>16))
			} else {
				binary.LittleEndian.PutUint32(data[rows[l/4]+uint64(l%4*4):], v)
			}
		}
	}
}

// matrixRows computes, checks and counts the row addresses of ldmatrix and stmatrix.
func (w *warp) matrixRows(in *inst, write bool) bool {
	w.addresses(in)
	if in.x.space == spGeneric {
		if g, _, l := w.byWindow(w.mask); g|l != 0 {
			w.fatal(in, lowest(g|l), OutOfBounds, "row address 0x%x is not in shared memory", w.addr[lowest(g|l)])
			return false
		}
	}
	used := uint32(1)<<(8*in.x.n) - 1
	if in.x.n == 4 {
		used = full
	}
	if w.sharedBounds(in, used, 16) != used {
		w.blk.failed = true
		w.state = warpDone
		return false
	}
	b := w.blk
	if b.launch.check {
		acc := access{w: w, in: in, write: write, lane: accManyLanes}
		for l := range 8 * in.x.n {
			if at := uint32(w.addr[l]); !b.shadow.easy(w, at, 16, accManyLanes, write) {
				acc.thread = l
				b.shadow.touch(&acc, at, 16)
			}
		}
	}
	got := uint64(0)
	for m := range in.x.n {
		got += uint64(bankPasses(&w.addr, 0xff<<(8*m), 16))
	}
	b.ctr.Matrix.add(got, uint64(in.x.n))
	return true
}

// execMovmatrix transposes an 8×8 matrix of 16-bit elements across the warp.
func execMovmatrix(w *warp, in *inst) {
	if !w.wholeWarp(in) {
		return
	}
	a := w.r32[in.a]
	d := &w.r32[in.d]
	elem := func(row, col int) uint32 { return a[4*row+col/2] >> (16 * (col & 1)) & 0xffff }
	for l := range d {
		d[l] = elem(l%4*2, l/4) | elem(l%4*2+1, l/4)<<16
	}
}
