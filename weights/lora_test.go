package weights

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// loraCase is the shape of an adapted convolution.
type loraCase struct{ cout, cin, k, groups, rank int }

var loraCases = []loraCase{
	{6, 4, 1, 1, 2},
	{5, 3, 3, 1, 2},
	{3, 7, 3, 1, 8},
	{8, 8, 3, 8, 2},  // depthwise
	{12, 6, 3, 2, 1}, // grouped
	{2, 3, 5, 1, 1},
}

func (c loraCase) String() string {
	return fmt.Sprintf("%dx%d k%d g%d r%d", c.cout, c.cin, c.k, c.groups, c.rank)
}

func (c loraCase) lora(t *testing.T, alpha float64) *LoRA {
	t.Helper()
	base := normal(1, c.cout*c.cin/c.groups*c.k*c.k, 0.5)
	a := normal(2, c.rank*c.k*c.cin*c.k, 0.5)
	b := normal(3, c.cout/c.groups*c.k*c.rank*c.k, 0.5)
	l, err := NewLoRA(
		tensorOf(t, "p.conv.weight", base, c.cout, c.cin/c.groups, c.k, c.k),
		tensorOf(t, "p.lora_A", a, c.rank*c.k, c.cin*c.k),
		tensorOf(t, "p.lora_B", b, c.cout/c.groups*c.k, c.rank*c.k),
		alpha)
	require.NoError(t, err)
	require.Equal(t, []int{c.k, c.groups, c.rank}, []int{l.Kernel, l.Groups, l.Rank})
	return l
}

// referenceMerge follows the definition in float64: base.flat[n] + alpha/r·(B·A).flat[n].
func referenceMerge(t *testing.T, l *LoRA, alpha float64) []float64 {
	base, a, b := float32s(t, l.Base), float32s(t, l.A), float32s(t, l.B)
	inner, cols := l.A.Shape[0], l.A.Shape[1]
	out := make([]float64, len(base))
	for n := range out {
		row, col := n/cols, n%cols
		sum := 0.0
		for j := range inner {
			sum += float64(b[row*inner+j]) * float64(a[j*cols+col])
		}
		out[n] = float64(base[n]) + alpha/float64(l.Rank)*sum
	}
	return out
}

func requireClose(t *testing.T, want []float64, got []float32, tolerance float64) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		require.InDelta(t, want[i], float64(got[i]), tolerance*(1+math.Abs(want[i])), "element %d", i)
	}
}

func TestMergeFollowsItsDefinition(t *testing.T) {
	for _, c := range loraCases {
		t.Run(c.String(), func(t *testing.T) {
			const alpha = 6
			l := c.lora(t, alpha)
			want := referenceMerge(t, l, alpha)
			got := make([]float32, len(want))
			require.NoError(t, l.Merged(got))
			requireClose(t, want, got, 1e-5)

			lazy, err := l.MergedTensor("p.weight")
			require.NoError(t, err)
			require.Equal(t, got, float32s(t, lazy))
			for first := range got {
				part := make([]float32, min(7, len(got)-first))
				require.NoError(t, lazy.ReadFloat32At(part, first))
				require.Equal(t, got[first:first+len(part)], part)
			}
			delta := make([]float32, len(want))
			require.NoError(t, l.delta(delta))
			base := float32s(t, l.Base)
			for i := range delta {
				require.Equal(t, got[i], delta[i]+base[i])
			}
		})
	}
}

// convolve is a plain convolution, NCHW with one image, stride 1, zero padding k/2.
func convolve(x []float64, cin, h, w int, weight []float64, cout, k int) []float64 {
	y := make([]float64, cout*h*w)
	for o := range cout {
		for i := range h {
			for j := range w {
				for c := range cin {
					for u := range k {
						for v := range k {
							yy, xx := i+u-k/2, j+v-k/2
							if yy < 0 || yy >= h || xx < 0 || xx >= w {
								continue
							}
							y[(o*h+i)*w+j] += x[(c*h+yy)*w+xx] * weight[((o*cin+c)*k+u)*k+v]
						}
					}
				}
			}
		}
	}
	return y
}

func widen(values []float32) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = float64(v)
	}
	return out
}

func TestMergedLoRAEqualsUnmerged(t *testing.T) {
	for _, c := range loraCases {
		l := c.lora(t, 16)
		if c.groups != 1 {
			_, err := l.LowRank()
			require.ErrorContains(t, err, "no low-rank form")
			continue
		}
		t.Run(c.String(), func(t *testing.T) {
			const h, w = 6, 7
			x := widen(normal(4, c.cin*h*w, 1))
			merged := make([]float32, l.Base.NumElements())
			require.NoError(t, l.Merged(merged))
			want := convolve(x, c.cin, h, w, widen(merged), c.cout, c.k)

			low, err := l.LowRank()
			require.NoError(t, err)
			require.Equal(t, c.k*c.rank*c.k, low.Channels)
			base := convolve(x, c.cin, h, w, widen(float32s(t, l.Base)), c.cout, c.k)
			between := convolve(x, c.cin, h, w, widen(low.Down), low.Channels, c.k)
			delta := convolve(between, low.Channels, h, w, widen(low.Up), c.cout, 1)
			got := make([]float32, len(want))
			for i := range got {
				got[i] = float32(base[i] + delta[i])
			}
			requireClose(t, want, got, 2e-5)
		})
	}
}

func TestShapesThatDoNotFitAreRefused(t *testing.T) {
	zeros := func(shape ...int) *Tensor {
		n, err := countElements(shape)
		require.NoError(t, err)
		return tensorOf(t, "x", make([]float32, n), shape...)
	}
	cases := map[string][3]*Tensor{
		"rank 3 base":       {zeros(6, 4, 1), zeros(2, 4), zeros(6, 2)},
		"kernel not square": {zeros(6, 4, 1, 3), zeros(6, 12), zeros(18, 6)},
		"inner":             {zeros(6, 4, 1, 1), zeros(2, 4), zeros(6, 3)},
		"columns":           {zeros(6, 4, 1, 1), zeros(2, 5), zeros(6, 2)},
		"rows":              {zeros(6, 4, 1, 1), zeros(2, 4), zeros(5, 2)},
		"inner not k·r":     {zeros(6, 4, 3, 3), zeros(4, 12), zeros(18, 4)},
		"empty":             {zeros(6, 0, 1, 1), zeros(2, 0), zeros(6, 2)},
		"A not a matrix":    {zeros(6, 4, 1, 1), zeros(2, 4, 1), zeros(6, 2)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := NewLoRA(c[0], c[1], c[2], 16)
			require.ErrorContains(t, err, "LoRA of ")
		})
	}
	_, err := NewLoRA(zeros(6, 4, 1, 1), zeros(2, 4), zeros(6, 2), math.NaN())
	require.ErrorContains(t, err, "alpha")
}

// adapted is a small network with adapters, as loralib stores it.
func adapted(t *testing.T) *Map {
	t.Helper()
	m := NewMap()
	for i, module := range []string{"a", "b.c"} {
		l := loraCases[i].lora(t, 16)
		m.Set(l.Base.WithName(module + ".conv.weight"))
		m.Set(tensorOf(t, module+".conv.bias", normal(9, loraCases[i].cout, 1), loraCases[i].cout))
		m.Set(l.A.WithName(module + ".lora_A"))
		m.Set(l.B.WithName(module + ".lora_B"))
	}
	// Newer loralib stores the convolution's weight twice.
	base, err := m.Tensor("a.conv.weight")
	require.NoError(t, err)
	m.Set(base.WithName("a.weight"))
	m.Set(tensorOf(t, "norm.weight", []float32{1, 2}, 2))
	return m
}

func TestMergeSourceLooksLikeAPlainNetwork(t *testing.T) {
	src := adapted(t)
	ranks := make(map[string]int)
	m, err := MergeSource(src, func(module string, rank int) (float64, error) {
		ranks[module] = rank
		return 16, nil
	})
	require.NoError(t, err)
	require.Equal(t, map[string]int{"a": 2, "b.c": 2}, ranks)
	require.Equal(t, []string{"a.weight", "a.bias", "b.c.weight", "b.c.bias", "norm.weight"}, m.Names())
	for i, module := range []string{"a", "b.c"} {
		x, err := m.Tensor(module + ".weight")
		require.NoError(t, err)
		require.Equal(t, module+".weight", x.Name)
		requireClose(t, referenceMerge(t, loraCases[i].lora(t, 16), 16), float32s(t, x), 1e-5)
		bias, err := m.Tensor(module + ".bias")
		require.NoError(t, err)
		require.Equal(t, module+".bias", bias.Name)
		require.Equal(t, normal(9, loraCases[i].cout, 1), float32s(t, bias))
	}
	_, err = m.Tensor("norm.weight")
	require.NoError(t, err)
	for _, hidden := range []string{"a.conv.weight", "a.lora_A", "b.c.lora_B", "a.conv.bias", "nothing"} {
		_, err = m.Tensor(hidden)
		require.ErrorIs(t, err, fs.ErrNotExist, hidden)
	}
	_, err = MergeSource(src, func(string, int) (float64, error) { return 0, errors.New("no alpha") })
	require.ErrorContains(t, err, `LoRA module "a": no alpha`)
}

func TestIncompleteAdaptersAreErrors(t *testing.T) {
	full := adapted(t)
	for _, missing := range []string{"a.conv.weight", "a.lora_A", "a.lora_B"} {
		part := NewMap()
		for _, name := range full.Names() {
			if name != missing {
				x, err := full.Tensor(name)
				require.NoError(t, err)
				part.Set(x)
			}
		}
		_, err := MergeSource(part, func(string, int) (float64, error) { return 16, nil })
		require.ErrorContains(t, err, fmt.Sprintf("%q is missing", missing))
		_, err = loraModules(part)
		require.Error(t, err)
	}
	modules, err := loraModules(full)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b.c"}, modules)
	_, err = LoadLoRA(full, "norm", 16)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestMergeStateTellsWhatIsStored(t *testing.T) {
	const n = 64
	reference := normal(1, n*n, 0.1)
	store := func(d DType, values []float32) *Tensor {
		return as(t, tensorOf(t, "p.conv.weight", values, n, n, 1, 1), d)
	}
	matrix := func(d DType, seed uint64, scale float64, rows, cols int) *Tensor {
		return as(t, tensorOf(t, "m", normal(seed, rows*cols, scale), rows, cols), d)
	}
	for _, d := range []DType{F32, F16} {
		for _, size := range []float64{1e-4, 1e-3, 0.02, 1} { // of A and B, so the adapter adds about 8·size² to each value
			a, b := matrix(d, 2, size, 8, n), matrix(d, 3, size, n, 8)
			ref := store(F32, reference)
			l, err := NewLoRA(store(F32, reference), a, b, 16)
			require.NoError(t, err)
			merged := make([]float32, n*n)
			require.NoError(t, l.Merged(merged))
			other := normal(4, n*n, 0.1)
			wants := []struct {
				values []float32
				state  MergeState
			}{{reference, Unmerged}, {merged, AlreadyMerged}, {other, MergeNeither}}
			for _, w := range wants {
				l, err := NewLoRA(store(d, w.values), a, b, 16)
				require.NoError(t, err)
				e, err := l.MergeState(ref)
				require.NoError(t, err)
				want := w.state
				if d == F16 && size < 1e-2 && want != MergeNeither {
					want = MergeUnknown // the adapter drowns in the rounding
				}
				require.Equal(t, want, e.State, "%s, adapters of %g: %s", d, size, e)
			}
		}
	}
	// An adapter that has not been trained adds nothing.
	l, err := NewLoRA(store(F32, reference), matrix(F32, 2, 1, 8, n), matrix(F32, 3, 0, n, 8), 16)
	require.NoError(t, err)
	e, err := l.MergeState(store(F32, reference))
	require.NoError(t, err)
	require.Equal(t, MergeUnknown, e.State)
	// A damaged weight is not taken for either.
	broken := slices.Clone(reference)
	broken[5] = float32(math.NaN())
	l, err = NewLoRA(store(F32, broken), matrix(F32, 2, 1, 8, n), matrix(F32, 3, 1, n, 8), 16)
	require.NoError(t, err)
	e, err = l.MergeState(store(F32, reference))
	require.NoError(t, err)
	require.Equal(t, MergeNeither, e.State)
	_, err = l.MergeState(tensorOf(t, "r", make([]float32, n*n), n*n, 1, 1, 1))
	require.ErrorContains(t, err, "the reference is")
}

// TestOriginalLoRANetworkIsMergeable goes over every adapter of the golden network.
func TestOriginalLoRANetworkIsMergeable(t *testing.T) {
	s, err := OpenSafetensors(goldens(t, "lora_restormer", "weights.safetensors"))
	require.NoError(t, err)
	defer s.Close()
	modules, err := loraModules(s)
	require.NoError(t, err)
	require.NotEmpty(t, modules)
	m, err := MergeSource(s, func(string, int) (float64, error) { return 16, nil })
	require.NoError(t, err)
	kernels := make(map[string]bool)
	for _, module := range modules {
		l, err := LoadLoRA(s, module, 16)
		require.NoError(t, err)
		want := 4 // ranks 4, 4, 8, 8 by level
		for _, deep := range []string{"encoder_level3", "down3_4", "decoder_level3", "up3_2", "latent", "up4_3", "reduce_chan_level3"} {
			if strings.HasPrefix(module, deep) {
				want = 8
			}
		}
		require.Equal(t, want, l.Rank, module)
		x, err := m.Tensor(module + ".weight")
		require.NoError(t, err)
		requireClose(t, referenceMerge(t, l, 16), float32s(t, x), 1e-5)
		kernels[fmt.Sprintf("k%d depthwise %v", l.Kernel, l.Groups > 1)] = true
	}
	require.Equal(t, map[string]bool{"k1 depthwise false": true, "k3 depthwise false": true, "k3 depthwise true": true}, kernels)
}
