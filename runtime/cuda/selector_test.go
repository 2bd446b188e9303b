package cuda

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
)

func TestSelectorNamesOneGPU(t *testing.T) {
	infos := []device.Info{
		{Index: 0, Name: "A", UUID: "GPU-1f2e3d4c-0000-0000-0000-000000000001"},
		{Index: 1, Name: "B", UUID: "GPU-1f2e3d4c-0000-0000-0000-000000000002"},
		{Index: 2, Name: "C", UUID: "GPU-20000000-0000-0000-0000-000000000003"},
		{Index: 3, Name: "D", UUID: "MIG-30000000-0000-0000-0000-000000000004"},
	}
	for _, c := range []struct {
		selector string
		want     int
		err      string
	}{
		{selector: "", want: 0},
		{selector: "cuda", want: 0},
		{selector: "cuda:", want: 0},
		{selector: "0", want: 0},
		{selector: " 2 ", want: 2},
		{selector: "cuda:1", want: 1},
		{selector: "CUDA:1", want: 1},
		{selector: "GPU-20000000-0000-0000-0000-000000000003", want: 2},
		{selector: "gpu-2", want: 2},
		{selector: "2000", want: 2},
		{selector: "cuda:MIG-30000000-0000-0000-0000-000000000004", want: 3},
		{selector: "mig-3", want: 3},
		{selector: "3000", want: 3},
		{selector: "gpu-3", err: `no GPU has the UUID "gpu-3"`},
		{selector: "cuda:1F2E3D4C-0000-0000-0000-000000000002", want: 1},
		{selector: "1f2e", err: `2 GPUs have a UUID that begins with "1f2e"; there are 0 (A, GPU-1f2e3d4c-`},
		{selector: "4", err: "no GPU 4; there are 0 (A, "},
		{selector: "-1", err: "no GPU -1"},
		{selector: "cudax", err: `no GPU has the UUID "cudax"`},
		{selector: "rtx", err: `no GPU has the UUID "rtx"; there are 0 (A, `},
	} {
		got, err := Choose(infos, c.selector)
		if c.err != "" {
			require.ErrorContains(t, err, c.err, "%q", c.selector)
			continue
		}
		require.NoError(t, err, "%q", c.selector)
		require.Equal(t, c.want, got, "%q", c.selector)
	}
	_, err := Choose(nil, "")
	require.ErrorIs(t, err, ErrNoDevice)
}

func TestErrorSaysCallCauseAndRemedy(t *testing.T) {
	for _, c := range []struct {
		err  Error
		want string
	}{
		{Error{"cuMemAlloc", 2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}, "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory"},
		{Error{Call: "cuInit", Code: 12345}, "cuInit: CUDA error 12345"},
		{Error{"cuInit", 803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
			"cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803): system has unsupported display driver / cuda driver combination; the NVIDIA driver was updated while loaded: reboot"},
	} {
		require.EqualError(t, &c.err, c.want)
	}
	require.True(t, errors.Is(&Error{Code: 2}, device.ErrOutOfMemory))
	require.False(t, errors.Is(&Error{Code: 3}, device.ErrOutOfMemory))
}

func FuzzSelector(f *testing.F) {
	infos := []device.Info{{Index: 0, UUID: "GPU-1f2e"}, {Index: 1, UUID: "GPU-2000"}}
	for _, s := range []string{"", "cuda:1", "1", "GPU-2", "-1", "cuda:cuda:", "\x00", "99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, selector string) {
		at, err := Choose(infos, selector)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		require.Contains(t, []int{0, 1}, at)
	})
}

func TestLibraryOfAnotherLibcIsRecognised(t *testing.T) {
	require.True(t, foreignLibc("Error relocating /usr/lib/libcuda.so.1: __register_atfork: symbol not found"))
	require.True(t, foreignLibc("Dynamic loading not supported"))
	require.False(t, foreignLibc("Error loading shared library libcuda.so.1: No such file or directory"))
	require.False(t, foreignLibc("libcuda.so.1: cannot open shared object file: No such file or directory"))
}

func TestFaultsThatEndAProcessAreKnown(t *testing.T) {
	for code, want := range map[int]bool{
		2: false, 46: true, 100: false, 214: true, 220: true, 400: false, 700: true, 701: false, 702: true, 704: false, 709: true,
		710: true, 712: false, 714: true, 715: true, 716: true, 717: true, 718: true, 719: true, 720: false, 801: false, 999: true,
	} {
		require.Equal(t, want, Broken(fmt.Errorf("run: %w", &Error{Code: code})), code)
	}
	require.False(t, Broken(errors.New("CUDA_ERROR_ILLEGAL_ADDRESS")))
	require.False(t, Broken(nil))
}
