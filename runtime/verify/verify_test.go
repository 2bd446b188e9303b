package verify

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// goldens are the cases in the repository, and more where a checkout has them
// beside it.
func goldens(t *testing.T) []string {
	var dirs []string
	for _, root := range []string{"../../testdata/goldens", "../../../shared/goldens"} {
		found, err := filepath.Glob(filepath.Join(root, "*", "input.safetensors"))
		require.NoError(t, err)
		for _, f := range found {
			dirs = append(dirs, filepath.Dir(f))
		}
	}
	return dirs
}

func TestReferenceMeetsEveryGoldenCase(t *testing.T) {
	if os.Getenv("X") == "" {
		t.Skip()
	}
	for _, dir := range goldens(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			r, err := Run(context.Background(), reference{}, dir, Options{Trace: true})
			require.NoError(t, err)
			for _, c := range r.Checks {
				if !c.OK {
					t.Errorf("%s: max abs %g, bound %g %s", c.Name, c.MaxAbs, c.Bound, c.Note)
				}
			}
			t.Log(len(r.Checks), "checks")
		})
	}
}
