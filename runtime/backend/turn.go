package backend

import "context"

// Turn lets programs use what all programs of a backend share, one at a time.
type Turn struct{ taken chan struct{} }

// NewTurn makes a turn that nobody has.
func NewTurn() Turn { return Turn{make(chan struct{}, 1)} }

// Take waits for the turn; callers come in the order in which they asked. One
// that need not wait gets it even if its context has ended.
func (t Turn) Take(ctx context.Context) error {
	if t.TryTake() {
		return nil
	}
	select {
	case t.taken <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TryTake takes the turn unless somebody has it.
func (t Turn) TryTake() bool {
	select {
	case t.taken <- struct{}{}:
		return true
	default:
		return false
	}
}

// Leave gives the turn back.
func (t Turn) Leave() { <-t.taken }
