package devicetest

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
)

func testInfo(t *testing.T, d *rig) {
	info := d.Info()
	require.NotEmpty(t, info.Name)
	require.GreaterOrEqual(t, info.Arch(), 80)
	require.Positive(t, info.SMs)
	require.Positive(t, info.TotalMemory)
	require.Positive(t, info.RegistersPerSM)
	require.Positive(t, info.MaxGridX)
	require.Positive(t, info.MaxGridYZ)
	require.GreaterOrEqual(t, info.MaxThreadsPerBlock, 1024)
	require.GreaterOrEqual(t, info.MaxThreadsPerSM, info.MaxThreadsPerBlock)
	require.GreaterOrEqual(t, info.SharedPerBlock, 48<<10)
	require.Greater(t, info.SharedPerBlockOptin, info.SharedPerBlock)
	require.GreaterOrEqual(t, info.SharedPerSM, info.SharedPerBlockOptin)
}

func testMemory(t *testing.T, d *rig) {
	before, total, err := d.Memory()
	require.NoError(t, err)
	require.Positive(t, before)
	require.GreaterOrEqual(t, total, before)
	d.alloc(64 << 20)
	after, _, err := d.Memory()
	require.NoError(t, err)
	if d.Info().Simulated { // other processes use a card as well
		require.Equal(t, before-64<<20, after)
	}
}

func testAllocRefusals(t *testing.T, d *rig) {
	for _, size := range []int64{0, -1, -1 << 62} {
		_, err := d.Alloc(size)
		require.Error(t, err, "%d bytes", size)
		require.NotErrorIs(t, err, device.ErrOutOfMemory)
		_, err = d.AllocHost(int(size))
		require.Error(t, err, "%d bytes of host memory", size)
	}
	_, err := d.Alloc(1 << 50)
	require.ErrorIs(t, err, device.ErrOutOfMemory)

	b := d.alloc(1)
	require.Zero(t, b.Ptr%256, "memory must be aligned to 256 bytes")
}

func testFree(t *testing.T, d *rig) {
	require.NoError(t, d.Free(device.Buffer{}))
	b, err := d.Alloc(1000)
	require.NoError(t, err)
	require.Error(t, d.Free(device.Buffer{Ptr: b.Ptr + 256, Size: 100}), "a slice was freed")
	require.NoError(t, d.Free(b))
	require.Error(t, d.Free(b), "freed twice")
}

func testCopies(t *testing.T, d *rig) {
	content := make([]byte, 1001)
	for i := range content {
		content[i] = byte(i*7 + i>>8)
	}
	a := d.upload(content)
	require.Equal(t, content, d.download(a))

	b := d.alloc(1003)
	require.NoError(t, d.stream.Memset(b, 0xa5))
	require.NoError(t, d.stream.CopyDtoD(d.slice(b, 2, 1001), a))
	require.NoError(t, d.stream.Memset(d.slice(b, 500, 3), 0x5a))
	require.NoError(t, d.stream.CopyHtoD(d.slice(b, 900, 50), []byte{1, 2, 3}))

	want := append([]byte{0xa5, 0xa5}, content...)
	copy(want[500:], []byte{0x5a, 0x5a, 0x5a})
	copy(want[900:], []byte{1, 2, 3})
	require.Equal(t, want, d.download(b))

	part := make([]byte, 5)
	require.NoError(t, d.stream.CopyDtoH(part, d.slice(b, 499, 10)))
	d.sync()
	require.Equal(t, want[499:504], part)

	require.NoError(t, d.stream.CopyHtoD(a, nil))
	require.NoError(t, d.stream.CopyDtoH(nil, a))
	require.NoError(t, d.stream.CopyDtoD(a, device.Buffer{}))
	require.NoError(t, d.stream.Memset(device.Buffer{}, 1))
	require.Equal(t, content, d.download(a))
}

func testCopyBounds(t *testing.T, d *rig) {
	small, big := d.upload(make([]byte, 16)), d.upload(make([]byte, 17))
	require.Error(t, d.stream.CopyHtoD(small, make([]byte, 17)))
	require.Error(t, d.stream.CopyDtoH(make([]byte, 17), small))
	require.Error(t, d.stream.CopyDtoD(small, big))
	require.Equal(t, make([]byte, 17), d.download(big), "the stream works on")
}

func testHostMemory(t *testing.T, d *rig) {
	in, out := d.hostMemory(4097), d.hostMemory(4097)
	for i := range in {
		in[i] = byte(i ^ i>>7)
	}
	b := d.alloc(len(in))
	require.NoError(t, d.stream.CopyHtoD(b, in))
	require.NoError(t, d.stream.CopyDtoH(out[1:], d.slice(b, 1, len(in)-1)))
	d.sync()
	require.True(t, bytes.Equal(in[1:], out[1:]))
	require.NoError(t, d.Synchronize(context.Background()))
}
