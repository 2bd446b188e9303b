//go:build unix

package folders

import "golang.org/x/sys/unix"

var noRoom = []error{unix.ENOSPC, unix.EROFS, unix.EDQUOT}
