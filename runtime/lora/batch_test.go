package lora

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/experts/expertstest"
	"unirestorer/runtime/gpu"
	"unirestorer/runtime/ptxsim"
	"unirestorer/weights"
)

func newSim(t testing.TB) backend.Backend {
	t.Helper()
	dev, err := ptxsim.New(ptxsim.Options{})
	require.NoError(t, err)
	b, err := gpu.New(dev, gpu.Options{Name: "sim", NoGraphs: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func runOn(t testing.TB, b backend.Backend, g *graph.Graph, x []float32) []float32 {
	t.Helper()
	p, err := b.Compile(context.Background(), g)
	require.NoError(t, err)
	y := make([]float32, g.Outputs[0].Shape.Elems())
	require.NoError(t, p.Run(context.Background(), [][]float32{x}, [][]float32{y}, backend.RunOptions{}))
	require.NoError(t, p.Close())
	return y
}

// A batch whose images take different adapters of one base, and one the base itself, is what each image gives alone.
// One pair of adapters has normalisations of its own, as extracted ones do, the other the base's.
func TestBatchOfMixedAdaptersEqualsEachImageAlone(t *testing.T) {
	const args = `{"dim":8,"num_blocks":[1,1,1,1],"num_refinement_blocks":0,"heads":[1,2,2,4]}`
	net := network(t, models.RestormerName, args)
	base := Expert{"base", net, randomWeights(t, net, 2, 0)}
	var own, shared []models.Member
	for i, rank := range []int{1, 2} {
		full := Expert{"full", net, randomWeights(t, net, uint64(3+i), 0.3)}
		a := adapter(t, extract(t, base, full, rank), rank, weights.F16)
		own = append(own, models.Member{Network: a.Network, Source: a.Source})
		trained, err := idle(loraNetwork(net.(*models.Restormer), rank, false), base)
		require.NoError(t, err)
		factors := randomWeights(t, trained.Network, uint64(5+i), 0.5)
		for _, name := range factors.Names() {
			x, err := factors.Tensor(name)
			require.NoError(t, err)
			if strings.HasSuffix(name, loraA) || strings.HasSuffix(name, loraB) {
				trained.Source.(*weights.Map).Set(x)
			}
		}
		shared = append(shared, models.Member{Network: trained.Network, Source: trained.Source})
	}
	none, err := idle(loraNetwork(net.(*models.Restormer), 1, false), base)
	require.NoError(t, err)
	members := append(append(own, shared...), models.Member{Network: none.Network, Source: none.Source})

	const h, w = 16, 24
	opt := models.Options{Unmerged: true}
	for _, device := range []struct {
		name  string
		open  func(testing.TB) backend.Backend
		bound float64
	}{{"cpu", expertstest.CPU, 1e-5}, {"sim", newSim, 2e-2}} {
		t.Run(device.name, func(t *testing.T) {
			if device.name == "sim" && testing.Short() {
				t.Skip("the simulator is slow")
			}
			b := device.open(t)
			for _, choice := range [][]int{{1, 0, 1}, {2, 4, 3}} {
				g, err := models.BuildBatch(members, choice, h, w, opt)
				require.NoError(t, err)
				x := images(5, len(choice), h, w)
				got := runOn(t, b, g, x)
				part := len(x) / len(choice)
				for i, c := range choice {
					one, err := members[c].Network.Build(members[c].Source, 1, h, w, opt)
					require.NoError(t, err)
					alone := runOn(t, b, one, x[i*part:(i+1)*part])
					d := graphtest.Compare(got[i*part:(i+1)*part], alone)
					require.Less(t, d.MaxAbs, device.bound*max(1, d.Peak), "%v: image %d: %v", choice, i, d)
				}
			}
			require.Zero(t, b.Resident())
		})
	}
}

// The batch holds the base's weights once, so two adapters in one pass take little more than one.
func TestBatchHoldsTheBaseOnce(t *testing.T) {
	base, full := pair(t, 0.3)
	_, other := pair(t, 0.1)
	var members []models.Member
	for _, f := range []Expert{full, other} {
		a := adapter(t, extract(t, base, f, 1), 1, weights.F16)
		members = append(members, models.Member{Network: a.Network, Source: a.Source})
	}
	b := expertstest.CPU(t)
	weightsOf := func(choice ...int) int64 {
		g, err := models.BuildBatch(members, choice, 16, 16, models.Options{Unmerged: true})
		require.NoError(t, err)
		m, err := b.Plan(g)
		require.NoError(t, err)
		return m.Weights
	}
	require.Less(t, weightsOf(0, 1)+weightsOf(0, 1)/4, weightsOf(0, 0)+weightsOf(1, 1))
	require.Equal(t, weightsOf(0, 1), weightsOf(1, 0))
}
