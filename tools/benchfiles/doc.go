// Package benchfiles makes the files from which several runtimes compute the same networks: weights with random values and
// raw images.
package benchfiles

import (
	"errors"
	"io/fs"
	"os"
)

// Missing calls create unless there is a file of that name.
func Missing(path string, create func() error) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return create()
}
