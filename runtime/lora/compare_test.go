package lora

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/experts/expertstest"
	"unirestorer/runtime/imaging"
	"unirestorer/weights"
)

// pool is a model of a base, a full expert over it, and a twin of the full one: an adapter of rank 1 that gives the
// full expert's weights but for what rank 1 cannot hold.
func pool(t testing.TB) *experts.Model {
	t.Helper()
	base, full := pair(t, 0.05)
	// Restormers add what they compute to the picture: a little of random weights.
	for _, e := range []Expert{base, full} {
		x, err := e.Source.Tensor("output.weight")
		require.NoError(t, err)
		v, err := x.Float32()
		require.NoError(t, err)
		for i := range v {
			v[i] *= 0.05
		}
		x, err = weights.FromFloat32(x.Name, x.Shape, v)
		require.NoError(t, err)
		e.Source.(*weights.Map).Set(x)
	}
	twin := adapter(t, extract(t, base, full, 1), 1, weights.F32)
	twin.Name = "Fine" + twinSuffix
	c, all := &models.Config{}, weights.NewMap()
	zero := 0
	for i, e := range []Expert{base, full, twin.Expert} {
		args, err := json.Marshal(e.Network)
		require.NoError(t, err)
		prefix := string(rune('a'+i)) + "."
		entry := models.ExpertConfig{Name: []string{"coarse", "fine", twin.Name}[i], Architecture: e.Network.Architecture(), Args: args, Prefix: prefix, Level: min(i, 1)}
		if i == 2 {
			entry.Base = &zero
		}
		c.Experts = append(c.Experts, entry)
		for _, name := range e.Source.Names() {
			x, err := e.Source.Tensor(name)
			require.NoError(t, err)
			all.Set(x.WithName(prefix + name))
		}
	}
	c.Tree = models.Tree{Levels: []string{"coarse", "fine"}, Leaves: []models.Leaf{{Name: "rain", Kinds: []string{"rain"}, Experts: []int{0, 1}}}}
	return &experts.Model{Config: c, Source: all, Path: "pool"}
}

// noisy is a test set whose clean pictures are what the full expert makes of the degraded ones, and a little noise.
type noisy struct {
	kinds []string
	w, h  int
}

func (n noisy) Len() int { return len(n.kinds) }
func (n noisy) Sample(i int) evaluate.Sample {
	return evaluate.Sample{Case: n.kinds[i], Name: n.kinds[i], Kinds: []string{n.kinds[i]}}
}
func (n noisy) Pictures(_ context.Context, i int) (degraded, clean *imaging.Image, err error) {
	rng := rand.New(rand.NewPCG(uint64(i), 1))
	if degraded, err = imaging.New(n.w, n.h, 3, 8); err != nil {
		return nil, nil, err
	}
	for j := range degraded.Pix {
		degraded.Pix[j] = uint8(60 + rng.IntN(120))
	}
	clean = degraded.Clone()
	for j := range clean.Pix {
		clean.Pix[j] += uint8(rng.IntN(20))
	}
	return degraded, clean, nil
}

var quick = TimingOptions{Budget: time.Millisecond, MinRuns: 1, MaxRuns: 2}

func TestPairsAreFoundInThePool(t *testing.T) {
	m := pool(t)
	pairs, err := ComparablePairs(m.Config)
	require.NoError(t, err)
	require.Equal(t, []Pair{{Full: 1, LoRA: 2, Base: 0}}, pairs)

	// Without its twin the full expert is compared with adapters over the coarse one.
	m.Config.Experts[2].Name = "another"
	pairs, err = ComparablePairs(m.Config)
	require.NoError(t, err)
	require.Equal(t, []Pair{{Full: 1, LoRA: -1, Base: 0}}, pairs)

	// An expert of other arguments is no base.
	m.Config.Experts[0].Args = json.RawMessage(`{"dim":12,"heads":[1,2,2,4]}`)
	pairs, err = ComparablePairs(m.Config)
	require.NoError(t, err)
	require.Empty(t, pairs)
}

func TestExpertsAreFoundByNumberAndName(t *testing.T) {
	c := pool(t).Config
	for ref, want := range map[string]int{"0": 0, "2": 2, "coarse": 0, "FINE": 1, "fine-TWIN": 2} {
		i, err := c.FindExpert(ref)
		require.NoError(t, err)
		require.Equal(t, want, i, ref)
	}
	_, err := c.FindExpert("3")
	require.ErrorContains(t, err, "the pool has 0 to 2")
	_, err = c.FindExpert("-1")
	require.ErrorContains(t, err, "expert -1")
	_, err = c.FindExpert("rain")
	require.ErrorContains(t, err, `no expert is called "rain"; there are 0 "coarse", 1 "fine", 2 "Fine-twin"`)
}

func TestComparisonMeasuresEveryCandidate(t *testing.T) {
	m, b := pool(t), expertstest.CPU(t)
	set := noisy{kinds: []string{"rain", "rain", "snow"}, w: 40, h: 24}
	var stages []string
	c, err := Compare(context.Background(), m, b, set, Options{
		Ranks: []int{2, 1, 2, 64}, Factors: weights.F16, Size: 32, Timing: quick,
		Progress: func(what string, _ float64) { stages = append(stages, what) },
	})
	require.NoError(t, err)
	require.Len(t, c.Pairs, 1)
	require.Equal(t, []int{32, 32}, []int{c.Width, c.Height})
	r := c.Pairs[0]
	require.Equal(t, 2, r.Pictures, "those with rain")
	var kinds []Kind
	var ranks []int
	for _, x := range r.Candidates {
		kinds, ranks = append(kinds, x.Kind), append(ranks, x.Rank)
		require.NotNil(t, x.Quality, x.Name)
		require.Equal(t, 2, x.Quality.PSNR.Count)
	}
	require.Equal(t, []Kind{kindInput, kindBase, kindFull, kindTrained, kindExtracted, kindExtracted, kindExtracted}, kinds)
	require.Equal(t, []int{0, 0, 0, 1, 1, 2, 64}, ranks)
	input, base, full, twin := r.Candidates[0], r.Candidates[1], r.Candidates[2], r.Candidates[3]
	require.Nil(t, input.Merged)
	require.Zero(t, full.Quality.ToFull.Mean)
	require.NotZero(t, twin.Quality.ToFull.Mean)
	// At rank 64 nothing is left to truncate.
	last := r.Candidates[6]
	require.Equal(t, 1.0, *last.Kept)
	require.Zero(t, last.Quality.ToFull.Mean)
	require.Equal(t, full.Bytes, last.Bytes)
	require.Equal(t, 1, *r.Verdict.CloseRank)

	require.Equal(t, base.Bytes, full.Bytes)
	require.Less(t, twin.Bytes, full.Bytes)
	require.Less(t, r.Candidates[4].Bytes, r.Candidates[5].Bytes)
	for _, x := range []Candidate{base, full} {
		require.NotNil(t, x.Merged.Latency)
		require.Nil(t, x.Unmerged)
		require.Nil(t, x.Switched)
	}
	require.Less(t, twin.Unmerged.Resident, twin.Merged.Resident, "the base's weights are there already")
	require.NotNil(t, twin.Switched, "the cpu backend switches")
	for _, x := range []*Mode{twin.Merged, twin.Switched, twin.Unmerged} {
		require.Positive(t, x.Resident)
		require.Positive(t, x.Load.Median)
		require.Positive(t, x.Switch.Median)
		require.Positive(t, x.Latency.Median)
	}
	require.Contains(t, stages, "restoring with Fine-twin")
	require.Zero(t, b.Resident(), "nothing is left on the device")

	var text, again bytes.Buffer
	require.NoError(t, c.WriteText(&text))
	require.Contains(t, text.String(), "Verdict on fine: ")
	require.Contains(t, text.String(), r.Verdict.Text)
	page, err := c.Page("unirestorer compare-lora")
	require.NoError(t, err)
	require.NoError(t, page.Write(&again))
	require.Contains(t, again.String(), "<svg")
	_, err = json.Marshal(c)
	require.NoError(t, err)
}

func TestComparisonWithoutPicturesCountsAndDraws(t *testing.T) {
	c, err := Compare(context.Background(), pool(t), expertstest.CPU(t), nil, Options{
		Ranks: []int{1, 2}, Factors: weights.F16, Size: 16, Timing: TimingOptions{Skip: true},
	})
	require.NoError(t, err)
	r := c.Pairs[0]
	require.Equal(t, unmeasured, r.Verdict.Winner)
	require.Nil(t, r.qualityTable())
	require.Len(t, r.Candidates, 5)
	for _, x := range r.Candidates {
		require.Nil(t, x.Quality)
		require.Nil(t, x.Merged.Latency)
		require.Positive(t, x.Merged.Resident)
	}
	p, err := c.Plot()
	require.NoError(t, err)
	require.Contains(t, p.Y.Label.Text, "energy")
}

// Pictures of the other kinds count when they are asked for, and all do where the model does not name what it serves.
func TestPicturesAreThoseThatThePairServes(t *testing.T) {
	m := pool(t)
	c := &comparison{model: m, set: noisy{kinds: []string{"rain", "snow", "rain"}}}
	p := Pair{Full: 1, LoRA: 2, Base: 0}
	require.Equal(t, []int{0, 2}, c.pictures(p))
	c.opt.AllPictures = true
	require.Equal(t, []int{0, 1, 2}, c.pictures(p))
	c.opt.AllPictures = false
	m.Config.Tree.Leaves[0].Kinds = nil
	require.Equal(t, []int{0, 1, 2}, c.pictures(p))
}

func TestIdleAdapterIsTheBase(t *testing.T) {
	m := pool(t)
	base, err := ExpertOf(m.Config, m.Source, 0)
	require.NoError(t, err)
	twin, err := ExpertOf(m.Config, m.Source, 2)
	require.NoError(t, err)
	nothing, err := idle(twin.Network.(*models.LoRARestormer), base)
	require.NoError(t, err)
	x := images(3, 1, 16, 16)
	similar(t, run(t, base, 1, 16, 16, x, models.Options{}), run(t, nothing, 1, 16, 16, x, models.Options{}))
}

func TestComparisonRefusesWhatMakesNoSense(t *testing.T) {
	b := expertstest.CPU(t)
	opt := func(change func(o *Options)) Options {
		o := Options{Ranks: []int{1}, Factors: weights.F16, Size: 16, Timing: quick}
		change(&o)
		return o
	}
	for _, c := range []struct {
		change func(o *Options)
		set    Set
		want   string
	}{
		{func(o *Options) { o.Ranks = []int{0} }, nil, "rank 0"},
		{func(o *Options) { o.Size = 0 }, nil, "size of 0"},
		{func(o *Options) {}, noisy{}, "no pictures"},
		{func(o *Options) { o.Pairs = []Pair{} }, nil, "name a pair"},
		{func(o *Options) { o.Pairs = []Pair{{Full: 1, LoRA: 9, Base: 0}} }, nil, "expert 9: the pool has 0 to 2"},
		{func(o *Options) { o.Pairs = []Pair{{Full: 1, LoRA: -1, Base: -1}} }, nil, "neither a LoRA expert nor a base"},
		{func(o *Options) { o.Pairs = []Pair{{Full: 1, LoRA: -1, Base: 1}} }, nil, "with itself"},
		{func(o *Options) { o.Pairs = []Pair{{Full: 2, LoRA: -1, Base: 0}} }, nil, "both must be of architecture restormer"},
	} {
		_, err := Compare(context.Background(), pool(t), b, c.set, opt(c.change))
		require.ErrorContains(t, err, c.want)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Compare(ctx, pool(t), b, nil, opt(func(*Options) {}))
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, b.Resident())
}
