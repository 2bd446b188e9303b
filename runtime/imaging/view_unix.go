//go:build unix

package imaging

import (
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// viewFile shows a file to view, mapped, so that only what is looked at is read. A file that becomes shorter meanwhile
// is an error.
func viewFile(f *os.File, size int64, view func([]byte) error) (err error) {
	if size <= 0 {
		return view(nil)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return readWhole(f, size, view)
	}
	defer func() {
		if e := unix.Munmap(data); e != nil && err == nil {
			err = fmt.Errorf("unmap: %w", e)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("read image: %v", p)
		}
	}()
	return view(data)
}
