package device_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
)

func TestLaunchErrorNamesKernelAndShape(t *testing.T) {
	err := error(&device.LaunchError{Kernel: "scale", Err: device.ErrOutOfMemory,
		Shape: device.Shape{Grid: device.D2(3, 2), Block: device.D1(128), Shared: 64}})
	require.EqualError(t, err, "kernel scale (grid (3,2,1), block (128,1,1), 64 bytes shared): out of device memory")
	require.True(t, errors.Is(err, device.ErrOutOfMemory))
}
