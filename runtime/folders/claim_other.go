//go:build !windows && (!unix || aix || solaris)

package folders

import "os"

// lockedFile is nothing where there are no locks that end with their process.
func lockedFile(string) (*os.File, error) { return nil, nil }

func removeLocked(string, *os.File) {}
