package backend

import (
	"fmt"
	"sync"
)

// Lifetime counts the programs of a backend, which may be closed only when they
// are. The zero value is an open backend without programs.
type Lifetime struct {
	mu       sync.Mutex
	programs int
	closed   bool
}

// Open counts a program; name is the backend's.
func (l *Lifetime) Open(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("the %s backend is closed", name)
	}
	l.programs++
	return nil
}

// Done takes back what Open counted.
func (l *Lifetime) Done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.programs--
}

// Close lets free give back what the backend holds, once. Programs that are
// open are an error, and the backend stays as it is.
func (l *Lifetime) Close(name string, free func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	if l.programs > 0 {
		return fmt.Errorf("close %s backend: %d programs are open", name, l.programs)
	}
	l.closed = true
	if err := free(); err != nil {
		return fmt.Errorf("close %s backend: %w", name, err)
	}
	return nil
}
