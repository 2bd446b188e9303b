// Package unirestorer restores photos that were degraded in unknown ways: rain, haze, snow, noise, blur, low light,
// compression, and mixtures of them.
//
// A vision transformer reads the degradation, a router turns that into one expert network out of a pool, and only that
// expert runs. A small trained model is inside the package; [WithModel] takes another.
//
//	r, err := unirestorer.Open(ctx)
//	if err != nil {
//		return err
//	}
//	defer r.Close()
//	result, err := r.Restore(ctx, photo) // any image.Image
//
// result.Image is the restored photo, result.Route says which expert made it and why, result.Stages how long each step
// took. [Restorer.RestoreFile] works on files instead, and keeps what they hold beside pixels: EXIF, ICC profiles,
// 16 bits. [Restorer.Route] decides without restoring, [Restorer.Profile] measures what each network costs.
//
// # Options
//
// An [Option] is for [Open]: the model ([WithModel]), the device ([WithDevice], [WithFallback]), bounds ([WithMemory],
// [WithThreads]), how LoRA experts run ([WithAdapters]). A [CallOption] is for one picture: the expert ([WithExpert],
// [WithLevel], [WithDegradation]), tiles ([WithTile]), the file written ([WithFormat], [WithQuality]), progress
// ([WithProgress]). [Restorer.Check] says beforehand whether they fit the model.
//
// # Files
//
// [Restorer.RestoreFile] restores a file, [Jobs] and [Restorer.RestoreJob] folders of them, [Restorer.RestoreStream] what
// comes from anywhere. [Decode] reads a picture with what its file says beside the pixels, [Encode] writes one.
//
// # Devices
//
// Everything runs on the CPU without cgo. [WithDevice] chooses another device: "sim" runs the CUDA kernels in a
// simulator; "cuda" runs them on a GPU in programs built with the tag cuda.
//
// # Concurrency, contexts and errors
//
// A Restorer may be used by any number of goroutines. Every call takes a context and returns soon after it is done.
// [Restorer.Close] waits for calls under way; [Restorer.Shutdown] waits as long as its context allows and cancels
// them then. Calls on a closed Restorer return [ErrClosed], options that do not fit the model an [*OptionError].
package unirestorer

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"os"
	"slices"

	"unirestorer/runtime/engine"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/folders"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/ledger"
	"unirestorer/runtime/platform"
	"unirestorer/runtime/queue"
	"unirestorer/runtime/restore"
	"unirestorer/runtime/router"
)

// ErrClosed is returned by calls on a Restorer that is closed.
var ErrClosed = errors.New("unirestorer: restorer is closed")

// ErrUnknownDevice is wrapped by the error of [Open] for a device that no build of this package knows.
var ErrUnknownDevice = platform.ErrUnknownDevice

// ErrMemory is wrapped by the error of an image that cannot be restored within the bound of [WithMemory].
var ErrMemory = experts.ErrBudget

// ErrUnavailable is wrapped by the errors of pictures that no working device is left for.
var ErrUnavailable = errors.New("no device is left")

// OptionError says which option makes no sense, or does not fit the model.
type OptionError struct {
	// Option is the option's name in small letters, "level" for [WithLevel]; empty where several are at odds.
	Option string
	Err    error
}

// Error returns what is wrong, the option's name first.
func (e *OptionError) Error() string {
	if e.Option == "" {
		return e.Err.Error()
	}
	return e.Option + e.Err.Error()
}

// Unwrap returns the cause.
func (e *OptionError) Unwrap() error { return e.Err }

// PictureError is the error of a file that is no picture, or is damaged, or is larger than allowed: others are not the
// picture's fault.
type PictureError = restore.InputError

// ErrFormat is wrapped by the error of a file in none of the formats that are read.
var ErrFormat = imaging.ErrFormat

// ErrCrowded is wrapped by the error of a picture that waited in vain for memory of a device that other processes hold.
var ErrCrowded = restore.ErrCrowded

// ErrTooLarge is wrapped by the error of a picture with more pixels than allowed.
var ErrTooLarge = imaging.ErrTooLarge

// Restorer restores photos with one model on one device. It may be used by any number of goroutines.
type Restorer struct {
	engine *engine.Engine
	opened opening
}

// Open opens a model, the built-in one by default, on a device, the CPU by default, and prepares the estimator. Experts
// are prepared when they are first chosen.
//
// The Restorer holds memory and perhaps a device until it is closed.
func Open(ctx context.Context, opts ...Option) (*Restorer, error) {
	o, err := openingOf(opts)
	if err != nil {
		return nil, fmt.Errorf("open restorer: %w", err)
	}
	m, err := o.model(ctx)
	if err != nil {
		return nil, err
	}
	e, err := engine.Open(ctx, m, o.engine())
	if err != nil {
		return nil, err
	}
	return &Restorer{engine: e, opened: o}, nil
}

// Close waits for the calls under way and frees everything. Calls that come later return [ErrClosed]. Closing again does
// nothing but wait.
func (r *Restorer) Close() error { return r.Shutdown(context.Background()) }

// Shutdown is Close, but once ctx is done it cancels the calls that are still under way.
func (r *Restorer) Shutdown(ctx context.Context) error { return r.engine.Close(ctx) }

// Restore restores one picture. The result has the size and depth of img; grey stays grey, and transparency is kept.
//
// A [*Picture] keeps its metadata, is turned upright, and gives a *Picture; any other image gives an *image.NRGBA,
// *image.NRGBA64, *image.Gray or *image.Gray16. img is not changed, and must not change before Restore returns.
func (r *Restorer) Restore(ctx context.Context, img image.Image, opts ...CallOption) (*Result, error) {
	call, in, err := r.asked(img, opts)
	if err != nil {
		return nil, err
	}
	out, rep, err := r.engine.Restore(queue.With(ctx, call.ask), in, call.file.Options)
	if err != nil {
		return nil, public(err)
	}
	res := r.result(rep)
	res.Image = out
	if _, own := img.(*Picture); !own {
		res.Image = out.Standard()
	}
	return res, nil
}

// asked reads the options of a call and takes its picture.
func (r *Restorer) asked(img image.Image, opts []CallOption) (call, *Picture, error) {
	c, err := r.call(opts)
	if err != nil {
		return c, nil, err
	}
	in, err := imaging.FromStandard(img)
	return c, in, err
}

// RestoreFile restores the image file in, and writes the result to out, in the format of out's extension unless
// [WithFormat] says otherwise. out appears, or is replaced, only when it is complete.
func (r *Restorer) RestoreFile(ctx context.Context, in, out string, opts ...CallOption) (*Result, error) {
	return r.RestoreJob(ctx, Job{In: in, Out: out}, opts...)
}

// RestoreJob restores one of the files that [Jobs] found.
func (r *Restorer) RestoreJob(ctx context.Context, j Job, opts ...CallOption) (*Result, error) {
	call, err := r.call(opts)
	if err != nil {
		return nil, err
	}
	rep, err := r.engine.File(queue.With(ctx, call.ask), j, call.file, call.stdin, call.stdout)
	if err != nil {
		return nil, public(err)
	}
	return r.result(rep), nil
}

// RestoreStream restores the image file that in holds and writes the result to out, within the bound on memory. Its format
// is that of the input unless [WithFormat] says otherwise. A [*bytes.Buffer] is read where it lies, without a copy.
func (r *Restorer) RestoreStream(ctx context.Context, in io.Reader, out io.Writer, opts ...CallOption) (*Result, error) {
	return r.RestoreJob(ctx, Job{In: Stream, Out: Stream}, append(slices.Clone(opts), withStream("picture", in, out))...)
}

// RouteStream is Route for the image file that in holds.
func (r *Restorer) RouteStream(ctx context.Context, in io.Reader, opts ...CallOption) (*Route, error) {
	return r.RouteFile(ctx, Stream, append(slices.Clone(opts), withStream("picture", in, nil))...)
}

// Route says which expert img would go to, and why. Nothing is restored.
func (r *Restorer) Route(ctx context.Context, img image.Image, opts ...CallOption) (*Route, error) {
	call, in, err := r.asked(img, opts)
	if err != nil {
		return nil, err
	}
	d, err := r.engine.Route(queue.With(ctx, call.ask), in, call.file.Override)
	if err != nil {
		return nil, public(err)
	}
	return r.route(d), nil
}

// RouteTogether finds one route for pictures that belong together, as the frames of a scene do: the most probable
// degradation and level by the means of their probabilities.
func (r *Restorer) RouteTogether(ctx context.Context, imgs []image.Image, opts ...CallOption) (*Route, error) {
	call, err := r.call(opts)
	if err != nil {
		return nil, err
	}
	if len(imgs) == 0 {
		return nil, errors.New("route together: no pictures")
	}
	var all []router.Decision
	for _, img := range imgs {
		in, err := imaging.FromStandard(img)
		if err != nil {
			return nil, err
		}
		d, err := r.engine.Route(queue.With(ctx, call.ask), in, call.file.Override)
		if err != nil {
			return nil, public(err)
		}
		all = append(all, d)
	}
	d, err := router.Together(&r.engine.Model().Config.Tree, all, call.file.Override)
	if err != nil {
		return nil, err
	}
	return r.route(d), nil
}

// RouteFile is Route for an image file, or for what the input of [WithStreams] holds if path is [Stream]. It is decoded
// within the bound on memory.
func (r *Restorer) RouteFile(ctx context.Context, path string, opts ...CallOption) (*Route, error) {
	call, err := r.call(opts)
	if err != nil {
		return nil, err
	}
	d, err := r.engine.RouteFile(queue.With(ctx, call.ask), path, call.file, call.stdin)
	if err != nil {
		return nil, public(err)
	}
	return r.route(d), nil
}

// Experts lists the pool: networks in the order of their numbers.
func (r *Restorer) Experts() []Expert {
	c := r.engine.Model().Config
	all := make([]Expert, len(c.Experts))
	for i, e := range c.Experts {
		all[i] = Expert{Index: i, Name: e.Name, Architecture: e.Architecture, Base: e.Base}
		if e.Level < len(c.Tree.Levels) {
			all[i].Level = c.Tree.Levels[e.Level]
		}
		for _, l := range c.Tree.Leaves {
			if slices.Contains(l.Experts, i) {
				all[i].Degradations = append(all[i].Degradations, l.Name)
			}
		}
	}
	return all
}

// Check reports the first option that does not fit the model, as calls with these options would.
func (r *Restorer) Check(opts ...CallOption) error {
	_, err := r.call(opts)
	return err
}

// NamedExpert tells which expert pictures go to with these options, if that does not depend on the picture.
func (r *Restorer) NamedExpert(opts ...CallOption) (expert int, named bool, err error) {
	c, err := r.call(opts)
	if err != nil {
		return 0, false, err
	}
	if e := c.file.Override.Expert; e != nil {
		return *e, true, nil
	}
	return 0, false, nil
}

// Model is where the model was opened, or its name if it is the built-in one.
func (r *Restorer) Model() string { return r.engine.Model().Path }

// Memory tells what is held of the host's memory and, of a device that has its own, of that.
func (r *Restorer) Memory() (host MemoryUsage, device *MemoryUsage) { return r.engine.Memory() }

// MemoryUsage is a moment's account of a memory, in bytes.
type MemoryUsage = ledger.Usage

// SetAside takes bytes off the bound on memory for good, for what the program holds beside the calls it makes.
func (r *Restorer) SetAside(bytes int64) { r.engine.SetAside(bytes) }

// Device is what the networks run on, in words.
func (r *Restorer) Device() string { return r.engine.DeviceName() }

// ModelDigest identifies the model: it is another where weights are others.
func (r *Restorer) ModelDigest() string {
	m := r.engine.Model()
	if d, ok := m.Source.(interface{ Digest() string }); ok && d.Digest() != "" {
		return d.Digest()
	}
	if info, err := os.Stat(m.Path); err == nil {
		return fmt.Sprintf("%s %d %d", m.Path, info.Size(), info.ModTime().UnixNano())
	}
	return m.Path
}

// public replaces the engine's words for a closed Restorer, and for tiles that make no sense, by this package's.
func public(err error) error {
	var tiles *restore.TilesError
	switch {
	case errors.Is(err, engine.ErrClosed):
		return ErrClosed
	case errors.As(err, &tiles):
		return &OptionError{Err: err}
	}
	return err
}

// Picture is an image with everything that its file said beside the pixels. It is an [image.Image].
type Picture = imaging.Image

// Decode reads a PNG, JPEG, WebP, TIFF, BMP or GIF file.
func Decode(r io.Reader) (*Picture, error) { return imaging.Decode(r, imaging.Limits{}) }

// DecodeFile reads an image file; [Stream] is the input of [WithStreams].
func DecodeFile(path string, opts ...CallOption) (*Picture, error) {
	call, err := callOf(opts)
	if err != nil {
		return nil, err
	}
	if path != Stream {
		return imaging.DecodeFile(path, call.file.Limits)
	}
	img, err := imaging.Decode(call.stdin, call.file.Limits)
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	return img, nil
}

// Encode writes a picture as "png", "jpeg", "webp", "tiff" or "bmp"; an empty format is that of the file it came from, or
// PNG. Of the options, [WithQuality] and [WithChroma] matter.
func Encode(w io.Writer, img image.Image, format string, opts ...CallOption) error {
	call, err := callOf(append(slices.Clone(opts), WithFormat(format)))
	if err != nil {
		return err
	}
	p, err := imaging.FromStandard(img)
	if err != nil {
		return err
	}
	enc := call.file.Encode
	enc.Format = call.file.Format
	return imaging.Encode(w, p, enc)
}

// Job is one image file to restore.
type Job = restore.Job

// Stream in the place of a file's name means standard input or output, see [WithStreams].
const Stream = restore.Stream

// Jobs finds the image files that inputs name, files, folders or [Stream], and where each result goes. out is a file for
// one named image and a folder otherwise; folders keep their structure, and have folders of their names where results of
// two would meet. It is an error if a result would replace an input or another result.
func Jobs(inputs []string, out string, opts ...CallOption) ([]Job, error) {
	call, err := callOf(opts)
	if err != nil {
		return nil, err
	}
	jobs, err := restore.Jobs(inputs, out, call.file)
	if err != nil {
		return nil, &OptionError{Err: err}
	}
	return jobs, nil
}

// ComparePath is where [WithComparison] writes the before and after picture of the result out.
func ComparePath(out string) string { return restore.ComparePath(out) }

// PassedOver is something in a folder that is no picture to restore, and why.
type PassedOver = folders.Passed

// FindJobs is [Jobs] that also names what it passed over in folders.
func FindJobs(inputs []string, out string, opts ...CallOption) ([]Job, []PassedOver, error) {
	call, err := callOf(opts)
	if err != nil {
		return nil, nil, err
	}
	jobs, passed, err := restore.Find(inputs, out, call.file)
	if err != nil {
		return nil, nil, &OptionError{Err: err}
	}
	return jobs, passed, nil
}
