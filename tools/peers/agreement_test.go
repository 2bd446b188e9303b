package main

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCompare(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		name      string
		got, want []float32
		tolerance float64
		psnr      float64
		wrong     string
	}{
		{name: "equal", got: []float32{1, 2}, want: []float32{1, 2}, psnr: math.Inf(1)},
		{name: "close", got: []float32{1, 0.5}, want: []float32{1, 0.25}, tolerance: 0.25, psnr: -10 * math.Log10(0.0625/2)},
		{name: "relative to the peak", got: []float32{100, 1}, want: []float32{100, 2}, tolerance: 0.01, psnr: -10 * math.Log10(0.5)},
		{name: "apart", got: []float32{1, 0.5}, want: []float32{1, 0.25}, tolerance: 0.24, wrong: "differ by 0.25, more than 0.24"},
		{name: "not a number", got: []float32{1, nan}, want: []float32{1, nan}, tolerance: 1, wrong: "value 1 of a is NaN"},
		{name: "infinite", got: []float32{1}, want: []float32{inf}, tolerance: 1, wrong: "value 0 of b is +Inf"},
		{name: "nothing", wrong: "nothing to compare"},
	} {
		t.Run(c.name, func(t *testing.T) {
			shape := []int{1, len(c.got)}
			a, err := compare(output{"a", c.got, shape}, output{"b", c.want, shape}, c.tolerance)
			require.Equal(t, "a", a.Got)
			require.Equal(t, "b", a.Want)
			if c.wrong != "" {
				require.ErrorContains(t, err, c.wrong)
				return
			}
			require.NoError(t, err)
			if math.IsInf(c.psnr, 1) {
				require.True(t, math.IsInf(float64(a.PSNR), 1))
			} else {
				require.InDelta(t, c.psnr, float64(a.PSNR), 1e-9)
			}
		})
	}
	_, err := compare(output{"a", []float32{1, 2}, []int{2, 1}}, output{"b", []float32{1, 2}, []int{1, 2}}, 1)
	require.ErrorContains(t, err, "shapes [2 1] and [1 2]")
}

func TestDecibelsThatJSONCannotHoldAreNull(t *testing.T) {
	for d, want := range map[decibels]string{12.5: "12.5", decibels(math.Inf(1)): "null"} {
		text, err := json.Marshal(d)
		require.NoError(t, err)
		require.Equal(t, want, string(text))
	}
	text, err := json.Marshal(decibels(math.NaN()))
	require.NoError(t, err)
	require.Equal(t, "null", string(text))
}
