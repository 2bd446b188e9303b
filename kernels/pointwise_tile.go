package kernels

import "math"

// pointwiseTile is a kernel for products of pixels: rows of a block, its warps across the columns, 64 each, and along the depth of a
// stage of W, that depth, and blocks that registers leave room for.
type pointwiseTile struct {
	rows, across, along, stage, resident int
	path, issue, passes                  pointwiseCost
}

// pointwiseCost is what a block takes, in cycles of dependent steps, instructions of warps or passes over shared memory: in any case,
// for each 16 of the depth, the same with a normalisation, for each tile of columns, and for each 16 of the depth of a tile.
type pointwiseCost struct{ fixed, step, norm, tile, tileStep float64 }

// pointwiseTiles are fitted to what the simulator counts of products 64 to 512 deep.
var pointwiseTiles = []pointwiseTile{
	{128, 1, 1, 64, 2, pointwiseCost{880, 32, 265, 1257, 126}, pointwiseCost{1860, 85, 835, 3025, 205}, pointwiseCost{128, 32, 96, 322, 112}},
	{64, 2, 2, 64, 1, pointwiseCost{940, 10, 75, 1134, 75}, pointwiseCost{4430, 52, 425, 4552, 289}, pointwiseCost{256, 16, 96, 836, 128}},
	{32, 2, 1, 32, 5, pointwiseCost{920, 17, 140, 1255, 150}, pointwiseCost{1050, 22, 208, 1565, 173}, pointwiseCost{256, 8, 48, 164, 112}},
}

func (c pointwiseCost) of(steps, tiles float64, norm bool) float64 {
	sum := c.fixed + steps*c.step + tiles*(c.tile+steps*c.tileStep)
	if norm {
		sum += steps * c.norm
	}
	return sum
}

// pointwiseWarps are the warps across and along of a block of so many rows.
func pointwiseWarps(rows int) (across, along int) {
	for _, t := range pointwiseTiles {
		if t.rows == rows {
			return t.across, t.along
		}
	}
	return 1, 1 // of none, which Pointwise refuses
}

// shared is the shared memory of a block in bytes: its rows for steps of 16 of the depth, three stages of W, sums that warps
// exchange, factors of channels, and bias and scale of its tiles of columns.
func (t pointwiseTile) shared(steps, tiles int) int {
	exchange := 0
	if t.along > 1 {
		exchange = 2 * t.rows * 64 * t.across * t.along
	}
	return 16*t.rows*(2*steps|1) + 3*64*t.across*(2*t.stage+16) + exchange + 32*steps + 8*64*t.across*tiles
}

func pointwiseShared(rows, depth, splits, tiles int) int {
	for _, t := range pointwiseTiles {
		if t.rows == rows {
			return t.shared(ceilDiv(ceilDiv(depth, 16), splits), tiles)
		}
	}
	return 0
}

// PointwiseShape is what decides how a product of pixels is divided between blocks: rows of each image, columns, the depth, whether
// a normalisation goes in front, and whether the depth may be split.
type PointwiseShape struct {
	Images, Rows, Columns, Depth int
	Norm, Splittable             bool
}

// Tile chooses, for a device with so many multiprocessors and bytes of shared memory a block, rows of a block, blocks that share its
// columns, and splits of the depth. It takes the way that is fastest by instructions, passes over shared memory, dependent steps and
// bytes from L2. A depth that does not fit shared memory even so gives Splits 0.
func (s PointwiseShape) Tile(sms, shared int) Tiling {
	best, least := Tiling{Rows: 32}, math.Inf(1)
	for _, t := range pointwiseTiles {
		tiles := ceilDiv(s.Columns, 64*t.across)
		for splits := 1; splits <= s.mostSplits(); splits++ {
			for blocks := 1; blocks <= tiles; blocks++ {
				if blocks > 1 && ceilDiv(tiles, blocks-1) == ceilDiv(tiles, blocks) {
					continue
				}
				tiling := Tiling{Rows: t.rows, Splits: splits, ColumnBlocks: blocks}
				if cost := s.cost(t, tiling, sms, shared); cost < 0.99*least {
					best, least = tiling, cost
				}
			}
		}
	}
	return best
}

// mostSplits leaves each split at least eight steps.
func (s PointwiseShape) mostSplits() int {
	if !s.Splittable {
		return 1
	}
	return max(1, min(16, ceilDiv(s.Depth, 16)/8))
}

// cost is the time of a tiling in cycles, infinite where it does not fit. A split depth takes a second launch, which normalises.
func (s PointwiseShape) cost(t pointwiseTile, d Tiling, sms, shared int) float64 {
	const l2, launch, finish = 24, 800, 1000 // bytes a cycle and multiprocessor; cycles
	steps, each := ceilDiv(ceilDiv(s.Depth, 16), d.Splits), ceilDiv(ceilDiv(s.Columns, 64*t.across), d.ColumnBlocks)
	bytes := t.shared(steps, each)
	if bytes > shared {
		return math.Inf(1)
	}
	held := max(1, min(t.resident, (shared+1024)/(bytes+1024)))
	grid := s.Images * ceilDiv(s.Rows, t.rows) * d.ColumnBlocks * d.Splits
	most, norm := float64(ceilDiv(grid, sms)), s.Norm && d.Splits == 1
	of := func(c pointwiseCost) float64 { return c.of(float64(steps), float64(each), norm) }
	moved := float64(grid) * float64(32*steps*(t.rows+each*64*t.across)+2*t.rows*each*64*t.across)
	sums := 0.0 // partial ones, in bytes
	if d.Splits > 1 {
		sums = 4 * float64(d.Splits*s.Images*s.Rows*s.Columns)
	}
	cost := max(most*of(t.issue)/4, most*of(t.passes), float64(ceilDiv(grid, sms*held))*of(t.path), (moved+sums)/float64(sms*l2))
	if d.Splits > 1 {
		trips := d.Splits/8 + ceilDiv(d.Splits%8, 4) // of product_finish to memory, one after the other
		cost += launch + max(finish+330*float64(trips), sums/float64(sms*l2))
	}
	return cost
}
