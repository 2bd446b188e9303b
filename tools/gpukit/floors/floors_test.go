package floors

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/tools/gpukit/networks"
)

// tables reads the rows of the Markdown tables under each heading.
func tables(t *testing.T, text string) map[string][][]string {
	t.Helper()
	all := map[string][][]string{}
	heading := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if h, ok := strings.CutPrefix(line, "## "); ok {
			heading = h
		}
		if !strings.HasPrefix(line, "|") {
			continue
		}
		var cells []string
		for _, c := range strings.Split(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(c))
		}
		all[heading] = append(all[heading], cells)
	}
	for h, rows := range all { // without head and rule
		require.Greater(t, len(rows), 2, h)
		all[h] = rows[2:]
	}
	return all
}

// What docs/floors.md says of launches, bytes and operations is what the networks launch.
func TestDocumentedFloorsAreCurrent(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "floors.md"))
	require.NoError(t, err)
	documented := tables(t, string(text))
	const hint = "docs/floors.md is stale: run make floors"
	r := &Report{}
	totals := documented["Networks"]
	require.Len(t, totals, len(Networks()), hint)
	for i, n := range Networks() {
		c, err := Count(n, 1, Side, Side)
		require.NoError(t, err)
		want := totalCells(c)
		require.Equal(t, want, totals[i][:len(want)], hint)
		if r.like(c) == "" {
			rows := documented[n.Name]
			require.Len(t, rows, len(c.Rows), "%s: %s", n.Name, hint)
			for j, row := range c.Rows {
				want := rowCells(row)
				require.Equal(t, want, rows[j][:len(want)], "%s: %s", n.Name, hint)
			}
		}
		r.Sections = append(r.Sections, Section{Network: c})
	}
}

// The bytes that a network moves at least, counted by hand for one product: 64×64 pixels of 8 channels to 24.
func TestFloorsAreTheLargerOfBytesAndOperations(t *testing.T) {
	p := Peaks{Bandwidth: 100, Tensor: 1000, Vector: 10, Launch: 1}
	require.InDelta(t, 5, Row{Bytes: 500, Operations: 1000, Tensor: true}.Floor(p), 1e-12)
	require.InDelta(t, 9, Row{Bytes: 500, Operations: 9000, Tensor: true}.Floor(p), 1e-12)
	require.InDelta(t, 100, Row{Bytes: 500, Operations: 1000}.Floor(p), 1e-12)
	n := Network{Rows: []Row{{Count: 2, Bytes: 500, Tensor: true}, {Count: 3, Bytes: 100, Operations: 20}}}
	require.Equal(t, 5, n.Launches())
	require.Equal(t, int64(1300), n.Bytes())
	require.Equal(t, int64(60), n.Operations())
	require.InDelta(t, 2*5+3*2, n.Floor(p), 1e-12)
}

func TestWastedSectorsOfOneKindAreNotMadeUpByAnother(t *testing.T) {
	shared, wasteful := Traffic{Requests: 1, Sectors: 1, Bytes: 128}, Traffic{Requests: 1, Sectors: 8, Bytes: 128}
	require.Zero(t, excess(shared))
	require.InDelta(t, 1, excess(wasteful), 1e-12)
	require.InDelta(t, 4.0/5, excess(shared, wasteful), 1e-12)
	require.Zero(t, excess(Traffic{}))
	require.Equal(t, []Aspect{Load, MainLoop}, Access{Load: wasteful, Store: shared, Main: Banks{10, 1}}.Outside())
	require.Empty(t, Access{Load: shared, Main: Banks{10, 0}, Rest: Banks{10, 5}}.Outside())
}

// Sectors a request and conflicts of a part of a launch are those of the whole, and of another image size.
func TestSectorsDoNotDependOnTheNumberOfPixels(t *testing.T) {
	s, err := NewSimulator()
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	n := networks.Network{Architecture: "restormer", Args: []byte(`{"num_blocks":[1,1,1,1],"num_refinement_blocks":1}`)}
	ctx := context.Background()
	figures := func(side int) map[string]Access {
		placed, err := Place(n, side, target, func(arena, weights int64) (a, b device.Buffer, err error) {
			a, err = s.dev.Alloc(arena)
			require.NoError(t, err)
			b, err = s.dev.Alloc(weights)
			return a, b, err
		})
		require.NoError(t, err)
		all := map[string]Access{}
		for _, r := range placed.Rows { // the first of a kernel is its largest
			if _, seen := all[r.Kernel]; seen || r.Kernel != "pointwise_norm_128" && r.Kernel != "depthwise3_gelu_gate" {
				continue
			}
			some, err := s.row(ctx, r)
			require.NoError(t, err)
			require.Less(t, some.Blocks, r.Shape.Grid.Count(), "a part of the grid")
			whole, _, err := s.run(ctx, r.launch, r.Shape)
			require.NoError(t, err)
			requireAlike(t, whole, some)
			all[r.Kernel] = some
		}
		require.Len(t, all, 2)
		return all
	}
	small, large := figures(96), figures(160)
	for kernel := range small {
		requireAlike(t, large[kernel], small[kernel])
	}
}

func requireAlike(t *testing.T, a, b Access) {
	t.Helper()
	const tolerance = 0.03 // the image's border is a larger part of fewer pixels
	require.InEpsilon(t, a.Load.plus(a.Copy).PerRequest(), b.Load.plus(b.Copy).PerRequest(), tolerance)
	require.InEpsilon(t, a.Store.PerRequest(), b.Store.PerRequest(), tolerance)
}

func TestEveryNetworkCanBeCounted(t *testing.T) {
	for _, n := range networks.Small() {
		c, err := Count(n, 1, 32, 32)
		require.NoError(t, err)
		require.Positive(t, c.Launches(), n.Name)
		tensor := 0
		for _, r := range c.Rows {
			require.Positive(t, r.Bytes, r.Kernel)
			if r.Tensor {
				tensor++
			}
		}
		require.Positive(t, tensor, n.Name)
	}
}
