package restore

import (
	"context"
	"fmt"
	"image"
	"math"
	"strings"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
)

// shared is how tiles of a network that looks at the whole image come to the statistics of all of it; see
// [graph.Graph.Statistics]. A run over a mosaic of parts of the picture gives a first guess. Then the picture is
// restored over and over, each time with the statistics that all tiles together had the time before, until it changes
// no more: what the first layers gather is exact after one pass, what the next ones do after two, and so on.
type shared struct {
	expert int
	names  []string // of the statistics
	floats int64    // of all of them
	grid   int
	// once leaves it at the mosaic's: half precision has no room for mean squares.
	once bool
}

const (
	// leastPasses and mostPasses bound how often the picture is restored. The change from the first to the second says
	// little: what deep layers gather has not followed yet.
	leastPasses = 3
	mostPasses  = 6
	// settled is the change from one pass to the next, in dB, at which the picture changes no more.
	settled = 50
	// mosaicPart is the side of a mosaic's parts in pixels, and mosaicParts how many lie beside each other.
	mosaicPart       = 128
	leastMosaicParts = 2
	mostMosaicParts  = 8
)

// whole has a program that records statistics, given has one that reads them.
func (s *shared) whole() experts.Variant {
	return experts.Variant{Key: "observed " + s.key(), Make: func(g *graph.Graph) (*graph.Graph, error) { return g.Observed(s.names) }}
}

func (s *shared) given() experts.Variant {
	return experts.Variant{Key: "given " + s.key(), Make: func(g *graph.Graph) (*graph.Graph, error) { return g.Given(s.names) }}
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

// share finds what tiles of th×tw pixels have to share with an image of h×w; nil if that is nothing.
func (r *Restorer) share(expert, h, w, th, tw int) (*shared, error) {
	net, err := r.model.Config.Expert(expert)
	if err != nil {
		return nil, err
	}
	s := &shared{expert: expert, grid: net.Grid(), once: r.backend.Info().Half}
	all := map[string]bool{}
	for i, size := range [][2]int{{h, w}, {th, tw}} {
		g, err := r.model.Config.BuildExpert(nil, expert, 1, size[0], size[1], models.Options{})
		if err != nil {
			return nil, err
		}
		for _, t := range g.Statistics() {
			if i == 0 {
				all[t.Name] = true
			} else if all[t.Name] {
				s.names = append(s.names, t.Name)
				s.floats += int64(t.Shape.Elems())
			}
		}
	}
	if len(s.names) == 0 {
		return nil, nil
	}
	return s, nil
}

// variants lists the programs that a job of tiles of h×w pixels runs, of the most memory each.
func (s *shared) variants(h, w int) []experts.Variant {
	if s == nil {
		return []experts.Variant{{}}
	}
	if s.once {
		return []experts.Variant{s.whole(), s.given()}
	}
	return []experts.Variant{s.whole(), s.gathered(image.Rect(0, 0, w, h))}
}

// bytes is what statistics take on the host: in, out, and joined in double precision.
func (s *shared) bytes() int64 {
	if s == nil {
		return 0
	}
	return 8 * 4 * s.floats
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

// mosaic fills a tile with parts of the picture, evenly spread.
func (j *job) mosaic(img *imaging.Image, tile []float32) error {
	channels := len(tile) / (j.y.tile * j.x.tile)
	cut := func(a *axis) (from, to []int) {
		n := 1
		if len(a.origin) > 1 {
			n = min(max(a.tile/mosaicPart, leastMosaicParts), mostMosaicParts)
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
	part := make([]float32, (bottom[0]-top[0]+1)*(right[0]-left[0]+1)*channels)
	y := 0
	for i := range top {
		x := 0
		for k := range left {
			r := image.Rect(left[k], top[i], right[k], bottom[i])
			p := part[:r.Dx()*r.Dy()*channels]
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

// runShared is run for tiles that share statistics, and tells how often they ran.
func (r *Restorer) runShared(ctx context.Context, j *job, buffers []float32, img, out *imaging.Image, progress func(float64)) (passes int, err error) {
	s := j.shared
	in, res, _ := j.carve(buffers)
	if err := j.mosaic(img, in); err != nil {
		return 0, err
	}
	first, err := r.variant(ctx, j, s.whole(), [][]float32{in}, res, nil)
	if err != nil {
		return 0, fmt.Errorf("statistics of the picture: %w", err)
	}
	stats := first[1:]
	for pass := 0; ; pass++ {
		gather, err := r.gather(j)
		if err != nil {
			return pass, err
		}
		changed := &change{img: img, first: pass == 0}
		err = j.run(ctx, func(ctx context.Context, ny, nx int, in, res []float32, progress func(float64)) error {
			inputs := append([][]float32{in}, stats...)
			if s.once {
				_, err := r.variant(ctx, j, s.given(), inputs, res, progress)
				return err
			}
			core := s.core(j, ny, nx)
			all, err := r.variant(ctx, j, s.gathered(core), inputs, res, progress)
			if err == nil {
				gather.Add(all, core.Dx()*core.Dy())
			}
			return err
		}, buffers, img, out, s.progress(pass, progress), changed)
		if err != nil || s.once || pass+1 == mostPasses || pass+1 >= leastPasses && changed.decibels() >= settled {
			return pass + 1, err
		}
		values, err := gather.Values()
		if err != nil {
			return pass + 1, err
		}
		for i, name := range s.names {
			stats[i] = values[name]
		}
	}
}

// progress is that of a pass: half of what is left, since nobody knows how many there are.
func (s *shared) progress(pass int, all func(float64)) func(float64) {
	if all == nil || s.once {
		return all
	}
	return func(done float64) { all(1 - math.Pow(0.5, float64(pass))*(1-done/2)) }
}

// gather joins statistics of the job's tiles.
func (r *Restorer) gather(j *job) (*graph.Gather, error) {
	g, err := r.pool.Build(j.shared.expert, 1, j.y.tile, j.x.tile)
	if err != nil {
		return nil, err
	}
	_, gather, err := g.Gathered(j.shared.names, image.Rect(0, 0, j.x.tile, j.y.tile))
	return gather, err
}

// change is how far a picture is from what it was a pass before.
type change struct {
	img   *imaging.Image // which is restored
	first bool           // there was no pass before

	row    []float32
	sum    float64
	values int
}

// again compares rows of out from row y on with new values, of RGB and a padded width, and gives out the pixels of the
// picture there, so that they can be written.
func (c *change) again(out *imaging.Image, rows []float32, width, y, n int) error {
	if c == nil || c.first {
		return nil
	}
	if c.row == nil {
		c.row = make([]float32, 3*out.W)
	}
	for i := range min(n, out.H-y) {
		if err := out.RGBFloat(c.row, image.Rect(0, y+i, out.W, y+i+1)); err != nil {
			return err
		}
		for k, v := range rows[i*width*3:][:3*out.W] {
			d := float64(min(max(v, 0), 1) - c.row[k])
			c.sum += d * d
		}
		c.values += 3 * out.W
		from, to := (y+i)*out.W*out.Channels, (y+i+1)*out.W*out.Channels
		if out.Depth == 8 {
			copy(out.Pix[from:to], c.img.Pix[from:to])
		} else {
			copy(out.Pix16[from:to], c.img.Pix16[from:to])
		}
	}
	return nil
}

// decibels is the change as a peak signal-to-noise ratio.
func (c *change) decibels() float64 {
	if c.first {
		return 0
	}
	return -10 * math.Log10(max(c.sum/float64(max(c.values, 1)), 1e-20))
}
