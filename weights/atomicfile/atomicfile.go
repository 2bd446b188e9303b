// Package atomicfile writes files that appear whole or not at all.
package atomicfile

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Write writes a file so that path holds either what it held before or all of what write wrote, whatever
// happens in between: write gets a temporary file in the same directory, which is synced and renamed over path once
// write has returned nil, and is removed on an error, a panic or a cancelled ctx.
//
// An existing file keeps its permissions, and must be writable; a symbolic link stays and its target is replaced.
// Something that is not a regular file (a terminal, a pipe, /dev/null) is written to directly.
func Write(ctx context.Context, path string, write func(w io.Writer) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	target, mode, err := resolveTarget(path)
	if err != nil {
		return err
	}
	if mode != nil && !mode.IsRegular() {
		f, err := os.OpenFile(target, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		err = write(&ctxWriter{ctx, f})
		return wrapWrite(path, errors.Join(err, f.Close()))
	}
	return wrapWrite(path, replaceFile(ctx, target, mode, write))
}

func wrapWrite(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("write %s: %w", path, err)
}

// resolveTarget follows links and looks at what is there: mode is nil if nothing is. Others may put the file there or take it
// away meanwhile.
func resolveTarget(path string) (target string, mode *fs.FileMode, err error) {
	if path == "" {
		return "", nil, errors.New("write: empty file name")
	}
	target, err = filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if st, lerr := os.Lstat(path); lerr == nil && st.Mode()&fs.ModeSymlink != 0 {
			return "", nil, fmt.Errorf("write %s: symbolic link to nowhere", path)
		}
		return path, nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("write %s: %w", path, err)
	}
	mode, err = writable(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return target, nil, nil
	case err != nil:
		return "", nil, fmt.Errorf("write %s: %w", path, err)
	}
	return target, mode, nil
}

// writable returns the mode of what is at path, unless it is a folder or a file that must not be replaced.
func writable(path string) (*fs.FileMode, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	m := st.Mode()
	if m.IsDir() {
		return nil, errors.New("is a directory")
	}
	if m.IsRegular() {
		// Renaming over a read-only file would succeed; whoever made it read-only meant it to stay.
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		f.Close()
	}
	return &m, nil
}

func replaceFile(ctx context.Context, target string, mode *fs.FileMode, write func(w io.Writer) error) (err error) {
	f, err := createTemp(target)
	if err != nil {
		return err
	}
	closed, renamed := false, false
	defer func() {
		if !closed {
			f.Close()
		}
		if !renamed {
			os.Remove(f.Name())
		}
	}()
	if mode != nil {
		if err := f.Chmod(mode.Perm()); err != nil {
			return err
		}
	}
	if err := write(&ctxWriter{ctx, f}); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	closed = true
	if err := f.Close(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), target); err != nil {
		return err
	}
	renamed = true
	SyncDir(filepath.Dir(target))
	return nil
}

// createTemp is os.CreateTemp with the permissions of an ordinary new file (0666 less the umask) instead of 0600.
func createTemp(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(Beside(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}

// Beside returns the path of a hidden temporary entry in the folder of path. It says nothing of what is there, but 48
// random bits make sure that nothing is.
func Beside(path string) string {
	base := filepath.Base(path)
	if len(base) > 200 { // leave room for the suffix in file systems that allow 255 bytes
		base = base[:200]
	}
	var random [6]byte
	rand.Read(random[:]) // never fails
	return filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%x.tmp", base, random))
}

// SyncDir makes a rename in dir durable where the system can. Some can't sync folders, and none loses the rename other
// than by a power failure, so there is no error.
func SyncDir(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	_ = d.Sync()
	d.Close()
}

// ctxWriter fails once its context is cancelled.
type ctxWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c *ctxWriter) Write(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(b)
}
