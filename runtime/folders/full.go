package folders

import (
	"errors"
	"strings"
)

// NoRoom reports whether err says that nothing more can be written where results go: the disk or the quota is full, or the
// file system is read-only. What another process reports is known by its words.
func NoRoom(err error) bool {
	if err == nil {
		return false
	}
	for _, e := range noRoom {
		if errors.Is(err, e) || strings.HasSuffix(err.Error(), ": "+e.Error()) {
			return true
		}
	}
	return false
}
