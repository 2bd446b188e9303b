// Package blob gives safe random access to the bytes of a weight file, whether it is memory-mapped, read on demand or
// already in memory.
//
// A mapping must not go away under a reader. Blob counts the views handed out: Close makes new accesses fail at once
// with an error that is fs.ErrClosed, and the mapping itself is released with the last view.
package blob

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"sync"
)

// Blob is a read-only, fixed-size run of bytes. All methods may be called at the same time.
type Blob struct {
	name   string
	size   int64
	mapped []byte      // all bytes when addressable, else nil
	reader io.ReaderAt // used when mapped is nil

	// stat asks for the present size of the file behind a mapping; nil for memory, which cannot shrink.
	stat func() (fs.FileInfo, error)

	mu      sync.Mutex
	views   int
	closed  bool
	release func() error
}

// Open maps the file at path, or prepares to read it on demand where the system can't map it.
func Open(path string) (*Blob, error) {
	// Asked before opening, as opening a named pipe would wait for a writer.
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	b := &Blob{name: path, size: info.Size(), reader: f, release: f.Close}
	if data, unmap, err := mapFile(f, b.size); err == nil {
		b.mapped = data
		b.stat = f.Stat
		b.release = func() error { return errors.Join(unmap(), f.Close()) }
	}
	return b, nil
}

// New wraps size bytes of r, which errors call name. Closing the blob calls release, which may be nil.
func New(name string, r io.ReaderAt, size int64, release func() error) *Blob {
	if release == nil {
		release = func() error { return nil }
	}
	return &Blob{name: name, size: size, reader: r, release: release}
}

// FromBytes wraps bytes in memory, which must not change afterwards.
func FromBytes(name string, data []byte) *Blob {
	if data == nil {
		data = []byte{}
	}
	return &Blob{name: name, size: int64(len(data)), mapped: data, release: func() error { return nil }}
}

// Name is the path, or what New and FromBytes were told to call the bytes.
func (b *Blob) Name() string { return b.name }

// Size is the number of bytes.
func (b *Blob) Size() int64 { return b.size }

// Addressable says whether View and Do give the bytes without copying them.
func (b *Blob) Addressable() bool { return b.mapped != nil }

// Close ends all access. Views already handed out stay valid until they are released. Close is idempotent.
func (b *Blob) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	last := b.views == 0
	b.mu.Unlock()
	if last {
		return b.release()
	}
	return nil
}

func (b *Blob) acquire() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return fmt.Errorf("%s: %w", b.name, fs.ErrClosed)
	}
	b.views++
	return nil
}

func (b *Blob) drop() {
	b.mu.Lock()
	b.views--
	last := b.closed && b.views == 0
	b.mu.Unlock()
	if last {
		// Nobody is left to hear of an error in letting go of a file that was only read.
		_ = b.release()
	}
}

func (b *Blob) check(off, n int64) error {
	if off < 0 || n < 0 || off > b.size || n > b.size-off {
		return fmt.Errorf("%s: bytes [%d, +%d) are outside the %d bytes of the file", b.name, off, n, b.size)
	}
	if n > math.MaxInt {
		return fmt.Errorf("%s: %d bytes do not fit in memory", b.name, n)
	}
	return nil
}

// View returns n bytes from off and a function that gives them back, to be called once the bytes are no longer used.
// They must not be written to. With a mapping they are the file itself, so they follow it if someone overwrites it,
// and reading them after someone has cut it short is fatal to the process: Do and ReadAt turn that into an error.
func (b *Blob) View(off, n int64) (data []byte, release func(), err error) {
	if err := b.check(off, n); err != nil {
		return nil, nil, err
	}
	if b.mapped == nil {
		data = make([]byte, n)
		if _, err := b.ReadAt(data, off); err != nil {
			return nil, nil, err
		}
		return data, func() {}, nil
	}
	if err := b.acquire(); err != nil {
		return nil, nil, err
	}
	if err := b.checkFile(); err != nil {
		b.drop()
		return nil, nil, err
	}
	var once sync.Once
	return b.mapped[off : off+n : off+n], func() { once.Do(b.drop) }, nil
}

// checkFile finds a file that has been cut short since it was mapped.
func (b *Blob) checkFile() error {
	if b.stat == nil {
		return nil
	}
	info, err := b.stat()
	if err != nil {
		return err
	}
	if info.Size() < b.size {
		return fmt.Errorf("%s: cut short from %d to %d bytes while open: %w", b.name, b.size, info.Size(), io.ErrUnexpectedEOF)
	}
	return nil
}

// Do calls fn with n bytes from off: the file's own where they are addressable, else a copy in scratch, which grows
// when it is too small. fn must neither keep nor change the bytes. If a mapped file is cut short while fn reads it, Do
// returns an error.
func (b *Blob) Do(off, n int64, scratch []byte, fn func(data []byte) error) error {
	if err := b.check(off, n); err != nil {
		return err
	}
	if b.mapped == nil {
		if int64(cap(scratch)) < n {
			scratch = make([]byte, n)
		}
		scratch = scratch[:n]
		if _, err := b.ReadAt(scratch, off); err != nil {
			return err
		}
		return fn(scratch)
	}
	if err := b.acquire(); err != nil {
		return err
	}
	defer b.drop()
	data := b.mapped[off : off+n : off+n]
	err := b.guard(func() error { return fn(data) })
	if b.stat != nil && n >= forgetBytes {
		forget(b.mapped, off, n)
	}
	if err == nil {
		err = b.checkFile() // a file cut inside its last page reads as zeros there
	}
	return err
}

// forgetBytes is the size from which pages of a mapped file are given back once they were read: whoever streams a file
// larger than memory should not appear to hold all of it. The pages stay in the system's cache.
const forgetBytes = 16 << 10

// ReadAt fills p from off. Unlike io.ReaderAt in general it returns io.EOF only with fewer bytes than len(p).
func (b *Blob) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("%s: negative offset %d", b.name, off)
	}
	if off >= b.size {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	if err := b.acquire(); err != nil {
		return 0, err
	}
	defer b.drop()
	want := p[:min(int64(len(p)), b.size-off)]
	var n int
	var err error
	if b.mapped != nil {
		err = b.guard(func() error {
			n = copy(want, b.mapped[off:])
			return b.checkFile()
		})
	} else {
		n, err = b.reader.ReadAt(want, off)
		switch {
		case n == len(want):
			err = nil
		case errors.Is(err, io.EOF):
			err = fmt.Errorf("%s: ends at byte %d, %d expected: %w", b.name, off+int64(n), b.size, io.ErrUnexpectedEOF)
		default:
			err = fmt.Errorf("%s: %w", b.name, err)
		}
	}
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}
