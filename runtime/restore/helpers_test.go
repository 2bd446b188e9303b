package restore

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/experts/expertstest"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/router"
	"unirestorer/weights"
)

func tinyModel(t testing.TB) *experts.Model {
	t.Helper()
	return expertstest.Tiny(t, "../../testdata/goldens/unirestorer_tiny")
}

// restorer makes a Restorer that is closed, without an expert left in use, at
// the end of the test.
func restorer(t testing.TB, m *experts.Model, b backend.Backend, c Config) *Restorer {
	t.Helper()
	r, err := New(context.Background(), m, b, c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// oneExpert is a model of a single network, without an estimator's weights.
func oneExpert(t testing.TB, arch, args string) *experts.Model {
	t.Helper()
	net, err := models.New(arch, json.RawMessage(args))
	require.NoError(t, err)
	specs, err := models.Stored(net)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 1))
	src := weights.NewMap()
	for _, s := range specs {
		v := make([]float32, s.Elems())
		for i := range v {
			v[i] = float32(rng.NormFloat64() / 4)
		}
		x, err := weights.FromFloat32(s.Name, s.Dims, v)
		require.NoError(t, err)
		src.Set(x)
	}
	c := &models.Config{
		Experts: []models.ExpertConfig{{Name: "only", Architecture: arch, Args: json.RawMessage(args)}},
		Tree:    models.Tree{Levels: []string{"only"}, Leaves: []models.Leaf{{Experts: []int{0}}}},
	}
	return &experts.Model{Config: c, Source: src, Path: "one"}
}

// noise is a picture of random samples.
func noise(t testing.TB, w, h, channels, depth int) *imaging.Image {
	t.Helper()
	img, err := imaging.New(w, h, channels, depth)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(uint64(w), uint64(h)))
	for i := range img.Pix {
		img.Pix[i] = uint8(rng.IntN(256))
	}
	for i := range img.Pix16 {
		img.Pix16[i] = uint16(rng.IntN(65536))
	}
	return img
}

func only(expert int) router.Override { return router.Override{Expert: &expert} }

// floats reads the whole image as RGB.
func floats(t testing.TB, img *imaging.Image) []float32 {
	t.Helper()
	v := make([]float32, img.W*img.H*3)
	require.NoError(t, img.RGBFloat(v, img.Bounds()))
	return v
}

// fake is a backend whose programs compute a function of the image instead of
// the graph; arenas take arenaPerPixel bytes a pixel.
type fake struct {
	compute func(run int, in, out []float32, s graph.Shape) error

	mu    sync.Mutex
	runs  int
	held  int64 // weights
	arena int64
	most  int64 // of both
}

const (
	arenaPerPixel = 400
	fakeWeights   = 10_000
)

func (f *fake) Info() backend.Info { return backend.Info{Name: "fake"} }
func (f *fake) Close() error       { return nil }
func (f *fake) Trim() (int64, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.arena
	f.arena = 0
	return n, true
}
func (f *fake) Plan(g *graph.Graph) (backend.Memory, error) {
	return backend.Memory{Arena: arenaPerPixel * int64(g.Inputs[0].Shape.Pixels()), Weights: fakeWeights}, nil
}
func (f *fake) Holdings(g *graph.Graph) ([]backend.Holding, error) {
	m, err := f.Plan(g)
	return []backend.Holding{{Bytes: m.Weights}}, err
}
func (f *fake) Resident() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held
}
func (f *fake) Compile(_ context.Context, g *graph.Graph) (backend.Program, error) {
	m, err := f.Plan(g)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held += m.Weights
	f.most = max(f.most, f.held+f.arena)
	return &fakeProgram{f, g, m}, nil
}

type fakeProgram struct {
	fake   *fake
	graph  *graph.Graph
	memory backend.Memory
}

func (p *fakeProgram) Graph() *graph.Graph    { return p.graph }
func (p *fakeProgram) Memory() backend.Memory { return p.memory }
func (p *fakeProgram) Close() error {
	p.fake.mu.Lock()
	defer p.fake.mu.Unlock()
	p.fake.held -= p.memory.Weights
	return nil
}
func (p *fakeProgram) Run(ctx context.Context, in, out [][]float32, opt backend.RunOptions) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.fake.mu.Lock()
	p.fake.arena = max(p.fake.arena, p.memory.Arena)
	p.fake.most = max(p.fake.most, p.fake.held+p.fake.arena)
	run := p.fake.runs
	p.fake.runs++
	p.fake.mu.Unlock()
	if opt.Progress != nil {
		opt.Progress(0.5)
		opt.Progress(1)
	}
	if err := p.fake.compute(run, in[0], out[0], p.graph.Inputs[0].Shape); err != nil {
		return err
	}
	return backend.CheckFinite(p.graph, out)
}

// box is the mean over a (2·r+1)² window, cut at the border.
func box(r int) func(run int, in, out []float32, s graph.Shape) error {
	return func(_ int, in, out []float32, s graph.Shape) error {
		for y := range s.H {
			for x := range s.W {
				var sum [3]float64
				n := 0.0
				for v := max(0, y-r); v <= min(s.H-1, y+r); v++ {
					for u := max(0, x-r); u <= min(s.W-1, x+r); u++ {
						for c := range 3 {
							sum[c] += float64(in[(v*s.W+u)*3+c])
						}
						n++
					}
				}
				for c := range 3 {
					out[(y*s.W+x)*3+c] = float32(sum[c] / n)
				}
			}
		}
		return nil
	}
}
