package platform

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/cuda"
	"unirestorer/runtime/device"
)

func TestSeveralGPUsByName(t *testing.T) {
	infos := []device.Info{
		{Index: 0, Name: "A", UUID: "GPU-1a", Major: 9}, {Index: 1, Name: "old", UUID: "GPU-1b", Major: 7, Minor: 5},
		{Index: 2, Name: "C", UUID: "MIG-2c", Major: 8},
	}
	for _, c := range []struct {
		list string
		want []string
		err  string
	}{
		{list: "all", want: []string{"cuda:GPU-1a", "cuda:MIG-2c"}},
		{list: "0,2", want: []string{"cuda:GPU-1a", "cuda:MIG-2c"}},
		{list: "MIG-2,GPU-1a", want: []string{"cuda:MIG-2c", "cuda:GPU-1a"}},
		{list: "0,7", err: "no GPU 7; there are 0 (A, GPU-1a)"},
		{list: "0,GPU-1a", err: "0 and GPU-1a are the same GPU"},
		{list: "0,", err: "a name is empty"},
		{list: "0,GPU-1", err: "2 GPUs have a UUID that begins with"},
	} {
		got, err := among("cuda:"+c.list, c.list, infos)
		if c.err != "" {
			require.ErrorContains(t, err, c.err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	_, err := among("cuda:all", "all", infos[1:2])
	require.ErrorIs(t, err, cuda.ErrNoDevice)
	for _, one := range []string{"cpu", "sim", "cuda", "cuda:1", "cuda:GPU-1a", ""} {
		got, err := Devices(one)
		require.NoError(t, err)
		require.Equal(t, []string{one}, got)
	}
}
