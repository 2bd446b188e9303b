package backend

import (
	"sync"
	"sync/atomic"
)

// Shared keeps values that several programs of a backend use, equal ones once: the first who asks for a key makes its
// value, and the last who gives it back frees it. The zero Shared is empty and ready.
type Shared[K comparable, V any] struct {
	// Resident counts the bytes of values and of what programs have beside them, in one number so that reading it needs
	// no lock.
	Resident atomic.Int64

	mu      sync.Mutex
	entries map[K]*sharedEntry[V]
}

type sharedEntry[V any] struct {
	users int   // guarded by the Shared,
	bytes int64 // as this is
	once  sync.Once
	value V
	err   error
}

// Acquire gives the value of a key, which load makes, and says how many bytes it takes, unless another program has.
// planned counts until it is made. A value whose making failed is the same error for all who wait for it, and is not
// held.
func (s *Shared[K, V]) Acquire(key K, planned int64, load func() (V, int64, error)) (V, error) {
	s.mu.Lock()
	e := s.entries[key]
	if e == nil {
		e = &sharedEntry[V]{bytes: planned}
		if s.entries == nil {
			s.entries = map[K]*sharedEntry[V]{}
		}
		s.entries[key] = e
		s.Resident.Add(planned)
	}
	e.users++
	s.mu.Unlock()

	e.once.Do(func() {
		var bytes int64
		if e.value, bytes, e.err = load(); e.err != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.Resident.Add(bytes - e.bytes)
		e.bytes = bytes
	})
	if e.err != nil {
		s.Release(key)
		var none V
		return none, e.err
	}
	return e.value, nil
}

// Release gives back what Acquire gave. The last one gets the value to free.
func (s *Shared[K, V]) Release(key K) (value V, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	if e.users--; e.users > 0 {
		return value, false
	}
	delete(s.entries, key)
	s.Resident.Add(-e.bytes)
	return e.value, true
}

// Bytes is what the value of a key takes, or will take; 0 if nobody has it.
func (s *Shared[K, V]) Bytes(key K) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[key]; e != nil {
		return e.bytes
	}
	return 0
}

// Total is what all values take.
func (s *Shared[K, V]) Total() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int64
	for _, e := range s.entries {
		n += e.bytes
	}
	return n
}
