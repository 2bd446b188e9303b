//go:build !unix

package blob

import (
	"errors"
	"os"
)

func mapFile(*os.File, int64) ([]byte, func() error, error) {
	return nil, nil, errors.ErrUnsupported
}

// forget has nothing to do where files are not mapped.
func forget([]byte, int64, int64) {}
