package ledger

import (
	"runtime/debug"
	"runtime/metrics"
)

// HoldsHeap says that Go's heap lies in the memory of l, which must be the root
// of its tree: before memory is granted that dead objects have no room beside,
// they are collected and their pages given back to the system.
//
// With govern the limit of the garbage collector (debug.SetMemoryLimit) follows
// the bound less what lies outside of the heap. That is a setting of the whole
// process, so it is for commands, not for libraries.
func (l *Ledger) HoldsHeap(govern bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.book.heap, l.book.govern = true, govern
	l.followHeap()
}

// programBytes is what a program of this project holds beside everything that it
// reserves: 40 MiB of its file (code, the embedded model), and 20 that Go's
// runtime, stacks and libraries keep. Of a small bound it is programShare, which
// leaves pictures something.
const (
	programBytes = 64 << 20
	programShare = 4
)

// Host makes the ledger of the host's memory for a process that may use bound
// bytes in all, its program included; 0 means no bound. See HoldsHeap for govern.
func Host(bound int64, govern bool) *Ledger {
	l := New("host", bound)
	l.Fix(min(programBytes, l.bound/programShare))
	l.HoldsHeap(govern)
	return l
}

func (l *Ledger) root() *Ledger {
	for l.parent != nil {
		l = l.parent
	}
	return l
}

// Collect makes room for bytes that are about to be taken within a reservation:
// it collects dead objects if they have no room beside them. It is called where
// a picture's memory changes hands, from a decoder to the pixels, say.
func (l *Ledger) Collect(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.followHeap()
	root := l.root()
	if l.heap && root.bound > 0 && root.fixed+heapInUse()+Mapped()+bytes > root.bound {
		debug.FreeOSMemory()
	}
}

// collect is Collect for bytes that are new: what others have reserved and not
// taken yet needs its room too. l.mu is held.
func (l *Ledger) collect(bytes int64) {
	root := l.root()
	if l.heap && root.bound > 0 && root.fixed+heapInUse()+Mapped()+root.held+bytes > root.bound {
		debug.FreeOSMemory()
	}
}

// heapInUse is what Go's runtime has from the system.
func heapInUse() int64 {
	s := [2]metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s[:])
	return int64(s[0].Value.Uint64() - s[1].Value.Uint64())
}

// leastHeap is a limit of the heap that a program can work with whatever the
// bound, and limitStep how far the right limit may be from the one set: setting
// it stops all goroutines for a moment.
const (
	leastHeap = 24 << 20
	limitStep = 4 << 20
)

// followHeap sets the collector's limit if it has changed: the bound less half of
// what is fixed and less what lies outside of the heap or is about to. l.mu is held.
func (l *Ledger) followHeap() {
	if !l.govern {
		return
	}
	root := l.root()
	if root.bound == 0 {
		return
	}
	limit := max(root.bound-root.fixed/2-max(Mapped(), root.outside), leastHeap)
	if diff := limit - l.limit; diff > -limitStep && diff < limitStep {
		return
	}
	l.limit = limit
	debug.SetMemoryLimit(limit)
}
