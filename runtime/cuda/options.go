package cuda

import "unirestorer/runtime/device"

// Options are the choices at [Open]. The zero value uses the whole memory.
type Options struct {
	// MemoryBudget is how many bytes of device memory may be allocated, 0 for no limit but the card's.
	MemoryBudget int64
	// Synchronous waits after every launch, so that the error of a failing kernel names that kernel and not the
	// last one launched. It costs the overlap of host and device, and is for finding errors.
	Synchronous bool
}

// Updater is implemented by the graph instances ([device.Exec]) of this package.
type Updater interface {
	// Update gives the instance the arguments and addresses of g, which costs far less than a new instance. It
	// fails, and leaves the instance as it was, when g does not consist of the same operations in the same order.
	Update(g device.Graph) error
}

// Owner is implemented by the devices of this package.
type Owner interface {
	// Live describes what has been made on the device and not been freed or closed, for leak checks.
	Live() []string
}
