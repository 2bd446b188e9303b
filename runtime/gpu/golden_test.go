package gpu

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/verify"
)

var goldens = filepath.Join("..", "..", "testdata", "goldens")

func golden(t *testing.T, b *Backend, name string) *verify.Report {
	t.Helper()
	report, err := verify.Run(context.Background(), b, filepath.Join(goldens, name), verify.Options{})
	require.NoError(t, err)
	require.NotEmpty(t, report.Checks)
	return report
}

func TestGoldenCasesMatchPyTorch(t *testing.T) {
	cases := []string{"nafnet", "nafnet_local", "retinexformer", "restormer_biasfree", "dehazeformer", "router_head", "daclip_visual", "promptir"}
	if os.Getenv("UNIRESTORER_TEST_LONG") != "" { // minutes in the simulator
		cases = append(cases, "airnet")
	}
	if testing.Short() {
		cases = []string{"nafnet", "router_head"}
	}
	b := newBackend(t, Options{})
	for _, name := range cases {
		t.Run(name, func(t *testing.T) {
			for _, c := range golden(t, b, name).Checks {
				require.True(t, c.OK, "%s: max %.3g, %.1f dB, bound %g %s", c.Name, float64(c.MaxAbs), float64(c.PSNR), c.Bound, c.Note)
			}
		})
	}
	require.Zero(t, b.weights.Total())
}

// Norms over very few channels and an all-black image make networks amplify
// rounding so far that fp16 cannot reach 60 dB. PyTorch's own rounding in fp32
// tells how far; that of fp16 is 2¹³ times as large.
func TestIllConditionedGoldenCasesStayWithinTheirRounding(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds in the simulator")
	}
	const coarser = 1 << 13
	b := newBackend(t, Options{})
	for _, name := range []string{"restormer_withbias", "lora_restormer"} {
		content, err := os.ReadFile(filepath.Join(goldens, name, "config.json"))
		require.NoError(t, err)
		var config struct {
			Noise map[string]float64 `json:"fp32_vs_fp64_max_abs_diff"`
		}
		require.NoError(t, json.Unmarshal(content, &config))
		for _, c := range golden(t, b, name).Checks {
			output, _, _ := strings.Cut(c.Name, " ")
			noise := config.Noise["x"+strings.TrimPrefix(output, "y")]
			require.Positive(t, noise, c.Name)
			require.LessOrEqual(t, float64(c.MaxAbs), 2*coarser*noise, "%s %s", name, c.Name)
			require.GreaterOrEqual(t, float64(c.PSNR), 50.0, "%s %s", name, c.Name)
		}
	}
}

// TestRescaledNetworksGiveTheSamePicture runs networks whose weights were multiplied by powers of two, up to 2^20, so that
// what flows inside leaves fp16 while the function stays; see testdata/range.
func TestRescaledNetworksGiveTheSamePicture(t *testing.T) {
	b := newBackend(t, Options{})
	cases, err := filepath.Glob(filepath.Join("..", "..", "testdata", "range", "*", "config.json"))
	require.NoError(t, err)
	require.Len(t, cases, 3)
	for _, c := range cases {
		dir := filepath.Dir(c)
		report, err := verify.Run(t.Context(), b, dir, verify.Options{})
		require.NoError(t, err)
		plain, _, _ := strings.Cut(filepath.Base(dir), "_")
		plain = map[string]string{"nafnet": "nafnet", "restormer": "restormer_withbias"}[plain]
		unscaled := golden(t, b, plain)
		for _, check := range report.Checks {
			require.True(t, check.OK, "%s %s: %.1f dB", dir, check.Name, float64(check.PSNR))
		}
		// The first inputs are the same.
		require.InDelta(t, float64(unscaled.Checks[0].PSNR), float64(report.Checks[0].PSNR), 1, dir)
	}
}
