package restore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/ledger"
)

// ErrCrowded is wrapped by the error of a picture that waited in vain for memory of a card that other processes hold.
var ErrCrowded = errors.New("other processes hold the memory")

// DefaultDeviceWait is how long a picture waits for that memory.
const DefaultDeviceWait = 2 * time.Minute

// Pauses between two looks at a card's memory, and how often none may be seen in other processes' hands before what is missing
// is taken to be nobody's: they may have let go of it, and taken it again, between the attempt and the look.
const (
	firstPause = 10 * time.Millisecond
	lastPause  = time.Second
	mostUnseen = 5
)

// crowdedError says who has a card's memory.
type crowdedError struct {
	why string
	err error
}

func (e *crowdedError) Error() string   { return e.why + ": " + e.err.Error() }
func (e *crowdedError) Unwrap() []error { return []error{ErrCrowded, e.err} }

// patiently does f, and does it again for a while where the card has too little memory because other processes have it. waits,
// which may be nil, is told of every look after the first second.
func (l *lane) patiently(ctx context.Context, waits func(why string), f func() error) error {
	pause, unseen := firstPause, 0
	for start := time.Now(); ; {
		err := f()
		if !l.lacks(err) || l.hopeless(err) {
			return err
		}
		others := l.heldByOthers()
		switch {
		case others > 0 && time.Since(start) >= l.wait:
			return &crowdedError{l.crowd(others), err}
		case others > 0:
			unseen = 0
			if waits != nil && pause == lastPause {
				waits(l.crowd(others))
			}
		default:
			if unseen++; unseen == mostUnseen {
				return err
			}
		}
		l.card.Ledger().Reclaim(1 << 62) // what is idle here may be what they wait for
		select {
		case <-time.After(pause/2 + rand.N(pause)): // not in step with others that wait
		case <-ctx.Done():
			if others > 0 {
				err = &crowdedError{l.crowd(others), err}
			}
			return errors.Join(err, ctx.Err())
		}
		pause = min(2*pause, lastPause)
		l.refresh()
	}
}

// lacks tells whether err says that memory is missing where the card has its own.
func (l *lane) lacks(err error) bool {
	return err != nil && l.ownMemory() && (outOfMemory(err) || errors.Is(err, ledger.ErrTooLarge))
}

// hopeless tells whether err says that more is missing than the card could ever have, or something else than its memory.
func (l *lane) hopeless(err error) bool {
	c, ok := l.backend.(backend.Card)
	if !ok {
		return true
	}
	_, total, _, deviceErr := c.DeviceMemory()
	if deviceErr != nil {
		return true
	}
	most := total - cardReserve(total)
	if l.bound > 0 {
		most = min(most, l.bound)
	}
	var large *ledger.TooLargeError
	return errors.As(err, &large) && (large.Memory != l.card.Ledger().Name() || large.Need > most)
}

// heldByOthers is how much of the card other processes have, 0 for no more than the driver takes for itself.
func (l *lane) heldByOthers() int64 {
	free, total, _, err := l.backend.(backend.Card).DeviceMemory()
	if err != nil {
		return 0
	}
	others := total - free - l.card.Ledger().Usage().Accounts
	if others < total/10 {
		return 0
	}
	return others
}

// crowd says who has the card's memory, as far as that can be known.
func (l *lane) crowd(others int64) string {
	text := fmt.Sprintf("other processes have %s of the memory of %s", humanize.IBytes(uint64(others)), l.card.Ledger().Name())
	if b, ok := l.backend.(backend.Crowded); ok {
		if who := b.Holders(); len(who) > 0 {
			text += " (" + strings.Join(who, ", ") + ")"
		}
	}
	return text
}
