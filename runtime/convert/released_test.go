package convert

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/weights"
	"unirestorer/weights/weightstest"
)

// In a process of its own the test binary converts one checkpoint, so that
// the process's memory is the conversion's.
const (
	convertFrom = "UNIRESTORER_TEST_CONVERT_FROM"
	convertTo   = "UNIRESTORER_TEST_CONVERT_TO"
)

func TestMain(m *testing.M) {
	if from := os.Getenv(convertFrom); from != "" {
		if err := convertFile(from, os.Getenv(convertTo)); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func convertFile(from, to string) error {
	ctx := context.Background()
	f, err := weights.Open(from)
	if err != nil {
		return err
	}
	plan, err := New(ctx, f, nil, Hints{})
	if err != nil {
		return err
	}
	if _, err := plan.Write(ctx, to, weights.FolderOptions{}, nil); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	fmt.Print(stats.Sys) // never shrinks
	return nil
}

func TestReleasedCheckpointConvertsInBoundedMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 5 GB")
	}
	if runtime.GOOS != "linux" {
		t.Skip("measures memory as Linux reports it, and needs sparse files")
	}
	specs := released.checkpoint(t)
	require.Len(t, specs, 18_471)
	var total, daclip int64
	count := 0
	for _, s := range specs {
		if strings.HasPrefix(s.Name, "daclip_model.") {
			daclip += elems(s)
			count++
		}
		total += elems(s)
	}
	require.Equal(t, 631, count)
	require.Equal(t, int64(334_062_850), daclip)

	// Values where LoRA experts are compared with what they were trained from.
	for i := range specs {
		name := specs[i].Name
		for n, probe := range probes {
			switch {
			case name == "l0_experts.0."+probe+".weight", strings.HasPrefix(name, "l2_experts.") && strings.HasSuffix(name, "."+probe+".conv.weight"):
				fill(&specs[i], uint64(n), 0.05)
			case strings.HasSuffix(name, probe+".lora_A"), strings.HasSuffix(name, probe+".lora_B"):
				fill(&specs[i], uint64(100+i), 0.05)
			}
		}
	}
	dir := t.TempDir()
	from, to := filepath.Join(dir, "model.pth"), filepath.Join(dir, "model")
	require.NoError(t, weightstest.WriteSparseCheckpoint(from, "params", specs))
	info, err := os.Stat(from)
	require.NoError(t, err)
	require.Greater(t, info.Size(), int64(4_400_000_000))

	start := time.Now()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), convertFrom+"="+from, convertTo+"="+to)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	took := time.Since(start)
	own, err := strconv.ParseInt(string(out), 10, 64)
	require.NoError(t, err)
	// The resident set also counts the pages of the mapped checkpoint that are in
	// use.
	resident := weightstest.PeakResident(cmd.ProcessState)
	t.Logf("%.2f GB in %v, own memory %d MiB, resident with the mapped file %d MiB", float64(info.Size())/1e9, took.Round(time.Millisecond), own>>20, resident>>20)
	require.Less(t, own, int64(512<<20))
	require.Less(t, resident, int64(2<<30))

	f, err := weights.OpenFolder(to)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Verify(context.Background()))
	c, err := models.ParseConfig(f.Config())
	require.NoError(t, err)
	requireReleasedPool(t, released, c)
	require.Equal(t, 30, len(c.Tree.Reachable()))
	for i := range 30 {
		g, err := c.BuildExpert(f, i, 1, 64, 64, models.Options{})
		require.NoError(t, err, "expert %d", i)
		require.Positive(t, g.Cost().MACs)
		if i >= 11 && i <= 14 {
			require.NotNil(t, c.Experts[i].Base)
			require.Equal(t, 0, *c.Experts[i].Base)
		}
	}
	_, err = c.BuildEstimator(f, 1, models.Options{})
	require.NoError(t, err)
	names := strings.Join(f.Names(), "\n")
	for _, unread := range []string{"l2_experts.22.", "clip.", "daclip_model.visual.", "zero_modules", "relative_positions", "num_batches_tracked"} {
		require.NotContains(t, names, unread)
	}
}

// requireReleasedPool checks architectures, arguments, levels and the tree.
func requireReleasedPool(t *testing.T, p sized, c *models.Config) {
	t.Helper()
	require.Len(t, c.Experts, 30)
	for i, e := range c.Experts {
		arch, args := p.expertArgs(i)
		require.Equal(t, arch, e.Architecture, "expert %d", i)
		require.Equal(t, prefixOf(i), e.Prefix)
		want, err := models.New(arch, json.RawMessage(args))
		require.NoError(t, err)
		got, err := c.Expert(i)
		require.NoError(t, err)
		if arch == models.DehazeFormerName {
			require.Equal(t, describe(t, want), describe(t, got), "expert %d", i)
		} else {
			require.Equal(t, want, got, "expert %d", i)
		}
	}
	require.Len(t, c.Tree.Leaves, 22)
	for i, leaf := range c.Tree.Leaves {
		require.Equal(t, 0, leaf.Experts[0])
		require.Equal(t, 8+i, leaf.Experts[2])
	}
	require.Equal(t, 5, c.Tree.Leaves[16].Experts[1], "leaf 16's parent is a DehazeFormer, its own expert a Restormer")
	require.Equal(t, models.RestormerName, c.Experts[24].Architecture)
}
