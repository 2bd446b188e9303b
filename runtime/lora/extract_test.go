package lora

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/graphtest"
	"unirestorer/graph/models"
	"unirestorer/weights"
)

func extract(t testing.TB, base, full Expert, maxRank int) *Extraction {
	t.Helper()
	x, err := Extract(context.Background(), base, full, maxRank, nil)
	require.NoError(t, err)
	return x
}

func adapter(t testing.TB, x *Extraction, rank int, dtype weights.DType) *Adapter {
	t.Helper()
	a, err := x.Adapter(rank, dtype)
	require.NoError(t, err)
	return a
}

func TestExtractedExpertMergedEqualsUnmerged(t *testing.T) {
	base, full := pair(t, 0.3)
	x := images(1, 2, 16, 24)
	for _, rank := range []int{1, 3} {
		a := adapter(t, extract(t, base, full, rank), rank, weights.F16)
		similar(t, run(t, a.Expert, 2, 16, 24, x, models.Options{}), run(t, a.Expert, 2, 16, 24, x, models.Options{Unmerged: true}))
	}
}

// A rank at which every layer is dense or complete leaves rounding only.
func TestHighRankReproducesTheFullExpert(t *testing.T) {
	base, full := pair(t, 0.5)
	x := images(2, 1, 16, 16)
	a := adapter(t, extract(t, base, full, 64), 64, weights.F32)
	require.Equal(t, 1.0, a.Kept())
	similar(t, run(t, full, 1, 16, 16, x, models.Options{}), run(t, a.Expert, 1, 16, 16, x, models.Options{}))
	for _, l := range a.Layers {
		require.True(t, l.Dense, l.Name)
	}
}

func TestErrorOfWeightsShrinksAndBytesGrowWithRank(t *testing.T) {
	base, full := pair(t, 0.5)
	x := extract(t, base, full, 16)
	last := adapter(t, x, 1, weights.F16)
	for rank := 2; rank <= 16; rank++ {
		a := adapter(t, x, rank, weights.F16)
		require.Greater(t, a.Kept(), last.Kept())
		require.Greater(t, a.Bytes, last.Bytes)
		require.Equal(t, len(last.Layers), len(a.Layers))
		for i, l := range a.Layers {
			require.GreaterOrEqual(t, l.Kept, last.Layers[i].Kept, l.Name)
			require.LessOrEqual(t, l.Kept, l.Energy, l.Name)
			require.Equal(t, last.Layers[i].Energy, l.Energy, l.Name)
		}
		last = a
	}
}

// What an adapter says it keeps is what its merged weights are found to keep.
func TestEnergyKeptIsThatOfTheMergedWeights(t *testing.T) {
	base, full := pair(t, 0.5)
	a := adapter(t, extract(t, base, full, 2), 2, weights.F32)
	factored := 0
	for _, l := range a.Layers {
		want, err := full.Source.Tensor(l.Name + ".weight")
		require.NoError(t, err)
		wanted, err := want.Float32()
		require.NoError(t, err)
		var merged []float32
		if l.Dense {
			w, err := a.Source.Tensor(l.Name + ".conv.weight")
			require.NoError(t, err)
			merged, err = w.Float32()
			require.NoError(t, err)
			require.Equal(t, wanted, merged)
			require.Equal(t, l.Energy, l.Kept)
			continue
		}
		factored++
		ad, err := weights.LoadLoRA(a.Source, l.Name, 2)
		require.NoError(t, err)
		require.Equal(t, float32(1), ad.Scale)
		merged = make([]float32, len(wanted))
		require.NoError(t, ad.Merged(merged))
		var lost float64
		for i, v := range wanted {
			lost += (float64(v) - float64(merged[i])) * (float64(v) - float64(merged[i]))
		}
		require.InDelta(t, l.Energy-l.Kept, lost, 1e-4*l.Energy, l.Name)
		require.Equal(t, l.Bytes, 4*l.Parameters)
	}
	require.NotZero(t, factored)
	require.NotEqual(t, len(a.Layers), factored)
}

func TestDifferenceOfLowRankIsHeldByAnAdapterOfThatRank(t *testing.T) {
	base, full := pair(t, 0.5)
	// A network that was trained with adapters of rank 2, merged.
	first := adapter(t, extract(t, base, full, 2), 2, weights.F32)
	merged, err := weights.MergeSource(first.Source, func(string, int) (float64, error) { return 2, nil })
	require.NoError(t, err)
	all := weights.NewMap()
	for _, name := range merged.Names() {
		x, err := merged.Tensor(name)
		require.NoError(t, err)
		all.Set(x.WithName(strings.Replace(name, ".conv.", ".", 1)))
	}
	tuned := Expert{"tuned", full.Network, all}
	a := adapter(t, extract(t, base, tuned, 2), 2, weights.F32)
	require.InDelta(t, 1, a.Kept(), 1e-9)
	x := images(2, 1, 16, 16)
	similar(t, run(t, tuned, 1, 16, 16, x, models.Options{}), run(t, a.Expert, 1, 16, 16, x, models.Options{}))
}

func TestAdapterSharesTheBaseAndCountsTheRest(t *testing.T) {
	base, full := pair(t, 0.5)
	a := adapter(t, extract(t, base, full, 1), 1, weights.F16)
	shared := map[weights.StorageKey]bool{}
	for _, name := range base.Source.Names() {
		x, err := base.Source.Tensor(name)
		require.NoError(t, err)
		shared[x.StorageKey()] = true
	}
	parameters, bytes, err := beside(a.Expert, shared)
	require.NoError(t, err)
	require.Equal(t, []int64{a.Parameters, a.Bytes}, []int64{parameters, bytes})
	all, err := StoredBytes(a.Expert)
	require.NoError(t, err)
	require.Greater(t, all, bytes)
	fullBytes, err := StoredBytes(full)
	require.NoError(t, err)
	require.Less(t, bytes, fullBytes)
}

func TestExtractRefusesUnlikeExperts(t *testing.T) {
	base, full := pair(t, 0.5)
	wide := network(t, models.RestormerName, `{"dim":12,"num_blocks":[1,1,1,1],"num_refinement_blocks":1,"heads":[1,2,2,4],"bias":true}`)
	nafnet := network(t, models.NAFNetName, `{"width":4}`)
	short := weights.NewMap()
	for _, c := range []struct {
		base, full Expert
		rank       int
		want       string
	}{
		{base, Expert{"wide", wide, nil}, 1, "extract an adapter of wide over base: the networks differ"},
		{base, Expert{"naf", nafnet, nil}, 1, "nafnet and restormer: both must be of architecture restormer"},
		{base, Expert{"empty", full.Network, short}, 1, `no tensor "`},
		{base, full, 0, "rank 0: want 1 to 4096"},
		{base, full, 5000, "rank 5000"},
	} {
		_, err := Extract(context.Background(), c.base, c.full, c.rank, nil)
		require.ErrorContains(t, err, c.want)
	}
	x := extract(t, base, full, 2)
	for _, rank := range []int{0, -1, 3} {
		_, err := x.Adapter(rank, weights.F16)
		require.ErrorContains(t, err, "want 1 to 2")
	}
	_, err := x.Adapter(1, weights.I64)
	require.Error(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = Extract(ctx, base, full, 1, nil)
	require.ErrorIs(t, err, context.Canceled)
}

func TestProgressReachesTheEnd(t *testing.T) {
	base, full := pair(t, 0.5)
	last := 0.0
	_, err := Extract(context.Background(), base, full, 1, func(done float64) {
		require.Greater(t, done, last)
		last = done
	})
	require.NoError(t, err)
	require.InDelta(t, 1, last, 1e-12)
}

// The arguments of an adapter are those of a network that New makes again.
func TestAdapterArgumentsMakeTheSameNetwork(t *testing.T) {
	base, full := pair(t, 0.5)
	a := adapter(t, extract(t, base, full, 2), 2, weights.F32)
	args, err := json.Marshal(a.Network)
	require.NoError(t, err)
	again := network(t, a.Network.Architecture(), string(args))
	require.Equal(t, a.Network, again)
	x := images(2, 1, 16, 16)
	d := graphtest.Compare(run(t, a.Expert, 1, 16, 16, x, models.Options{}), run(t, Expert{"again", again, a.Source}, 1, 16, 16, x, models.Options{}))
	require.Zero(t, d.MaxAbs)
}
