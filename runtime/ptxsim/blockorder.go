package ptxsim

// Accesses of different blocks are ordered by the rules of the PTX memory model for fences and strong accesses:
//
//   - a thread releases when it executes a fence and later, itself, a strong write or an atomic: what happened before
//     the fence is released at that address;
//   - a thread acquires when it executes an atomic or a strong read of that address and later, itself, a fence: what was
//     released there happened before everything after the fence;
//   - atom.release, st.release, ld.acquire and so on have their fence inside;
//   - fences and accesses order only what their scope holds: one block (.cta), the blocks of a cluster (.cluster), all
//     (PTX ISA 8.4, 8.7 "morally strong").
//
// "Before" and "after" inside a block are the order of one thread's instructions and what barriers and other
// synchronisation add, as for shared memory: a fence by one thread does not release what others wrote without a barrier
// in between, nor does it show anything to threads that do not meet a barrier later. What a block acquired it passes on
// with what it releases.
//
// A release is taken to be observed by whoever comes to the address later in the schedule that runs. Other schedules may
// differ; kernels that depend on the order are found by running several.

// when is a moment of a warp: its clock (see shadow.go), and the fences and strong accesses so far, which tell the
// accesses between two ticks of the clock apart. It is zero in kernels that do not order their blocks.
type when struct {
	warp        uint16
	clock, step uint32
}

// fenced is what a fence by some lanes of a warp ordered before it.
type fenced struct {
	block    uint64
	at       when
	vc       []uint32 // for each other warp, the clock up to which its accesses happened before
	acquired int      // how much the block has acquired with it
	scope    scopeLevel
}

// covers reports whether an access of the fence's block happened before the fence, as one lane executed it.
func (f *fenced) covers(t *touched, lane int) bool {
	if t.when.warp != f.at.warp {
		return t.when.clock <= f.vc[t.when.warp]
	}
	return t.when.clock < f.at.clock || t.when.clock == f.at.clock && t.when.step <= f.at.step && t.lanes == 1<<lane
}

// release is a fence, and the strong access of one lane that released it.
type release struct {
	*fenced
	lane  int
	by    when
	scope scopeLevel // the smaller of those of fence and access
}

// covers reports whether an access happened before the release, or is the access that released.
func (r *release) covers(t *touched) bool {
	return r.fenced.covers(t, r.lane) || t.kind == accStrong && t.when == r.by && t.lanes == 1<<r.lane
}

// channel is what has been released at an address. Releases are only ever added, so that a prefix of the list stays what
// an observer has seen.
type channel struct {
	list    []release
	byBlock map[uint64][]int
	seen    map[release]bool
}

func newChannel() *channel {
	return &channel{byBlock: map[uint64][]int{}, seen: map[release]bool{}}
}

func (c *channel) add(r release) {
	if !c.seen[r] {
		c.seen[r] = true
		c.byBlock[r.block] = append(c.byBlock[r.block], len(c.list))
		c.list = append(c.list, r)
	}
}

// observed is the first n releases of a channel.
type observed struct {
	*channel
	n     int
	scope scopeLevel // of the access
}

// acquired is a fence by one lane after it observed channels.
type acquired struct {
	scope scopeLevel
	at    when
	lane  int
	from  []observed
	since []uint32 // for each other warp, the clock from which on its accesses happen after; 0: none do
}

// before reports whether an access of some lanes at a moment of the same block happened after the fence.
func (a *acquired) before(at when, mask uint32) bool {
	if at.warp != a.at.warp {
		return a.since[at.warp] != 0 && at.clock >= a.since[at.warp]
	}
	return at.clock > a.at.clock || at.clock == a.at.clock && at.step > a.at.step && mask == 1<<a.lane
}

// blockOrder knows which accesses of different blocks are ordered. Kernels that order their blocks run them one after
// another, so it needs no lock.
type blockOrder struct {
	blockWarps int
	channels   map[uint64]*channel // by address
	acquired   map[uint64][]*acquired
}

func newBlockOrder(blockWarps int) *blockOrder {
	return &blockOrder{blockWarps, map[uint64]*channel{}, map[uint64][]*acquired{}}
}

// between is the scope that holds warps of two clusters.
func (o *blockOrder) between(a uint64, va uint16, b uint64, vb uint16) scopeLevel {
	switch {
	case a != b:
		return scopeDevice
	case int(va)/o.blockWarps != int(vb)/o.blockWarps:
		return scopeCluster
	}
	return scopeBlock
}

// scopeLevel says between which threads fences and strong accesses work.
type scopeLevel uint8

const (
	scopeBlock scopeLevel = iota
	scopeCluster
	scopeDevice
)

func scopeNamed(s string) scopeLevel {
	switch s {
	case "cta":
		return scopeBlock
	case "cluster":
		return scopeCluster
	}
	return scopeDevice
}

// ordered reports whether a happened before b.
func (o *blockOrder) ordered(a, b *blockRange) bool {
	for _, q := range o.acquired[b.block] {
		if !q.before(b.when, b.lanes) {
			continue
		}
		for _, c := range q.from {
			for _, i := range c.byBlock[a.block] {
				r := &c.list[i]
				if i < c.n && min(q.scope, c.scope, r.scope) >= o.between(a.block, r.at.warp, b.block, q.at.warp) && r.covers(&a.touched) {
					return true
				}
			}
		}
	}
	return false
}

// orderState is a warp's part in it.
type orderState struct {
	step     uint32
	fences   [lanes]*fenced    // the last one of each lane
	observed [lanes][]observed // since that
}

// observe notes what a lane saw.
func (o *orderState) observe(lane int, seen observed) {
	list := o.observed[lane]
	for i := range list {
		if list[i].channel == seen.channel && list[i].scope == seen.scope {
			list[i].n = seen.n
			return
		}
	}
	o.observed[lane] = append(list, seen)
}

// when is the present moment.
func (w *warp) when() when {
	if w.blk.launch.races.sync == nil {
		return when{}
	}
	return when{uint16(w.slot), uint32(w.clock), w.order.step}
}

// fence orders what happened before for lanes that execute it.
func (w *warp) fence(mask uint32, scope scopeLevel) {
	o := w.blk.launch.races.sync
	if o == nil {
		return
	}
	f := &fenced{block: w.blk.group, at: w.when(), scope: scope, vc: make([]uint32, len(w.vc))}
	for i, c := range w.vc {
		f.vc[i] = uint32(c)
	}
	for m := mask; m != 0; m &= m - 1 {
		l := lowest(m)
		w.order.fences[l] = f
		if from := w.order.observed[l]; from != nil {
			o.acquired[f.block] = append(o.acquired[f.block], &acquired{scope: scope, at: f.at, lane: l, from: from, since: make([]uint32, len(w.vc))})
			w.order.observed[l] = nil
		}
	}
	f.acquired = len(o.acquired[f.block])
	w.order.step++
}

// strongAccess says what a strong access does to the order of blocks.
type strongAccess uint8

const (
	observes strongAccess = 1 << iota // what was released at the address
	releases                          // what its thread's last fence ordered
	replaces                          // the value, and with it what was released before
)

// orders records a strong access by lanes at w.addr.
func (w *warp) orders(in *inst, mask uint32, does strongAccess) {
	o := w.blk.launch.races.sync
	if o == nil || mask == 0 {
		return
	}
	if mode := in.x.mode; mode == "release" || mode == "acq_rel" {
		w.fence(mask, in.x.scope)
		w.order.step-- // the access was recorded before the fence
	}
	for m := mask; m != 0; m &= m - 1 {
		l := lowest(m)
		addr := w.addr[l]
		c := o.channels[addr]
		if c == nil || does&replaces != 0 {
			c = newChannel()
			o.channels[addr] = c
		}
		if does&observes != 0 {
			w.order.observe(l, observed{c, len(c.list), in.x.scope})
		}
		if f := w.order.fences[l]; does&releases != 0 && f != nil {
			o.pass(c, f, l)
			c.add(release{f, l, w.when(), min(f.scope, in.x.scope)})
		}
	}
	w.order.step++
	if mode := in.x.mode; mode == "acquire" || mode == "acq_rel" {
		w.fence(mask, in.x.scope)
	}
}

// pass releases again what the block has acquired by the fence.
func (o *blockOrder) pass(c *channel, f *fenced, lane int) {
	after := f.at
	after.step++
	for _, q := range o.acquired[f.block][:f.acquired] {
		if !q.before(after, 1<<lane) {
			continue
		}
		for _, from := range q.from {
			for _, r := range from.list[:from.n] {
				r.scope = min(r.scope, f.scope, q.scope, from.scope)
				c.add(r)
			}
		}
	}
}

// learn notes what a warp that leaves a barrier knows from now on.
func (w *warp) learn() {
	o := w.blk.launch.races.sync
	if o == nil {
		return
	}
	for _, q := range o.acquired[w.blk.group] {
		if v := q.at.warp; int(v) != w.slot && q.since[w.slot] == 0 && uint64(q.at.clock) <= w.vc[v] {
			q.since[w.slot] = uint32(w.clock)
		}
	}
}
