package blob

import (
	"fmt"
	"io"
	"runtime/debug"
)

// guard runs fn and turns a memory fault inside it, which is how the system reports that a mapped file has lost its
// end or can't be read, into an error. Other panics pass through.
func (b *Blob) guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		if _, isFault := r.(interface{ Addr() uintptr }); !isFault {
			panic(r)
		}
		err = fmt.Errorf("%s: cut short or unreadable while open: %w", b.name, io.ErrUnexpectedEOF)
	}()
	return fn()
}
