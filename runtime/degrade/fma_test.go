package degrade

import (
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNoProductIsFusedWithASum compiles this package and tools/degrade/pairs for arm64, where Go fuses x*y + z into one rounding
// whenever the source allows it, and looks for the instructions. A fused product would make results differ between
// processors; the cure is an explicit conversion, float64(x*y) + z.
func TestNoProductIsFusedWithASum(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles packages for another architecture")
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command to compile with")
	}
	build := exec.CommandContext(t.Context(), goTool, "build", "-gcflags=-S", ".", "../../tools/degrade/pairs")
	build.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0", "GOFLAGS=")
	listing, err := build.CombinedOutput()
	require.NoError(t, err, "%s", listing)
	require.Contains(t, string(listing), "FMULD", "the listing must show arm64 code")
	for _, line := range regexp.MustCompile(`(?m)^.*\bFN?M(?:ADD|SUB)[SD]\b.*$`).FindAllString(string(listing), -1) {
		t.Errorf("fused: %s", line)
	}
}
