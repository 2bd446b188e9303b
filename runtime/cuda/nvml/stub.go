//go:build !cuda || !linux

package nvml

import "errors"

// Read returns the state of the machine's GPUs; here always an error.
func Read() (System, error) { return System{}, errors.New("built without CUDA support") }
