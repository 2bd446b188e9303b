package restore

import "fmt"

// axis cuts one side of an image into overlapping tiles of one length and
// blends them. Tile i covers [origin[i], origin[i]+tile). Between neighbours
// the weight moves linearly over a zone in the middle of their overlap, and the
// weights at every position add up to one.
type axis struct {
	size, tile int
	origin     []int
	// zone[i] is the centre of the transition from tile i to tile i+1, half its
	// half width.
	zone []float64
	half float64
}

// TilesError says that tiles were asked for that the overlap, or the network's grid, leaves no room in.
type TilesError struct{ err error }

// Error returns what is wrong.
func (e *TilesError) Error() string { return e.err.Error() }

// newAxis places tiles of at most tile pixels with at least overlap pixels in
// common on a side of size pixels. Origins are multiples of grid, so that
// every tile meets the network's sampling grid as the whole image does. The
// tile may come out up to grid-1 pixels shorter.
func newAxis(size, tile, overlap, grid int) (*axis, error) {
	if tile >= size {
		return &axis{size: size, tile: size, origin: []int{0}}, nil
	}
	// The last tile ends with the image: its origin size-tile is on the grid
	// when tile and size leave the same remainder.
	asked := tile
	tile = onGrid(tile, size, grid)
	if least := max(2*overlap, overlap+grid); tile < least {
		return nil, &TilesError{fmt.Errorf("tiles of %d pixels are too small for an overlap of %d: want %d at least, and up to %d more for the network's grid", asked, overlap, least, grid-1)}
	}
	a := &axis{size: size, tile: tile, half: float64(overlap) / 4}
	steps := (size - tile) / grid      // grid steps from the first to the last origin
	longest := (tile - overlap) / grid // grid steps between neighbours at most
	n := (steps+longest-1)/longest + 1 // tiles
	for i := range n {
		a.origin = append(a.origin, steps*i/(n-1)*grid)
	}
	for i := range n - 1 {
		a.zone = append(a.zone, float64(a.origin[i+1]+a.origin[i]+tile)/2)
	}
	return a, nil
}

// onGrid is the longest tile of at most tile pixels that newAxis can use.
func onGrid(tile, size, grid int) int { return tile - mod(tile-size, grid) }

// overlapFor is the overlap wanted, or where that is 0 the largest up to
// DefaultOverlap that tiles have room for.
func overlapFor(wanted, tile, size, grid int) int {
	if wanted > 0 {
		return wanted
	}
	tile = onGrid(tile, size, grid)
	return max(1, min(DefaultOverlap, tile/2, tile-grid))
}

func mod(a, m int) int { return ((a % m) + m) % m }

// span is the range of positions at which tile i has any weight.
func (a *axis) span(i int) (first, end int) {
	first, end = a.origin[i], a.origin[i]+a.tile
	if i > 0 {
		first = max(first, int(a.zone[i-1]-a.half))
	}
	if i < len(a.zone) {
		end = min(end, int(a.zone[i]+a.half)+1)
	}
	return first, end
}

// weight is the share of tile i at a position.
func (a *axis) weight(i, at int) float32 {
	w := 1.0
	if i > 0 {
		w *= a.ramp(i-1, at)
	}
	if i < len(a.zone) {
		w *= 1 - a.ramp(i, at)
	}
	return float32(w)
}

// ramp is the share of what follows transition i.
func (a *axis) ramp(i, at int) float64 {
	x := float64(at) + 0.5 - a.zone[i]
	switch {
	case x <= -a.half:
		return 0
	case x >= a.half:
		return 1
	default:
		return (x + a.half) / (2 * a.half)
	}
}
