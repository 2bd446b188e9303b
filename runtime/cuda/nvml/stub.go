//go:build !cuda || !linux

package nvml

// Read returns the state of the machine's GPUs; here always an error.
func Read() (System, error) { return System{}, errNotBuilt }
