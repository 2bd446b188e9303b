//go:build unix

package blob

import (
	"errors"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

func mapFile(f *os.File, size int64) (data []byte, unmap func() error, err error) {
	if size == 0 {
		return []byte{}, func() error { return nil }, nil
	}
	if size > math.MaxInt {
		return nil, nil, errors.ErrUnsupported
	}
	data, err = unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	return data, func() error { return unix.Munmap(data) }, nil
}

// folio is the largest unit in which systems keep files in memory. Reading one byte may bring all of it into the
// process.
const folio = 2 << 20

// forget takes the pages around n bytes from off out of the process, and what else came with them. Other readers of
// the mapping find them again.
func forget(mapped []byte, off, n int64) {
	from, to := off&^(folio-1), (off+n+folio-1)&^(folio-1)
	// The advice is about memory use alone, so it does not matter whether the system follows it.
	_ = unix.Madvise(mapped[from:min(to, int64(len(mapped)))], unix.MADV_DONTNEED)
}
