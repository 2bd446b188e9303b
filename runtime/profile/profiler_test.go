package profile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu"
	"unirestorer/runtime/experts"
)

// little is a model of four small experts, two of them of one structure, with
// random weights.
func little(t testing.TB) *experts.Model {
	t.Helper()
	mean, std := models.CLIPNormalisation()
	base := 1
	nafnet := json.RawMessage(`{"width":8,"enc_blk_nums":[1],"middle_blk_num":1,"dec_blk_nums":[1]}`)
	restormer := json.RawMessage(`{"dim":8,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,2,2,4]}`)
	c := &models.Config{
		Format: models.ConfigFormat, Version: models.ConfigVersion, Name: "little",
		Estimator: models.EstimatorConfig{
			Architecture: models.DACLIPName, Mean: mean, Std: std, Prefix: "encoder.",
			Args: json.RawMessage(`{"embed_dim":16,"vision_cfg":{"image_size":16,"layers":1,"width":16,"head_width":8,"patch_size":8}}`),
		},
		Router: models.RouterConfig{Width: 16, Prefix: "router."},
		Tree: models.Tree{Levels: []string{"coarse", "fine"}, Leaves: []models.Leaf{
			{Name: "rain", Experts: []int{0, 1}}, {Name: "noise", Experts: []int{0, 2}}, {Name: "dark", Experts: []int{0, 3}},
		}},
		Experts: []models.ExpertConfig{
			{Name: "all", Architecture: models.NAFNetName, Args: nafnet, Prefix: "e0."},
			{Name: "rain", Architecture: models.RestormerName, Args: restormer, Prefix: "e1.", Level: 1},
			{Name: "noise", Architecture: models.NAFNetName, Args: nafnet, Prefix: "e2.", Level: 1},
			{Name: "dark", Architecture: models.LoRARestormerName, Args: restormer, Prefix: "e3.", Level: 1, Base: &base},
		},
	}
	require.NoError(t, c.Check())
	src, err := models.RandomWeights(c, 3)
	require.NoError(t, err)
	return &experts.Model{Config: c, Source: src, Path: "little"}
}

func onHost(t testing.TB) *Profiler {
	t.Helper()
	b, err := cpu.New(cpu.Options{Threads: 2})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return &Profiler{
		Model: little(t), Backend: b, Peaks: &Peaks{1e12, 1e11, "given", ""},
		Method: Method{Warmup: 1, MinRuns: 8, MaxRuns: 8, MaxSeconds: 10, NodeRuns: 2},
	}
}

func onSimulator(t testing.TB, m *experts.Model) *Profiler {
	t.Helper()
	g, err := FindGPU("h200")
	require.NoError(t, err)
	s, err := NewSimulator(g, 2)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return &Profiler{Model: m, Backend: s, Simulator: s, GPU: &g, CountUpTo: 1e8, Method: Method{MinRuns: 1, MaxRuns: 1}}
}

func TestHostProfileCountsAndMeasures(t *testing.T) {
	p := onHost(t)
	ctx := context.Background()
	for _, target := range Targets([]int{0, 1, 3}, true, []Size{{40, 24}}, []int{1, 2}) {
		n, err := p.measureNetwork(ctx, target)
		require.NoError(t, err)
		s, err := target.subject(p.Model, p.Adapters)
		require.NoError(t, err)
		g, err := s.build(nil)
		require.NoError(t, err)
		require.Equal(t, g.Cost(), n.Cost)
		planned, err := p.Backend.Plan(g)
		require.NoError(t, err)
		require.Equal(t, planned, n.Memory, "what runs holds what was planned")
		require.Equal(t, len(g.Nodes), n.Nodes)
		require.Equal(t, 2*n.Cost.Executed, n.Operations)
		require.Zero(t, n.Launches)
		require.Nil(t, n.Predicted)
		require.Equal(t, models.CountParams(s.specs), n.Parameters)

		m := n.Measured
		require.Len(t, m.Samples, 8)
		require.Equal(t, 8, m.Latency.Runs)
		require.Positive(t, m.Load)
		require.Positive(t, m.First)
		var moved int64
		var names []string
		for _, part := range n.Parts {
			nodes := part.Nodes
			if nodes == nil {
				nodes = []Part{part}
			}
			for _, node := range nodes {
				moved += node.Bytes
				names = append(names, node.Name)
			}
		}
		require.Equal(t, n.Bytes, moved)
		require.Len(t, names, n.Nodes)
		for i, name := range names {
			require.Equal(t, g.Nodes[i].Name, name)
		}
	}
	// A batch moves its activations as often, and its weights once.
	one, err := p.measureNetwork(ctx, Target{Kind: Expert, Expert: 0, Width: 40, Height: 24, Batch: 1})
	require.NoError(t, err)
	two, err := p.measureNetwork(ctx, Target{Kind: Expert, Expert: 0, Width: 40, Height: 24, Batch: 2})
	require.NoError(t, err)
	require.Equal(t, 2*one.Cost.MACs, two.Cost.MACs)
	require.Less(t, two.Bytes, 2*one.Bytes)
	require.Equal(t, one.Memory.Weights, two.Memory.Weights)
}

// A Restormer wide enough that the host joins depthwise convolutions with what
// stands around them.
func TestWhatRunsAsOneIsOneRowAndRowsAddUp(t *testing.T) {
	p := onHost(t)
	p.Method.NodeRuns = 4
	n, err := p.measureNetwork(context.Background(), Target{Kind: Expert, Expert: 1, Width: 256, Height: 192, Batch: 1})
	require.NoError(t, err)
	result := &Profile{Networks: []Network{*n}, Peaks: p.Peaks, Device: p.Backend.Info()}
	var sum float64
	joined := 0
	for _, part := range n.Parts {
		sum += part.Seconds
		require.Positive(t, part.Seconds, part.Name)
		require.LessOrEqual(t, part.Min, part.P50)
		require.LessOrEqual(t, part.P50, part.P90)
		if part.Nodes == nil {
			continue
		}
		joined++
		require.Contains(t, part.Kind, "+")
		var alone, operations int64
		for _, node := range part.Nodes {
			alone += node.Bytes
			operations += node.Operations
			require.Zero(t, node.Seconds)
		}
		require.Equal(t, operations, part.Operations)
		require.Less(t, part.Bytes, alone, "what is handed on inside is not moved")
		require.Positive(t, part.Bytes)
	}
	require.Positive(t, joined, "nothing runs as one: the test shows nothing")
	require.InEpsilon(t, n.Measured.NodeRun, sum, 0.03)
	for _, key := range []func(*Part) string{byStage, byKind} {
		var grouped float64
		for _, g := range groupBy(n.Parts, key) {
			grouped += g.Seconds
		}
		require.InDelta(t, sum, grouped, 1e-9)
	}
	tables := result.PartTables(n, true)
	nodes := tables[len(tables)-2] // before that of the memory
	require.Len(t, nodes.Rows, n.Nodes+joined)
	require.Contains(t, strings.Join(nodes.Notes, " "), "add up to")
}

func TestNoRateExceedsMemory(t *testing.T) {
	peaks := &Peaks{100, 10, "given", ""}
	r := rates(50, 30, 1, peaks)
	require.True(t, r.Cached)
	require.InDelta(t, 0.5, r.Roofline, 1e-12)
	require.Equal(t, "cache", r.bandwidth())
	require.InDelta(t, 0.8, rates(50, 8, 1, peaks).Roofline, 1e-12)
}

func TestNamesOfJoinedNodesAreShort(t *testing.T) {
	require.Equal(t, "a.b.{x, y}", joinNames([]string{"a.b.x", "a.b.y"}))
	require.Equal(t, "a.{b.x, c}", joinNames([]string{"a.b.x", "a.c"}))
	require.Equal(t, "{x, y}", joinNames([]string{"x", "y"}))
	require.Equal(t, "{a.x, b}", joinNames([]string{"a.x", "b"}))
}

func TestSimulatedProfileIsTheSameEveryTime(t *testing.T) {
	target := Target{Kind: Expert, Expert: 0, Width: 16, Height: 16, Batch: 1}
	var first *Network
	for range 2 {
		p := onSimulator(t, little(t))
		n, err := p.measureNetwork(context.Background(), target)
		require.NoError(t, err)
		require.Nil(t, n.Measured, "a simulator's time says nothing")
		require.NotEmpty(t, n.Counters)
		if first == nil {
			first = n
		}
		require.Equal(t, first, n)
	}
	launches := 0
	for _, c := range first.Counters {
		launches += c.Launches
	}
	require.Equal(t, first.Launches, launches, "what was run is what was predicted")
	require.Equal(t, first.Launches, first.Predicted.Launches)
	require.Equal(t, first.Bytes, first.Predicted.Bytes)
	require.Equal(t, first.Memory, backend.Memory{Arena: first.Predicted.Arena, Weights: first.Predicted.Weights, Host: first.Memory.Host})
	require.Positive(t, total(first.Counters).TensorMACs)
}

// A backend on a device is measured as a card would be; that the device is
// simulated only makes the times meaningless.
func TestDeviceProfileTimesItsLaunches(t *testing.T) {
	p := onSimulator(t, little(t))
	p.Backend, p.Simulator = p.Simulator.Backend, nil
	p.Method = Method{MinRuns: 2, MaxRuns: 2, MaxSeconds: 60, NodeRuns: 1}
	n, err := p.measureNetwork(context.Background(), Target{Kind: Expert, Expert: 0, Width: 16, Height: 16, Batch: 1})
	require.NoError(t, err)
	require.Len(t, n.Measured.Samples, 2)
	require.Len(t, n.Measured.Device, 2)
	require.Positive(t, n.Measured.Busy())
	require.Equal(t, n.Predicted.Launches, n.Launches)
	require.Equal(t, n.Predicted.Bytes, n.Bytes)
	var predicted float64
	for _, g := range byKernel(n.Parts) {
		predicted += g.Predicted
	}
	require.InDelta(t, n.Predicted.Seconds(), predicted, 1e-12)
	result := &Profile{Networks: []Network{*n}, Predicted: p.GPU, Device: p.Backend.Info()}
	require.NotEqual(t, "-", result.predictions().Rows[0][len(result.predictions().Columns)-1], "measured against the prediction")
}

func TestLargeNetworksArePredictedWithoutRunning(t *testing.T) {
	p := onSimulator(t, little(t))
	p.CountUpTo = 0
	n, err := p.measureNetwork(context.Background(), Target{Kind: Expert, Expert: 1, Width: 2048, Height: 1024, Batch: 1})
	require.NoError(t, err)
	require.Empty(t, n.Counters)
	require.Positive(t, n.Predicted.Seconds())
	require.Positive(t, n.Launches)
}

// The figures are those of the upstream modules, counted at 256×256 by hooks on
// PyTorch's layers.
func TestReleasedNetworksCountAsUpstream(t *testing.T) {
	c := models.Released()
	src, err := models.RandomWeights(c, 1)
	require.NoError(t, err)
	p := onSimulator(t, &experts.Model{Config: c, Source: src, Path: "released"})
	p.CountUpTo = 0
	all, err := p.Networks(context.Background(), Targets([]int{0, 1, 11, 5, 6, 7}, true, []Size{{256, 256}}, []int{1}), true, nil)
	require.NoError(t, err)
	encoder, _, err := c.Heads()
	require.NoError(t, err)
	var got []string
	for _, n := range all {
		macs := n.Cost.MACs
		if n.Kind == Estimator { // upstream computes zero modules whose results it drops
			macs += encoder.ZeroModuleMACs()
		}
		got = append(got, fmt.Sprintf("%s %d %d %s %s", n.Architecture, n.Parameters, n.Tensors, giga(macs), giga(n.Cost.AttentionMACs)))
	}
	require.Equal(t, []string{
		"daclip 94936320 176 4.717 0.046",
		"router 2649090 26 0.003 0.000",
		"restormer 26126644 494 140.990 13.892",
		"restormer 26111668 406 140.990 13.892",
		"lora_restormer 31771300 1042 140.990 13.892",
		"dehazeformer 25451652 1004 274.875 4.745",
		"retinexformer 1605701 122 15.713 0.944",
		"nafnet_local 67888835 664 63.055 0.000",
	}, got)
}

// However adapters run, counts of the network as defined stay, and what is held
// is what was planned.
func TestAdaptersRunInEveryWay(t *testing.T) {
	p := onHost(t)
	target := Target{Kind: Expert, Expert: 3, Width: 24, Height: 24, Batch: 1}
	held := map[experts.Adapters]int64{}
	var macs int64
	for _, p.Adapters = range []experts.Adapters{experts.Merged, experts.Switched, experts.Unmerged} {
		n, err := p.measureNetwork(context.Background(), target)
		require.NoError(t, err)
		if macs == 0 {
			macs = n.Cost.MACs
		}
		require.Equal(t, macs, n.Cost.MACs, p.Adapters)
		held[p.Adapters] = n.Memory.Weights
	}
	require.Greater(t, held[experts.Switched], held[experts.Merged], "the base stays beside what is merged")
	require.Greater(t, held[experts.Unmerged], held[experts.Merged], "factors stay beside the base")
}

func TestExpertsOfOneStructureRunOnce(t *testing.T) {
	p := onHost(t)
	all, err := p.Networks(context.Background(), Targets([]int{0, 1, 2, 0}, false, []Size{{16, 16}}, []int{1}), true, nil)
	require.NoError(t, err)
	require.Len(t, all, 3, "a target named twice counts once")
	require.Nil(t, all[0].SameAs)
	require.Nil(t, all[1].SameAs)
	require.Equal(t, 0, *all[2].SameAs)
	require.Equal(t, 2, all[2].Index)
	require.Equal(t, "noise", all[2].Name)
	require.Equal(t, all[0].Measured, all[2].Measured)
	tables := (&Profile{Networks: all, Peaks: p.Peaks}).Tables()
	require.Len(t, tables[0].Rows, 2)
	require.Contains(t, strings.Join(tables[0].Notes, " "), "Of the same structure as expert 0, and not run: 2.")
}

func TestImpossibleTargetsAreNamed(t *testing.T) {
	p := onHost(t)
	for want, target := range map[string]Target{
		"profile expert 9 at 8x8, batch 1: expert 9: the pool has 0 to 3": {Kind: Expert, Expert: 9, Width: 8, Height: 8, Batch: 1},
		"batch 0: want at least 1":                                        {Kind: Router},
		`unknown kind of network ""`:                                      {Batch: 1},
		"a side of 0 pixels":                                              {Kind: Expert, Batch: 1},
	} {
		_, err := p.measureNetwork(context.Background(), target)
		require.ErrorContains(t, err, want)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := p.measureNetwork(ctx, Target{Kind: Router, Batch: 1})
	require.ErrorIs(t, err, context.Canceled)
}

func TestRangesAreShort(t *testing.T) {
	require.Equal(t, "1-3, 7, 9-10", ranges([]int{1, 2, 3, 7, 9, 10}))
	require.Equal(t, "4", ranges([]int{4}))
}

func TestReportsOfOneProfileAgree(t *testing.T) {
	p := onHost(t)
	g, err := FindGPU("l4")
	require.NoError(t, err)
	p.GPU = &g
	networks, err := p.Networks(context.Background(), Targets([]int{0, 1, 2, 3}, true, []Size{{24, 24}}, []int{1}), false, nil)
	require.NoError(t, err)
	decisions := &Decisions{Experts: []int{0, 1, 1, 3}, Prepare: []float64{1e-4, 1e-4, 1e-4, 1e-4}, Decide: []float64{2e-4, 2e-4, 2e-4, 2e-4}}
	use, err := p.Serve(context.Background(), decisions, 24, 24, 0)
	require.NoError(t, err)
	require.Equal(t, 1, use.Hits)
	require.Equal(t, 3, use.Misses)
	require.Equal(t, 0.25, use.HitRate)
	routed, err := decisions.Cost(p.Model.Config, networks, 24, 24, use)
	require.NoError(t, err)
	require.InDelta(t, 3e-4, routed.Cost.Overhead, 1e-12)
	result := &Profile{
		Format: Format, Version: Version, Model: "little", Machine: ThisMachine(), Device: p.Backend.Info(),
		Peaks: p.Peaks, Predicted: p.GPU, Method: p.Method, Networks: networks, Routed: routed,
	}

	var b bytes.Buffer
	require.NoError(t, result.Write(&b))
	back, err := Read(&b)
	require.NoError(t, err)
	require.Equal(t, result, back)

	b.Reset()
	require.NoError(t, result.WriteTrace(&b))
	requireTrace(t, b.Bytes(), len(networks))

	flat := result.Flat()
	require.Len(t, flat.Rows, len(networks))
	for _, row := range flat.Rows {
		require.Len(t, row, len(flat.Columns))
	}
}

// requireTrace checks what Perfetto needs: complete events with times that are
// not negative and, on each track, do not overlap.
func requireTrace(t *testing.T, data []byte, networks int) {
	t.Helper()
	var trace struct {
		Events []struct {
			Name, Ph string
			Ts, Dur  float64
			Pid, Tid int
		} `json:"traceEvents"`
	}
	require.NoError(t, json.Unmarshal(data, &trace))
	end := map[[2]int]float64{}
	processes := map[int]bool{}
	for _, e := range trace.Events {
		processes[e.Pid] = true
		if e.Ph == "M" {
			continue
		}
		require.Equal(t, "X", e.Ph)
		track := [2]int{e.Pid, e.Tid}
		require.GreaterOrEqual(t, e.Ts, end[track]-1e-6, e.Name)
		require.Positive(t, e.Dur)
		end[track] = e.Ts + e.Dur
	}
	require.Len(t, processes, networks)
	require.Len(t, end, 2*networks, "nodes and launches")
}

func TestNothingToTraceIsAnError(t *testing.T) {
	require.ErrorContains(t, (&Profile{Networks: []Network{{NetworkID: NetworkID{Kind: Router}}}}).WriteTrace(&bytes.Buffer{}), "nothing to trace")
}
