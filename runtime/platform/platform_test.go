package platform

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestListedDevicesOpenAndOthersDoNot(t *testing.T) {
	for _, d := range List() {
		require.NotEmpty(t, d.Name)
		b, err := Open(d.Name, Options{Threads: 1})
		if !d.Available {
			require.NotEmpty(t, d.Reason)
			require.Error(t, err)
			continue
		}
		require.NoError(t, err)
		require.NotEmpty(t, d.Description)
		require.Equal(t, d.Name, b.Info().Name)
		require.NoError(t, b.Close())
	}
	b, err := Open("", Options{Threads: 2})
	require.NoError(t, err)
	require.Equal(t, 2, b.Info().Threads)
	require.NoError(t, b.Close())
	for _, name := range []string{"CPU", "cpu:1", "gpu", "cpu "} {
		_, err := Open(name, Options{})
		require.ErrorIs(t, err, ErrUnknownDevice, name)
		require.ErrorContains(t, err, name)
	}
	_, err = Open("cpu", Options{Threads: -1})
	require.Error(t, err)
}
