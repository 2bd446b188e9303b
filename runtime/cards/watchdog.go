package cards

import (
	"sync"
	"time"
)

// watchdog barks when a worker that has jobs gives no sign for a while. A job by itself may be silent for longer: it waits for
// its turn behind others, or nobody waits for it any more and the worker is still to stop.
type watchdog struct {
	after time.Duration

	mu    sync.Mutex
	timer *time.Timer
	jobs  int
}

func newWatchdog(after time.Duration, bark func()) *watchdog {
	d := &watchdog{after: after, timer: time.AfterFunc(after, bark)}
	d.timer.Stop()
	return d
}

// begin says that the worker has a job more, which is no sign of it.
func (d *watchdog) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.jobs++; d.jobs == 1 {
		d.timer.Reset(d.after)
	}
}

// sign says that the worker got on with a job.
func (d *watchdog) sign() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.jobs > 0 {
		d.timer.Reset(d.after)
	}
}

// end says that the worker is through with a job.
func (d *watchdog) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.jobs--; d.jobs > 0 {
		d.timer.Reset(d.after)
		return
	}
	d.timer.Stop()
}

func (d *watchdog) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.jobs = 0
	d.timer.Stop()
}
