package cpu

import (
	"fmt"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/ledger"
)

// arena is the memory that all programs of a backend use for their intermediate
// results, one program at a time. It grows to what a run needs and stays until
// it is trimmed.
type arena struct {
	turn  backend.Turn // a program has it while it runs
	pages *ledger.Pages
}

func newArena() *arena { return &arena{turn: backend.NewTurn()} }

// grow makes the arena at least as large as bytes. What was in it is lost. The
// caller has the turn.
func (a *arena) grow(bytes int64) error {
	if a.pages.Size() >= bytes {
		return nil
	}
	a.pages.Free() // first, so that both are never there together
	pages, err := ledger.NewPages(int(bytes))
	if err != nil {
		return fmt.Errorf("arena of %d bytes: %w", bytes, err)
	}
	a.pages = pages
	return nil
}

// trim frees the arena unless a program runs.
func (a *arena) trim() (freed int64, idle bool) {
	if !a.turn.TryTake() {
		return 0, false
	}
	defer a.turn.Leave()
	freed = a.pages.Size()
	a.pages.Free()
	return freed, true
}
