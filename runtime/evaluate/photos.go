package evaluate

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"unirestorer/runtime/imaging"
)

// Photo is a clean picture, upright, RGB at 8 bits.
type Photo struct {
	Name    string // path as given, with slashes
	picture *imaging.Image
}

// size returns the photo's width and height in pixels.
func (p *Photo) size() (w, h int) { return p.picture.W, p.picture.H }

// LoadPhotos reads image files and the image files below folders, in the order
// given and by name within a folder. Photos whose longer side exceeds maxSide
// are made smaller by a whole factor, each pixel the mean of a square, which
// also takes the camera's noise away. Photos whose shorter side is then below
// minSide are left out and named in tooSmall.
func LoadPhotos(ctx context.Context, paths []string, minSide, maxSide int) (photos []*Photo, tooSmall []string, err error) {
	if minSide < 1 || maxSide < minSide {
		return nil, nil, fmt.Errorf("photos of %d to %d pixels cannot be kept", minSide, maxSide)
	}
	files, err := imageFiles(paths)
	if err != nil {
		return nil, nil, err
	}
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		img, err := imaging.DecodeFile(file, imaging.Limits{})
		if err != nil {
			return nil, nil, fmt.Errorf("photo %w", err)
		}
		small, err := shrink(img.Oriented(), maxSide)
		if err != nil {
			return nil, nil, fmt.Errorf("photo %s: %w", file, err)
		}
		if min(small.W, small.H) < minSide {
			tooSmall = append(tooSmall, file)
			continue
		}
		photos = append(photos, &Photo{Name: filepath.ToSlash(file), picture: small})
	}
	if len(photos) == 0 {
		if len(tooSmall) > 0 {
			return nil, tooSmall, fmt.Errorf("no photo keeps %d pixels on its shorter side when the longer one has at most %d", minSide, maxSide)
		}
		return nil, nil, errors.New("no photos found")
	}
	return photos, tooSmall, nil
}

// imageFiles lists files as they are and folders by the image files below them.
func imageFiles(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		var found []string
		err = fs.WalkDir(os.DirFS(path), ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if _, unknown := imaging.FormatFromPath(name); unknown == nil && !d.IsDir() {
				found = append(found, filepath.Join(path, filepath.FromSlash(name)))
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("photos in %s: %w", path, err)
		}
		slices.Sort(found)
		files = append(files, found...)
	}
	return files, nil
}

// shrink makes an 8-bit RGB copy no side of which exceeds maxSide. Rows and
// columns that do not fill a square are dropped.
func shrink(img *imaging.Image, maxSide int) (*imaging.Image, error) {
	factor := (max(img.W, img.H) + maxSide - 1) / maxSide
	w, h := max(1, img.W/factor), max(1, img.H/factor)
	out, err := imaging.New(w, h, 3, 8)
	if err != nil {
		return nil, err
	}
	across, down := min(factor, img.W), min(factor, img.H)
	strip := make([]float32, w*across*down*3)
	row := make([]float32, w*3)
	for y := range h {
		if err := img.RGBFloat(strip, image.Rect(0, y*down, w*across, (y+1)*down)); err != nil {
			return nil, err
		}
		clear(row)
		for i := 0; i < len(strip); i += 3 * across * w {
			addRuns(row, strip[i:], across)
		}
		for i := range row {
			row[i] /= float32(across * down)
		}
		if err := out.SetRGBFloat(row, image.Rect(0, y, w, y+1)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// addRuns adds to each pixel of row the next n pixels of src.
func addRuns(row, src []float32, n int) {
	for x := 0; x < len(row); x += 3 {
		for range n {
			row[x] += src[0]
			row[x+1] += src[1]
			row[x+2] += src[2]
			src = src[3:]
		}
	}
}

// cut copies a part of an 8-bit RGB image.
func cut(img *imaging.Image, r image.Rectangle) (*imaging.Image, error) {
	if r.Empty() || !r.In(img.Bounds()) {
		return nil, fmt.Errorf("a crop of %v does not lie in the image %v", r, img.Bounds())
	}
	out, err := imaging.New(r.Dx(), r.Dy(), 3, 8)
	if err != nil {
		return nil, err
	}
	for y := range out.H {
		copy(out.Pix[y*out.W*3:(y+1)*out.W*3], img.Pix[((r.Min.Y+y)*img.W+r.Min.X)*3:])
	}
	return out, nil
}
