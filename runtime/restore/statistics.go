package restore

import (
	"context"
	"image"
	"math"

	"unirestorer/graph"
	"unirestorer/runtime/imaging"
)

const (
	// leastPieces and pieceStride give how many pieces are looked at first: one of so many, and so many at least.
	leastPieces = 8
	pieceStride = 16
	// Where those tell too little, so many times as many are taken, until it is all of them.
	morePieces = 4
	// mostRounds bounds how often statistics are guessed anew.
	mostRounds = 7
	// settled is the change of the mosaic's result from one guess to the next, in dB, at which the guess changes no more.
	settled = 47
	// agreed is how near the mosaic's results must be by two halves of the pieces, in dB; by all of them together it is
	// 6 dB nearer.
	agreed = 47
	// mosaicResults are kept at a time: by each half of the pieces, by all of them, and the last one.
	mosaicResults = 4
	// statisticsShare is the share of the progress that statistics get.
	statisticsShare = 0.25
)

// guess is statistics of an image on the way to the fixed point.
type guess struct {
	r       *Restorer
	j       *job
	mosaic  []float32
	stats   [][]float32 // as the mosaic has them with the corrections
	offsets [][]float32 // the corrections
	result  []float32   // of the mosaic with them
	pixels  float64     // that went through the network
}

// statistics finds what tiles of img are given, and how many pixels went through the network for that. in and res hold a
// tile each, which is of use for nothing else meanwhile.
func (r *Restorer) statistics(ctx context.Context, j *job, img *imaging.Image, in, res []float32, progress func(float64)) ([][]float32, float64, error) {
	s := j.shared
	m := s.mosaic
	m.second, s.pieces.second = j.second, j.second
	g := &guess{r: r, j: j}
	g.mosaic = make([]float32, m.y.tile*m.x.tile*3*max(1, j.pictures))
	if j.pictures > 1 {
		m.part, s.pieces.part = j.part, j.part
	}
	part := mosaicPart
	if s.once {
		part = largePart
	}
	if err := m.fill(img, g.mosaic, part); err != nil {
		return nil, 0, err
	}
	if s.once {
		all, err := r.variant(ctx, m, s.whole(), [][]float32{g.mosaic}, res, nil)
		if err != nil {
			return nil, 0, err
		}
		return all[1:], float64(m.y.tile * m.x.tile), nil
	}
	for _, n := range s.floats {
		g.offsets = append(g.offsets, make([]float32, n))
	}
	var err error
	if g.result, g.stats, err = g.corrected(ctx, g.offsets); err != nil {
		return nil, 0, err
	}
	all := s.pieces.tiles()
	n := min(max(leastPieces, all/pieceStride), all)
	if 2*n > all {
		n = all
	}
	for round := range mostRounds {
		if progress != nil {
			progress(statisticsShare * (1 - math.Pow(0.5, float64(round))))
		}
		change, noise, err := g.improve(ctx, img, n, in, res)
		if err != nil {
			return nil, 0, err
		}
		if noise < agreed {
			if n *= morePieces; 2*n > all {
				n = all
			}
		} else if change >= settled {
			break
		}
	}
	return g.stats, g.pixels, nil
}

// corrected runs the mosaic with corrections of its statistics, and gives its result and the statistics.
func (g *guess) corrected(ctx context.Context, offsets [][]float32) (result []float32, stats [][]float32, err error) {
	m := g.j.shared.mosaic
	g.pixels += float64(m.y.tile * m.x.tile)
	result = make([]float32, m.y.tile*m.x.tile*3)
	all, err := g.r.variant(ctx, m, g.j.shared.corrected(), append([][]float32{g.mosaic}, offsets...), result, nil)
	if err != nil {
		return nil, nil, err
	}
	return result, all[1:], nil
}

// improve makes the next guess by n pieces. It tells by how many dB that changed the mosaic's result, and how near to each
// other the results by halves of the pieces are.
func (g *guess) improve(ctx context.Context, img *imaging.Image, n int, in, res []float32) (change, noise float64, err error) {
	halves, all, err := g.gather(ctx, img, n, in, res)
	if err != nil {
		return 0, 0, err
	}
	noise = math.Inf(1)
	if n < g.j.shared.pieces.tiles() {
		var results [2][]float32
		for i, half := range halves {
			offsets, err := g.beyond(half)
			if err != nil {
				return 0, 0, err
			}
			if results[i], _, err = g.corrected(ctx, offsets); err != nil {
				return 0, 0, err
			}
		}
		noise = difference(results[0], results[1])
	}
	if g.offsets, err = g.beyond(all); err != nil {
		return 0, 0, err
	}
	last := g.result
	if g.result, g.stats, err = g.corrected(ctx, g.offsets); err != nil {
		return 0, 0, err
	}
	return difference(last, g.result), noise, nil
}

// beyond is what pieces say beyond the mosaic's own statistics.
func (g *guess) beyond(pieces *graph.Gather) ([][]float32, error) {
	values, err := pieces.Values()
	if err != nil {
		return nil, err
	}
	offsets := make([][]float32, len(g.offsets))
	for i, name := range g.j.shared.names {
		offsets[i] = make([]float32, len(g.offsets[i]))
		for k, v := range values[name] {
			offsets[i][k] = g.offsets[i][k] + v - g.stats[i][k]
		}
	}
	return offsets, nil
}

// gather asks n pieces for their statistics, given the guess: by every other one of them, and by all.
func (g *guess) gather(ctx context.Context, img *imaging.Image, n int, in, res []float32) (halves [2]*graph.Gather, all *graph.Gather, err error) {
	s := g.j.shared
	p := s.pieces
	if all, err = g.r.gather(s); err != nil {
		return halves, nil, err
	}
	halves = [2]*graph.Gather{all.Empty(), all.Empty()}
	area := p.y.tile * p.x.tile
	in, res = in[:area*3*max(1, p.pictures)], res[:area*3]
	for i, t := range spread(len(p.y.origin), len(p.x.origin), n) {
		y, x := p.y.origin[t.Y], p.x.origin[t.X]
		if err := p.read(img, in, image.Rect(x, y, x+p.x.tile, y+p.y.tile)); err != nil {
			return halves, nil, err
		}
		core := s.core(p, t.Y, t.X)
		out, err := g.r.variant(ctx, p, s.gathered(core), append([][]float32{in}, g.stats...), res, nil)
		if err != nil {
			return halves, nil, err
		}
		all.Add(out, core.Dx()*core.Dy())
		halves[i%2].Add(out, core.Dx()*core.Dy())
		g.pixels += float64(area)
	}
	return halves, all, nil
}

// gather joins statistics of pieces.
func (r *Restorer) gather(s *shared) (*graph.Gather, error) {
	h, w := s.pieces.y.tile, s.pieces.x.tile
	g, err := r.pool.Build(s.expert, 1, h, w)
	if err != nil {
		return nil, err
	}
	_, gather, err := g.Gathered(s.names, image.Rect(0, 0, w, h))
	return gather, err
}

// spread chooses about n of rows×columns places, evenly: on a lattice whose rows are shifted by the golden section of its
// step.
func spread(rows, columns, n int) []image.Point {
	step := max(1, (rows*columns+n-1)/n)
	shift := max(1, int(float64(step)*0.382+0.5))
	var all []image.Point
	for y := range rows {
		for x := range columns {
			if (x+shift*y)%step == 0 {
				all = append(all, image.Pt(x, y))
			}
		}
	}
	return all
}

// difference of two results in dB, as a peak signal-to-noise ratio.
func difference(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		d := float64(min(max(a[i], 0), 1) - min(max(b[i], 0), 1))
		sum += d * d
	}
	return -10 * math.Log10(max(sum/float64(max(len(a), 1)), 1e-20))
}
