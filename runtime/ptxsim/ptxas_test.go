package ptxsim_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

const assemblerReport = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'row_sum' for 'sm_80'
ptxas info    : Function properties for row_sum
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 11 registers, used 1 barriers, 128 bytes smem, 372 bytes cmem[0]
ptxas info    : Compiling entry function 'median' for 'sm_80'
ptxas info    : Function properties for median
    40 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 25 registers, used 0 barriers, 40 bytes cumulative stack size, 372 bytes cmem[0]
`

func TestAssemblerReportGivesRegisters(t *testing.T) {
	res, err := ptxsim.ParseAssemblerReport(strings.NewReader(assemblerReport))
	require.NoError(t, err)
	require.Equal(t, map[string]ptxsim.Resources{
		"row_sum": {Registers: 11, Shared: 128},
		"median":  {Registers: 25, SpillBytes: 20, StackBytes: 40},
	}, res)

	r := newRig(t, ptxsim.Options{Arch: 80, Registers: map[string]int{"row_sum": 100}}, "reduce", sample(t, "reduce.ptx"))
	var a device.Args
	require.NoError(t, r.launch("row_sum", device.D1(1), device.D1(256), 0, a.Buf(r.floatsOf(300)).Buf(r.alloc(4)).I32(300)))
	rep := r.dev.LastReport()
	require.Equal(t, 100, rep.Registers)
	require.Equal(t, 2, rep.Occupancy.Blocks)
	require.Equal(t, "registers", rep.Occupancy.Limit)
}

func FuzzParseAssemblerReport(f *testing.F) {
	f.Add(assemblerReport)
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = ptxsim.ParseAssemblerReport(strings.NewReader(text))
	})
}
