// Package atomicfile writes files that appear whole or not at all.
package atomicfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
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

// resolveTarget follows links and looks at what is there: mode is nil if nothing is.
func resolveTarget(path string) (target string, mode *fs.FileMode, err error) {
	if path == "" {
		return "", nil, errors.New("write: empty file name")
	}
	target, err = filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := os.Lstat(path); lerr == nil {
			return "", nil, fmt.Errorf("write %s: symbolic link to nowhere", path)
		}
		return path, nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("write %s: %w", path, err)
	}
	st, err := os.Stat(target)
	if err != nil {
		return "", nil, fmt.Errorf("write %s: %w", path, err)
	}
	m := st.Mode()
	if m.IsDir() {
		return "", nil, fmt.Errorf("write %s: is a directory", path)
	}
	if m.IsRegular() {
		// Renaming over a read-only file would succeed; whoever made it read-only meant it to stay.
		f, err := os.OpenFile(target, os.O_WRONLY, 0)
		if err != nil {
			return "", nil, fmt.Errorf("write: %w", err)
		}
		f.Close()
	}
	return target, &m, nil
}

func replaceFile(ctx context.Context, target string, mode *fs.FileMode, write func(w io.Writer) error) (err error) {
	dir := filepath.Dir(target)
	f, err := createTemp(dir, filepath.Base(target))
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
	// The new name is durable once its directory is; not every system can sync one, and the file is complete anyway.
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		d.Close()
	}
	return nil
}

// createTemp is os.CreateTemp with the permissions of an ordinary new file (0666 less the umask) instead of 0600.
func createTemp(dir, base string) (*os.File, error) {
	const attempts = 1000
	if len(base) > 200 { // leave room for the suffix in file systems that allow 255 bytes
		base = base[:200]
	}
	for range attempts {
		name := filepath.Join(dir, fmt.Sprintf(".%s.%08x.tmp", base, rand.Uint32()))
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
	return nil, fmt.Errorf("no free name for a temporary file in %s", dir)
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
