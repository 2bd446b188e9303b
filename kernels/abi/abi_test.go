package abi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/kernels/abi"
)

func TestArgsFollowTheNaturalAlignmentOfParameters(t *testing.T) {
	var a abi.Args
	a.U8(1).Ptr(0x1122334455667788).I32(-2).F64(1).U16(0x3c00).F32(0.5).Struct(16, []byte{1, 2, 3})
	require.Equal(t, []abi.Field{{Offset: 0, Size: 1}, {Offset: 8, Size: 8}, {Offset: 16, Size: 4}, {Offset: 24, Size: 8}, {Offset: 32, Size: 2}, {Offset: 36, Size: 4}, {Offset: 48, Size: 3}}, a.Fields())
	require.Equal(t, []byte{0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11}, a.Bytes()[8:16])
	require.Equal(t, []byte{0xfe, 0xff, 0xff, 0xff}, a.Bytes()[16:20])
	require.Equal(t, []byte{1, 2, 3}, a.Bytes()[48:])
}

func TestArgsReuseDoesNotAllocate(t *testing.T) {
	var a abi.Args
	fill := func() { a.Reset().Ptr(1).Ptr(2).I32(3).F32(4).I64(5) }
	fill()
	require.Zero(t, testing.AllocsPerRun(100, fill))
}

func TestPaddingOfReusedArgsIsZero(t *testing.T) {
	var a abi.Args
	a.U64(^uint64(0)).U64(^uint64(0))
	a.Reset().U8(1).U64(2)
	require.Equal(t, []byte{1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0}, a.Bytes())
}

func TestSliceStaysInsideTheBuffer(t *testing.T) {
	b := abi.Buffer{Ptr: 0x1000, Size: 64}
	for _, c := range []struct {
		off, n int64
		ok     bool
	}{{0, 64, true}, {64, 0, true}, {16, 48, true}, {16, 49, false}, {-1, 4, false}, {65, 0, false}, {1, 1 << 62, false}, {4, -1, false}} {
		s, err := b.Slice(c.off, c.n)
		require.Equal(t, c.ok, err == nil, "%+v", c)
		if c.ok {
			require.Equal(t, abi.Buffer{Ptr: 0x1000 + abi.Ptr(c.off), Size: c.n}, s)
		}
	}
}
