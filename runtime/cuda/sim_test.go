//go:build cuda && cudasim && linux

package cuda_test

import (
	"fmt"
	"os"
	"testing"

	"unirestorer/runtime/cuda/simdriver"
)

func init() { restless = simdriver.Restless }

// TestMain fails when a device left something behind on the simulated driver: closing must release everything. Nor may
// the driver have found fault with how it was used.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := simdriver.Leaked(); len(left) > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "left in destroyed contexts: %q\n", left)
		code = 1
	}
	if found := simdriver.Findings(); len(found) > 0 && code == 0 && os.Getenv(aloneEnv) == "" {
		fmt.Fprintf(os.Stderr, "faults: %q\n", found)
		code = 1
	}
	os.Exit(code)
}
