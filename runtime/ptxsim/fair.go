package ptxsim

// Threads of a resident block make progress however long others poll (CUDA's independent thread scheduling since
// sm_70). Lanes normally run in the order of their positions, warps in turn and blocks one after another, which is
// fast and the same on every machine. Who waits for somebody in memory would wait forever that way: a lane for the
// lane that holds a lock, a block for one that has not begun. So a warp that reads the same value again and again
// counts as spinning, and then
//
//   - its splits take turns, until they have all come together;
//   - its turn is short;
//   - its block gives way to other blocks of the grid, as many as a device holds at a time, when no warp of it does
//     anything else.

const (
	spinningAfter = 32  // times the same value
	spinQuantum   = 128 // instructions a spinning warp runs in a turn
)

// poll notes what a lane of a polling instruction read, and where.
func (w *warp) poll(in *inst, lane int, v uint64) {
	if w.polled == nil {
		w.polled = make([]uint64, w.prog.memInsts)
	}
	key := (v+1)*0x9e3779b97f4a7c15 ^ w.addr[lane]
	if w.polled[in.mem] == key {
		w.polls++
		return
	}
	w.polled[in.mem], w.polls = key, 0
}

func (w *warp) spinning() bool { return w.polls >= spinningAfter }

// takeTurns lets another split of the warp run.
func (w *warp) takeTurns() {
	n := len(w.splits)
	for range n {
		next := w.splits[0]
		w.splits = append(w.splits[:0], w.splits[1:]...)
		if !next.blocked {
			w.splits = append(w.splits, split{w.pc, w.active, false})
			w.pc, w.active = next.pc, next.mask
			w.turns = true
			w.setStop()
			return
		}
		w.splits = append(w.splits, next)
	}
}

// runResident runs the clusters of a grid one after another; those that spin wait while others run, up to limit at a
// time. In the end it hands every block it used to finish.
func (l *launch) runResident(grid uint64, order func(uint64) uint64, limit int, finish func(*cluster)) {
	var waiting, free []*cluster
	next := uint64(0)
	for !l.stopped.Load() && (next < grid || len(waiting) > 0) {
		var c *cluster
		switch {
		case next == grid || len(waiting) >= limit:
			c, waiting = waiting[0], waiting[1:]
		case len(free) > 0:
			c, free = free[len(free)-1], free[:len(free)-1]
			c.begin(order(next))
			next++
		default:
			c = l.prog.takeCluster(l)
			c.begin(order(next))
			next++
		}
		if c.schedule(next < grid || len(waiting) > 0) {
			c.end()
			free = append(free, c)
		} else {
			waiting = append(waiting, c)
		}
	}
	for _, c := range append(free, waiting...) {
		finish(c)
	}
}
