// Package proctime tells how long this process had a processor, which other programs stretch far less than the watch's
// time.
package proctime

import "time"

// Used is the processor time of all threads of this process so far; on systems without POSIX clocks it is the watch's.
// Differences are what counts.
func Used() time.Duration { return used() }
