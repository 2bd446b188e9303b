//go:build !cuda || !linux

package nvml

// Read returns the state of the machine's GPUs; here always [ErrNotBuilt].
func Read() (System, error) { return System{}, ErrNotBuilt }
