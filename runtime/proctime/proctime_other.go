//go:build !unix

package proctime

import "time"

var started = time.Now()

func used() time.Duration { return time.Since(started) }
