package main

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/profile"
)

func exampleReport() *report {
	return &report{
		Machine: profile.Machine{OS: "linux", Arch: "amd64", CPU: "Example", Cores: 4, Memory: 1 << 30}, Threads: 2, Rounds: 2,
		Results: []result{
			{
				Network: "nafnet", Side: 256, MACs: 5e9, Agreement: []agreement{{Got: "ONNX Runtime", Want: "UniRestorer", MaxAbs: 2.5e-6, PSNR: 120.44}},
				Measures: []measure{
					{Runtime: ours, Version: "go", Rounds: [][]float64{{0.1}, {0.2}}, Median: 0.1, Cold: []float64{0.3, 0.1, 0.2}, Peak: 64 << 20},
					{Runtime: onnxRuntime, Version: "1", Rounds: [][]float64{{0.2}, {0.4}}, Median: 0.3, Cold: []float64{0.4}, Peak: 256 << 20},
				},
			},
			{
				Network: "a|b", Side: 64, MACs: 1e6, Agreement: []agreement{{Got: "ONNX Runtime", Want: "UniRestorer", PSNR: decibels(math.Inf(1))}},
				Measures: []measure{
					{Runtime: ours, Rounds: [][]float64{{0.002}, {0.002}}, Median: 0.002, Cold: []float64{0.5}, Peak: 1 << 20},
					{Runtime: onnxRuntime, Rounds: [][]float64{{0.001}, {0.001}}, Median: 0.001, Cold: []float64{0.25}, Peak: 1 << 20},
				},
			},
		},
	}
}

func TestReportAsText(t *testing.T) {
	var b strings.Builder
	require.NoError(t, exampleReport().writeText(&b))
	require.Equal(t, `Example (linux/amd64, 4 cores, 1.0 GiB), 2 threads, batch 1, 2 rounds. UniRestorer: go. ONNX Runtime: 1.

Time of a run, median

network     size  GMAC  UniRestorer  ONNX Runtime  GFLOP/s  / ONNX Runtime
nafnet   256×256  5.00       100 ms        300 ms      100            0.50
a|b        64×64  0.00      2.00 ms       1.00 ms        1            2.00

GFLOP/s are those of UniRestorer, two for each multiply-add of the network as defined.

Ratios are medians over rounds of the ratio within a round.

Agreement with UniRestorer: largest absolute difference, and PSNR for values up to 1

network     size  ONNX Runtime      PSNR
nafnet   256×256       2.5e-06  120.4 dB
a|b        64×64       0.0e+00     equal

Cold start: process start to first result, median

network     size  UniRestorer  ONNX Runtime  / ONNX Runtime
nafnet   256×256       200 ms        400 ms            0.50
a|b        64×64       500 ms        250 ms            2.00

Peak resident memory of the worker

network     size  UniRestorer  ONNX Runtime  / ONNX Runtime
nafnet   256×256       64 MiB       256 MiB            0.25
a|b        64×64        1 MiB         1 MiB            1.00
`, b.String())
}

func TestReportAsMarkdown(t *testing.T) {
	r := exampleReport()
	for i := range r.Results {
		for j := range r.Results[i].Measures {
			m := &r.Results[i].Measures[j]
			m.Cold, m.Peak = nil, 0
		}
	}
	var b strings.Builder
	require.NoError(t, r.writeMarkdown(&b))
	require.Contains(t, b.String(), `**Time of a run, median**

| network |    size | GMAC | UniRestorer | ONNX Runtime | GFLOP/s | / ONNX Runtime |
| ------- | ------: | ---: | ----------: | -----------: | ------: | -------------: |
| nafnet  | 256×256 | 5.00 |      100 ms |       300 ms |     100 |           0.50 |
| a\|b    |   64×64 | 0.00 |     2.00 ms |      1.00 ms |       1 |           2.00 |
`)
	require.NotContains(t, b.String(), "Cold start", "what was not measured has no table")
	require.NotContains(t, b.String(), "Peak", "what was not measured has no table")
}

func TestReportOfOneRuntimeHasNoRatios(t *testing.T) {
	r := exampleReport()
	for i := range r.Results {
		r.Results[i].Measures, r.Results[i].Agreement = r.Results[i].Measures[:1], nil
	}
	var b strings.Builder
	require.NoError(t, r.writeText(&b))
	require.NotContains(t, b.String(), "/ ")
	require.NotContains(t, b.String(), "Agreement")
}

func TestReportAsJSON(t *testing.T) {
	var b strings.Builder
	require.NoError(t, exampleReport().writeJSON(&b))
	var back struct {
		Results []struct {
			Measures []struct {
				Rounds [][]float64 `json:"rounds_seconds"`
			}
			Agreement []struct {
				PSNR *float64 `json:"psnr_db"`
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(b.String()), &back))
	require.Equal(t, [][]float64{{0.2}, {0.4}}, back.Results[0].Measures[1].Rounds)
	require.Equal(t, 120.44, *back.Results[0].Agreement[0].PSNR)
	require.Nil(t, back.Results[1].Agreement[0].PSNR)
}

func TestMillisecondsHaveThreeDigits(t *testing.T) {
	for seconds, want := range map[float64]string{0: "0 ms", 1e-6: "0.001 ms", 0.00123456: "1.23 ms", 0.0456: "45.6 ms", 0.789: "789 ms", 12.3456: "12346 ms"} {
		require.Equal(t, want, milliseconds(seconds))
	}
}
