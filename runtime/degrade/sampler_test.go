package degrade

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSamplerDrawsInTheProportionsAskedFor(t *testing.T) {
	s := DefaultSampler()
	s.Severities = []Range{{0.1, 0.4}, {0.6, 0.9}}
	require.NoError(t, s.Check())
	const n = 20000
	var clean, mixed, high, terms int
	kinds := map[Kind]int{}
	for seed := range uint64(n) {
		spec := s.Sample(seed)
		require.NoError(t, spec.Check())
		require.Equal(t, seed, spec.Seed)
		require.Equal(t, spec, s.Sample(seed))
		switch len(spec.Terms) {
		case 0:
			clean++
		case 1:
			kinds[spec.Terms[0].Kind]++
		case 2:
			mixed++
			a, b := spec.Terms[0].Kind.info().stage, spec.Terms[1].Kind.info().stage
			require.True(t, a < b || a == b && a == stageAir, "%s", spec)
		default:
			t.Fatalf("%s has more than two terms", spec)
		}
		for _, term := range spec.Terms {
			v := term.Severity
			require.True(t, v >= 0.1 && v <= 0.4 || v >= 0.6 && v <= 0.9, "severity %g", v)
			terms++
			if v > 0.5 {
				high++
			}
		}
	}
	require.InDelta(t, 0.05, float64(clean)/n, 0.008)
	require.InDelta(t, 0.25, float64(mixed)/n, 0.015)
	require.InDelta(t, 0.5, float64(high)/float64(terms), 0.02)
	for _, k := range Kinds() {
		require.InDelta(t, 0.7/9, float64(kinds[k])/n, 0.01, k)
	}
}

func TestSamplerOfOneKindNeverMixes(t *testing.T) {
	s := Sampler{Kinds: []Kind{JPEG}, Severities: []Range{{0.5, 0.5}}, Mixed: 1}
	for seed := range uint64(50) {
		require.Equal(t, []Term{{Kind: JPEG, Severity: 0.5}}, s.Sample(seed).Terms)
	}
}

func TestSecondKindIsDrawnFromThePartners(t *testing.T) {
	s := Sampler{Kinds: []Kind{Noise}, Partners: []Kind{Rain, Haze, Poisson, Noise}, Severities: []Range{{0.5, 0.5}}, Mixed: 1}
	require.NoError(t, s.Check())
	with := map[Kind]int{}
	for seed := range uint64(200) {
		terms := s.Sample(seed).Terms
		require.Len(t, terms, 2)
		require.Equal(t, Noise, terms[1].Kind, "noise comes after what is in the air")
		with[terms[0].Kind]++
	}
	require.Len(t, with, 2, "the other noise acts at the same point")
	require.InDelta(t, 100, with[Rain], 40)
}

func TestBadSamplersAreRefused(t *testing.T) {
	for message, s := range map[string]Sampler{
		"no degradation kinds":   {Severities: []Range{{0, 1}}},
		"no severities":          {Kinds: []Kind{Rain}},
		"rain occurs twice":      {Kinds: []Kind{Rain, Rain}, Severities: []Range{{0, 1}}},
		"snow occurs twice":      {Kinds: []Kind{Rain}, Partners: []Kind{Snow, Snow}, Severities: []Range{{0, 1}}},
		"kind 77 does not exist": {Kinds: []Kind{77}, Severities: []Range{{0, 1}}},
		"severity range 0.5:0.2": {Kinds: []Kind{Rain}, Severities: []Range{{0.5, 0.2}}},
		"probabilities":          {Kinds: []Kind{Rain}, Severities: []Range{{0, 1}}, Mixed: 0.7, Clean: 0.7},
	} {
		require.ErrorContains(t, s.Check(), message)
	}
}

func TestRangesAreRead(t *testing.T) {
	list, err := ParseRanges("0.1:0.45, 0.55:1,0.5")
	require.NoError(t, err)
	require.Equal(t, []Range{{0.1, 0.45}, {0.55, 1}, {0.5, 0.5}}, list)
	for _, bad := range []string{"", "a", "0.5:0.1", "0:2", "nan", "0.1:", "0.1,,0.2"} {
		_, err := ParseRanges(bad)
		require.Error(t, err, bad)
	}
}
