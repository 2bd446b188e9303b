package unirestorer

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"unirestorer/graph/models"
	"unirestorer/runtime/convert"
	"unirestorer/runtime/engine"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/ledger"
	"unirestorer/runtime/queue"
	"unirestorer/runtime/restore"
	"unirestorer/runtime/router"
)

// Option is a choice for [Open].
type Option func(*opening) error

// opening is what [Open] was told.
type opening struct {
	path      string
	args      json.RawMessage
	folder    *filesystem
	released  bool
	device    string
	threads   int
	memory    int64 // bytes; 0 is half of the machine's, unbounded none
	adapters  experts.Adapters
	predictor experts.Predictor
	lazy      bool

	deviceMemory int64
	deviceWait   time.Duration
	fallback     string
	precision    engine.Precision
	maxDelay     time.Duration
	batch        int
	heapLimit    bool
}

const unbounded = -1

// filesystem names a model inside a file system.
type filesystem struct {
	name  string
	files fs.FS
}

func openingOf(opts []Option) (opening, error) {
	var o opening
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return o, err
		}
	}
	return o, nil
}

// WithModel opens a model folder, as the commands unirestorer convert and pool make it, or the file of one network as its
// authors publish it (.pth, .pt, .ckpt, .safetensors). An empty path means the built-in model, as does the name nano
// where nothing on disk is called so.
func WithModel(path string) Option {
	return func(o *opening) error { o.path = path; return nil }
}

// WithNetworkArgs gives arguments of a single network's file that its tensors do not tell, as a JSON object or as the name
// of a file with one: "architecture", "train_size" of NAFNetLocal, "range", "channel_order", "size_multiple",
// "size_padding", or any argument of the network's constructor.
func WithNetworkArgs(args string) Option {
	return func(o *opening) (err error) {
		if o.args, err = convert.ReadArgs(args); err != nil {
			return optionf("net-args", " %w", err)
		}
		return nil
	}
}

// WithModelFS opens a model folder in a file system, such as one that the program embeds. name is for messages.
func WithModelFS(name string, files fs.FS) Option {
	return func(o *opening) error {
		if files == nil {
			return optionf("model", " %s: no file system", name)
		}
		o.folder = &filesystem{name, files}
		return nil
	}
}

// WithReleasedSizes opens networks of the released model's sizes with random weights, to measure what they cost without
// a checkpoint.
func WithReleasedSizes() Option {
	return func(o *opening) error { o.released = true; return nil }
}

// WithDevice runs networks on "cpu" (the default), "sim", or "cuda", "cuda:N" and "cuda:UUID".
func WithDevice(name string) Option {
	return func(o *opening) error { o.device = name; return nil }
}

// WithThreads bounds the CPU threads; 0 is all cores.
func WithThreads(n int) Option {
	return func(o *opening) error {
		if n < 0 {
			return optionf("threads", " %d: want 0 or more", n)
		}
		o.threads = n
		return nil
	}
}

// WithMemory bounds the bytes of images, weights and intermediate results, of all calls under way together, and of the
// program itself. By default it is half of what the process may have: of the machine's memory, or of what its control
// group allows. Large images run in tiles to stay below it, experts that were not used for long leave, and calls wait for
// each other; what can never fit is an error that says what it needs.
func WithMemory(bytes int64) Option {
	return func(o *opening) error {
		if bytes <= 0 {
			return optionf("memory", " %d: want a positive number of bytes", bytes)
		}
		o.memory = bytes
		return nil
	}
}

// WithDeviceMemory bounds what is held of the memory of a device that has its own. By default it is what the device has
// free, asked anew for every picture.
func WithDeviceMemory(bytes int64) Option {
	return func(o *opening) error {
		if bytes <= 0 {
			return optionf("device-memory", " %d: want a positive number of bytes", bytes)
		}
		o.deviceMemory = bytes
		return nil
	}
}

// WithFallback restores pictures on another device, "cpu", for which the device has no memory even in the smallest tiles.
// The result's Report says so. Without it they are errors.
func WithFallback(device string) Option {
	return func(o *opening) error {
		if device != "" && device != "cpu" {
			return optionf("fallback", " %q: want cpu", device)
		}
		o.fallback = device
		return nil
	}
}

// WithPrecision says in which numbers networks compute: "auto", the device's own with single precision for pictures whose
// values leave their range; or "fp32" or "fp16", fixed.
func WithPrecision(name string) Option {
	return func(o *opening) (err error) {
		if o.precision, err = engine.ParsePrecision(name); err != nil {
			return optionf("precision", " %w", err)
		}
		return nil
	}
}

// WithHeapLimit has the limit of Go's garbage collector follow the bound on memory. It is a setting of the whole process,
// for programs that do nothing else.
func WithHeapLimit() Option {
	return func(o *opening) error { o.heapLimit = true; return nil }
}

// WithMaxDelay bounds how long a picture is passed over by younger ones of the expert and size class that the device is at
// work with, of several that are restored at a time; 100 ms without it. Less than 0 keeps the order.
func WithMaxDelay(d time.Duration) Option {
	return func(o *opening) error { o.maxDelay = d; return nil }
}

// WithBatch bounds how many pictures of one expert and size run at a time; 8 without it, 1 for one after the other. Those that
// wait anyway run together where the device's plan says that this is faster; none waits for others to come.
func WithBatch(pictures int) Option {
	return func(o *opening) error {
		if pictures < 1 || pictures > 64 {
			return optionf("batch", " %d: want 1 to 64", pictures)
		}
		o.batch = pictures
		return nil
	}
}

// WithDeviceWait bounds how long a picture waits for memory of a device that other processes hold; 2 minutes without it, less
// than 0 for not at all. What comes then is a fallback's ([WithFallback]) or an error that wraps [ErrCrowded].
func WithDeviceWait(d time.Duration) Option {
	return func(o *opening) error { o.deviceWait = d; return nil }
}

// WithoutMemoryBound lets images, weights and intermediate results take what they need.
func WithoutMemoryBound() Option {
	return func(o *opening) error { o.memory = unbounded; return nil }
}

// Adapters says how LoRA experts run.
type Adapters = experts.Adapters

// How LoRA experts run: merged into weights of their own (the default), switched in one base that stays in memory, or as
// low-rank branches beside it.
const (
	Merged   = experts.Merged
	Switched = experts.Switched
	Unmerged = experts.Unmerged
)

// WithAdapters says how LoRA experts run.
func WithAdapters(a Adapters) Option {
	return func(o *opening) (err error) {
		if o.adapters, err = experts.ParseAdapters(string(a)); err != nil {
			return optionf("adapters", ": %w", err)
		}
		return nil
	}
}

// WithPrefetch loads the expert that followed the present one most often while that is at work, as far as memory allows.
func WithPrefetch() Option {
	return func(o *opening) error { o.predictor = &experts.Successors{}; return nil }
}

// WithLazyEstimator leaves the estimator to be prepared when a picture first needs it, for callers that name experts
// themselves.
func WithLazyEstimator() Option {
	return func(o *opening) error { o.lazy = true; return nil }
}

func (o *opening) model(ctx context.Context) (*experts.Model, error) {
	switch {
	case len(o.args) > 0 && (o.path == "" || o.folder != nil || o.released):
		return nil, optionf("net-args", ": they are for the file of a single network")
	case o.released && (o.path != "" || o.folder != nil) || o.path != "" && o.folder != nil:
		return nil, optionf("", "more than one model was named")
	case o.released:
		return engine.ReleasedSizes()
	case o.folder != nil:
		return experts.OpenModelFS(o.folder.name, o.folder.files)
	default:
		return engine.OpenModel(ctx, o.path, convert.OpenOptions{Args: o.args})
	}
}

func (o *opening) engine() engine.Config {
	bound := o.memory
	switch {
	case bound == 0:
		bound = ledger.Auto()
	case bound < 0:
		bound = 0
	}
	return engine.Config{Device: o.device, Threads: o.threads, Fallback: o.fallback, Precision: o.precision, Restore: restore.Config{
		Ledger: ledger.Host(bound, o.heapLimit), DeviceMemory: o.deviceMemory, DeviceWait: o.deviceWait,
		Adapters: o.adapters, Predictor: o.predictor, Lazy: o.lazy, MaxDelay: o.maxDelay, Batch: o.batch,
	}}
}

// CallOption is a choice for one picture.
type CallOption func(*call) error

// call is what a call was told. What needs the model is looked up when that is known.
type call struct {
	file         restore.FileOptions
	level        string
	expert       string
	granularity  string
	degradations []string
	stdin        io.Reader
	stdout       io.Writer
	ask          queue.Ask
}

func callOf(opts []CallOption) (call, error) {
	var c call
	for _, opt := range opts {
		if err := opt(&c); err != nil {
			return c, err
		}
	}
	return c, nil
}

// optionf says what is wrong with an option.
func optionf(option, format string, args ...any) error {
	return &OptionError{option, fmt.Errorf(format, args...)}
}

// call reads options and holds them against the model.
func (r *Restorer) call(opts []CallOption) (call, error) {
	c, err := callOf(opts)
	if err != nil {
		return c, err
	}
	config := r.engine.Model().Config
	o := &c.file.Override
	if c.expert != "" {
		n, err := config.FindExpert(c.expert)
		if err != nil {
			return c, optionf("expert", ": %w", err)
		}
		o.Expert = &n
	}
	if c.level != "" {
		n, err := levelNumber(config, c.level)
		if err != nil {
			return c, err
		}
		o.Level = &n
	}
	if len(c.degradations) > 0 {
		if o.Leaves, err = router.Instruct(&config.Tree, c.degradations); err != nil {
			return c, optionf("degradation", ": %w", err)
		}
	}
	if d := c.file.Decision; d != nil {
		if o.Level != nil || len(o.Leaves) > 0 || o.Expert != nil {
			return c, optionf("", "a route that was chosen before leaves nothing to choose")
		}
		if d.Leaf >= len(config.Tree.Leaves) || d.Level >= len(config.Tree.Levels) {
			return c, optionf("", "a route of another model")
		}
		o.Expert = &d.Expert
	}
	if o.Granularity, err = router.ParseGranularity(c.granularity); err != nil {
		return c, optionf("granularity", " %w", err)
	}
	if err := o.Check(config); err != nil {
		return c, &OptionError{Err: err}
	}
	return c, nil
}

func levelNumber(m *models.Config, s string) (int, error) {
	for i, name := range m.Tree.Levels {
		if strings.EqualFold(name, s) {
			return i, nil
		}
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, optionf("level", " %q: want 0 to %d or one of %s", s, len(m.Tree.Levels)-1, strings.Join(m.Tree.Levels, ", "))
	}
	return n, nil
}

// WithExpert uses expert n of [Restorer.Experts], whatever the picture looks like.
func WithExpert(n int) CallOption {
	return func(c *call) error { c.file.Override.Expert = &n; return nil }
}

// WithExpertNamed uses the expert with a name, or a number in digits, whatever the picture looks like.
func WithExpertNamed(name string) CallOption {
	return func(c *call) error { c.expert = name; return nil }
}

// WithRoute restores as a route says that was found before, as by [Restorer.RouteTogether]: with its expert, within what
// the model allows that, and without estimating anything.
func WithRoute(route *Route) CallOption {
	return func(c *call) error {
		if route == nil {
			return optionf("", "no route")
		}
		d := route.Decision
		c.file.Decision = &d
		return nil
	}
}

// WithSecond gives the second picture to networks that take two, as dual-pixel cameras make them. It has the size of
// the first.
func WithSecond(img image.Image) CallOption {
	return func(c *call) (err error) {
		c.file.Second, err = imaging.FromStandard(img)
		return err
	}
}

// WithLevel uses experts of a granularity: its name, as "coarse", or its number, 0 being the coarsest.
func WithLevel(level string) CallOption {
	return func(c *call) error { c.level = level; return nil }
}

// WithGranularity says what chooses the expert once the degradation is estimated: "learned", the router's gates, or
// "bayes", the highest expected quality under the probabilities of the degradations, for models that know what each expert
// gains for each of them.
func WithGranularity(rule string) CallOption {
	return func(c *call) error { c.granularity = rule; return nil }
}

// WithDegradation considers only experts for these degradations: what they restore ("rain"), or names or numbers of
// leaves of the tree.
func WithDegradation(kinds ...string) CallOption {
	return func(c *call) error { c.degradations = append(c.degradations, kinds...); return nil }
}

// WithTile runs tiles of so many pixels a side. By default the whole picture runs at once if memory allows, and otherwise
// the largest tiles that fit.
func WithTile(pixels int) CallOption {
	return func(c *call) error {
		if pixels <= 0 {
			return optionf("tile", " %d: want a positive number of pixels", pixels)
		}
		c.file.Tile = pixels
		return nil
	}
}

// WithoutTiles runs the whole picture at once, and fails if memory does not allow that.
func WithoutTiles() CallOption {
	return func(c *call) error { c.file.Tile = restore.TileOff; return nil }
}

// DefaultOverlap is the number of pixels that neighbouring tiles share where there is room.
const DefaultOverlap = restore.DefaultOverlap

// WithOverlap has neighbouring tiles share so many pixels at least.
func WithOverlap(pixels int) CallOption {
	return func(c *call) error {
		if pixels <= 0 {
			return optionf("overlap", " %d: want 1 or more", pixels)
		}
		c.file.Overlap = pixels
		return nil
	}
}

// WithStrength keeps that share of what the expert changes, 0 to 1: the result is blended with the picture in the values of
// the file.
func WithStrength(share float64) CallOption {
	return func(c *call) error {
		if !(share >= 0 && share <= 1) {
			return optionf("strength", " %g: want 0 to 1", share)
		}
		c.file.Strength = &share
		return nil
	}
}

// WithoutGuard lets an expert change the brightness of parts of the picture beyond what the model allows it. By default it
// is held back there, and the result's Warnings say so.
func WithoutGuard() CallOption {
	return func(c *call) error { c.file.NoGuard = true; return nil }
}

// WithProgress is told the fraction of the expert's work that is done. It is called from one goroutine at a time.
func WithProgress(report func(done float64)) CallOption {
	return func(c *call) error { c.file.Progress = report; return nil }
}

// WithWaits is told, about once a second, why the picture waits for memory of the device.
func WithWaits(report func(why string)) CallOption {
	return func(c *call) error { c.file.Waits = report; return nil }
}

// WithRouted is told the route before the expert is loaded, and whether the expert is in memory already. Its error ends the
// call.
func WithRouted(f func(ctx context.Context, expert int, resident bool) error) CallOption {
	return func(c *call) error {
		c.file.Routed = func(ctx context.Context, d router.Decision, resident bool) error { return f(ctx, d.Expert, resident) }
		return nil
	}
}

// toldCall is a call as another process is told of it.
type toldCall struct {
	File         restore.FileOptions
	Level        string   `json:",omitempty"`
	Expert       string   `json:",omitempty"`
	Granularity  string   `json:",omitempty"`
	Degradations []string `json:",omitempty"`
	Ask          queue.Ask
}

// MarshalCall puts options into a form that another process can be told, for [WithMarshalled]. Streams, and functions such as
// that of [WithProgress], stay behind; a second picture is an error.
func MarshalCall(opts ...CallOption) (json.RawMessage, error) {
	c, err := callOf(opts)
	if err != nil {
		return nil, err
	}
	if c.file.Second != nil {
		return nil, optionf("second", ": a second picture is not passed to another process")
	}
	return json.Marshal(toldCall{c.file, c.level, c.expert, c.granularity, c.degradations, c.ask})
}

// ProgressOf is the function that [WithProgress] gives, nil without it.
func ProgressOf(opts ...CallOption) func(done float64) {
	c, err := callOf(opts)
	if err != nil {
		return nil
	}
	return c.file.Progress
}

// WithMarshalled takes the options that [MarshalCall] was given.
func WithMarshalled(text json.RawMessage) CallOption {
	return func(c *call) error {
		var told toldCall
		if err := json.Unmarshal(text, &told); err != nil {
			return optionf("", "options from another process: %w", err)
		}
		*c = call{file: told.File, level: told.Level, expert: told.Expert, granularity: told.Granularity, degradations: told.Degradations, ask: told.Ask, stdin: c.stdin, stdout: c.stdout}
		return nil
	}
}

// WithFormat writes files as "png", "jpeg", "webp", "tiff" or "bmp". An empty format leaves the choice to the extension.
func WithFormat(format string) CallOption {
	return func(c *call) (err error) {
		if format == "" {
			return nil
		}
		if c.file.Format, err = imaging.WritableFormat("x." + strings.TrimPrefix(format, ".")); err != nil {
			return optionf("format", " %q: want png, jpeg, webp, tiff or bmp", format)
		}
		return nil
	}
}

// WithQuality sets the quality of JPEG and WebP, 1 to 100; 0 is the default, 95 for JPEG and lossless for WebP.
func WithQuality(quality int) CallOption {
	return func(c *call) error {
		if quality < 0 || quality > 100 {
			return optionf("quality", " %d: want 1 to 100", quality)
		}
		c.file.Encode.Quality = quality
		return nil
	}
}

// WithChroma sets the resolution of colour in JPEG files: "444" is that of brightness, "420" half of it, "auto" (the
// default) follows the source.
func WithChroma(chroma string) CallOption {
	return func(c *call) (err error) {
		if c.file.Encode.Chroma, err = imaging.ParseChroma(chroma); err != nil {
			return optionf("chroma", " %q: want auto, 444 or 420", chroma)
		}
		return nil
	}
}

// WithPage chooses which page or frame of a file of several to restore: its number from 1, "all", or "auto" (the default):
// all where the result's format holds them, otherwise the first.
func WithPage(page string) CallOption {
	return func(c *call) error {
		switch page {
		case "", "auto":
			c.file.Page = restore.PageAuto
			return nil
		case "all":
			c.file.Page = restore.AllPages
			return nil
		}
		n, err := strconv.Atoi(page)
		if err != nil || n < 1 {
			return optionf("page", " %q: want a number from 1, all or auto", page)
		}
		c.file.Page = n
		return nil
	}
}

// WithPriority has a picture go before those of lower priority that wait for the device; 0 without it.
func WithPriority(n int) CallOption {
	return func(c *call) error { c.ask.Priority = n; return nil }
}

// WithClient says for whom a picture is restored. Clients share the device evenly, however much each asks for.
func WithClient(name string) CallOption {
	return func(c *call) error { c.ask.Client = name; return nil }
}

// WithStrict refuses damaged files. Otherwise what is there of them is restored, and [Result.Warnings] says what is not.
func WithStrict() CallOption {
	return func(c *call) error { c.file.Limits.Strict = true; return nil }
}

// WithLinkedFolders has [Jobs] go into linked folders, into each folder once.
func WithLinkedFolders() CallOption {
	return func(c *call) error { c.file.Follow = true; return nil }
}

// WithMaxPixels allows files of so many pixels; the default is 200 million.
func WithMaxPixels(n int64) CallOption {
	return func(c *call) error {
		if n < 1 {
			return optionf("max-pixels", " %d: want 1 or more", n)
		}
		c.file.Limits.MaxPixels = n
		return nil
	}
}

// WithComparison also writes a before and after picture beside a file's result.
func WithComparison() CallOption {
	return func(c *call) error { c.file.Compare = true; return nil }
}

// withStream is WithStreams for a stream that messages call by a name.
func withStream(name string, in io.Reader, out io.Writer) CallOption {
	return func(c *call) error { c.stdin, c.stdout, c.file.StreamName = in, out, name; return nil }
}

// WithStreams serves jobs that name [Stream] instead of a file.
func WithStreams(in io.Reader, out io.Writer) CallOption {
	return func(c *call) error { c.stdin, c.stdout = in, out; return nil }
}
