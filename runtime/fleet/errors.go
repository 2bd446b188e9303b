package fleet

import (
	"context"
	"errors"
	"slices"

	"unirestorer"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/cards"
)

// known are the errors that callers tell apart, by the kinds that go between processes.
var known = []struct {
	kind string
	is   func(error) bool
	make func(text string) error
}{
	{"memory", isError(unirestorer.ErrMemory), same(unirestorer.ErrMemory)},
	{cards.KindCrowded, isError(unirestorer.ErrCrowded), same(unirestorer.ErrCrowded)},
	{"too large", isError(unirestorer.ErrTooLarge), same(unirestorer.ErrTooLarge)},
	{"format", isError(unirestorer.ErrFormat), same(unirestorer.ErrFormat)},
	{"closed", isError(unirestorer.ErrClosed), same(unirestorer.ErrClosed)},
	{"deadline", isError(context.DeadlineExceeded), same(context.DeadlineExceeded)},
	{"picture", asError[*unirestorer.PictureError], func(text string) error { return &unirestorer.PictureError{Err: errors.New(text)} }},
	{"option", asError[*unirestorer.OptionError], func(text string) error { return &unirestorer.OptionError{Err: errors.New(text)} }},
}

func isError(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func asError[T error](err error) bool {
	var t T
	return errors.As(err, &t)
}

func same(err error) func(string) error { return func(string) error { return err } }

// kindsOf names what is known of a worker's error.
func kindsOf(err error, broken func(error) bool) (kinds []string) {
	if broken != nil && broken(err) {
		kinds = append(kinds, cards.KindBroken)
	}
	if errors.Is(err, unirestorer.ErrMemory) || errors.Is(err, backend.ErrOutOfMemory) {
		kinds = append(kinds, cards.KindNoRoom)
	}
	for _, k := range known {
		if k.is(err) {
			kinds = append(kinds, k.kind)
		}
	}
	return kinds
}

// told is an error from elsewhere, with what it wraps.
type told struct {
	text string
	is   []error
}

func (t *told) Error() string   { return t.text }
func (t *told) Unwrap() []error { return t.is }

// errorOf gives a pool's error the meaning that a Restorer's has.
func errorOf(err error) error {
	var job *cards.JobError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &job):
		t := &told{text: err.Error()}
		for _, k := range known {
			if slices.Contains(job.Kinds, k.kind) {
				t.is = append(t.is, k.make(job.Text))
			}
		}
		return t
	case errors.Is(err, cards.ErrClosed):
		return unirestorer.ErrClosed
	case errors.Is(err, cards.ErrNoCards):
		return &told{err.Error(), []error{unirestorer.ErrUnavailable, err}}
	}
	return err
}
