// Package ledger says who holds how much of which memory, and makes everything
// large reserve its bytes before it exists.
//
// A [Ledger] stands for one memory: the host's, its page-locked part, a card's.
// What a picture holds for itself (decoded pixels, the result, an encoder's
// buffers) is a [Reservation], made at once for all of the picture's life.
// What pictures use one after the other on one device (an arena, weights, tile
// buffers) belongs to a [Lane]. A lane's accounts keep what they have until
// somebody else wants the room; a reservation claims the most that its picture
// will use of the lane when its turn comes.
//
// # Why nobody waits for ever
//
// The reservations and the largest claim on each lane always fit the bound
// together. So whoever has a reservation finds, when its turn on a lane comes,
// that dropping what is idle leaves room for its claim: it never waits
// for memory, it finishes, and it gives its reservation back. Waiting is done in
// one place only, [Ledger.Reserve], first come first served, by callers that
// hold nothing. Hence the one rule for users: make one reservation a picture,
// before anything else of it, and never call Reserve while holding another.
//
// # Trees
//
// A ledger may have a parent, whose memory its own is a part of: page-locked
// memory, or a card without memory of its own. Bytes then count in both.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/dustin/go-humanize"
)

// ErrTooLarge reports a need that its memory can never meet.
var ErrTooLarge = errors.New("over the memory budget")

// TooLargeError says what was needed and what there is.
type TooLargeError struct {
	What   string // that needs it; may be empty
	Memory string // the ledger's name
	Need   int64  // bytes
	Bound  int64  // bytes that are left for it at best
}

// Error implements error.
func (e *TooLargeError) Error() string {
	what := "it"
	if e.What != "" {
		what = e.What
	}
	return fmt.Sprintf("%v: %s needs %s of %s memory; %s are allowed", ErrTooLarge, what, size(e.Need), e.Memory, size(e.Bound))
}

// Unwrap gives ErrTooLarge.
func (e *TooLargeError) Unwrap() error { return ErrTooLarge }

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// Ledger keeps account of one memory. Its methods may be called from several
// goroutines.
type Ledger struct {
	name   string
	parent *Ledger
	*book

	bound   int64 // 0 means none
	fixed   int64 // reserved for good
	held    int64 // by reservations, here and in children
	charged int64 // to accounts, here and in children
	outside int64 // of that, what lies outside of Go's heap
	peak    int64
}

// book is what all ledgers of a tree share.
type book struct {
	mu       sync.Mutex
	lanes    []*Lane
	accounts []*Account // by rank
	queue    []*waiter
	heap     bool // the Go heap lies in the root's memory
	govern   bool // and its limit follows the accounts
	limit    int64
}

type waiter struct{ wake chan struct{} }

// New makes the ledger of a memory of which bound bytes may be used; 0 means no
// bound.
func New(name string, bound int64) *Ledger {
	return &Ledger{name: name, book: &book{}, bound: max(bound, 0)}
}

// Part makes the ledger of a part of l's memory with a bound of its own, 0 for
// none but l's.
func (l *Ledger) Part(name string, bound int64) *Ledger {
	return &Ledger{name: name, parent: l, book: l.book, bound: max(bound, 0)}
}

// Name is the memory's name.
func (l *Ledger) Name() string { return l.name }

// SetBound changes the bound. What is held beyond a smaller one stays, but
// nothing is added to it.
func (l *Ledger) SetBound(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bound = max(bytes, 0)
	l.wakeFirst()
}

// Fix takes bytes off the bound for good, for what the program holds beside
// everything that is reserved.
func (l *Ledger) Fix(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := l; at != nil; at = at.parent {
		at.fixed += bytes
	}
}

// Room is the most that one need may have of the memory when nobody else has
// any; ok is false where nothing bounds it.
func (l *Ledger) Room() (bytes int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := l; at != nil; at = at.parent {
		if at.bound > 0 && (!ok || at.bound-at.fixed < bytes) {
			bytes, ok = max(at.bound-at.fixed, 0), true
		}
	}
	return bytes, ok
}

// Usage is a moment's account of a memory, in bytes.
type Usage struct {
	Bound    int64 `json:"bound_bytes"`    // 0 means none
	Reserved int64 `json:"reserved_bytes"` // by reservations
	Accounts int64 `json:"accounts_bytes"` // by accounts, idle or in use
	Peak     int64 `json:"peak_bytes"`     // of both together, so far
	Waiting  int   `json:"waiting"`        // callers of Reserve, in the whole tree
}

// Usage tells what is held now.
func (l *Ledger) Usage() Usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Usage{Bound: l.bound, Reserved: l.held + l.fixed, Accounts: l.charged, Peak: l.peak, Waiting: len(l.queue)}
}

// Claim is the most that a picture will use of a lane's accounts at a time.
type Claim struct {
	Lane  *Lane
	Bytes int64
}

// Need is what a picture needs from before it is decoded until it is written.
type Need struct {
	// What names the picture in errors.
	What string
	// Bytes are held from Reserve to Release.
	Bytes int64
	// Claims are what it uses of lanes, of this or of other ledgers of the tree,
	// when its turn comes.
	Claims []Claim
}

// Check tells whether the memory could ever meet the need: the error is a
// *TooLargeError if not.
func (l *Ledger) Check(n Need) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.check(n)
}

func (l *Ledger) check(n Need) error {
	if n.Bytes < 0 {
		return fmt.Errorf("reserve %d bytes of %s memory", n.Bytes, l.name)
	}
	for _, at := range l.touched(n) {
		if at.bound == 0 {
			continue
		}
		if need := at.of(l, n); need > at.bound-at.fixed {
			return &TooLargeError{What: n.What, Memory: at.name, Need: need, Bound: max(at.bound-at.fixed, 0)}
		}
	}
	return nil
}

// touched lists the ledgers that a need of l counts in.
func (l *Ledger) touched(n Need) []*Ledger {
	var all []*Ledger
	add := func(at *Ledger) {
		for ; at != nil; at = at.parent {
			if !slices.Contains(all, at) {
				all = append(all, at)
			}
		}
	}
	add(l)
	for _, c := range n.Claims {
		add(c.Lane.ledger)
	}
	return all
}

// of is what a need of l takes of the memory l at, with no one else there.
func (at *Ledger) of(l *Ledger, n Need) int64 {
	var total int64
	if l.within(at) {
		total = n.Bytes
	}
	for _, c := range n.Claims {
		if c.Lane.ledger.within(at) {
			total += c.Bytes
		}
	}
	return total
}

// within tells whether l is at or a part of it.
func (l *Ledger) within(at *Ledger) bool {
	for ; l != nil; l = l.parent {
		if l == at {
			return true
		}
	}
	return false
}

// Reservation is memory that a picture has for itself, and its claims.
type Reservation struct {
	ledger *Ledger
	need   Need
	once   sync.Once
}

// Bytes is what is held.
func (r *Reservation) Bytes() int64 { return r.need.Bytes }

// Reserve waits, first come first served, until the need can be met together
// with all that are already, and holds it. What can never be met is a
// *TooLargeError at once. The caller must hold no other reservation of the tree.
func (l *Ledger) Reserve(ctx context.Context, n Need) (*Reservation, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &waiter{wake: make(chan struct{}, 1)}
	l.queue = append(l.queue, w)
	defer l.leave(w)
	for {
		if err := l.check(n); err != nil { // bounds may have changed
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("wait for %s of %s memory: %w", size(n.Bytes), l.name, err)
		}
		if l.queue[0] == w && l.fits(n) {
			lack := l.lacking(l, n.Bytes)
			if len(lack) == 0 {
				return l.grant(n), nil
			}
			if l.reclaim(lack) {
				continue
			}
		}
		l.mu.Unlock()
		select {
		case <-w.wake:
		case <-ctx.Done():
		}
		l.mu.Lock()
	}
}

// grant holds a need. l.mu is held.
func (l *Ledger) grant(n Need) *Reservation {
	l.collect(n.Bytes)
	for at := l; at != nil; at = at.parent {
		at.held += n.Bytes
		at.note()
	}
	for _, c := range n.Claims {
		c.Lane.claims = append(c.Lane.claims, c.Bytes)
	}
	return &Reservation{ledger: l, need: n}
}

// leave takes a waiter out of the queue and lets the next one look.
func (l *Ledger) leave(w *waiter) {
	l.queue = slices.DeleteFunc(l.queue, func(o *waiter) bool { return o == w })
	l.wakeFirst()
}

// wakeFirst has the first of the queue look again.
func (b *book) wakeFirst() {
	if len(b.queue) > 0 {
		select {
		case b.queue[0].wake <- struct{}{}:
		default:
		}
	}
}

// Release gives the reservation and its claims back. Releasing twice is
// harmless, and so is releasing nil.
func (r *Reservation) Release() {
	if r == nil {
		return
	}
	r.once.Do(func() {
		l := r.ledger
		l.mu.Lock()
		defer l.mu.Unlock()
		for at := l; at != nil; at = at.parent {
			at.held -= r.need.Bytes
		}
		for _, c := range r.need.Claims {
			c.Lane.unclaim(c.Bytes)
		}
		l.wakeFirst()
	})
}

// Unclaim gives the claims back and keeps the bytes: the picture will not use a
// lane again.
func (r *Reservation) Unclaim() {
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range r.need.Claims {
		c.Lane.unclaim(c.Bytes)
	}
	r.need.Claims = nil
	l.wakeFirst()
}

// TryGrow adds bytes to the reservation if they are free or idle, never waiting:
// who grows holds something, and must not.
func (r *Reservation) TryGrow(bytes int64) bool {
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.fits(Need{Bytes: bytes}) {
		lack := l.lacking(l, bytes)
		if len(lack) == 0 {
			l.collect(bytes)
			for at := l; at != nil; at = at.parent {
				at.held += bytes
				at.note()
			}
			r.need.Bytes += bytes
			return true
		}
		if !l.reclaim(lack) {
			return false
		}
	}
	return false
}

// fits tells whether all reservations and the largest claim on every lane fit with the need. l.mu is held.
func (l *Ledger) fits(n Need) bool {
	for _, at := range l.touched(n) {
		if at.bound == 0 {
			continue
		}
		total := at.fixed + at.held
		if l.within(at) {
			total += n.Bytes
		}
		for _, lane := range l.lanes {
			if !lane.ledger.within(at) {
				continue
			}
			most := lane.claimed()
			for _, c := range n.Claims {
				if c.Lane == lane {
					most = max(most, c.Bytes)
				}
			}
			total += most
		}
		if total > at.bound {
			return false
		}
	}
	return true
}

// shortage is what a memory lacks.
type shortage struct {
	ledger *Ledger
	bytes  int64
}

// lacking lists the memories that have not as many bytes more for from free of
// reservations and of what accounts keep. l.mu is held.
func (l *Ledger) lacking(from *Ledger, bytes int64) []shortage {
	var all []shortage
	for at := from; at != nil; at = at.parent {
		if over := at.fixed + at.held + at.charged + bytes - at.bound; at.bound > 0 && over > 0 {
			all = append(all, shortage{at, over})
		}
	}
	return all
}

// note keeps the peak.
func (l *Ledger) note() { l.peak = max(l.peak, l.fixed+l.held+l.charged) }

// PartOf tells whether l's memory is of's or a part of it.
func (l *Ledger) PartOf(of *Ledger) bool { return l.within(of) }
