//go:build !unix

package imaging

import "os"

func viewFile(f *os.File, size int64, view func([]byte) error) error { return readWhole(f, size, view) }
