package simd

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func TestBestIsAvailable(t *testing.T) {
	available := Available()
	require.Equal(t, Generic, available[0])
	require.Equal(t, available[len(available)-1], Best().ISA())
}

func TestForRefusesUnknownInstructions(t *testing.T) {
	_, err := For(ISA(9))
	require.EqualError(t, err, "this machine has no isa(9) instructions")
}

func TestAlignedStartsOnCacheLine(t *testing.T) {
	for n := range 100 {
		x := Aligned(n)
		require.Len(t, x, n)
		if n > 0 {
			require.Zero(t, uintptr(unsafe.Pointer(&x[0]))%64)
		}
	}
}

func TestWeightsOfAnotherISAAreRefused(t *testing.T) {
	available := Available()
	if len(available) < 2 {
		t.Skip("this machine has one kind of instructions")
	}
	k, err := For(Generic)
	require.NoError(t, err)
	w := k.Pack(Rows(make([]float32, 4), 2), 2, 2)
	require.Panics(t, func() {
		Best().MatMul(&Product{M: 1, A: []Segment{{Row(make([]float32, 2)), 2}}, B: w, C: Row(make([]float32, 2))})
	})
}
