package pools

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/runtime/cpu"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/weights/nano"
)

func TestAddedLeavesLeaveTheOthersAlone(t *testing.T) {
	b, err := cpu.New(cpu.Options{})
	require.NoError(t, err)
	defer b.Close()
	m, err := experts.OpenModelFS(nano.Name, nano.Files())
	require.NoError(t, err)
	img, err := imaging.DecodeFile(filepath.Join("..", "..", "testdata", "photos", "rain.png"), imaging.Limits{})
	require.NoError(t, err)
	logits := func(m *experts.Model) (map[string][]float64, []float64) {
		e, err := NewEmbedder(t.Context(), b, m)
		require.NoError(t, err)
		defer func() { require.NoError(t, e.Close()) }()
		inputs, l, err := e.Embed(t.Context(), img)
		require.NoError(t, err)
		return inputs, l
	}
	inputs, before := logits(m)
	for n, input := range []string{models.LeafHeadEmbedding, models.LeafHeadFeatures, models.LeafHeadEmbedding} {
		leaf := NewLeaf{Name: []string{"one", "two", "three"}[n], Expert: 1, Input: input, Bias: float32(n) - 1, Weight: make([]float32, m.Config.Router.Width)}
		want := float64(leaf.Bias)
		for i := range leaf.Weight {
			leaf.Weight[i] = float32(i%3) - 1
			want += float64(leaf.Weight[i]) * inputs[input][i]
		}
		out := filepath.Join(t.TempDir(), "model")
		require.NoError(t, AddLeaf(t.Context(), m, leaf, out))
		require.ErrorContains(t, AddLeaf(t.Context(), m, leaf, out), out)
		require.NoError(t, m.Close())
		m, err = experts.OpenModel(out)
		require.NoError(t, err)
		_, after := logits(m)
		require.Equal(t, before, after[:len(before)])
		require.InDelta(t, want, after[len(before)], 1e-3*max(1, want, -want))
		before = after
	}
	require.True(t, m.Config.Router.LeafAdded)
	require.Error(t, AddLeaf(t.Context(), m, NewLeaf{Name: "two", Input: models.LeafHeadFeatures, Weight: make([]float32, m.Config.Router.Width)}, filepath.Join(t.TempDir(), "x")))
	require.NoError(t, m.Close())
}
