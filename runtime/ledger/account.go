package ledger

import "slices"

// Lane is a device's working memory in one ledger: what programs that run one at
// a time share.
type Lane struct {
	ledger *Ledger
	name   string
	claims []int64 // of reservations
}

// Lane opens a lane whose memory is l's.
func (l *Ledger) Lane(name string) *Lane {
	lane := &Lane{ledger: l, name: name}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lanes = append(l.lanes, lane)
	return lane
}

// Close ends a lane, whose accounts are closed.
func (l *Lane) Close() {
	b := l.ledger.book
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lanes = slices.DeleteFunc(b.lanes, func(o *Lane) bool { return o == l })
}

// Spare tells whether the lane's memory has so many bytes beside all that is reserved and kept, idle or not.
func (l *Lane) Spare(bytes int64) bool {
	b := l.ledger.book
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(l.ledger.lacking(l.ledger, bytes)) == 0
}

// Ledger is the lane's memory.
func (l *Lane) Ledger() *Ledger { return l.ledger }

func (l *Lane) claimed() int64 {
	var most int64
	for _, c := range l.claims {
		most = max(most, c)
	}
	return most
}

func (l *Lane) unclaim(bytes int64) {
	if i := slices.Index(l.claims, bytes); i >= 0 {
		l.claims = slices.Delete(l.claims, i, i+1)
	}
}

// Account is a part of a lane that stays when nobody uses it, until its room is
// wanted. Its owner adds bytes before they are allocated and subtracts them
// after they are freed.
type Account struct {
	ledger  *Ledger
	name    string
	rank    int
	reclaim func(want int64)
	charged int64
	outside bool // of Go's heap
}

// Account opens an account of a lane. When room is wanted, reclaim is asked to
// drop idle memory worth want bytes, or what it has, and to Sub it before it
// returns; accounts of lower rank are asked first. reclaim is called by whoever
// wants the room, from several goroutines, and must not wait for a turn that a
// holder of memory may have. It may be nil for memory that is never idle.
func (l *Lane) Account(name string, rank int, reclaim func(want int64)) *Account {
	a := &Account{ledger: l.ledger, name: name, rank: rank, reclaim: reclaim}
	b := l.ledger.book
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accounts = append(b.accounts, a)
	slices.SortStableFunc(b.accounts, func(a, b *Account) int { return a.rank - b.rank })
	return a
}

// Outside says that what is charged lies outside of Go's heap, whose limit makes
// room for it before it exists. It is called before anything is charged.
func (a *Account) Outside() *Account {
	a.outside = true
	return a
}

// Close ends an account. What is charged to it no longer counts.
func (a *Account) Close() {
	l := a.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	a.charge(-a.charged)
	l.accounts = slices.DeleteFunc(l.accounts, func(o *Account) bool { return o == a })
	l.wakeFirst()
}

// Charged is what the account keeps at present.
func (a *Account) Charged() int64 {
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	return a.charged
}

// Add charges bytes that are about to be allocated, dropping what is idle, in
// this account too, to make room. It never waits: within the claim of a
// reservation it succeeds, beyond it the error may be a *TooLargeError. The
// caller must hold no lock that a reclaim function takes.
func (a *Account) Add(bytes int64) error {
	l := a.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		lack := l.lacking(l, bytes)
		if len(lack) == 0 {
			break
		}
		if !l.reclaim(lack) {
			at := lack[0].ledger
			return &TooLargeError{What: a.name, Memory: at.name, Need: bytes, Bound: max(at.bound-at.fixed-at.held-at.charged, 0)}
		}
	}
	l.collect(bytes)
	a.charge(bytes)
	return nil
}

// Sub takes off bytes that have been freed.
func (a *Account) Sub(bytes int64) {
	l := a.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	a.charge(-bytes)
	l.wakeFirst()
}

func (a *Account) charge(bytes int64) {
	a.charged += bytes
	for at := a.ledger; at != nil; at = at.parent {
		at.charged += bytes
		if a.outside {
			at.outside += bytes
		}
		at.note()
	}
	a.ledger.followHeap()
}

// Reclaim asks accounts, in order of rank, to drop idle memory worth want bytes
// of l, and tells whether any did. It is for an allocation that failed although
// the ledger had room.
func (l *Ledger) Reclaim(want int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reclaim([]shortage{{l, want}})
}

// reclaim tells whether any of the shortages became smaller. b.mu is held, but
// not while accounts are asked.
func (b *book) reclaim(lack []shortage) bool {
	dropped := false
	for _, s := range lack {
		left := s.bytes
		for _, a := range slices.Clone(b.accounts) {
			if left <= 0 {
				break
			}
			if a.reclaim == nil || !a.ledger.within(s.ledger) || a.charged == 0 {
				continue
			}
			before := a.charged
			b.mu.Unlock()
			a.reclaim(left)
			b.mu.Lock()
			if a.charged < before {
				left -= before - a.charged
				dropped = true
			}
		}
	}
	return dropped
}
