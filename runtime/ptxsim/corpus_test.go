package ptxsim_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/ptxsim"
)

// TestACorpusOfPTXLoads reads every .ptx below the folder that PTX_CORPUS names, CUDA compiled from anywhere, and wants
// 97 % of the files to load. It lists what keeps kernels from running.
func TestACorpusOfPTXLoads(t *testing.T) {
	root := os.Getenv("PTX_CORPUS")
	if root == "" {
		t.Skip("PTX_CORPUS names no folder of .ptx files")
	}
	files, loaded, whole := 0, 0, 0
	missing := map[string]int{}
	numbers := regexp.MustCompile(`\d+`)
	require.NoError(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".ptx") {
			return err
		}
		image, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		dev, err := ptxsim.New(ptxsim.Options{})
		require.NoError(t, err)
		defer dev.Close()
		mod, err := dev.LoadModule(filepath.Base(path), image)
		if err != nil {
			missing[numbers.ReplaceAllString(err.Error(), "#")]++
			t.Logf("%s: %v", path, err)
			return nil
		}
		loaded++
		ok := true
		for _, name := range mod.(*ptxsim.Module).Kernels() {
			f, err := mod.Function(name)
			require.NoError(t, err)
			if err := f.(*ptxsim.Function).Refused(); err != nil {
				ok = false
				missing[numbers.ReplaceAllString(err.Error(), "#")]++
			}
		}
		if ok {
			whole++
		}
		return nil
	}))
	var list []string
	for m := range missing {
		list = append(list, m)
	}
	sort.Slice(list, func(i, j int) bool { return missing[list[i]] > missing[list[j]] })
	for _, m := range list {
		t.Logf("%5d  %s", missing[m], m)
	}
	t.Logf("%d of %d files load, %d with all their kernels", loaded, files, whole)
	require.Positive(t, files)
	require.GreaterOrEqual(t, float64(loaded), 0.97*float64(files))
}
