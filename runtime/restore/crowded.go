package restore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/ledger"
)

// patience is how long a picture waits for memory of a card that other processes hold; a variable for tests.
var patience = 2 * time.Minute

// patiently does f, and does it again for a while where the card has too little memory because other processes have it.
func (l *lane) patiently(ctx context.Context, f func() error) error {
	pause, again := 10*time.Millisecond, false
	for start := time.Now(); ; {
		err := f()
		if !l.lacks(err) {
			return err
		}
		others := l.heldByOthers(err)
		if others == 0 && again {
			return err
		}
		if again = others == 0; again { // they may have let go of it since
			l.refresh()
			continue
		}
		if time.Since(start) > patience {
			return fmt.Errorf("other processes have %s of the memory of %s: %w", humanize.IBytes(uint64(others)), l.card.Ledger().Name(), err)
		}
		l.card.Ledger().Reclaim(1 << 62) // what is idle here may be what they wait for
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
		pause = min(2*pause, time.Second)
		l.refresh()
	}
}

// lacks tells whether err says that memory is missing where the card has its own.
func (l *lane) lacks(err error) bool {
	return err != nil && l.ownMemory() && (outOfMemory(err) || errors.Is(err, ledger.ErrTooLarge))
}

// heldByOthers is how much of the card other processes have, and 0 if that would not be enough for what err says is missing.
func (l *lane) heldByOthers(err error) int64 {
	c, ok := l.backend.(backend.Card)
	if !ok {
		return 0
	}
	free, total, _, deviceErr := c.DeviceMemory()
	if deviceErr != nil {
		return 0
	}
	others := total - free - l.card.Ledger().Usage().Accounts
	if others < total/10 { // the driver's own
		return 0
	}
	var large *ledger.TooLargeError
	if errors.As(err, &large) {
		most := total - cardReserve(total)
		if l.bound > 0 {
			most = min(most, l.bound)
		}
		if large.Memory != l.card.Ledger().Name() || large.Need > most {
			return 0
		}
	}
	return others
}
