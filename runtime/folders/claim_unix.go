//go:build unix && !aix && !solaris

package folders

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockedFile opens or makes a file and locks it; nil where the file system has no locks.
func lockedFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o666)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		f.Close()
		return nil, ErrClaimed
	default:
		f.Close()
		_ = os.Remove(path) // a lock that nobody can take says nothing
		return nil, nil
	}
}

// removeLocked removes the file before the lock goes, so that who waits for it finds it gone.
func removeLocked(path string, f *os.File) {
	_ = os.Remove(path) // what stays is an unlocked file, which the next run takes
	f.Close()
}
