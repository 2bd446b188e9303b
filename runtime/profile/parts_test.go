package profile

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/runtime/ptxsim"
)

func TestGroupsAddUpAndTheMostExpensiveComesFirst(t *testing.T) {
	parts := []Part{
		{Name: "a.0.x", Stage: "a", Kind: "conv", Cost: graph.Cost{MACs: 1, AttentionMACs: 2, Executed: 3}, Bytes: 10, Operations: 6, Seconds: 1,
			Launches: []Launch{{Kernel: "k", Bytes: 4, Operations: 2, Predicted: 0.5}, {Kernel: "l", Bytes: 6, Operations: 4, Predicted: 0.25}}},
		{Name: "b.0.x", Stage: "b", Kind: "conv", Cost: graph.Cost{MACs: 10}, Bytes: 5, Operations: 20, Seconds: 4},
		{Name: "a.1.x", Stage: "a", Kind: "norm", Bytes: 1, Seconds: 2, Launches: []Launch{{Kernel: "k", Bytes: 1, Predicted: 1}}},
	}
	stages := groupBy(parts, byStage)
	require.Equal(t, []group{
		{Name: "b", Parts: 1, Cost: graph.Cost{MACs: 10}, Bytes: 5, Operations: 20, Seconds: 4},
		{Name: "a", Parts: 2, Launches: 3, Cost: graph.Cost{MACs: 1, AttentionMACs: 2, Executed: 3}, Bytes: 11, Operations: 6, Seconds: 3, Predicted: 1.75},
	}, stages)
	require.Equal(t, "conv", groupBy(parts, byKind)[0].Name)
	require.Equal(t, []group{
		{Name: "k", Parts: 2, Launches: 2, Bytes: 5, Operations: 2, Predicted: 1.5},
		{Name: "l", Parts: 1, Launches: 1, Bytes: 6, Operations: 4, Predicted: 0.25},
	}, byKernel(parts))
}

func TestCountersAddUpByKernel(t *testing.T) {
	report := func(kernel string, instructions uint64, share float64) ptxsim.Report {
		r := ptxsim.Report{Kernel: kernel, Registers: int(instructions), Occupancy: ptxsim.Occupancy{Share: share}}
		r.Counters.WarpInstructions = instructions
		r.Counters.ByClass = map[string]uint64{"memory": instructions}
		r.Counters.TensorMACs = 5
		r.Counters.GlobalLoad.Requests, r.Counters.GlobalLoad.Sectors, r.Counters.GlobalLoad.Bytes = 2, 8, 64
		r.Counters.GlobalStore.Requests, r.Counters.GlobalStore.Sectors = 1, 1
		r.Counters.SharedLoad.Conflicts, r.Counters.Matrix.Conflicts = 3, 4
		return r
	}
	all := countersOf([]ptxsim.Report{report("a", 10, 0.5), report("b", 100, 1), report("a", 20, 0.25)})
	require.Equal(t, []Counters{
		{Kernel: "b", Launches: 1, Instructions: 100, ByClass: map[string]uint64{"memory": 100}, TensorMACs: 5, Requests: 3, Sectors: 9, Requested: 64, Conflicts: 7, Registers: 100, Occupancy: 1},
		{Kernel: "a", Launches: 2, Instructions: 30, ByClass: map[string]uint64{"memory": 30}, TensorMACs: 10, Requests: 6, Sectors: 18, Requested: 128, Conflicts: 14, Registers: 20, Occupancy: 0.25},
	}, all)
	require.Equal(t, 3.0, all[0].sectorsPerRequest())
	total := total(all)
	require.Equal(t, uint64(130), total.Instructions)
	require.Equal(t, 3, total.Launches)
	require.Equal(t, 0.25, total.Occupancy)
	require.Zero(t, (&Counters{}).sectorsPerRequest())
}
