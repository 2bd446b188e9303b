package experts

import "time"

// Stats counts what a pool has done.
type Stats struct {
	// Hits are the acquisitions that found their expert resident or on its way,
	// Misses those that had to load it, by compiling or by switching.
	Hits   int `json:"hits"`
	Misses int `json:"misses"`
	// Compiled and Switches count how experts were loaded, prefetches included.
	Compiled int `json:"compiled"`
	Switches int `json:"switches"`
	// Evictions are the programs closed for want of memory.
	Evictions int `json:"evictions"`
	// Prefetched are the experts loaded before they were asked for, PrefetchHits
	// those of them that were then asked for.
	Prefetched   int `json:"prefetched"`
	PrefetchHits int `json:"prefetch_hits"`
	// LoadTime is spent compiling, SwitchTime switching, prefetches included.
	LoadTime   time.Duration `json:"load_ns"`
	SwitchTime time.Duration `json:"switch_ns"`
	// PeakResident is the most that weights of compiled experts took so far, in bytes.
	PeakResident int64 `json:"peak_resident_bytes"`
}

// HitRate is the share of acquisitions that found their expert, 0 without any.
func (s Stats) HitRate() float64 {
	if s.Hits+s.Misses == 0 {
		return 0
	}
	return float64(s.Hits) / float64(s.Hits+s.Misses)
}

// Stats tells what the pool has done so far.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

func (s *Stats) acquired(fresh, prefetched bool) {
	if fresh {
		s.Misses++
	} else {
		s.Hits++
	}
	if prefetched {
		s.PrefetchHits++
	}
}

func (s *Stats) loaded(switched, prefetched bool, took time.Duration) {
	if prefetched {
		s.Prefetched++
	}
	if switched {
		s.Switches++
		s.SwitchTime += took
	} else {
		s.Compiled++
		s.LoadTime += took
	}
}
