package lora

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/weights"
)

// loraCase is the size of a convolution.
type loraCase struct{ cout, cin, k, groups int }

var loraCases = []loraCase{
	{6, 4, 1, 1},
	{5, 3, 3, 1},
	{3, 7, 3, 1},
	{8, 8, 3, 8},  // depthwise
	{12, 6, 3, 2}, // grouped
	{2, 3, 5, 1},
	{48, 24, 3, 1},
	{24, 48, 1, 1},
}

func (c loraCase) String() string { return fmt.Sprintf("%dx%d k%d g%d", c.cout, c.cin, c.k, c.groups) }

func normal(seed uint64, n int, scale float64) []float32 {
	r := rand.New(rand.NewPCG(seed, 17))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64() * scale)
	}
	return out
}

func tensorOf(t *testing.T, name string, values []float32, shape ...int) *weights.Tensor {
	t.Helper()
	x, err := weights.FromFloat32(name, shape, values)
	require.NoError(t, err)
	return x
}

func float32s(t *testing.T, x *weights.Tensor) []float32 {
	t.Helper()
	values, err := x.Float32()
	require.NoError(t, err)
	return values
}

// weights gives two weights of a shape.
func (c loraCase) weights(t *testing.T) (base, full *weights.Tensor) {
	t.Helper()
	n := c.cout * c.cin / c.groups * c.k * c.k
	shape := []int{c.cout, c.cin / c.groups, c.k, c.k}
	return tensorOf(t, "base", normal(1, n, 0.5), shape...), tensorOf(t, "full", normal(2, n, 0.5), shape...)
}

// truncated is base with the adapter of a rank, and the squared distance to full.
func truncated(t *testing.T, d *layerDelta, base, full *weights.Tensor, rank int) (merged []float32, distance float64) {
	t.Helper()
	a, b, err := d.factors("p", rank)
	require.NoError(t, err)
	require.Equal(t, "p.lora_A", a.Name)
	require.Equal(t, "p.lora_B", b.Name)
	l, err := weights.NewLoRA(base, a, b, float64(rank))
	require.NoError(t, err)
	require.Equal(t, []int{d.Kernel, d.Groups, rank}, []int{l.Kernel, l.Groups, l.Rank})
	merged = make([]float32, base.NumElements())
	require.NoError(t, l.Merged(merged))
	for i, v := range float32s(t, full) {
		distance += (float64(v) - float64(merged[i])) * (float64(v) - float64(merged[i]))
	}
	return merged, distance
}

func TestAdapterOfFullRankGivesTheFullWeight(t *testing.T) {
	for _, c := range loraCases {
		t.Run(c.String(), func(t *testing.T) {
			base, full := c.weights(t)
			d, err := deltaOf(base, full, c.groups, 1000)
			require.NoError(t, err)
			require.Equal(t, min(c.cout/c.groups, c.cin), d.fullRank())
			for _, beyond := range []int{0, 2} {
				merged, _ := truncated(t, d, base, full, d.fullRank()+beyond)
				require.InDeltaSlice(t, float32s(t, full), merged, 5e-6)
			}
			require.InEpsilon(t, d.Energy, d.kept(d.fullRank()), 1e-12)
		})
	}
}

func TestErrorShrinksWithRankByTheEnergyKept(t *testing.T) {
	for _, c := range loraCases {
		t.Run(c.String(), func(t *testing.T) {
			base, full := c.weights(t)
			d, err := deltaOf(base, full, c.groups, 1000)
			require.NoError(t, err)
			last := d.Energy
			for rank := 1; rank <= d.fullRank(); rank++ {
				_, distance := truncated(t, d, base, full, rank)
				require.Less(t, distance, last, "rank %d", rank)
				require.InDelta(t, d.Energy, d.kept(rank)+distance, 1e-5*d.Energy, "rank %d: energy adds up", rank)
				last = distance
			}
			require.Zero(t, d.kept(0))
		})
	}
}

func TestFewerPreparedRanksGiveTheSameAdapter(t *testing.T) {
	base, full := loraCase{12, 10, 3, 1}.weights(t)
	all, err := deltaOf(base, full, 1, 100)
	require.NoError(t, err)
	some, err := deltaOf(base, full, 1, 3)
	require.NoError(t, err)
	for rank := 1; rank <= 3; rank++ {
		want, _ := truncated(t, all, base, full, rank)
		got, _ := truncated(t, some, base, full, rank)
		require.Equal(t, want, got)
	}
	_, _, err = some.factors("p", 4)
	require.ErrorContains(t, err, `adapter of rank 4 of "p": ranks from 1 to 3 were prepared`)
	require.Equal(t, some.kept(3), some.kept(4), "no more is known")
}

// The best approximation of rank 1 of a diagonal matrix keeps its largest value.
func TestTruncationKeepsTheLargestSingularValues(t *testing.T) {
	base := tensorOf(t, "base", make([]float32, 9), 3, 3, 1, 1)
	full := tensorOf(t, "full", []float32{0, 2, 0, 0, 0, -3, 1, 0, 0}, 3, 3, 1, 1)
	d, err := deltaOf(base, full, 1, 3)
	require.NoError(t, err)
	require.Equal(t, 14.0, d.Energy)
	for rank, want := range map[int]struct {
		kept   float64
		merged []float32
	}{
		1: {9, []float32{0, 0, 0, 0, 0, -3, 0, 0, 0}},
		2: {13, []float32{0, 2, 0, 0, 0, -3, 0, 0, 0}},
		3: {14, []float32{0, 2, 0, 0, 0, -3, 1, 0, 0}},
	} {
		merged, _ := truncated(t, d, base, full, rank)
		require.InDelta(t, want.kept, d.kept(rank), 1e-12)
		require.InDeltaSlice(t, want.merged, merged, 1e-6)
	}
}

func TestEqualWeightsNeedNoAdapter(t *testing.T) {
	_, full := loraCase{6, 4, 3, 1}.weights(t)
	d, err := deltaOf(full, full, 1, 2)
	require.NoError(t, err)
	require.Zero(t, d.Energy)
	merged, distance := truncated(t, d, full, full, 2)
	require.Zero(t, distance)
	require.Equal(t, float32s(t, full), merged)
}

func TestDeltaRefusesWhatHasNoDifference(t *testing.T) {
	base := tensorOf(t, "base", make([]float32, 36), 2, 2, 3, 3)
	for _, c := range []struct {
		full         *weights.Tensor
		groups, rank int
		want         string
	}{
		{tensorOf(t, "full", make([]float32, 36), 4, 1, 3, 3), 1, 1, "one shape"},
		{tensorOf(t, "full", make([]float32, 36), 36), 1, 1, "one shape"},
		{base, 0, 1, "2 filters in 0 groups"},
		{base, 3, 1, "2 filters in 3 groups"},
		{base, 1, 0, "rank 0 is not positive"},
		{tensorOf(t, "full", []float32{float32(math.NaN()), 35: 0}, 2, 2, 3, 3), 1, 1, "not all differences are finite"},
		{tensorOf(t, "full", []float32{float32(math.Inf(1)), 35: 0}, 2, 2, 3, 3), 1, 1, "not all differences are finite"},
	} {
		_, err := deltaOf(base, c.full, c.groups, c.rank)
		require.ErrorContains(t, err, c.want)
		require.ErrorContains(t, err, fmt.Sprintf("difference of %v and %v", c.full, base))
	}
	d, err := deltaOf(base, base, 1, 1)
	require.NoError(t, err)
	_, _, err = d.factors("p", 0)
	require.ErrorContains(t, err, "rank 0")
	_, _, err = d.factors("p", math.MaxInt/8)
	require.Error(t, err)
}

func BenchmarkDeltaOfALargeConvolution(b *testing.B) {
	const cout, cin, k = 768, 384, 3
	n := cout * cin * k * k
	base, err := weights.FromFloat32("base", []int{cout, cin, k, k}, make([]float32, n))
	require.NoError(b, err)
	full, err := weights.FromFloat32("full", []int{cout, cin, k, k}, normal(2, n, 0.5))
	require.NoError(b, err)
	for b.Loop() {
		_, err := deltaOf(base, full, 1, 16)
		require.NoError(b, err)
	}
}
