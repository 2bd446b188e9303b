package proctime

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWorkTakesProcessorTime(t *testing.T) {
	before := Used()
	sum := uint64(1)
	for Used() == before { // the clock is one of nanoseconds or of ticks
		for i := range uint64(1 << 16) {
			sum = sum*31 + i
		}
	}
	require.Greater(t, Used(), before)
	require.NotZero(t, sum)
}
