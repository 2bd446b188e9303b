//go:build !cuda || !linux

package cuda

import "unirestorer/runtime/device"

// List returns the GPUs of this machine; here always [ErrNotBuilt].
func List() ([]device.Info, error) { return nil, ErrNotBuilt }

// Open makes a GPU ready for use; here always [ErrNotBuilt].
func Open(selector string, opt Options) (device.Device, error) { return nil, ErrNotBuilt }

// Probe asks the driver for its GPUs; here always [ErrNotBuilt].
func Probe() (Driver, error) { return Driver{}, ErrNotBuilt }
