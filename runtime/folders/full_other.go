//go:build !unix && !windows

package folders

var noRoom []error
