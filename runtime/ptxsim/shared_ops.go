package ptxsim

import (
	"bytes"
	"fmt"
	"math/bits"
)

func onesCount(m uint32) int { return bits.OnesCount32(m) }

func indexZero(p []byte) int { return bytes.IndexByte(p, 0) }

// sharedBounds returns the lanes of mask whose access of n bytes is aligned and inside a shared variable or the
// dynamic memory, and reports the others.
func (w *warp) sharedBounds(in *inst, mask uint32, n uint64) (ok uint32) {
	b := w.blk
	dyn, end := uint64(w.prog.dynShared), uint64(len(b.shared))
	within := in.x.within
	for m := mask; m != 0; m &= m - 1 {
		l := lowest(m)
		v := w.addr[l]
		if v&(n-1) != 0 {
			w.report(in, l, Misaligned, spShared, v, "%d-byte access is not aligned", n)
			continue
		}
		if within != nil {
			if !inside(within, v, n) {
				w.report(in, l, OutOfBounds, spShared, v, "%d bytes at 0x%x: outside the variable that the address is derived from: %s",
					n, v, w.prog.explainShared(v, len(b.shared)))
				continue
			}
			ok |= 1 << l
			continue
		}
		if v >= dyn && v+n <= end && v < end {
			ok |= 1 << l
			continue
		}
		if w.prog.inStatic(v, n) {
			ok |= 1 << l
			continue
		}
		w.report(in, l, OutOfBounds, spShared, v, "%d bytes at 0x%x: %s", n, v, w.prog.explainShared(v, len(b.shared)))
	}
	return ok
}

// inside reports whether [v,v+n) is inside one of the ranges.
func inside(list []extent, v, n uint64) bool {
	for _, e := range list {
		if v >= e.lo && v+n <= e.hi {
			return true
		}
	}
	return false
}

// inStatic reports whether [v,v+n) is inside one static shared variable.
func (p *program) inStatic(v, n uint64) bool {
	for _, s := range p.sharedVars {
		if v >= uint64(s.off) && v+n <= uint64(s.off+s.size()) {
			return true
		}
	}
	return false
}

// explainShared names the variable that lies before an address.
func (p *program) explainShared(v uint64, end int) string {
	if v >= uint64(p.dynShared) {
		return fmt.Sprintf("%d bytes past the start of %d bytes of dynamic shared memory", v-uint64(p.dynShared), end-p.dynShared)
	}
	name, dist := "", uint64(0)
	for _, s := range p.sharedVars {
		if uint64(s.off) <= v {
			name, dist = s.name, v-uint64(s.off)
		}
	}
	if name == "" {
		return "outside all variables"
	}
	return fmt.Sprintf("offset %d of variable %s", dist, name)
}

// sharedTouch records the lanes' accesses in the shadow.
func (w *warp) sharedTouch(b *block, in *inst, mask uint32, n int, write, atomic bool) {
	s := &b.shadow
	acc := access{w: w, in: in, write: write, atomic: atomic}
	if !write {
		first := lowest(mask)
		a0 := w.addr[first]
		same := true
		for m := mask & (mask - 1); m != 0; m &= m - 1 {
			if w.addr[lowest(m)] != a0 {
				same = false
				break
			}
		}
		if same && mask&(mask-1) != 0 {
			acc.lane, acc.thread = w.blk.laneCode(mask), first
			s.touch(&acc, uint32(a0), n)
			return
		}
	}
	for m := mask; m != 0; m &= m - 1 {
		l := lowest(m)
		acc.lane, acc.thread = l, l
		if at := uint32(w.addr[l]); atomic || !s.easy(w, at, n, l, write) {
			s.touch(&acc, at, n)
		}
	}
}

// storesEqual reports whether two lanes of a store write the same n bytes at addr.
func (w *warp) storesEqual(in *inst, la, lb int, addr uint32, n int) bool {
	x := in.x
	if x.data == nil {
		return false
	}
	value := func(lane int, at uint32) byte {
		off := int(at) - int(w.addr[lane])
		row := x.data[off/x.elem]
		if x.wide {
			return byte(w.r64[row][lane] >> (8 * (off % x.elem)))
		}
		return byte(w.r32[row][lane] >> (8 * (off % x.elem)))
	}
	size := uint32(x.elem * x.vec)
	for i := range uint32(n) {
		at := addr + i
		if d := at - uint32(w.addr[la]); d >= size {
			return false
		}
		if value(la, at) != value(lb, at) {
			return false
		}
	}
	return true
}

func execLdShared(w *warp, in *inst) {
	w.addresses(in)
	w.ldShared(in, w.mask)
}

func (w *warp) ldShared(in *inst, mask uint32) {
	if w.prog.distributed {
		w.eachBlock(in, mask, func(b *block, mask uint32) { w.ldSharedOf(b, in, mask) })
		return
	}
	w.ldSharedOf(w.blk, in, mask)
}

// ldSharedOf loads from the shared memory of a block.
func (w *warp) ldSharedOf(b *block, in *inst, mask uint32) {
	mask = w.accessShared(b, in, mask, false, &w.blk.ctr.SharedLoad)
	if mask == 0 {
		return
	}
	w.gather(in.x, b.shared, mask)
	if in.x.strong {
		w.poll(in, lowest(mask), w.loaded(in.x, lowest(mask)))
	}
}

// accessShared checks and counts an access to the shared memory of a block and gives the lanes whose places lie in it.
func (w *warp) accessShared(b *block, in *inst, mask uint32, write bool, count *bankCounters) uint32 {
	n := in.x.elem * in.x.vec
	mask = w.sharedBounds(in, mask, uint64(n))
	if mask == 0 {
		return 0
	}
	if b.launch.check {
		w.sharedTouch(b, in, mask, n, write, false)
	}
	count.add(w.wavefronts(mask, n))
	w.offs = w.addr
	return mask
}

func execStShared(w *warp, in *inst) {
	w.addresses(in)
	w.stShared(in, w.mask)
}

func (w *warp) stShared(in *inst, mask uint32) {
	if w.prog.distributed {
		w.eachBlock(in, mask, func(b *block, mask uint32) { w.stSharedOf(b, in, mask) })
		return
	}
	w.stSharedOf(w.blk, in, mask)
}

// stSharedOf stores to the shared memory of a block.
func (w *warp) stSharedOf(b *block, in *inst, mask uint32) {
	if mask = w.accessShared(b, in, mask, true, &w.blk.ctr.SharedStore); mask != 0 {
		w.scatter(in.x, b.shared, mask)
	}
}

// wavefronts counts the passes shared memory needs for a request of n bytes a lane, and the passes it would need
// without bank conflicts. There are 32 banks of 4 bytes; lanes that ask for the same word share it. Requests of 8
// bytes are served by half-warps, of 16 bytes by quarter-warps.
func (w *warp) wavefronts(mask uint32, n int) (got, ideal uint64) {
	group := lanes
	switch n {
	case 8:
		group = 16
	case 16:
		group = 8
	}
	if mask == full && w.addr[0]%128 == 0 && w.contiguous(uint64(n)) {
		p := uint64(lanes / group)
		return p, p
	}
	for first := 0; first < lanes; first += group {
		m := mask >> first & (1<<group - 1)
		if m != 0 {
			got += uint64(bankPasses(&w.addr, m<<first, n))
			ideal++
		}
	}
	return got, ideal
}

// distinctBanks reports whether the lanes of mask, aligned, ask for different banks.
func distinctBanks(addr *row64, mask uint32, n int) bool {
	seen, shift := uint32(0), uint(bits.TrailingZeros(uint(max(n, 4))))&7
	all := uint64(128)>>shift - 1
	for m := mask; m != 0; m &= m - 1 {
		bit := uint32(1) << (addr[lowest(m)] >> shift & all)
		if seen&bit != 0 {
			return false
		}
		seen |= bit
	}
	return true
}

// bankPasses returns the largest number of distinct words that the lanes of mask ask of one bank.
func bankPasses(addr *row64, mask uint32, n int) int {
	if distinctBanks(addr, mask, n) {
		return 1
	}
	words := (n + 3) / 4
	var first [lanes]uint32 // word+1 seen first in the bank
	var count [lanes]uint8
	var more [4 * lanes]uint32 // further words
	nm, passes := 0, 1
	for m := mask; m != 0; m &= m - 1 {
		w0 := uint32(addr[lowest(m)] >> 2)
	next:
		for k := range words {
			word := w0 + uint32(k) + 1
			bank := (word - 1) & 31
			switch first[bank] {
			case 0:
				first[bank], count[bank] = word, 1
				continue
			case word:
				continue
			}
			for _, v := range more[:nm] {
				if v == word {
					continue next
				}
			}
			if nm < len(more) {
				more[nm] = word
				nm++
			}
			count[bank]++
			passes = max(passes, int(count[bank]))
		}
	}
	return passes
}
