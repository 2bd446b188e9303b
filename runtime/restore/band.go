package restore

import (
	"image"

	"unirestorer/graph"
	"unirestorer/runtime/imaging"
)

// band accumulates blended tiles for the rows that are not final yet, so that
// a large image never exists in float32 as a whole. Values are RGB rows of the
// padded image's width.
type band struct {
	*job
	rows  []float32
	first int // image row of rows[0]
}

// newBand makes a band in memory that holds a row of tiles.
func newBand(j *job, rows []float32) *band {
	rows = rows[:j.y.tile*j.x.size*3]
	clear(rows)
	return &band{job: j, rows: rows}
}

// add blends in the result of tile (ny, nx).
func (b *band) add(tile []float32, ny, nx int) {
	y0, y1 := b.y.span(ny)
	x0, x1 := b.x.span(nx)
	share := make([]float32, x1-x0)
	for i := range share {
		share[i] = b.x.weight(nx, x0+i)
	}
	for y := y0; y < y1; y++ {
		wy := b.y.weight(ny, y)
		src := tile[((y-b.y.origin[ny])*b.x.tile+x0-b.x.origin[nx])*3:]
		dst := b.rows[((y-b.first)*b.x.size+x0)*3:]
		for i, wx := range share {
			w := wx * wy
			dst[3*i] += w * src[3*i]
			dst[3*i+1] += w * src[3*i+1]
			dst[3*i+2] += w * src[3*i+2]
		}
	}
}

// flush stores the rows that no tile below row ny of tiles touches, and moves
// the others up.
func (b *band) flush(out *imaging.Image, ny int) error {
	end := b.y.size
	if ny+1 < len(b.y.origin) {
		end, _ = b.y.span(ny + 1)
	}
	pitch := b.x.size * 3
	done := (end - b.first) * pitch
	if err := storeRows(out, b.rows[:done], b.x.size, b.first, end-b.first); err != nil {
		return err
	}
	n := copy(b.rows, b.rows[done:])
	clear(b.rows[n:])
	b.first = end
	return nil
}

// storeRows writes n rows of RGB float32 of a padded width to out from row
// first on, leaving padding away.
func storeRows(out *imaging.Image, rows []float32, width, first, n int) error {
	n = min(n, out.H-first)
	if n <= 0 {
		return nil
	}
	if width == out.W {
		return out.SetRGBFloat(rows[:n*width*3], image.Rect(0, first, out.W, first+n))
	}
	for y := range n {
		if err := out.SetRGBFloat(rows[y*width*3:][:out.W*3], image.Rect(0, first+y, out.W, first+y+1)); err != nil {
			return err
		}
	}
	return nil
}

// read reads a rectangle of the picture, or of both one after the other in each
// pixel.
func (j *job) read(img *imaging.Image, dst []float32, r image.Rectangle) error {
	if j.second == nil {
		return readPadded(img, dst, r)
	}
	part := j.part[:3*r.Dx()*r.Dy()]
	for k, picture := range []*imaging.Image{img, j.second} {
		if err := readPadded(picture, part, r); err != nil {
			return err
		}
		for i := 0; i < len(part); i += 3 {
			copy(dst[2*i+3*k:], part[i:i+3])
		}
	}
	return nil
}

// readPadded reads a rectangle that may reach beyond the right and bottom edge
// of img, where the image is reflected as often as needed.
func readPadded(img *imaging.Image, dst []float32, r image.Rectangle) error {
	if r.In(img.Bounds()) {
		return img.RGBFloat(dst, r)
	}
	// Reflections may lie left of the rectangle's own columns.
	row := make([]float32, img.W*3)
	for y := range r.Dy() {
		sy := graph.ReflectLoop.Index(r.Min.Y+y, img.H)
		if err := img.RGBFloat(row, image.Rect(0, sy, img.W, sy+1)); err != nil {
			return err
		}
		out := dst[y*r.Dx()*3:][:r.Dx()*3]
		for x := range r.Dx() {
			sx := graph.ReflectLoop.Index(r.Min.X+x, img.W)
			copy(out[3*x:3*x+3], row[3*sx:3*sx+3])
		}
	}
	return nil
}
