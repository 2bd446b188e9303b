package ptxsim

import "math"

// eachTexture calls f for the lanes of each texture object, and reports those that have none of the right kind.
func (w *warp) eachTexture(in *inst, f func(t *texture, mask uint32)) {
	o := in.x.texture
	handles := &w.r64[o.handle]
	for m := w.mask; m != 0; {
		first := lowest(m)
		group := uint32(0)
		for k := m; k != 0; k &= k - 1 {
			if l := lowest(k); handles[l] == handles[first] {
				group |= 1 << l
			}
		}
		m &^= group
		t := w.blk.launch.mem.textureOf(handles[first])
		switch {
		case t == nil:
			w.report(in, first, TextureMisuse, spGeneric, 0, "0x%x is no texture or surface object", handles[first])
		case t.mem.freed:
			w.report(in, first, OutOfBounds, spGlobal, t.base, "the texture's memory is a %v", t.mem)
		case o.dims != 0 && (o.dims != t.Dims || o.array != (t.Layers > 0)):
			w.report(in, first, TextureMisuse, spGeneric, 0, "%d dimensions (array: %v), but the texture has %d and %d layers", o.dims, o.array, t.Dims, t.Layers)
		case len(o.rows) > 0 && o.float != (!t.integer() || t.AsFloat):
			w.report(in, first, TextureMisuse, spGeneric, 0, "the result is a float: %v, the texture's texels are read as floats: %v", o.float, !o.float)
		case o.integer && t.Normalized:
			w.report(in, first, TextureMisuse, spGeneric, 0, "coordinates are integers, the texture's are from 0 to 1")
		default:
			f(t, group)
		}
	}
}

// corner is a texel of every lane, with its weight.
type corner struct {
	at     [lanes]int64 // number of the texel, -1 for zeros
	weight [lanes]float64
}

// corners finds the texels of the lanes' fetches: one, or all that are interpolated, the second along the first dimension
// being number 1, along the second number 2.
func (w *warp) corners(in *inst, t *texture, mask uint32) []corner {
	o := in.x.texture
	linear := t.Linear && !o.integer || o.gather >= 0
	out := make([]corner, 1)
	if linear {
		out = make([]corner, 1<<t.Dims)
	}
	for m := mask; m != 0; m &= m - 1 {
		l := lowest(m)
		var spans [3]span
		for i, row := range o.coords {
			if v := w.r32[row][l]; o.integer {
				at := int64(int32(v))
				if at >= int64(t.Size[i]) || at < 0 {
					at = -1
				}
				spans[i] = span{at: [2]int64{at, -1}}
			} else {
				spans[i] = t.along(i, math.Float32frombits(v), linear)
			}
		}
		for k := range out {
			at, weight := int64(0), 1.0
			if o.array {
				at = t.layer(int64(int32(w.r32[o.layer][l])))
			}
			for i := t.Dims - 1; i >= 0; i-- {
				s, second := &spans[i], k>>i&1
				share := s.weight
				if second == 0 {
					share = 1 - share
				}
				weight *= share
				if at >= 0 && s.at[second] >= 0 {
					at = at*int64(t.Size[i]) + s.at[second]
				} else {
					at = -1
				}
			}
			out[k].at[l], out[k].weight[l] = at, weight
		}
	}
	return out
}

// texels reads the channels of a texel of every lane, zeros outside.
func (w *warp) texels(in *inst, t *texture, c *corner, mask uint32) (out [lanes][4]uint32) {
	ok, size := uint32(0), uint64(t.texel())
	for m := mask; m != 0; m &= m - 1 {
		if l := lowest(m); c.at[l] >= 0 {
			w.addr[l] = t.base + uint64(c.at[l])*size
			ok |= 1 << l
		}
	}
	if ok == 0 {
		return out
	}
	w.checkGlobal(in, t.mem, ok, size, accRead, &w.blk.ctr.GlobalLoad)
	for m := ok; m != 0; m &= m - 1 {
		l := lowest(m)
		out[l] = t.channels(t.mem.data[w.addr[l]-t.mem.base:])
	}
	return out
}

// gathered are the texels that tld4 gives, counter-clockwise from the lower left.
var gathered = [4]int{2, 3, 1, 0}

func execTex(w *warp, in *inst) {
	o := in.x.texture
	w.eachTexture(in, func(t *texture, mask uint32) {
		list := w.corners(in, t, mask)
		if o.gather >= 0 {
			for i, k := range gathered {
				all := w.texels(in, t, &list[k], mask)
				w.setRows(o.rows[i:i+1], mask, func(l, _ int) uint32 { return all[l][o.gather] })
			}
			return
		}
		if len(list) == 1 {
			all := w.texels(in, t, &list[0], mask)
			w.setRows(o.rows, mask, func(l, i int) uint32 { return all[l][i] })
			return
		}
		var sums [lanes][4]float64
		for k := range list {
			all := w.texels(in, t, &list[k], mask)
			for l := range all {
				for i, v := range all[l] {
					if weight := list[k].weight[l]; weight != 0 {
						sums[l][i] += weight * float64(math.Float32frombits(v))
					}
				}
			}
		}
		w.setRows(o.rows, mask, func(l, i int) uint32 { return canon(float32(sums[l][i])) })
	})
}

// setRows gives lanes of rows new values.
func (w *warp) setRows(rows []int32, mask uint32, value func(lane, i int) uint32) {
	for i, row := range rows {
		for m := mask; m != 0; m &= m - 1 {
			l := lowest(m)
			w.r32[row][l] = value(l, i)
		}
	}
}

// surfacePlaces fills w.addr for an access to a surface, whose first coordinate is in bytes, and returns the lanes that access
// memory. Others are outside, where .clamp takes the nearest place, .zero none, and .trap is a finding.
func (w *warp) surfacePlaces(in *inst, t *texture, mask uint32) (ok uint32) {
	o, n := in.x.texture, int64(in.x.elem*in.x.vec)
	row := int64(t.Size[0]) * int64(t.texel())
	for m := mask; m != 0; m &= m - 1 {
		l := lowest(m)
		at, outside := int64(0), false
		if o.array {
			at = int64(int32(w.r32[o.layer][l]))
			outside = at < 0 || at >= int64(t.Layers)
			at = t.layer(at)
		}
		for i := t.Dims - 1; i >= 0; i-- {
			v, end := int64(int32(w.r32[o.coords[i]][l])), int64(t.Size[i])
			width := end
			if i == 0 {
				end, width = row-n+1, row
			}
			if v < 0 || v >= end {
				outside = true
				v = min(max(v, 0), max(end-1, 0))
			}
			at = at*width + v
		}
		switch {
		case at%n != 0:
			w.report(in, l, Misaligned, spGlobal, t.base+uint64(at), "an access of %d bytes at byte %d of the surface is not aligned", n, at)
			continue
		case n > row, outside && o.outside == "trap":
			w.report(in, l, OutOfBounds, spGlobal, t.base, "outside of the surface of %v texels of %d bytes, %d layers", t.Size[:t.Dims], t.texel(), t.Layers)
			continue
		case outside && o.outside == "zero":
			continue
		}
		w.addr[l] = t.base + uint64(at)
		ok |= 1 << l
	}
	return ok
}

func execSurfaceLoad(w *warp, in *inst) {
	w.eachTexture(in, func(t *texture, mask uint32) {
		ok := w.surfacePlaces(in, t, mask)
		for _, row := range in.x.data {
			for m := mask &^ ok; m != 0; m &= m - 1 {
				if l := lowest(m); in.x.wide {
					w.r64[row][l] = 0
				} else {
					w.r32[row][l] = 0
				}
			}
		}
		if ok != 0 {
			w.checkGlobal(in, t.mem, ok, uint64(in.x.elem*in.x.vec), accRead, &w.blk.ctr.GlobalLoad)
			w.offsets(t.mem.base)
			w.gather(in.x, t.mem.data, ok)
		}
	})
}

func execSurfaceStore(w *warp, in *inst) {
	w.eachTexture(in, func(t *texture, mask uint32) {
		if ok := w.surfacePlaces(in, t, mask); ok != 0 {
			w.checkGlobalStore(in, t.mem, ok, uint64(in.x.elem*in.x.vec), accWrite)
			w.offsets(t.mem.base)
			w.scatter(in.x, t.mem.data, ok)
		}
	})
}

func execTextureQuery(w *warp, in *inst) {
	o := in.x.texture
	w.eachTexture(in, func(t *texture, mask uint32) {
		n := t.Layers
		if o.size < t.Dims {
			n = t.Size[o.size]
		} else if o.size < 3 {
			n = 0
		}
		w.setRows([]int32{in.d}, mask, func(int, int) uint32 { return uint32(n) })
	})
}
