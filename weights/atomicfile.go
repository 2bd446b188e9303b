package weights

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// writeFileAtomic lets write fill a new file beside path and then puts it in path's place, so that path holds either
// what it held before or all of the new content, even after a power failure.
func writeFileAtomic(path string, write func(f *os.File) error) (err error) {
	f, err := createBeside(path)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	syncDir(filepath.Dir(path))
	return nil
}

// createBeside creates a hidden file in path's folder with the permissions an ordinary new file gets, which
// os.CreateTemp does not give.
func createBeside(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(nameBeside(path), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}

// nameBeside returns the path of a hidden temporary entry in the same folder as path.
func nameBeside(path string) string {
	var random [6]byte
	rand.Read(random[:]) // never fails
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp-"+hex.EncodeToString(random[:]))
}

// syncDir makes a rename in dir durable where the system can. Some can't sync folders and none loses the rename
// other than by a power failure, so errors don't matter.
func syncDir(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	_ = d.Sync()
	d.Close()
}
