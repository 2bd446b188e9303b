// Package restore is the pipeline from a degraded picture to a restored one:
// estimate the degradation, choose an expert, run that expert alone, in tiles
// where memory asks for it.
package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/ledger"
	"unirestorer/runtime/queue"
	"unirestorer/runtime/router"
	"unirestorer/runtime/stage"
)

// Restorer restores images with one model on one device. Its methods may be
// called from several goroutines: pictures are decoded and written side by side
// as far as memory allows, and take turns on the device.
type Restorer struct {
	model   *experts.Model
	backend backend.Backend
	config  Config
	host    *ledger.Ledger
	lane    *lane
	pool    *experts.Pool

	plansMu sync.Mutex
	plans   map[planKey]backend.Memory
	routing *backend.Memory // of the estimator, once it is known

	together  together
	questions company[struct{}, *question]

	mu         sync.Mutex // held while the estimator is made, used or dropped
	estimator  *router.Estimator
	estimators map[int]*router.Estimator // of several images at a time, with the weights of estimator
	charged    int64                     // for the estimator

	fallback *fallback // nil for none
	wide     *fallback // nil for none
}

// Config shapes a Restorer.
type Config struct {
	// Memory bounds the bytes of images, weights and intermediate results, of all
	// pictures under way together; 0 means no bound. It is not used with Ledger.
	Memory int64
	// Ledger, unless nil, is the host's, shared with whatever else reserves from it.
	Ledger *ledger.Ledger
	// DeviceMemory bounds what is held of a device's own memory; 0 means what the
	// device has free, asked anew for every picture, less a reserve.
	DeviceMemory int64
	// DeviceWait is how long a picture waits for memory of a device that other
	// processes hold; 0 means DefaultDeviceWait, less than 0 that it does not.
	DeviceWait time.Duration
	// Fallback, unless nil, opens the backend that restores pictures for which the
	// device has no memory even in the smallest tiles. The Restorer closes it.
	Fallback func(context.Context) (backend.Backend, error)
	// Wide, unless nil, opens the backend of single precision that restores pictures
	// whose values left the range of the device's numbers. The Restorer closes it.
	Wide func(context.Context) (backend.Backend, error)
	// Adapters says how LoRA experts run; empty means merged.
	Adapters experts.Adapters
	// Predictor, unless nil, has the expert that is likely next loaded while the
	// present one runs.
	Predictor experts.Predictor
	// MaxDelay bounds how long a picture is passed over by younger ones of the expert and size class at work; 0 means
	// queue.DefaultMaxDelay, less than 0 that the device takes pictures in their order.
	MaxDelay time.Duration
	// Batch is how many pictures of one expert and size run at a time at most, where that is faster by the device's plan;
	// 0 means defaultBatch, 1 one after the other.
	Batch int
	// Lazy leaves the estimator to be compiled when an image first needs it.
	Lazy bool
}

// New compiles the estimator of a model; experts are compiled when first
// chosen. The model and the backend stay the caller's to close, after the
// Restorer.
func New(ctx context.Context, m *experts.Model, b backend.Backend, c Config) (*Restorer, error) {
	r := &Restorer{model: m, backend: b, config: c, host: c.Ledger, plans: map[planKey]backend.Memory{}}
	if r.host == nil {
		r.host = ledger.New("host", c.Memory)
		r.host.HoldsHeap(false)
	}
	r.lane = newLane(b, r.host, c, r.reclaim)
	r.pool = experts.NewPool(m, b, experts.Options{Account: r.lane.weights, Adapters: c.Adapters, Predictor: c.Predictor})
	if c.Fallback != nil {
		r.fallback = &fallback{open: c.Fallback}
	}
	if c.Wide != nil && b.Info().Half {
		r.wide = &fallback{open: c.Wide}
	}
	if c.Lazy {
		return r, nil
	}
	// Where other processes have the memory, pictures wait for it.
	if err := r.warm(ctx); err != nil && (!r.lane.lacks(err) || r.lane.hopeless(err) || r.lane.heldByOthers() == 0) {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// reclaim drops idle weights: experts, which may not be asked for again, before
// the estimator, which every picture asks.
func (r *Restorer) reclaim(want int64) {
	before := r.lane.weights.Charged()
	r.pool.Reclaim(want)
	if before-r.lane.weights.Charged() < want {
		r.dropEstimator()
	}
}

// Close frees estimator and experts.
func (r *Restorer) Close() error {
	r.together.running.Wait() // a batch whose pictures all were given up
	err := r.pool.Close()
	r.dropEstimator()
	r.lane.close()
	if r.wide != nil {
		err = errors.Join(err, r.wide.close())
	}
	if r.fallback != nil {
		err = errors.Join(err, r.fallback.close())
	}
	return err
}

// Memory tells what is held of the host's memory and, if the device has its own,
// of that.
func (r *Restorer) Memory() (host ledger.Usage, device *ledger.Usage) {
	if r.lane.ownMemory() {
		u := r.lane.card.Ledger().Usage()
		device = &u
	}
	return r.host.Usage(), device
}

// SetAside takes bytes of the host's memory off its bound for good.
func (r *Restorer) SetAside(bytes int64) { r.host.Fix(bytes) }

// Options are the choices for one image.
type Options struct {
	Override router.Override
	// Decision, unless nil, was made before, for pictures that belong together. Override names its expert.
	Decision *router.Decision
	// Second is the second picture for a network that takes two, of the first
	// one's size; nil for others.
	Second *imaging.Image `json:"-"`
	// Tile is the side of a tile in pixels, tileAuto or TileOff.
	Tile int
	// Overlap is the number of pixels neighbouring tiles share at least; 0 means
	// DefaultOverlap, or half a tile where tiles are smaller than twice that.
	Overlap int
	// Reserve is the number of bytes that the caller needs beside the image and
	// the result, to be kept free of the memory bound.
	Reserve int64
	// Strength, unless nil, is how much of the expert's change is kept, 0 to 1: the
	// result is blended with the picture in the values of the file.
	Strength *float64
	// NoGuard lets experts move the brightness of parts of the picture beyond what
	// the model allows them.
	NoGuard bool
	// Progress gets the fraction of the expert's work done; may be nil.
	Progress func(done float64) `json:"-"`
	// Waits gets, about once a second, why the picture waits for memory of the device; may be nil.
	Waits func(why string) `json:"-"`
	// Routed gets the decision before the expert is loaded, and whether it is in memory already; its error ends the
	// call. May be nil.
	Routed func(ctx context.Context, d router.Decision, resident bool) error `json:"-"`
}

// check reports a strength that is none.
func (o *Options) check() error {
	if s := o.Strength; s != nil && !(*s >= 0 && *s <= 1) {
		return fmt.Errorf("strength %g: want 0 to 1", *s)
	}
	return nil
}

const (
	// tileAuto runs the whole image if the memory bound allows, otherwise the
	// largest tiles that fit.
	tileAuto = 0
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
	// Passes is what was done for tiles that share statistics of the whole image, see docs/memory.md, in units of restoring
	// them once; 0 where none had to.
	Passes float64 `json:"passes,omitempty"`
	// Memory is what the expert holds on the device.
	Memory backend.Memory `json:"memory"`
	// Notes say, in words, what the network does not tell of the picture, and what
	// had to be done otherwise than planned.
	Notes []string `json:"notes,omitempty"`
	// Warnings say, in words, what was wrong with the file and what was done about it.
	Warnings []string `json:"warnings,omitempty"`
	// Pictures is how many pages or frames of a file were restored where it has several; the rest of the report is the
	// first one's, and Times is of all.
	Pictures int `json:"pictures,omitempty"`
	// Losses names, in words, what the result's file format does not keep.
	Losses []string `json:"losses,omitempty"`
	// Batch is how many pictures ran together; 0 where the picture ran alone.
	Batch int   `json:"batch,omitempty"`
	Times Times `json:"times"`
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

// Restore gives the restored image, upright and with the metadata of img. img
// is as stored: the estimator sees it unrotated, as upstream's does.
//
// It waits for memory and for the device as long as ctx allows; a picture that
// the memory can never hold is an error at once.
func (r *Restorer) Restore(ctx context.Context, img *imaging.Image, opt Options) (*imaging.Image, Report, error) {
	if err := img.Check(); err != nil {
		return nil, Report{}, err
	}
	p := pictureOf(img, opt.Reserve)
	if opt.Second != nil {
		if err := opt.Second.Check(); err != nil {
			return nil, Report{}, fmt.Errorf("second picture: %w", err)
		}
		p.held += 2 * pixelBytes(opt.Second) // itself and upright
	}
	held, err := r.admit(ctx, p, opt)
	if err != nil {
		return nil, Report{}, err
	}
	defer held.Release()
	return r.restore(ctx, img, p, opt)
}

// restore restores a picture that has its reservation.
func (r *Restorer) restore(ctx context.Context, img *imaging.Image, p picture, opt Options) (*imaging.Image, Report, error) {
	if err := opt.check(); err != nil {
		return nil, Report{}, err
	}
	start := time.Now()
	img = img.Filled()
	within, end := stage.Start(ctx, "estimate", "")
	d, err := r.route(within, img, opt)
	end()
	if err != nil {
		return nil, Report{}, err
	}
	r.host.Collect(pixelBytes(img))
	if opt.Decision != nil {
		d = *opt.Decision
	}
	upright := img.Oriented()
	rep := r.report(d, upright)
	rep.Times.Estimate = time.Since(start)
	if rep.Architecture == models.IdentityName {
		return upright.Clone(), rep, nil
	}
	if opt.Routed != nil {
		if err := opt.Routed(ctx, d, r.pool.Has(d.Expert)); err != nil {
			return nil, rep, err
		}
	}
	var out *imaging.Image
	if err := r.lane.patiently(ctx, opt.Waits, func() (err error) {
		out, err = r.dispatch(ctx, d.Expert, upright, p, opt, &rep)
		return err
	}); err != nil {
		if errors.Is(err, backend.ErrNotFinite) {
			if cause := r.model.CheckFinite(d.Expert); cause != nil {
				err = fmt.Errorf("%w: %w", err, cause)
			}
		}
		return nil, rep, err
	}
	r.moderate(d, upright, out, opt, &rep)
	return out, rep, nil
}

// dispatch runs the expert that was chosen. Where the device turns out to have
// less memory than was planned, it drops what is idle, then takes smaller tiles,
// then asks the fallback.
func (r *Restorer) dispatch(ctx context.Context, expert int, img *imaging.Image, p picture, opt Options, rep *Report) (*imaging.Image, error) {
	net, err := r.model.Config.Expert(expert)
	if err != nil {
		return nil, err
	}
	j, err := r.plan(expert, p, opt)
	if err == nil {
		err = j.take(net, img, opt)
	}
	dropped := false
	for err == nil {
		var out *imaging.Image
		if out, err = r.onLane(ctx, expert, j, img, opt, rep); err == nil {
			return out, nil
		}
		if r.wide != nil && errors.Is(err, backend.ErrNotFinite) {
			return r.wide.run(ctx, r, expert, img, p, opt, rep, fmt.Sprintf("values inside the network left the range of fp16 on %s", rep.Device), err)
		}
		if !outOfMemory(err) && !(r.lane.ownMemory() && errors.Is(err, ledger.ErrTooLarge)) {
			return nil, ofExpert(expert, net, err)
		}
		short := err
		if !dropped {
			dropped, err = true, nil
			r.lane.card.Ledger().Reclaim(math.MaxInt64)
			rep.note("the device had less memory than it said, idle weights were dropped")
			continue
		}
		j, err = r.smaller(expert, p, opt, j)
		if err == nil {
			err = j.take(net, img, opt)
		}
		if err != nil {
			err = errors.Join(short, err)
		} else {
			rep.note("the device had less memory than it said, smaller tiles were taken")
		}
	}
	if r.fallback != nil && (outOfMemory(err) || errors.Is(err, ledger.ErrTooLarge)) {
		return r.fallback.run(ctx, r, expert, img, p, opt, rep, rep.Device+" has not the memory", err)
	}
	return nil, ofExpert(expert, net, err)
}

// turnKey is the same for pictures that gain by running back to back: of one expert, and of one size up to a factor of two.
func turnKey(expert int, j *job) string {
	return fmt.Sprintf("%d/%d", expert, bits.Len(uint(j.x.tile*j.y.tile)))
}

// onLane runs a job when its turn on the device has come, alone or with others.
func (r *Restorer) onLane(ctx context.Context, expert int, j *job, img *imaging.Image, opt Options, rep *Report) (*imaging.Image, error) {
	if m := r.offer(ctx, expert, j, img, opt, rep); m != nil {
		return r.inCompany(ctx, m)
	}
	turn, err := r.turn(ctx, turnKey(expert, j))
	if err != nil {
		return nil, err
	}
	defer r.lane.leave(turn)
	return r.alone(ctx, expert, j, img, opt, rep)
}

// turn waits for the device.
func (r *Restorer) turn(ctx context.Context, key string) (queue.Ask, error) {
	ctx, end := stage.Start(ctx, "turn", "")
	defer end()
	return r.lane.enter(ctx, key)
}

// alone runs a job by itself. The caller has the lane.
func (r *Restorer) alone(ctx context.Context, expert int, j *job, img *imaging.Image, opt Options, rep *Report) (*imaging.Image, error) {
	lease, buffers, err := r.load(ctx, expert, 1, j)
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	j.describe(rep)
	rep.Times.Load, rep.Memory = lease.Took, lease.Program.Memory()

	ctx, end := stage.Start(ctx, "run", r.model.Config.Experts[expert].Name)
	defer end()
	start := time.Now()
	r.host.Collect(pixelBytes(img))
	out := img.Clone()
	if j.shared == nil {
		err = j.run(ctx, func(ctx context.Context, _, _ int, in, res []float32, progress func(float64)) error {
			return lease.Program.Run(ctx, [][]float32{in}, [][]float32{res}, backend.RunOptions{Progress: progress})
		}, buffers, img, out, opt.Progress)
	} else {
		lease.Release() // what tiles run are variants of it
		rep.Passes, err = r.runShared(ctx, j, buffers, img, out, opt.Progress)
	}
	if err != nil {
		return nil, err
	}
	rep.Times.Run = time.Since(start)
	return out, nil
}

// acquire loads the program that a job runs, or runs first.
func (r *Restorer) acquire(ctx context.Context, expert int, j *job) (*experts.Lease, error) {
	if j.shared != nil {
		return r.pool.AcquireVariant(ctx, expert, 1, j.y.tile, j.x.tile, j.shared.given())
	}
	return r.pool.Acquire(ctx, expert, 1, j.y.tile, j.x.tile)
}

// load gets an expert for n pictures ready, and the memory it takes of the lane, which the caller has.
func (r *Restorer) load(ctx context.Context, expert, n int, j *job) (*experts.Lease, []float32, error) {
	within, end := stage.Start(ctx, "load", r.model.Config.Experts[expert].Name)
	var lease *experts.Lease
	var err error
	if n > 1 {
		lease, err = r.pool.Acquire(within, expert, n, j.y.tile, j.x.tile)
	} else {
		lease, err = r.acquire(within, expert, j)
	}
	end()
	if err != nil {
		return nil, nil, err
	}
	m, floats := lease.Program.Memory(), int64(n)*j.floats()
	r.lane.shrink(j.use.max(r.useOf(m, 4*floats)), m, floats)
	if err = r.lane.takeArena(m); err == nil {
		var buffers []float32
		if buffers, err = r.lane.takePages(floats); err == nil {
			return lease, buffers, nil
		}
	}
	lease.Release()
	return nil, nil, err
}

func (r *Restorer) report(d router.Decision, img *imaging.Image) Report {
	e := r.model.Config.Experts[d.Expert]
	var notes []string
	if words := r.model.Config.Fallback(d.Leaf, d.Expert); words != "" {
		notes = append(notes, words)
	} else if words := nothingFound(&r.model.Config.Tree, d); words != "" {
		notes = append(notes, words)
	}
	return Report{
		Notes: notes, TilesX: 1, TilesY: 1, TileWidth: img.W, TileHeight: img.H,
		Decision: d, Expert: e.Name, Architecture: e.Architecture,
		Device: r.backend.Info().Name, Width: img.W, Height: img.H,
	}
}

// plan decides on padding and tiles for a picture, the same ones whatever else
// is in memory: only what the memory could hold at best counts.
func (r *Restorer) plan(expert int, p picture, opt Options) (*job, error) {
	return r.planBelow(expert, p, opt, math.MaxInt)
}

// expertError says which expert an error is of.
type expertError struct {
	text string
	err  error
}

func (e *expertError) Error() string { return e.text }
func (e *expertError) Unwrap() error { return e.err }

// ofExpert says which expert an error is of, once.
func ofExpert(expert int, net models.Network, err error) error {
	var said *expertError
	if errors.As(err, &said) {
		return err
	}
	return &expertError{fmt.Sprintf("expert %d (%s): %v", expert, net.Architecture(), err), err}
}

// smaller plans with smaller tiles than those of a job that had no room.
func (r *Restorer) smaller(expert int, p picture, opt Options, j *job) (*job, error) {
	return r.planBelow(expert, p, opt, max(j.x.tile, j.y.tile))
}

// planBelow is plan with tiles whose longer side is less than below.
func (r *Restorer) planBelow(expert int, p picture, opt Options, below int) (*job, error) {
	net, err := r.model.Config.Expert(expert)
	if err != nil {
		return nil, err
	}
	j, err := r.cut(expert, net, p, opt, below)
	if err != nil {
		return nil, ofExpert(expert, net, err)
	}
	return j, nil
}

func (r *Restorer) cut(expert int, net models.Network, p picture, opt Options, below int) (*job, error) {
	h, w, err := models.Fit(net, p.h, p.w)
	if err != nil {
		return nil, err
	}
	if opt.Overlap < 0 || opt.Tile < TileOff {
		return nil, fmt.Errorf("tile %d with overlap %d: neither may be negative", opt.Tile, opt.Overlap)
	}
	tiles := func(tile int) (*job, error) { return r.tiled(expert, net, h, w, tile, opt.Overlap) }
	whole := max(h, w)
	if opt.Tile != tileAuto {
		side := whole
		if opt.Tile > 0 {
			side = min(side, opt.Tile)
		}
		if side >= below {
			return nil, fmt.Errorf("%w: no smaller tiles are allowed", ledger.ErrTooLarge)
		}
		j, err := tiles(side)
		if err == nil {
			err = r.check(p, j.use)
		}
		return j, err
	}
	var last error
	for _, tile := range append([]int{whole}, tileSides...) {
		if tile > whole || tile >= below {
			continue
		}
		j, err := tiles(tile)
		if err != nil {
			if last == nil {
				last = err
			}
			continue
		}
		if err = r.check(p, j.use); err == nil {
			return j, nil
		}
		last = err
	}
	var large *ledger.TooLargeError
	if errors.As(last, &large) {
		return nil, &smallestError{large, p.held}
	}
	if last == nil {
		last = fmt.Errorf("%w: no smaller tiles are left", ledger.ErrTooLarge)
	}
	return nil, last
}

// tiled is the work on h×w pixels in tiles of that side, with what it takes.
func (r *Restorer) tiled(expert int, net models.Network, h, w, tile, overlap int) (*job, error) {
	y, errY := newAxis(h, tile, overlapFor(overlap, tile, h, net.Grid()), net.Grid())
	x, errX := newAxis(w, tile, overlapFor(overlap, tile, w, net.Grid()), net.Grid())
	if errY != nil || errX != nil {
		return nil, cmp.Or(errY, errX) // either says what to do
	}
	j := &job{x: x, y: y, pictures: models.Pictures(net)}
	if j.tiles() > 1 {
		var err error
		if j.shared, err = r.share(expert, j); err != nil {
			return nil, err
		}
	}
	var most backend.Memory // the arena of one variant stays while another runs
	for _, v := range j.shared.variants(j) {
		m, err := r.memory(expert, v.h, v.w, v.Variant)
		if err != nil {
			return nil, err
		}
		most = backend.Memory{Weights: max(most.Weights, m.Weights), Arena: max(most.Arena, m.Arena), Host: max(most.Host, m.Host)}
	}
	j.use = r.useOf(most, 4*j.floats()+j.shared.bytes())
	return j, nil
}

// smallestError says that a picture does not fit even in the smallest tiles that there are.
type smallestError struct {
	*ledger.TooLargeError
	held int64 // by the picture itself
}

func (e *smallestError) Error() string {
	return fmt.Sprintf("%v: even in the smallest tiles it needs %s of %s memory, of which %s are images; %s are allowed", ledger.ErrTooLarge,
		humanize.IBytes(uint64(e.Need)), e.Memory, humanize.IBytes(uint64(e.held)), humanize.IBytes(uint64(e.Bound)))
}

func (e *smallestError) Unwrap() error { return e.TooLargeError }

// tileSides are what tileAuto tries, largest first.
var tileSides = []int{4096, 3072, 2048, 1536, 1024, 768, 512, 384, 256, 192, 128, 96, 64}

// job is the work on one image: the tiles of both axes, and what they take of
// the lane.
type job struct {
	x, y   *axis
	use    use
	shared *shared // nil where each tile stands for itself
	// pictures is how many the network takes at a time; second is the other one.
	pictures int
	second   *imaging.Image
	part     []float32 // where one of two is read
	notes    []string
}

// carve cuts buffers off a stretch of floats.
type carve []float32

func (c *carve) take(n int) []float32 {
	s := (*c)[:n:n]
	*c = (*c)[n:]
	return s
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

// floats counts input, output and blending band.
func (j *job) floats() int64 {
	tile := int64(j.y.tile) * int64(j.x.tile)
	n := (1 + int64(max(1, j.pictures))) * tile
	if j.pictures > 1 {
		n += tile // one of them by itself
	}
	if j.tiles() > 1 {
		n += int64(j.y.tile) * int64(j.x.size)
	}
	return 3 * n
}

// note adds what had to be done otherwise, once.
func (rep *Report) note(s string) {
	if !slices.Contains(rep.Notes, s) {
		rep.Notes = append(rep.Notes, s)
	}
}

func (j *job) describe(rep *Report) {
	if j.x.size != rep.Width || j.y.size != rep.Height {
		rep.PaddedWidth, rep.PaddedHeight = j.x.size, j.y.size
	}
	for _, n := range j.notes {
		rep.note(n)
	}
	rep.TilesX, rep.TilesY = len(j.x.origin), len(j.y.origin)
	rep.TileWidth, rep.TileHeight = j.x.tile, j.y.tile
}

// carve cuts the job's memory into a tile's input, its result, and the rest.
func (j *job) carve(buffers []float32) (in, res, rest []float32) {
	b := carve(buffers)
	n := j.x.tile * j.y.tile * 3
	in, res = b.take(n*max(1, j.pictures)), b.take(n)
	if j.pictures > 1 {
		j.part = b.take(n)
	}
	return in, res, b
}

// runTile restores the input of tile (ny, nx).
type runTile func(ctx context.Context, ny, nx int, in, res []float32, progress func(float64)) error

// run restores img into out, which has its size, by way of as many floats as the
// job takes.
func (j *job) run(ctx context.Context, tile runTile, buffers []float32, img, out *imaging.Image, progress func(float64)) error {
	in, res, rest := j.carve(buffers)
	one := func(ny, nx int) error {
		y, x := j.y.origin[ny], j.x.origin[nx]
		if err := j.read(img, in, image.Rect(x, y, x+j.x.tile, y+j.y.tile)); err != nil {
			return err
		}
		part := progress
		if progress != nil {
			n := ny*len(j.x.origin) + nx
			part = func(done float64) { progress((float64(n) + done) / float64(j.tiles())) }
		}
		return tile(ctx, ny, nx, in, res, part)
	}
	if j.tiles() == 1 {
		if err := one(0, 0); err != nil {
			return err
		}
		return storeRows(out, res, j.x.tile, 0, j.y.tile)
	}
	band := newBand(j, rest)
	for ny, y := range j.y.origin {
		for nx, x := range j.x.origin {
			if err := one(ny, nx); err != nil {
				return fmt.Errorf("tile at %d,%d: %w", x, y, err)
			}
			band.add(res, ny, nx)
		}
		if err := band.flush(out, ny); err != nil {
			return err
		}
	}
	return nil
}
