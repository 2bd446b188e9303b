package predict

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/tools/gpukit/networks"
)

func TestTheSlowestResourceBinds(t *testing.T) {
	c := Card{SMs: 10, Clock: 1e9, Tensor: 100, FP32: 128, Integer: 64, Half: 64, Convert: 64, Special: 16, L2: 1e12, HBM: 1e11, L2Size: 2e6, Gap: 1e-6, EarlyGap: 5e-7}
	for _, s := range []struct {
		name    string
		counts  Counts
		kernel  float64
		binding Term
	}{
		// 20 blocks are two a multiprocessor: 8e6 instructions, four a cycle on each of ten.
		{"issue", Counts{Blocks: 20, Resident: 2, Instructions: 8e6}, 2e-4, Issue},
		// With 21 the busiest has three of 21.
		{"an uneven grid", Counts{Blocks: 21, Resident: 3, Instructions: 8.4e6}, 8.4e6 * 3 / 21 / 4 / 1e9, Issue},
		{"tensor cores", Counts{Blocks: 10, Resident: 1, Tensor: 1e9, Instructions: 10}, 1e-3, Tensor},
		{"special functions", Counts{Blocks: 10, Resident: 1, Special: 1e5}, 1e5 * 32 / 10 / 16 / 1e9, Special},
		{"two waves of dependent steps", Counts{Blocks: 21, Resident: 2, Path: 5000}, 1e-5, Latency},
		{"L2", Counts{Blocks: 10, Resident: 1, L2: 1e7, HBM: 1e6}, 1e-5, L2},
		{"beyond L2", Counts{Blocks: 10, Resident: 1, L2: 4e6, HBM: 4e6}, 3e-5, HBM},
		{"nothing to do", Counts{Blocks: 1, Resident: 1, Path: 10}, 1e-8, Launching},
	} {
		got := c.Time(s.counts)
		require.InEpsilon(t, s.kernel, got.Kernel, 1e-9, s.name)
		require.Equal(t, s.binding, got.Binding, s.name)
		require.InEpsilon(t, s.kernel+1e-6, got.Total(), 1e-9, s.name)
	}
	early := c.Time(Counts{Blocks: 1, Resident: 1, Path: 5000, Early: true})
	require.InEpsilon(t, 5.5e-6, early.Total(), 1e-9)
}

func TestCardsAreFound(t *testing.T) {
	for _, c := range Cards() {
		found, err := Find(c.Name)
		require.NoError(t, err)
		require.Equal(t, c, found)
		require.NotEmpty(t, c.Source)
		require.Equal(t, c.Arch, c.info().Arch())
		require.Equal(t, c.Arch, Of(device.Info{Name: c.Title, Major: c.Arch / 10, Minor: c.Arch % 10, SMs: c.SMs}).Arch)
	}
	_, err := Find("voodoo2")
	require.ErrorContains(t, err, `unknown GPU "voodoo2" (known: h200, `)
	require.Equal(t, 77, Of(device.Info{Name: "something", Major: 9, SMs: 77}).SMs)
}

// What is counted over some blocks and scaled is what the whole launch does.
func TestASampleStandsForAllBlocks(t *testing.T) {
	n := networks.Network{Architecture: "restormer", Args: []byte(`{"num_blocks":[1,1,1,1],"num_refinement_blocks":1}`)}
	g, err := n.Build(nil, 1, 64, 64)
	require.NoError(t, err)
	totals := func(blocks int) (all Counts, path float64) {
		defer func(was int) { sample = was }(sample)
		sample = blocks
		card, err := Find("h200")
		require.NoError(t, err)
		c, err := NewCounter(card)
		require.NoError(t, err)
		defer func() { require.NoError(t, c.Close()) }()
		l, err := c.Graph(context.Background(), g)
		require.NoError(t, err)
		for _, node := range l.Counts {
			for _, n := range node {
				all.Instructions += n.Instructions
				all.Tensor += n.Tensor
				all.L2 += n.L2
				path += n.Path
			}
		}
		return all, path
	}
	some, path := totals(sample)
	whole, wholePath := totals(0)
	require.InEpsilon(t, whole.Instructions, some.Instructions, 0.05)
	require.InEpsilon(t, whole.Tensor, some.Tensor, 0.05)
	require.InEpsilon(t, whole.L2, some.L2, 0.05)
	require.InEpsilon(t, wholePath, path, 0.05)
}
