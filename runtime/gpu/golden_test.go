package gpu

import (
	"context"
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
	cases := []string{"nafnet", "nafnet_local", "retinexformer", "restormer_biasfree", "dehazeformer", "router_head", "daclip_visual", "promptir", "restormer_withbias", "lora_restormer"}
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
				require.Equal(t, c.InDecibel, c.Faithful != nil, c.Name)
			}
		})
	}
	require.Zero(t, b.weights.Total())
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
