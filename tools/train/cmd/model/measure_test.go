package main

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/graph/reference"
	"unirestorer/runtime/experts"
)

func TestMeasureGivesThePSNROfEachExpertAskedFor(t *testing.T) {
	const side, count = 24, 3
	p := trained(t)
	_, err := run(p.args()...)
	require.NoError(t, err)
	random := rand.New(rand.NewPCG(5, 6))
	data := make([]byte, count*2*3*side*side)
	for i := range data {
		data[i] = byte(random.IntN(256))
	}
	text, err := runOn(data, "measure", "--model", p.out, "--size", "24", "--expert", "1", "--expert", "0")
	require.NoError(t, err)
	var got [][]float64
	require.NoError(t, json.Unmarshal([]byte(text), &got))
	require.Len(t, got, 2)

	model, err := experts.OpenModel(p.out)
	require.NoError(t, err)
	defer model.Close()
	for k, expert := range []int{1, 0} {
		g, err := model.Config.BuildExpert(model.Source, expert, 1, side, side, models.Options{Layout: graph.NHWC})
		require.NoError(t, err)
		require.Len(t, got[k], count)
		for i := range count {
			pair := data[i*2*3*side*side:][:2*3*side*side]
			in, clean := make([]float32, 3*side*side), pair[3*side*side:]
			for j := range in {
				in[j] = float32(pair[j]) / 255
			}
			out, err := reference.Run(g, [][]float32{in})
			require.NoError(t, err)
			sum := 0.0
			for j, v := range out[0] {
				d := float64(min(max(v, 0), 1)) - float64(clean[j])/255
				sum += d * d
			}
			require.InDelta(t, -10*math.Log10(sum/float64(len(in))), got[k][i], 1e-3)
		}
	}
}

func TestMeasureRefusesWhatItCannotMeasure(t *testing.T) {
	p := trained(t)
	_, err := run(p.args()...)
	require.NoError(t, err)
	whole := make([]byte, 2*3*24*24)
	_, err = runOn(whole[:100], "measure", "--model", p.out, "--size", "24", "--expert", "0")
	require.ErrorContains(t, err, "picture 0: 100 of 3456 bytes")
	_, err = runOn(whole, "measure", "--model", p.out, "--size", "24", "--expert", "2")
	require.ErrorContains(t, err, "expert 2: the pool has 0 to 1")
	for _, size := range []string{"0", "-1", "100000"} {
		_, err = runOn(whole, "measure", "--model", p.out, "--size", size, "--expert", "0")
		require.ErrorContains(t, err, "a side must be between 1 and 4096")
	}
}
