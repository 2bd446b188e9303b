package evaluate

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"image/jpeg"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/experts/expertstest"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/quality"
	"unirestorer/runtime/restore"
	"unirestorer/runtime/router"
)

// compiling counts the programs that a backend compiles.
type compiling struct {
	backend.Backend
	programs atomic.Int64
}

func (c *compiling) Compile(ctx context.Context, g *graph.Graph) (backend.Program, error) {
	c.programs.Add(1)
	return c.Backend.Compile(ctx, g)
}

func TestRecordsHoldWhatTheRestorerGives(t *testing.T) {
	ctx := context.Background()
	m, b := tinyModel(t), expertstest.CPU(t)
	set := synthetic(t, photos(t, 32, [2]int{64, 48}), 2, 32, "rain", "noise", "clean")
	policies, err := ParsePolicies(m.Config, []string{"all"}, false, 1)
	require.NoError(t, err)
	var mu sync.Mutex
	var last float64
	var routed int
	list, err := Run(ctx, m, b, set, Options{
		Policies: policies,
		Progress: func(done float64) {
			mu.Lock()
			defer mu.Unlock()
			require.Greater(t, done, last)
			last = done
		},
		Routed: func(int, *imaging.Image, *imaging.Image, *imaging.Image) error { routed++; return nil },
	})
	require.NoError(t, err)
	require.InDelta(t, 1, last, 1e-9)
	require.Equal(t, set.Len(), routed)

	r, err := restore.New(ctx, m, b, restore.Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	for i := range list {
		rec := &list[i]
		require.Equal(t, set.Sample(i), rec.Sample)
		degraded, clean := picturesOf(t, set, i)
		restored, rep, err := r.Restore(ctx, degraded, restore.Options{})
		require.NoError(t, err)
		require.Equal(t, rep.Decision, rec.Decision)
		psnr, err := quality.PSNR(restored, clean)
		require.NoError(t, err)
		ssim, err := quality.SSIM(restored, clean)
		require.NoError(t, err)
		require.Equal(t, Quality{psnr, ssim}, rec.Routed())
		if rec.Case == CleanCase {
			require.Equal(t, Ceiling, rec.Before.PSNR)
			require.False(t, rec.degraded())
		} else {
			before, err := quality.PSNR(degraded, clean)
			require.NoError(t, err)
			require.Equal(t, before, rec.Before.PSNR)
		}
		for _, p := range policies {
			expert := p.choose(list)[i]
			require.NotNil(t, rec.Experts[expert], p.Name)
			restored, _, err := r.Restore(ctx, degraded, restore.Options{Override: router.Override{Expert: &expert}})
			require.NoError(t, err)
			want, err := measure(quality.Protocols()[0], restored, clean)
			require.NoError(t, err)
			require.Equal(t, want, *rec.Experts[expert], p.Name)
		}
	}
}

func TestExpertsAreCompiledOnceForASizeHoweverSmallTheMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("runs every expert")
	}
	m := tinyModel(t)
	b := &compiling{Backend: expertstest.CPU(t)}
	pool := experts.NewPool(m, b, experts.Options{})
	var most, total int64
	for e := range m.Config.Experts {
		mem, plan, err := pool.Need(e, 1, 32, 32)
		require.NoError(t, err)
		need := mem.Total() + plan
		most, total = max(most, need), total+need
	}
	require.NoError(t, pool.Close())
	// Pictures may keep a quarter of the bound.
	bound := 2 * most
	require.Less(t, bound, total/2, "the bound has no room for all experts")
	set := synthetic(t, photos(t, 32, [2]int{64, 48}), 3, 32, "rain", "jpeg")
	list, err := Run(context.Background(), m, b, set, Options{Matrix: true, Restorer: restore.Config{Memory: bound}})
	require.NoError(t, err)
	require.Equal(t, int64(1+len(m.Config.Experts)), b.programs.Load(), "the estimator and every expert")

	free, err := Run(context.Background(), m, b, set, Options{Matrix: true})
	require.NoError(t, err)
	require.Equal(t, free, list, "the bound changes no result")
	for i := range list {
		for e, q := range list[i].Experts {
			require.NotNil(t, q, "expert %d", e)
		}
	}
}

// failing is a set whose second picture cannot be had.
type failing struct{ Set }

func (f failing) Pictures(ctx context.Context, i int) (degraded, clean *imaging.Image, err error) {
	if i == 1 {
		return nil, nil, errors.New("the disk is gone")
	}
	return f.Set.Pictures(ctx, i)
}

func TestFailuresNameThePicture(t *testing.T) {
	ctx := context.Background()
	m, b := tinyModel(t), expertstest.CPU(t)
	set := synthetic(t, photos(t, 32, [2]int{64, 48}), 2, 32, "rain")
	_, err := Run(ctx, m, b, failing{set}, Options{})
	require.ErrorContains(t, err, "a.png at")
	require.ErrorContains(t, err, "(rain:0.75@9000001): the disk is gone")

	_, err = Run(ctx, m, b, &Pairs{}, Options{})
	require.ErrorContains(t, err, "no pictures")

	_, err = Run(ctx, m, b, set, Options{Routed: func(int, *imaging.Image, *imaging.Image, *imaging.Image) error {
		return errors.New("no room")
	}})
	require.ErrorContains(t, err, "no room")

	tiny := restore.Config{Memory: 1000}
	_, err = Run(ctx, m, b, set, Options{Restorer: tiny})
	require.ErrorIs(t, err, experts.ErrBudget)
}

func TestCancelledEvaluationsStop(t *testing.T) {
	m, b := tinyModel(t), expertstest.CPU(t)
	set := synthetic(t, photos(t, 32, [2]int{64, 48}), 4, 32, "rain", "jpeg")
	for _, stopAt := range []float64{0, 0.1, 0.5} {
		ctx, cancel := context.WithCancel(context.Background())
		if stopAt == 0 {
			cancel()
		}
		_, err := Run(ctx, m, b, set, Options{Progress: func(done float64) {
			if done >= stopAt {
				cancel()
			}
		}})
		require.ErrorIs(t, err, context.Canceled)
		cancel()
	}
}

// evaluated is a report of a few pictures with everything in it.
func evaluated(t testing.TB) (*Report, []Example) {
	t.Helper()
	m, b := tinyModel(t), expertstest.CPU(t)
	set := synthetic(t, photos(t, 32, [2]int{64, 48}), 2, 32, "rain", "clean")
	policies, err := ParsePolicies(m.Config, []string{"all"}, false, 1)
	require.NoError(t, err)
	examples := NewExamples(set, 1)
	list, err := Run(context.Background(), m, b, set, Options{Policies: policies, Routed: examples.Add})
	require.NoError(t, err)
	r, err := NewReport(m.Config, m.Path, b.Info(), "a <set>", list, policies)
	require.NoError(t, err)
	return r, examples.List()
}

func TestReportsAreComplete(t *testing.T) {
	r, examples := evaluated(t)
	var text strings.Builder
	for _, table := range r.Tables() {
		require.NoError(t, table.WriteText(&text))
	}
	for _, want := range []string{"Restored as routed", "rain", allDegraded, "Routing", "Other ways to choose", "fine-only", "Experts", "nafnet_local", "Leaves and levels", "entropy"} {
		require.Contains(t, text.String(), want)
	}

	require.Len(t, examples, 2)
	require.Equal(t, []int{0, 3}, []int{examples[0].Number, examples[1].Number})
	config, err := jpeg.DecodeConfig(bytes.NewReader(examples[0].JPEG))
	require.NoError(t, err)
	require.Equal(t, [2]int{3*32 + 2*exampleGap, 32}, [2]int{config.Width, config.Height})
	page, err := r.Page(examples)
	require.NoError(t, err)
	var html bytes.Buffer
	require.NoError(t, page.Write(&html))
	for _, want := range []string{"a &lt;set&gt;", "Degradations", "Routing", "What the routing is worth", "Pool", "Examples", "data:image/jpeg", "<svg", r.Records[0].Spec} {
		require.Contains(t, html.String(), want)
	}
	require.NotContains(t, html.String(), "Every expert on every degradation")

	var data bytes.Buffer
	require.NoError(t, json.NewEncoder(&data).Encode(r))
	var back Report
	require.NoError(t, json.Unmarshal(data.Bytes(), &back))
	require.Equal(t, *r, back)
}

func TestPageShowsTheMatrix(t *testing.T) {
	c := pool()
	policies, err := ParsePolicies(c, []string{"all"}, true, 1)
	require.NoError(t, err)
	r, err := NewReport(c, "pool", backend.Info{Name: "cpu"}, "by hand", records(), policies)
	require.NoError(t, err)
	page, err := r.Page(nil)
	require.NoError(t, err)
	var html bytes.Buffer
	require.NoError(t, page.Write(&html))
	require.Contains(t, html.String(), "Every expert on every degradation")
	require.Contains(t, html.String(), "Distance of each expert from the best of the row")
	require.NotContains(t, html.String(), "Examples")
	var text strings.Builder
	for _, table := range r.Tables() {
		require.NoError(t, table.WriteText(&text))
	}
	require.Regexp(t, `(?m)^rain +21\.00 +25\.50 +25\.52 +22\.00 +23\.50 +19\.50 +25\.52 +17\.50 +\*40\.00$`, text.String())
	require.Contains(t, text.String(), "No leaf leads to an expert with –.")
}

func TestCSVHasALineForEveryResult(t *testing.T) {
	c := pool()
	list := records()
	list[0].Experts[0] = nil
	r, err := NewReport(c, "pool", backend.Info{}, "by hand", list, nil)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "out.csv")
	require.NoError(t, r.WriteCSV(context.Background(), path))
	var b bytes.Buffer
	require.NoError(t, r.writeCSV(&b))
	lines, err := csv.NewReader(&b).ReadAll()
	require.NoError(t, err)
	require.Len(t, lines, 1+5*6-1)
	require.Equal(t, []string{
		"rain", "rain", "rain.png", "", "rain", "8", "8", "20", "0.2", "0", "wet", "fine", "0.5", "0.25", "3", "1", "b", "restormer", "22", "0.22",
	}, lines[1])
	require.Error(t, r.WriteCSV(context.Background(), filepath.Join(path, "x.csv")))
}
