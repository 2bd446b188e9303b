// Package restore is the pipeline from a degraded picture to a restored one:
// estimate the degradation, choose an expert, run that expert alone, in tiles
// where memory asks for it.
package restore

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/router"
)

// Restorer restores images with one model on one device. Its methods may be
// called from several goroutines.
type Restorer struct {
	model   *experts.Model
	backend backend.Backend
	pool    *experts.Pool
	memory  int64

	mu        sync.RWMutex // held for reading while the estimator is in use
	estimator *router.Estimator
}

// Config shapes a Restorer.
type Config struct {
	// Memory bounds the bytes of images, weights and intermediate results
	// together while one image is restored at a time; 0 means no bound.
	Memory int64
	// Adapters says how LoRA experts run; empty means merged.
	Adapters experts.Adapters
	// Predictor, unless nil, has the expert that is likely next loaded while the
	// present one runs.
	Predictor experts.Predictor
	// Lazy leaves the estimator to be compiled when an image first needs it.
	Lazy bool
}

// New compiles the estimator of a model; experts are compiled when first
// chosen. The model and the backend stay the caller's to close, after the
// Restorer.
func New(ctx context.Context, m *experts.Model, b backend.Backend, c Config) (*Restorer, error) {
	r := &Restorer{
		model: m, backend: b, memory: c.Memory,
		pool: experts.NewPool(m, b, experts.Options{Budget: c.Memory, Adapters: c.Adapters, Predictor: c.Predictor}),
	}
	if c.Lazy {
		return r, nil
	}
	if err := r.loadEstimator(ctx, 0); err != nil {
		return nil, err
	}
	return r, nil
}

// Close frees estimator and experts.
func (r *Restorer) Close() error {
	_, err := r.dropEstimator()
	return errors.Join(r.pool.Close(), err)
}

// Model is the model in use.
func (r *Restorer) Model() *experts.Model { return r.model }

// Options are the choices for one image.
type Options struct {
	Override router.Override
	// Second is the second picture for a network that takes two, of the first
	// one's size; nil for others.
	Second *imaging.Image
	// Tile is the side of a tile in pixels, TileAuto or TileOff.
	Tile int
	// Overlap is the number of pixels neighbouring tiles share at least; 0 means
	// DefaultOverlap, or half a tile where tiles are smaller than twice that.
	Overlap int
	// Reserve is the number of bytes that the caller needs beside the image and
	// the result, to be kept free of the memory bound.
	Reserve int64
	// Progress gets the fraction of the expert's work done; may be nil.
	Progress func(done float64)
}

const (
	// TileAuto runs the whole image if the memory bound allows, otherwise the
	// largest tiles that fit.
	TileAuto = 0
	// TileOff always runs the whole image.
	TileOff = -1
	// DefaultOverlap is what tiles share when the options do not say.
	DefaultOverlap = 64
)

// Report says what happened to an image.
type Report struct {
	Decision     router.Decision `json:"decision"`
	Expert       string          `json:"expert_name"`
	Architecture string          `json:"architecture"`
	Device       string          `json:"device"`
	Width        int             `json:"width"`
	Height       int             `json:"height"`
	// PaddedWidth and PaddedHeight are what the image was padded to by
	// reflection because the network refuses its size; 0 if it does not.
	PaddedWidth  int `json:"padded_width,omitempty"`
	PaddedHeight int `json:"padded_height,omitempty"`
	// Tiles across and down, TileWidth×TileHeight pixels each; 1×1 is the whole
	// image.
	TilesX     int `json:"tiles_x"`
	TilesY     int `json:"tiles_y"`
	TileWidth  int `json:"tile_width"`
	TileHeight int `json:"tile_height"`
	// Memory is what the expert holds on the device.
	Memory backend.Memory `json:"memory"`
	// Notes say, in words, what the network does not tell of the picture.
	Notes []string `json:"notes,omitempty"`
	// Warnings say, in words, what was wrong with the file and what was done about it.
	Warnings []string `json:"warnings,omitempty"`
	// Pictures is how many pages or frames of a file were restored where it has several; the rest of the report is the
	// first one's, and Times is of all.
	Pictures int `json:"pictures,omitempty"`
	// Losses names, in words, what the result's file format does not keep.
	Losses []string `json:"losses,omitempty"`
	Times  Times    `json:"times"`
}

// Times are how long each stage took. Load is zero when the expert was
// resident.
type Times struct {
	Decode   time.Duration `json:"decode_ns"`
	Estimate time.Duration `json:"estimate_ns"`
	Load     time.Duration `json:"load_ns"`
	Run      time.Duration `json:"run_ns"`
	Encode   time.Duration `json:"encode_ns"`
}

// Total is all stages together.
func (t Times) Total() time.Duration { return t.Decode + t.Estimate + t.Load + t.Run + t.Encode }

// Restore gives the restored image, upright and with the metadata of img. img
// is as stored: the estimator sees it unrotated, as upstream's does.
func (r *Restorer) Restore(ctx context.Context, img *imaging.Image, opt Options) (*imaging.Image, Report, error) {
	if err := img.Check(); err != nil {
		return nil, Report{}, err
	}
	if err := r.limit(imageBytes(img) + opt.Reserve + r.estimatorBytes()); err != nil {
		return nil, Report{}, err
	}
	start := time.Now()
	img = img.Filled()
	d, err := r.choose(ctx, img, opt.Override)
	if err != nil {
		return nil, Report{}, err
	}
	upright := img.Oriented()
	rep := r.report(d, upright)
	rep.Times.Estimate = time.Since(start)

	if rep.Architecture == models.IdentityName {
		return upright.Clone(), rep, nil
	}
	job, lease, err := r.prepare(ctx, d.Expert, upright, opt)
	if errors.Is(err, experts.ErrBudget) {
		// The estimator has done its part; it comes back for the next image.
		if dropped, dropErr := r.dropEstimator(); dropErr != nil {
			return nil, rep, errors.Join(err, dropErr)
		} else if dropped {
			job, lease, err = r.prepare(ctx, d.Expert, upright, opt)
		}
	}
	if err != nil {
		return nil, rep, err
	}
	defer lease.Release()
	job.describe(&rep)
	rep.Times.Load, rep.Memory = lease.Took, lease.Program.Memory()

	start = time.Now()
	out := upright.Clone()
	if err := job.run(ctx, lease.Program, upright, out, opt.Progress); err != nil {
		return nil, rep, fmt.Errorf("expert %d (%s): %w", d.Expert, rep.Architecture, err)
	}
	rep.Times.Run = time.Since(start)
	return out, rep, nil
}

// prepare plans the work on an image and acquires the expert for it.
func (r *Restorer) prepare(ctx context.Context, expert int, img *imaging.Image, opt Options) (*job, *experts.Lease, error) {
	net, err := r.model.Config.Expert(expert)
	if err != nil {
		return nil, nil, err
	}
	j, err := r.plan(expert, net, img, opt)
	if err == nil {
		err = j.take(net, img, opt)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("expert %d (%s): %w", expert, net.Architecture(), err)
	}
	lease, err := r.pool.Acquire(ctx, expert, 1, j.y.tile, j.x.tile)
	return j, lease, err
}

func (r *Restorer) report(d router.Decision, img *imaging.Image) Report {
	e := r.model.Config.Experts[d.Expert]
	var notes []string
	if words := r.model.Config.Fallback(d.Leaf, d.Expert); words != "" {
		notes = append(notes, words)
	}
	return Report{
		Notes: notes, TilesX: 1, TilesY: 1, TileWidth: img.W, TileHeight: img.H,
		Decision: d, Expert: e.Name, Architecture: e.Architecture,
		Device: r.backend.Info().Name, Width: img.W, Height: img.H,
	}
}

// plan decides on padding and tiles for an image.
func (r *Restorer) plan(expert int, net models.Network, img *imaging.Image, opt Options) (*job, error) {
	h, w, err := models.Fit(net, img.H, img.W)
	if err != nil {
		return nil, err
	}
	if opt.Overlap < 0 || opt.Tile < TileOff {
		return nil, fmt.Errorf("tile %d with overlap %d: neither may be negative", opt.Tile, opt.Overlap)
	}
	cut := func(tile int) (*job, error) {
		y, errY := newAxis(h, tile, overlapFor(opt.Overlap, tile, h, net.Grid()), net.Grid())
		x, errX := newAxis(w, tile, overlapFor(opt.Overlap, tile, w, net.Grid()), net.Grid())
		return &job{x: x, y: y, pictures: models.Pictures(net)}, errors.Join(errY, errX)
	}
	held := imageBytes(img) + opt.Reserve + r.estimatorBytes()
	whole := max(h, w)
	if opt.Tile != TileAuto || r.memory <= 0 {
		side := whole
		if opt.Tile > 0 {
			side = opt.Tile
		}
		j, err := cut(side)
		if err != nil {
			return nil, err
		}
		return j, r.limit(held + j.hostBytes())
	}
	least := int64(math.MaxInt64)
	for _, tile := range append([]int{whole}, tileSides...) {
		j, err := cut(tile)
		if err != nil || tile > whole {
			continue
		}
		mem, err := r.pool.Plan(expert, 1, j.y.tile, j.x.tile)
		if err != nil {
			return nil, err
		}
		need := held + j.hostBytes() + mem.Total()
		if need <= r.memory {
			return j, r.limit(held + j.hostBytes())
		}
		least = min(least, need)
	}
	return nil, fmt.Errorf("%w: even in the smallest tiles it needs %s, of which %s are images; %s are allowed", experts.ErrBudget,
		humanize.IBytes(uint64(least)), humanize.IBytes(uint64(imageBytes(img)+opt.Reserve)), humanize.IBytes(uint64(r.memory)))
}

// tileSides are what TileAuto tries, largest first.
var tileSides = []int{4096, 3072, 2048, 1536, 1024, 768, 512, 384, 256, 192, 128, 96, 64}

// limit leaves the pool what memory held otherwise leaves of the bound.
func (r *Restorer) limit(held int64) error {
	if r.memory <= 0 {
		return nil
	}
	return r.pool.SetBudget(max(1, r.memory-held))
}

// imageBytes counts the decoded image, its upright copy or the encoder's, and
// the result.
func imageBytes(img *imaging.Image) int64 {
	return 3 * int64(img.W) * int64(img.H) * int64(img.Channels) * int64(img.Depth/8)
}

// job is the work on one image: the tiles of both axes.
type job struct {
	x, y *axis
	// pictures is how many the network takes at a time; second is the other one.
	pictures int
	second   *imaging.Image
	notes    []string
}

// take checks that the pictures given are those that the network takes.
func (j *job) take(net models.Network, img *imaging.Image, opt Options) error {
	if own, _ := models.Channels(net); own == 1 && !img.Grey() {
		j.notes = append(j.notes, "the network is one for grey pictures: colours are lost")
	}
	if opt.Second == nil {
		if j.pictures > 1 {
			return fmt.Errorf("the network takes %d pictures at a time: give it the second one too", j.pictures)
		}
		return nil
	}
	if j.pictures == 1 {
		return errors.New("the network takes one picture, two were given")
	}
	j.second = opt.Second.Oriented()
	if j.second.W != img.W || j.second.H != img.H {
		return fmt.Errorf("the second picture has %d×%d pixels, the first %d×%d", j.second.W, j.second.H, img.W, img.H)
	}
	return nil
}

func (j *job) tiles() int { return len(j.x.origin) * len(j.y.origin) }

// hostBytes counts input, output and blending band in float32.
func (j *job) hostBytes() int64 {
	n := (1 + max(1, j.pictures)) * j.y.tile * j.x.tile
	if j.pictures > 1 {
		n += 2 * j.y.tile * j.x.tile
	}
	if j.tiles() > 1 {
		n += j.y.tile * j.x.size
	}
	return int64(n) * 3 * 4
}

func (j *job) describe(rep *Report) {
	if j.x.size != rep.Width || j.y.size != rep.Height {
		rep.PaddedWidth, rep.PaddedHeight = j.x.size, j.y.size
	}
	rep.Notes = append(rep.Notes, j.notes...)
	rep.TilesX, rep.TilesY = len(j.x.origin), len(j.y.origin)
	rep.TileWidth, rep.TileHeight = j.x.tile, j.y.tile
}

// run restores img into out, which has its size.
func (j *job) run(ctx context.Context, p backend.Program, img, out *imaging.Image, progress func(float64)) error {
	tw, th := j.x.tile, j.y.tile
	in, res := make([]float32, th*tw*3*max(1, j.pictures)), make([]float32, th*tw*3)
	runTile := func(n int, y, x int) error {
		if err := j.read(img, in, image.Rect(x, y, x+tw, y+th)); err != nil {
			return err
		}
		var opt backend.RunOptions
		if progress != nil {
			opt.Progress = func(done float64) { progress((float64(n) + done) / float64(j.tiles())) }
		}
		return p.Run(ctx, [][]float32{in}, [][]float32{res}, opt)
	}
	if j.tiles() == 1 {
		if err := runTile(0, 0, 0); err != nil {
			return err
		}
		return storeRows(out, res, tw, 0, th)
	}
	b := newBand(j)
	for ny, y := range j.y.origin {
		for nx, x := range j.x.origin {
			if err := runTile(ny*len(j.x.origin)+nx, y, x); err != nil {
				return fmt.Errorf("tile at %d,%d: %w", x, y, err)
			}
			b.add(res, ny, nx)
		}
		if err := b.flush(out, ny); err != nil {
			return err
		}
	}
	return nil
}
