//go:build cuda && cudasim && linux

package cuda_test

import (
	"fmt"
	"os"
	"testing"

	"unirestorer/runtime/cuda/simdriver"
)

// TestMain fails when a device left something behind on the simulated driver: closing must release everything.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := simdriver.Leaked(); len(left) > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "left in destroyed contexts: %q\n", left)
		code = 1
	}
	os.Exit(code)
}
