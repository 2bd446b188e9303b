package pairs

import (
	"bufio"
	"context"
	"fmt"
	"image"
	_ "image/jpeg" // decoders of the photo formats
	_ "image/png"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	_ "golang.org/x/image/webp"
	"golang.org/x/sync/errgroup"

	"unirestorer/runtime/degrade"
)

// Photo is a clean photograph at several resolutions.
type Photo struct {
	Name   string // path below the folder, with slashes
	levels []raster
}

// resolutions returns how many resolutions the photo has; each halves the one before.
func (p *Photo) resolutions() int { return len(p.levels) }

// size returns the width and height at the given level.
func (p *Photo) size(level int) (w, h int) { return p.levels[level].w, p.levels[level].h }

// raster is an 8-bit RGB image, kept small because whole folders are held in memory.
type raster struct {
	w, h int
	pix  []uint8
}

// maxPhotoPixels refuses files that would fill the memory.
const maxPhotoPixels = 256 << 20

// LoadPhotos reads the PNG, JPEG and WebP files below a folder, in the order of their paths. Photos are halved until
// their longer side is at most maxSide, then kept at up to levels resolutions whose shorter side is at least minSide.
// Photos smaller than that are left out. Orientation tags are not applied. A file that cannot be decoded is an error, as
// leaving it out would change every record after it.
func LoadPhotos(ctx context.Context, dir string, maxSide, minSide, levels int) ([]*Photo, error) {
	if maxSide < 1 || minSide < 1 || levels < 1 || minSide > maxSide {
		return nil, fmt.Errorf("photos of %d to %d pixels at %d levels cannot be kept", minSide, maxSide, levels)
	}
	names, err := photoNames(dir)
	if err != nil {
		return nil, err
	}
	photos := make([]*Photo, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range names {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			full, err := readRaster(filepath.Join(dir, filepath.FromSlash(name)))
			if err != nil {
				return err
			}
			photos[i] = &Photo{Name: name, levels: pyramid(full, maxSide, minSide, levels)}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	photos = slices.DeleteFunc(photos, func(p *Photo) bool { return p.resolutions() == 0 })
	if len(photos) == 0 {
		return nil, fmt.Errorf("folder %s has no PNG, JPEG or WebP photo of at least %d×%d pixels", dir, minSide, minSide)
	}
	return photos, nil
}

func photoNames(dir string) ([]string, error) {
	var names []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch strings.ToLower(filepath.Ext(path)) {
		case ".png", ".jpg", ".jpeg", ".webp":
			if !entry.IsDir() {
				names = append(names, path)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("photo folder %s: %w", dir, err)
	}
	slices.Sort(names)
	return names, nil
}

func readRaster(path string) (raster, error) {
	file, err := os.Open(path)
	if err != nil {
		return raster{}, err
	}
	defer file.Close()
	config, _, err := image.DecodeConfig(bufio.NewReader(file))
	if err != nil {
		return raster{}, fmt.Errorf("photo %s: %w", path, err)
	}
	if config.Width <= 0 || config.Height <= 0 || config.Width > maxPhotoPixels/config.Height {
		return raster{}, fmt.Errorf("photo %s: %d×%d pixels are more than %d", path, config.Width, config.Height, maxPhotoPixels)
	}
	if _, err := file.Seek(0, 0); err != nil {
		return raster{}, fmt.Errorf("photo %s: %w", path, err)
	}
	decoded, _, err := image.Decode(bufio.NewReader(file))
	if err != nil {
		return raster{}, fmt.Errorf("photo %s: %w", path, err)
	}
	img, err := degrade.FromImage(decoded)
	if err != nil {
		return raster{}, fmt.Errorf("photo %s: %w", path, err)
	}
	return raster{img.W, img.H, img.Bytes()}, nil
}

func pyramid(r raster, maxSide, minSide, levels int) []raster {
	for max(r.w, r.h) > maxSide && min(r.w, r.h) > 1 {
		r = r.halve()
	}
	var list []raster
	for len(list) < levels && min(r.w, r.h) >= minSide {
		list = append(list, r)
		r = r.halve()
	}
	return list
}

// halve averages squares of 2×2 pixels, in whole numbers so that photos are the same on every machine. An odd last row
// or column is dropped.
func (r raster) halve() raster {
	out := raster{w: r.w / 2, h: r.h / 2}
	out.pix = make([]uint8, out.w*out.h*3)
	stride := r.w * 3
	for y := range out.h {
		for x := range out.w {
			for c := range 3 {
				at := 2*y*stride + 6*x + c
				sum := int(r.pix[at]) + int(r.pix[at+3]) + int(r.pix[at+stride]) + int(r.pix[at+stride+3])
				out.pix[(y*out.w+x)*3+c] = uint8((sum + 2) / 4)
			}
		}
	}
	return out
}

// crop returns part of a raster in 0..1, mirrored left to right if asked. The part must lie inside.
func (r raster) crop(x, y, w, h int, flip bool) (*degrade.Image, error) {
	out, err := degrade.NewImage(w, h)
	if err != nil {
		return nil, err
	}
	for row := range h {
		src := r.pix[((y+row)*r.w+x)*3:]
		dst := out.Pix[row*w*3:]
		for col := range w {
			from := col
			if flip {
				from = w - 1 - col
			}
			for c := range 3 {
				dst[3*col+c] = float32(src[3*from+c]) / 255
			}
		}
	}
	return out, nil
}
