package ptxsim

import (
	"fmt"
	"math/bits"
)

// The shadow of a block's shared memory finds races, reads of memory nobody wrote, and accesses to the destination
// of an asynchronous copy that was not waited for.
//
// The model. Every warp has a clock that counts the barriers some of its lanes met at: those of the block and
// bar.warp.sync. Nothing else orders memory: shuffles, votes, matches and reductions exchange registers (PTX ISA 8.4,
// 9.7.12.6 bar.warp.sync "guarantees memory ordering", which 9.7.8.6 shfl.sync and 9.7.12.8 vote.sync do not). An access
// carries the warp, lanes and clock of the threads that made it. Two accesses to a byte, one of them a write, are ordered
//
//   - in one thread: always;
//   - in one warp: if barriers in between lead from the one lane to the other, each barrier ordering the lanes it names;
//   - in different warps: if a chain of barriers leads from one to the other, which vector clocks tell: arriving at a
//     barrier publishes what the warp knows, leaving it takes over what all arrivals published (named barriers and
//     bar.arrive included).
//
// Accesses that are not ordered are a race, except that atomics do not race with atomics, and lanes that store equal
// values by one instruction do not race with each other. cp.async counts as a write when it is issued and again when
// the thread waits for it.
//
// State is kept for 16-byte cells, and for their words or bytes once narrower accesses come: tiles moved by 16-byte
// copies and ldmatrix then cost one check per row.

// cell is the state of some bytes.
type cell struct {
	w       uint64 // last writer, 0 if never written
	r       uint64 // last reader since, 0 without; or shared readers
	wpc     int32
	rpc     int32
	split   bool // the parts have states of their own
	pending uint8
}

// An access is packed as clock<<20 | flags | warp<<8 | lane.
const (
	accLaneMask  = 0xff
	accManyLanes = 0x40    // lane field: several lanes of the warp; the rest is an index into the block's lane sets
	accAtomic    = 1 << 17 // in the flags
	accProxy     = 1 << 18 // by a bulk copy
	accShared    = 1 << 19 // r: several warps; the clock field is an index into readers
	accClockAt   = 20
)

func pack(clock uint64, warp, lane int) uint64 {
	return clock<<accClockAt | uint64(warp)<<8 | uint64(lane)
}

func accWarp(a uint64) int     { return int(a >> 8 & (maxWarps - 1)) }
func accLane(a uint64) int     { return int(a & accLaneMask) }
func accClock(a uint64) uint64 { return a >> accClockAt }

// shadow is the state of all of a block's shared memory.
type shadow struct {
	c16, c4, c1 []cell
	readers     []uint64 // accesses by warp, for cells read by several warps, as many at a time as the cluster has warps
	warps       int
	free        []int
}

// reset prepares the shadow for size bytes that nobody wrote.
func (s *shadow) reset(size, warps int) {
	s.warps = warps
	n := (size + 15) / 16
	if len(s.c16) < n {
		s.c16, s.c4, s.c1 = make([]cell, n), make([]cell, 4*n), make([]cell, 16*n)
	}
	clear(s.c16[:n])
	s.readers, s.free = s.readers[:0], s.free[:0]
}

// initialise marks memory as written before the block began; addr and n are multiples of 16.
func (s *shadow) initialise(addr uint32, n int) {
	for i := range n / 16 {
		s.c16[int(addr)/16+i].w = accManyLanes // at clock 0, which is before everything
	}
}

// access is one thread's access to shared memory, with what a report needs.
type access struct {
	w      *warp
	in     *inst
	lane   int // a lane, or what laneCode gives for several
	thread int // lane that gave the address
	write  bool
	atomic bool

	mbarrier bool // by an mbarrier instruction
	proxy    bool // by a bulk copy
}

// touch checks and records an access to n bytes at addr, which are inside the memory.
func (s *shadow) touch(a *access, addr uint32, n int) {
	for n > 0 {
		c := &s.c16[addr>>4]
		if addr&15 == 0 && n >= 16 {
			s.whole16(a, c, addr)
			addr, n = addr+16, n-16
			continue
		}
		if !c.split {
			s.spread(c, s.c4[addr>>4<<2:][:4])
		}
		w := &s.c4[addr>>2]
		if addr&3 == 0 && n >= 4 {
			s.whole4(a, w, addr)
			addr, n = addr+4, n-4
			continue
		}
		if !w.split {
			s.spread(w, s.c1[addr>>2<<2:][:4])
		}
		s.check(a, &s.c1[addr], addr, 1)
		addr, n = addr+1, n-1
	}
}

// easy does what touch does for an access that needs no more than a look at one cell: to 16 bytes that have one state, or to 4
// bytes that do, which all barriers order after what others did there. It returns false, and has done nothing, if there is
// more to it. lane is a lane's number or what laneCode gives for several.
func (s *shadow) easy(w *warp, addr uint32, n, lane int, write bool) bool {
	c := &s.c16[addr>>4]
	if n != 16 {
		if n != 4 || !c.split {
			return false
		}
		c = &s.c4[addr>>2]
	}
	if c.split || c.pending != 0 || c.w == 0 && !write || !w.isAfter(c.w, lane) {
		return false
	}
	me := pack(w.clock, w.slot, lane)
	if write {
		if !s.allBefore(w, c.r, lane) {
			return false
		}
		s.dropReaders(c)
		c.w, c.wpc = me, w.pc
		return true
	}
	switch r := c.r; {
	case r&accShared != 0:
		own := &s.readers[int(accClock(r))*s.warps+w.slot]
		if !w.isAfter(*own, lane) {
			return false
		}
		*own = me
	case w.isAfter(r, lane):
		c.r = me
	case accWarp(r) != w.slot:
		s.share(c, me)
	default:
		return false
	}
	c.rpc = w.pc
	return true
}

// allBefore reports whether what a warp does now is ordered after all readers of a cell.
func (s *shadow) allBefore(w *warp, r uint64, lane int) bool {
	if r&accShared == 0 {
		return w.isAfter(r, lane)
	}
	for _, v := range s.readersOf(r) {
		if !w.isAfter(v, lane) {
			return false
		}
	}
	return true
}

// isAfter reports whether barriers of all lanes of a warp, or being of the same lane, order what w does now after an access; the
// access 0 is before everything.
func (w *warp) isAfter(earlier uint64, lane int) bool {
	if accWarp(earlier) != w.slot {
		return accClock(earlier) <= w.vc[accWarp(earlier)]
	}
	return accClock(earlier) <= w.allMet || accLane(earlier) == lane && lane&accManyLanes == 0
}

func (s *shadow) whole16(a *access, c *cell, addr uint32) {
	if !c.split {
		s.check(a, c, addr, 16)
		return
	}
	for i := range uint32(4) {
		s.whole4(a, &s.c4[addr>>2+i], addr+4*i)
	}
	if a.write {
		s.join(c, s.c4[addr>>2:][:4])
	}
}

func (s *shadow) whole4(a *access, c *cell, addr uint32) {
	if !c.split {
		s.check(a, c, addr, 4)
		return
	}
	for i := range uint32(4) {
		s.check(a, &s.c1[addr+i], addr+i, 1)
	}
	if a.write {
		s.join(c, s.c1[addr:][:4])
	}
}

// spread gives the parts of a cell its state.
func (s *shadow) spread(c *cell, parts []cell) {
	for i := range parts {
		parts[i] = *c
		if c.r&accShared != 0 {
			parts[i].r = s.copyReaders(c.r)
		}
	}
	s.dropReaders(c)
	c.split = true
}

// join makes one cell of parts that were just written by one access.
func (s *shadow) join(c *cell, parts []cell) {
	*c = parts[0]
	c.split = false
}

// readersOf returns the readers of a cell that several warps read.
func (s *shadow) readersOf(r uint64) []uint64 {
	i := int(accClock(r)) * s.warps
	return s.readers[i : i+s.warps : i+s.warps]
}

// newReaders returns an empty list of readers.
func (s *shadow) newReaders() uint64 {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		clear(s.readers[i*s.warps:][:s.warps])
		return uint64(i)<<accClockAt | accShared
	}
	i := len(s.readers) / s.warps
	s.readers = append(s.readers, make([]uint64, s.warps)...)
	return uint64(i)<<accClockAt | accShared
}

func (s *shadow) copyReaders(from uint64) uint64 {
	r := s.newReaders()
	copy(s.readersOf(r), s.readersOf(from))
	return r
}

func (s *shadow) dropReaders(c *cell) {
	if c.r&accShared != 0 {
		s.free = append(s.free, int(accClock(c.r)))
	}
	c.r = 0
}

// ordered reports whether an earlier access happened before what thread lane of w does now.
func ordered(w *warp, earlier uint64, lane int) bool {
	ew := accWarp(earlier)
	if ew != w.slot {
		return accClock(earlier) <= w.vc[ew] ||
			len(w.blk.partials) > 0 && w.partlyOrdered(ew, accClock(earlier), w.blk.laneSet(accLane(earlier)), w.blk.laneSet(lane))
	}
	return accClock(earlier) <= w.allMet || w.orderedWithin(earlier, lane)
}

// orderedWithin is ordered for accesses of one warp since all its lanes met.
func (w *warp) orderedWithin(earlier uint64, lane int) bool {
	if accLane(earlier) == lane && lane&accManyLanes == 0 {
		return true
	}
	c := accClock(earlier)
	set, now := w.blk.laneSet(accLane(earlier)), w.blk.laneSet(lane)
	return c < w.clock && w.met(c, set, w.clock, now) || w.partlyOrdered(w.slot, c, set, now)
}

// met reports whether barriers lead from all lanes of one set at a clock to all lanes of another at a later one.
func (w *warp) met(from uint64, a uint32, to uint64, b uint32) bool {
	for m := a; m != 0; m &= m - 1 {
		reached := uint32(1) << lowest(m)
		for _, at := range w.meetings[from-1 : to-1] {
			if reached&at != 0 {
				reached |= at
			}
			if reached == full {
				break
			}
		}
		if b&^reached != 0 {
			return false
		}
	}
	return true
}

// meet advances the clock: the lanes of mask were at a barrier together, or all that have not exited.
func (w *warp) meet(mask uint32) {
	if w.live&^mask == 0 {
		mask, w.allMet = full, w.clock
	}
	w.meetings = append(w.meetings, mask)
	w.clock++
}

// laneSet returns the lanes of an access.
func (c *cluster) laneSet(code int) uint32 {
	switch {
	case code&accManyLanes == 0:
		return 1 << code
	case code == accManyLanes:
		return full
	}
	return c.laneSets[code&^accManyLanes]
}

// laneCode returns the code of a set of lanes. Blocks with very many different sets take the whole warp for some.
func (c *cluster) laneCode(set uint32) int {
	if set&(set-1) == 0 {
		return lowest(set)
	}
	if set == full {
		return accManyLanes
	}
	for i, s := range c.laneSets {
		if s == set && i > 0 {
			return accManyLanes | i
		}
	}
	if len(c.laneSets) >= accManyLanes {
		return accManyLanes
	}
	c.laneSets = append(c.laneSets, set)
	return accManyLanes | (len(c.laneSets) - 1)
}

// check checks and records an access to the n bytes of one cell.
func (s *shadow) check(a *access, c *cell, addr uint32, n int) {
	w := a.w
	if c.pending != 0 && s.occupied(a, c, addr) {
		return
	}
	if !a.write || a.atomic {
		if c.w == 0 {
			w.report(a.in, a.thread, Uninitialised, spShared, uint64(addr), "nothing was stored at %d bytes here since the block began", n)
			c.w = pack(w.clock, w.slot, a.lane) // once is enough
			c.wpc = w.pc
			return
		}
	}
	if c.w != 0 && !ordered(w, c.w, a.lane) && !(a.atomic && c.w&accAtomic != 0) {
		s.afterWrite(a, c, addr, n)
	}
	me := pack(w.clock, w.slot, a.lane)
	if a.proxy {
		if me |= accProxy; !a.write {
			s.unfenced(a, c, addr)
		}
	}
	if !a.write {
		s.read(w, c, me)
		return
	}
	if r := c.r; r != 0 {
		s.checkReaders(a, c, addr)
		s.dropReaders(c)
	}
	if a.atomic {
		me |= accAtomic
	}
	c.w, c.wpc = me, w.pc
}

// afterWrite reports an access that the last write is not ordered before, unless both store equal values by one instruction.
func (s *shadow) afterWrite(a *access, c *cell, addr uint32, n int) {
	w := a.w
	if a.write && !a.atomic && c.wpc == w.pc && accWarp(c.w) == w.slot && w.storesEqual(a.in, accLane(c.w), a.lane, addr, n) {
		return
	}
	what := "read"
	if a.write {
		what = "write"
	}
	w.report(a.in, a.thread, SharedRace, spShared, uint64(addr), "%s of what %s wrote at line %d, without a barrier in between",
		what, w.blk.describe(c.w), w.prog.code[c.wpc].line)
}

// read records a read.
func (s *shadow) read(w *warp, c *cell, me uint64) {
	c.rpc = w.pc
	switch {
	case c.r == 0:
		c.r = me
	case c.r&accShared != 0:
		v := s.readersOf(c.r)
		v[w.slot] = w.blk.mergeReaders(v[w.slot], me)
	case accWarp(c.r) == w.slot:
		c.r = w.blk.mergeReaders(c.r, me)
	case accClock(c.r) <= w.vc[accWarp(c.r)]:
		c.r = me
	default:
		s.share(c, me)
	}
}

// share adds a second reader of another warp.
func (s *shadow) share(c *cell, me uint64) {
	r := s.newReaders()
	v := s.readersOf(r)
	v[accWarp(c.r)], v[accWarp(me)] = c.r, me
	c.r = r
}

// mergeReaders combines two reads by one warp. Earlier reads by lanes that have not met those of the later one count as
// made with it.
func (c *cluster) mergeReaders(old, me uint64) uint64 {
	if old == 0 || accLane(old) == accLane(me) {
		return me
	}
	if w := c.all[accWarp(me)]; accClock(old) <= w.allMet {
		return me
	}
	return me&^accLaneMask | uint64(c.laneCode(c.laneSet(accLane(old))|c.laneSet(accLane(me))))
}

// checkReaders reports reads that a write is not ordered after.
func (s *shadow) checkReaders(a *access, c *cell, addr uint32) {
	bad := uint64(0)
	if c.r&accShared == 0 {
		if !ordered(a.w, c.r, a.lane) {
			bad = c.r
		}
	} else {
		for _, r := range s.readersOf(c.r) {
			if r != 0 && !ordered(a.w, r, a.lane) {
				bad = r
				break
			}
		}
	}
	if bad != 0 {
		a.w.report(a.in, a.thread, SharedRace, spShared, uint64(addr), "write to what %s read (last read at line %d), without a barrier in between",
			a.w.blk.describe(bad), a.w.prog.code[c.rpc].line)
	}
}

// describe names the thread of a packed access, with its block if the reader is of another one.
func (b *block) describe(acc uint64) string {
	w := b.all[accWarp(acc)]
	of := ""
	if w.blk != b {
		of = fmt.Sprintf(" of block %v", w.blk.place())
	}
	if accLane(acc)&accManyLanes != 0 {
		return fmt.Sprintf("warp %d%s", w.id, of)
	}
	return fmt.Sprintf("thread %v%s", b.thread(w.id, accLane(acc)), of)
}

// setPending marks or unmarks bytes as the destination of a copy in flight. It follows a touch of the same bytes,
// so cells that are not split are wholly inside.
func (s *shadow) setPending(addr uint32, n int, v uint8) {
	for end := addr + uint32(n); addr < end; {
		c := &s.c16[addr>>4]
		if !c.split {
			c.pending = v
			addr = (addr &^ 15) + 16
			continue
		}
		w := &s.c4[addr>>2]
		w.pending = v
		for i := range s.c1[addr>>2<<2:][:4] {
			s.c1[addr>>2<<2+uint32(i)].pending = v
		}
		addr = (addr &^ 3) + 4
	}
}

// pend is setPending, in short for 16 bytes that have one state.
func (s *shadow) pend(addr uint32, n int, v uint8) {
	if c := &s.c16[addr>>4]; n == 16 && !c.split {
		c.pending = v
		return
	}
	s.setPending(addr, n, v)
}

// lowest returns the number of the lowest set bit.
func lowest(m uint32) int { return bits.TrailingZeros32(m) & 31 }
