package restore

import (
	"context"
	"fmt"
	"image"
	"strings"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
)

// shared is how tiles of a network that looks at the whole image come to the statistics of all of it; see
// [graph.Graph.Statistics]. They are a fixed point: what a layer gathers depends on what the layers before were given. It
// is found on two small models of the picture. A mosaic of parts of it gives the first guess in one run, and tells how later
// statistics follow earlier ones. Pieces, cut out with what surrounds them and spread over the picture, tell what the
// statistics are, given the last guess; what they say beyond the mosaic is added to the mosaic's own, layer by layer, which
// gives the next guess. So tiles themselves run once.
type shared struct {
	expert int
	names  []string // of the statistics
	floats []int    // of each
	grid   int
	mosaic *job // one tile, of the mosaic's size
	pieces *job // tiles that cover the picture
	// once leaves it at a mosaic of a tile's size: half precision has no room for mean squares.
	once bool
}

const (
	// mosaicSide is the side of a mosaic at most, mosaicPart that of its parts in pixels, largePart where it has a tile's
	// size, and mosaicParts how many of them lie beside each other.
	mosaicSide       = 256
	mosaicPart       = 64
	largePart        = 128
	leastMosaicParts = 2
	mostMosaicParts  = 8
	// pieceSide and pieceOverlap cut the picture into pieces.
	pieceSide    = 256
	pieceOverlap = 32
)

// whole has a program that records statistics, given has one that reads them.
func (s *shared) whole() experts.Variant {
	return experts.Variant{Key: "observed " + s.key(), Make: func(g *graph.Graph) (*graph.Graph, error) { return g.Observed(s.names) }}
}

func (s *shared) given() experts.Variant {
	return experts.Variant{Key: "given " + s.key(), Make: func(g *graph.Graph) (*graph.Graph, error) { return g.Given(s.names) }}
}

// corrected has a program that adds corrections to statistics and shows the sums.
func (s *shared) corrected() experts.Variant {
	return experts.Variant{Key: "corrected " + s.key(), Make: func(g *graph.Graph) (*graph.Graph, error) { return g.Corrected(s.names) }}
}

// gathered has a program that reads statistics and tells those of its core.
func (s *shared) gathered(core image.Rectangle) experts.Variant {
	return experts.Variant{Key: fmt.Sprint("gathered ", core, s.key()), Make: func(g *graph.Graph) (*graph.Graph, error) {
		g, _, err := g.Gathered(s.names, core)
		return g, err
	}}
}

// key tells sets of statistics apart, which differ for networks with windows.
func (s *shared) key() string { return strings.Join(s.names, " ") }

// share finds what tiles of a job have to share with the image; nil if that is nothing.
func (r *Restorer) share(expert int, j *job) (*shared, error) {
	net, err := r.model.Config.Expert(expert)
	if err != nil {
		return nil, err
	}
	s := &shared{expert: expert, grid: net.Grid(), once: r.backend.Info().Half}
	all := map[string]bool{}
	for i, size := range [][2]int{{j.y.size, j.x.size}, {j.y.tile, j.x.tile}} {
		g, err := r.model.Config.BuildExpert(nil, expert, 1, size[0], size[1], models.Options{})
		if err != nil {
			return nil, err
		}
		for _, t := range g.Statistics() {
			if i == 0 {
				all[t.Name] = true
			} else if all[t.Name] {
				s.names = append(s.names, t.Name)
				s.floats = append(s.floats, int(t.Shape.Elems()))
			}
		}
	}
	if len(s.names) == 0 {
		return nil, nil
	}
	return s, s.cut(j)
}

// cut places the mosaic and the pieces, none of which is larger than a tile.
func (s *shared) cut(j *job) error {
	s.mosaic = &job{pictures: j.pictures, shared: s}
	s.pieces = &job{pictures: j.pictures, shared: s}
	for _, side := range []struct{ tile, mosaic, piece **axis }{{&j.y, &s.mosaic.y, &s.pieces.y}, {&j.x, &s.mosaic.x, &s.pieces.x}} {
		a := *side.tile
		m := *a
		if limit := min(a.tile, mosaicSide); !s.once && len(a.origin) > 1 {
			m.tile = onGrid(limit, a.size, s.grid)
		}
		*side.mosaic = &m
		piece := min(a.tile, pieceSide)
		overlap := min(pieceOverlap, overlapFor(0, piece, a.size, s.grid))
		p, err := newAxis(a.size, piece, overlap, s.grid)
		if err != nil {
			return err
		}
		*side.piece = p
	}
	return nil
}

// running is a variant at a size.
type running struct {
	experts.Variant
	h, w int
}

// variants lists the programs that a job of tiles runs, of the most memory each.
func (s *shared) variants(j *job) []running {
	tile := running{h: j.y.tile, w: j.x.tile}
	if s == nil {
		return []running{tile}
	}
	tile.Variant = s.given()
	if s.once {
		return []running{{s.whole(), j.y.tile, j.x.tile}, tile}
	}
	h, w := s.pieces.y.tile, s.pieces.x.tile
	return []running{{s.corrected(), s.mosaic.y.tile, s.mosaic.x.tile}, {s.gathered(image.Rect(0, 0, w, h)), h, w}, tile}
}

// bytes is what statistics take on the host: guess, corrections, what pieces and the mosaic tell, and sums in double
// precision; and the mosaic with its results.
func (s *shared) bytes() int64 {
	if s == nil {
		return 0
	}
	n := int64(0)
	for _, f := range s.floats {
		n += int64(f)
	}
	tile := int64(s.mosaic.y.tile) * int64(s.mosaic.x.tile)
	return 16*4*n + 4*3*(int64(max(1, s.mosaic.pictures))+mosaicResults)*tile
}

// core is the part of a tile that counts: up to the middle of what it shares with its neighbours.
func (s *shared) core(j *job, ny, nx int) image.Rectangle {
	side := func(a *axis, i int) (from, to int) {
		edge := func(i int) int { return int(a.zone[i]) / s.grid * s.grid }
		to = a.size
		if i > 0 {
			from = edge(i - 1)
		}
		if i < len(a.zone) {
			to = edge(i)
		}
		return from - a.origin[i], to - a.origin[i]
	}
	y0, y1 := side(j.y, ny)
	x0, x1 := side(j.x, nx)
	return image.Rect(x0, y0, x1, y1)
}

// fill fills a tile with parts of the picture of about that side, evenly spread.
func (j *job) fill(img *imaging.Image, tile []float32, part int) error {
	channels := len(tile) / (j.y.tile * j.x.tile)
	cut := func(a *axis) (from, to []int) {
		n := 1
		if len(a.origin) > 1 {
			n = min(max(a.tile/part, leastMosaicParts), mostMosaicParts)
		}
		for i := range n {
			side := a.tile*(i+1)/n - a.tile*i/n
			at := 0
			if n > 1 {
				at = (a.size - side) * i / (n - 1)
			}
			from, to = append(from, at), append(to, at+side)
		}
		return from, to
	}
	top, bottom := cut(j.y)
	left, right := cut(j.x)
	pixels := make([]float32, (bottom[0]-top[0]+1)*(right[0]-left[0]+1)*channels)
	y := 0
	for i := range top {
		x := 0
		for k := range left {
			r := image.Rect(left[k], top[i], right[k], bottom[i])
			p := pixels[:r.Dx()*r.Dy()*channels]
			if err := j.read(img, p, r); err != nil {
				return err
			}
			for row := range r.Dy() {
				copy(tile[((y+row)*j.x.tile+x)*channels:], p[row*r.Dx()*channels:][:r.Dx()*channels])
			}
			x += r.Dx()
		}
		y += bottom[i] - top[i]
	}
	return nil
}

// variant runs a variant of the job's expert for one tile and gives all outputs, of which res is the first.
func (r *Restorer) variant(ctx context.Context, j *job, v experts.Variant, in [][]float32, res []float32, progress func(float64)) (out [][]float32, err error) {
	lease, err := r.pool.AcquireVariant(ctx, j.shared.expert, 1, j.y.tile, j.x.tile, v)
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	if err := r.lane.takeArena(lease.Program.Memory()); err != nil {
		return nil, err
	}
	out = [][]float32{res}
	for _, p := range lease.Program.Graph().Outputs[1:] {
		out = append(out, make([]float32, p.Shape.Elems()))
	}
	return out, lease.Program.Run(ctx, in, out, backend.RunOptions{Progress: progress})
}

// runShared is run for tiles that share statistics, and tells how much was done in all, in units of what tiles take.
func (r *Restorer) runShared(ctx context.Context, j *job, buffers []float32, img, out *imaging.Image, progress func(float64)) (passes float64, err error) {
	in, res, _ := j.carve(buffers)
	stats, pixels, err := r.statistics(ctx, j, img, in, res, progress)
	if err != nil {
		return 0, fmt.Errorf("statistics of the picture: %w", err)
	}
	rest := progress
	if progress != nil {
		rest = func(done float64) { progress(statisticsShare + (1-statisticsShare)*done) }
	}
	tiles := float64(j.tiles() * j.y.tile * j.x.tile)
	return 1 + pixels/tiles, j.run(ctx, func(ctx context.Context, _, _ int, in, res []float32, progress func(float64)) error {
		_, err := r.variant(ctx, j, j.shared.given(), append([][]float32{in}, stats...), res, progress)
		return err
	}, buffers, img, out, rest)
}
