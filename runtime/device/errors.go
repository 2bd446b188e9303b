package device

import (
	"errors"
	"fmt"
)

// ErrOutOfMemory is wrapped by the error of an allocation that does not fit.
var ErrOutOfMemory = errors.New("out of device memory")

// LaunchError says which kernel failed and how it was launched.
type LaunchError struct {
	Kernel string
	Shape  Shape
	Err    error
}

// Error returns the kernel, the launch shape and the cause.
func (e *LaunchError) Error() string {
	return fmt.Sprintf("kernel %s (%v): %v", e.Kernel, e.Shape, e.Err)
}

// Unwrap returns the cause.
func (e *LaunchError) Unwrap() error { return e.Err }
