//go:build cuda && linux

package cuda_test

import (
	"errors"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/cuda"
	"unirestorer/runtime/device"
	"unirestorer/runtime/device/devicetest"
)

// gpus returns what List does; without a GPU it skips the test.
func gpus(t testing.TB) []device.Info {
	infos, err := cuda.List()
	if errors.Is(err, cuda.ErrNoDevice) {
		t.Skipf("needs a GPU: %v", err)
	}
	require.NoError(t, err)
	return infos
}

// open returns GPU index with opt, closed at the end of the test.
func open(t testing.TB, index int, opt cuda.Options) device.Device {
	d, err := cuda.Open(strconv.Itoa(index), opt)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func TestConformance(t *testing.T) {
	for _, info := range gpus(t) {
		t.Run(strconv.Itoa(info.Index), func(t *testing.T) {
			devicetest.Run(t, func(t testing.TB) device.Device {
				d, err := cuda.Open(info.UUID, cuda.Options{})
				require.NoError(t, err)
				require.Equal(t, info, d.Info())
				return d
			})
		})
	}
}
