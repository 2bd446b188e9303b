package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"unirestorer/runtime/folders"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/ledger"
	"unirestorer/runtime/router"
	"unirestorer/runtime/stage"
	"unirestorer/weights/atomicfile"
)

// Stream as an input or output means standard input or output.
const Stream = "-"

// Job is one image to restore.
type Job struct {
	In, Out string
	// Second is the file of the second picture, for networks that take two.
	Second string
	// Folder is the folder of results that Out lies in; empty where Out is named itself.
	Folder string
	// FromFolder says that In was found in a folder rather than named.
	FromFolder bool
}

// FileOptions are the choices for image files.
type FileOptions struct {
	Options
	// Format of the results; empty means that of Out's extension, or the
	// input's.
	Format imaging.Format
	// Encode are the encoder's settings; its Format is not used.
	Encode imaging.EncodeOptions
	// Limits bound what a file may ask for.
	Limits imaging.Limits
	// Page is which page or frame of a file of several to restore, from 1; AllPages; or PageAuto.
	Page int
	// Compare writes a before and after picture beside the result.
	Compare bool
	// Follow goes into linked folders.
	Follow bool
	// StreamName is what messages call Stream; empty means standard input.
	StreamName string
}

// InputError is the error of a picture that is not what it should be, as opposed to one that could not be restored.
type InputError struct{ Err error }

// Error says what is wrong with the picture.
func (e *InputError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *InputError) Unwrap() error { return e.Err }

// input marks an error as the picture's.
func input(err error) error {
	if err == nil {
		return nil
	}
	return &InputError{err}
}

// name is what messages call an input.
func (o FileOptions) name(in string) string {
	switch {
	case in != Stream:
		return in
	case o.StreamName != "":
		return o.StreamName
	}
	return "standard input"
}

// Jobs is [Find] for those who need not know what was passed over.
func Jobs(inputs []string, out string, opt FileOptions) ([]Job, error) {
	jobs, _, err := Find(inputs, out, opt)
	return jobs, err
}

// Find finds the images that inputs, files and folders or Stream, name, and
// where each result goes, and what it passed over in folders. out is a file for
// a single named image and a folder otherwise; folders keep their structure,
// and are kept apart in folders of their names where results of two would meet.
// Nothing is read yet: a named file that is missing or damaged fails when its
// turn comes.
//
// It is an error if a result would replace an input, another result or a
// before and after picture, or if a result's format is not known.
func Find(inputs []string, out string, opt FileOptions) ([]Job, []folders.Passed, error) {
	if len(inputs) == 0 {
		return nil, nil, errors.New("no input given")
	}
	if out == "" {
		return nil, nil, errors.New("no output given")
	}
	var inputJobs [][]Job
	var passed []folders.Passed
	intoFolder := len(inputs) > 1 || os.IsPathSeparator(out[len(out)-1]) || isDir(out)
	for _, in := range inputs {
		if in != "" && in != Stream && os.IsPathSeparator(in[len(in)-1]) && !isDir(in) {
			return nil, nil, fmt.Errorf("%s: no such folder", in)
		}
		found, over, err := jobsOf(in, out, opt, intoFolder)
		if err != nil {
			return nil, nil, err
		}
		inputJobs, passed = append(inputJobs, found), append(passed, over...)
	}
	jobs := keepApart(inputs, inputJobs, out, opt)
	return jobs, passed, checkJobs(jobs, opt)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func jobsOf(in, out string, opt FileOptions, intoFolder bool) ([]Job, []folders.Passed, error) {
	job := Job{In: in, Out: out}
	switch {
	case in == Stream:
		if intoFolder {
			return nil, nil, errors.New("standard input needs an output file, not a folder")
		}
	case in == "":
		return nil, nil, errors.New("an input without a name")
	case isDir(in):
		if out == Stream {
			return nil, nil, fmt.Errorf("%s is a folder; standard output takes one image", in)
		}
		return folderJobs(in, out, opt)
	case intoFolder:
		if out == Stream {
			return nil, nil, errors.New("standard output takes one image")
		}
		if err := checkFolder(out); err != nil {
			return nil, nil, err
		}
		job.Folder = out
		job.Out = filepath.Join(out, withFormat(filepath.Base(in), opt.Format))
	}
	return []Job{job}, nil, nil
}

// checkFolder reports something in the place of an output folder.
func checkFolder(out string) error {
	if info, err := os.Stat(out); err == nil && !info.IsDir() {
		return fmt.Errorf("%s is not a folder, which several results need", out)
	}
	return nil
}

func folderJobs(in, out string, opt FileOptions) ([]Job, []folders.Passed, error) {
	if err := checkFolder(out); err != nil {
		return nil, nil, err
	}
	pictures, passed, err := folders.Walk(in, folders.WalkOptions{Follow: opt.Follow, Out: out})
	if err != nil {
		return nil, nil, err
	}
	var jobs []Job
	for _, rel := range pictures {
		jobs = append(jobs, Job{In: filepath.Join(in, rel), Out: filepath.Join(out, withFormat(rel, opt.Format)), Folder: out, FromFolder: true})
	}
	return jobs, passed, nil
}

// keepApart gives results of different folders that would meet folders of their
// own, and results of different formats that would meet their whole names.
func keepApart(inputs []string, found [][]Job, out string, opt FileOptions) []Job {
	owner := map[string]int{}
	between := false
	for i, jobs := range found {
		for k := range jobs {
			key := nameKey(jobs[k].Out)
			if n, taken := owner[key]; taken && n != i {
				between = true
			}
			owner[key] = i
		}
	}
	if between {
		names := folderNames(inputs, found)
		for i, jobs := range found {
			for k, j := range jobs {
				if rel, err := filepath.Rel(out, j.Out); err == nil && names[i] != "" {
					jobs[k].Out = filepath.Join(out, names[i], rel)
				}
			}
		}
	}
	jobs := slices.Concat(found...)
	count := map[string]int{}
	for _, j := range jobs {
		count[nameKey(j.Out)]++
	}
	for i, j := range jobs {
		if ext := filepath.Ext(j.In); j.Folder != "" && count[nameKey(j.Out)] > 1 && !strings.EqualFold(ext, filepath.Ext(j.Out)) {
			jobs[i].Out = strings.TrimSuffix(j.Out, filepath.Ext(j.Out)) + ext + filepath.Ext(j.Out)
		}
	}
	return jobs
}

// folderNames are the names under which the results of each input are kept
// apart: that of a folder, or of the folder that a named file lies in, with a
// number where two are the same.
func folderNames(inputs []string, found [][]Job) []string {
	names, number, of := make([]string, len(inputs)), map[string]int{}, map[string]string{}
	for i, in := range inputs {
		dir := filepath.Clean(in)
		if len(found[i]) == 1 && !found[i][0].FromFolder {
			dir = filepath.Dir(dir)
		}
		if abs, err := filepath.Abs(dir); err == nil {
			dir = abs
		}
		if of[dir] == "" {
			base := strings.TrimPrefix(filepath.Base(dir), string(filepath.Separator))
			number[nameKey(base)]++
			if n := number[nameKey(base)]; n > 1 {
				base = fmt.Sprintf("%s-%d", base, n)
			}
			of[dir] = base
		}
		names[i] = of[dir]
	}
	return names
}

// nameKey is what names of one file have in common, where systems usually do
// not tell capitals from small letters.
func nameKey(path string) string {
	path = filepath.Clean(path)
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		return strings.ToLower(path)
	}
	return path
}

// withFormat replaces the extension of path by that of format.
func withFormat(path string, format imaging.Format) string {
	if format == "" {
		f, err := imaging.FormatFromPath(path)
		if _, foreign := imaging.ForeignExtension(path); !foreign && (err != nil || f != imaging.GIF) {
			return path
		}
		format = imaging.PNG // which holds what a GIF, which is not written, does
	}
	if f, err := imaging.FormatFromPath(path); err == nil && f == format {
		return path
	}
	ext := "." + string(format)
	if format == imaging.JPEG {
		ext = ".jpg"
	}
	return strings.TrimSuffix(path, filepath.Ext(path)) + ext
}

// checkJobs refuses results that would replace an input or each other.
func checkJobs(jobs []Job, opt FileOptions) error {
	taken := map[string]string{}
	take := func(path string, j Job) error {
		clean := nameKey(path)
		if other, ok := taken[clean]; ok {
			return fmt.Errorf("%s and %s would both be written to %s", other, j.In, path)
		}
		taken[clean] = j.In
		return nil
	}
	for _, j := range jobs {
		if j.Out == Stream {
			continue
		}
		if opt.Format == "" {
			if _, err := imaging.WritableFormat(j.Out); err != nil {
				if _, missing := os.Stat(j.In); j.In != Stream && errors.Is(missing, fs.ErrNotExist) {
					return fmt.Errorf("%s: no such file or folder", j.In)
				}
				return fmt.Errorf("%w; the format can be named instead", err)
			}
		}
		if err := take(j.Out, j); err != nil {
			return err
		}
		if opt.Compare {
			if err := take(ComparePath(j.Out), j); err != nil {
				return err
			}
		}
	}
	for _, j := range jobs {
		if err := checkReplaced(j, taken); err != nil {
			return err
		}
	}
	return nil
}

// checkReplaced reports a job whose input is a result, its own or that of
// another.
func checkReplaced(j Job, taken map[string]string) error {
	if other, ok := taken[nameKey(j.In)]; ok {
		return fmt.Errorf("the result of %s would replace the input %s", other, j.In)
	}
	a, errA := os.Stat(j.In)
	b, errB := os.Stat(j.Out)
	if errA == nil && errB == nil && os.SameFile(a, b) {
		return fmt.Errorf("the result of %s would replace the input %s", j.In, j.In)
	}
	return nil
}

const (
	// PageAuto restores all pages or frames where the result's format holds them, and otherwise the first, and says so.
	PageAuto = 0
	// AllPages restores all, or fails where the result's format does not hold them.
	AllPages = -1
)

// File restores one image file. stdin and stdout serve jobs that name Stream.
// The result appears under its name only when it is complete.
func (r *Restorer) File(ctx context.Context, j Job, opt FileOptions, stdin io.Reader, stdout io.Writer) (Report, error) {
	start := time.Now()
	src, err := r.probe(j, opt, stdin)
	if err != nil {
		return Report{}, fmt.Errorf("restore: %w", input(err)) // names the file
	}
	p := picture{w: src.W, h: src.H, held: fileBytes(src.Probe, opt, opt.formatOf(j.Out, src.Format)) + opt.Reserve}
	var second imaging.Probe
	if j.Second != "" {
		if second, err = imaging.ProbeFile(j.Second, opt.Limits); err != nil {
			return Report{}, fmt.Errorf("restore: second picture: %w", err)
		}
		p.held += second.DecodeBytes + 2*second.PixelBytes() // itself and upright, beside the first
	}
	held, err := r.admit(ctx, p, opt.Options)
	if err != nil {
		return Report{}, fmt.Errorf("restore %s: %w", opt.name(j.In), err)
	}
	defer held.Release()
	if j.Second != "" {
		r.host.Collect(second.DecodeBytes)
		if opt.Second, err = imaging.DecodeFile(j.Second, opt.Limits); err != nil {
			return Report{}, fmt.Errorf("restore: second picture: %w", err)
		}
	}
	r.host.Collect(src.DecodeBytes)
	f := src.file
	if f == nil {
		if f, err = openFile(j, opt, nil); err != nil {
			return Report{}, fmt.Errorf("restore: %w", input(err))
		}
	}
	defer f.drop()
	_, end := stage.Start(ctx, "decode", opt.name(j.In))
	img, timing, err := f.pictures.Next()
	end()
	if err != nil {
		return Report{}, fmt.Errorf("restore: %w", input(f.named(err)))
	}
	decoded := time.Since(start)
	// From here on neither the picture nor the file may be kept alive by this
	// function: what comes after has their memory.
	warnings := img.Meta.Warnings
	var rep Report
	if f.count > 1 {
		rep, err = r.several(ctx, j, f, img, timing, opt, held, stdout)
	} else {
		f.drop()
		if img.W != src.W || img.H != src.H { // a page of another size than the first, which the reservation is for
			page := src.Probe
			page.W, page.H, page.Channels, page.Depth = img.W, img.H, img.Channels, img.Depth
			if more := fileBytes(page, opt, opt.formatOf(j.Out, src.Format)) - fileBytes(src.Probe, opt, opt.formatOf(j.Out, src.Format)); more > 0 {
				if !held.TryGrow(more) {
					room, _ := r.host.Room()
					return rep, fmt.Errorf("restore %s: %w", j.In, &ledger.TooLargeError{What: fmt.Sprintf("page %d", opt.Page),
						Memory: r.host.Name(), Need: held.Bytes() + more, Bound: room})
				}
				p.held += more
			}
			p.w, p.h = img.W, img.H
		}
		if img.Meta.Orientation >= 5 {
			p.w, p.h = p.h, p.w
		}
		rep, err = r.decoded(ctx, j, img, p, opt, held, stdout)
		rep.Times.Decode = decoded
	}
	rep.Warnings = append(warnings, rep.Warnings...)
	rep.Notes = append(rep.Notes, f.notes...)
	if err != nil {
		return rep, fmt.Errorf("restore %s: %w", opt.name(j.In), err)
	}
	return rep, nil
}

// source is what is known of an input before it is decoded.
type source struct {
	imaging.Probe
	file *file // of a stream, which cannot be read again
}

// probe reads a file's header.
func (r *Restorer) probe(j Job, opt FileOptions, stdin io.Reader) (*source, error) {
	if j.In != Stream {
		p, err := imaging.ProbeFile(j.In, opt.Limits)
		return &source{Probe: p}, err
	}
	// A stream is all there before its size is known; it must leave room for its
	// pixels.
	if room, ok := r.host.Room(); ok && (opt.Limits.MaxBytes <= 0 || opt.Limits.MaxBytes > room/2) {
		opt.Limits.MaxBytes = max(room/2, 1)
	}
	f, err := openFile(j, opt, stdin)
	if err != nil {
		return nil, err
	}
	return &source{Probe: f.pictures.Probe(), file: f}, nil
}

// file is an input: its pictures, and how many of them are to be restored from the next on.
type file struct {
	name     string
	pictures *imaging.Pictures
	count    int
	notes    []string
}

// drop lets go of the file, once.
func (f *file) drop() {
	if f.pictures != nil {
		_ = f.pictures.Close() // nothing was written
		f.pictures = nil
	}
}

func (f *file) named(err error) error { return fmt.Errorf("%s: %w", f.name, err) }

// openFile reads a file and refuses what cannot be written before work is put into it.
func openFile(j Job, opt FileOptions, stdin io.Reader) (*file, error) {
	f := &file{name: opt.name(j.In), count: 1}
	var err error
	if j.In == Stream {
		f.pictures, err = imaging.OpenReader(stdin, opt.Limits)
		if err != nil {
			err = f.named(err)
		}
	} else {
		f.pictures, err = imaging.OpenFile(j.In, opt.Limits)
	}
	if err != nil {
		return nil, err
	}
	p := f.pictures
	format := opt.formatOf(j.Out, p.Format)
	if err := imaging.CheckSize(format, p.W, p.H); err != nil {
		return nil, f.named(err)
	}
	if opt.Page > p.Count {
		return nil, f.named(fmt.Errorf("page %d was asked for, but there are %d", opt.Page, p.Count))
	}
	if p.Count == 1 {
		return f, nil
	}
	holds := imaging.HoldsSeveral(format, p.Moving)
	switch {
	case opt.Page > 0:
		f.notes = append(f.notes, fmt.Sprintf("picture %d of %d", opt.Page, p.Count))
		if err := p.Skip(opt.Page - 1); err != nil {
			return nil, f.named(err)
		}
	case holds:
		f.count = p.Count
	case opt.Page == AllPages:
		return nil, f.named(fmt.Errorf("%d pictures do not go into one %s file; choose one, or another format", p.Count, format))
	default:
		f.notes = append(f.notes, fmt.Sprintf("picture 1 of %d, since %s holds one; another can be chosen by its page", p.Count, format))
	}
	return f, nil
}

// several restores pages or frames one by one, each compressed as soon as it is done. The first is img.
func (r *Restorer) several(ctx context.Context, j Job, f *file, img *imaging.Image, t imaging.Timing, opt FileOptions, held *ledger.Reservation, stdout io.Writer) (Report, error) {
	if opt.Compare {
		return Report{}, errors.New("a before and after picture of several pictures is not made; choose one by its page")
	}
	enc := opt.Encode
	enc.Format = opt.formatOf(j.Out, f.pictures.Format)
	out := imaging.NewSequence(enc, f.pictures.Loops)
	src := f.pictures.Probe()
	if more := 4*src.FileBytes + src.PixelBytes(); !held.TryGrow(more) {
		room, _ := r.host.Room()
		return Report{}, &ledger.TooLargeError{What: "a file of several pictures", Memory: r.host.Name(), Need: held.Bytes() + more, Bound: room}
	}
	reserved := fileBytes(src, opt, enc.Format)
	var all Report
	for n := range f.count {
		start := time.Now()
		if n > 0 {
			var err error
			if img, t, err = f.pictures.Next(); err != nil {
				return all, err
			}
		}
		decoded := time.Since(start)
		part := opt.Options
		if opt.Progress != nil {
			part.Progress = func(done float64) { opt.Progress((float64(n) + done) / float64(f.count)) }
		}
		p := pictureOf(img, opt.Reserve)
		if more := p.held + src.FileBytes - reserved; more > 0 { // pages may differ
			if !held.TryGrow(more) {
				room, _ := r.host.Room()
				return all, &ledger.TooLargeError{What: fmt.Sprintf("picture %d of %d", n+1, f.count), Memory: r.host.Name(), Need: held.Bytes() + more, Bound: room}
			}
			reserved += more
		}
		restored, rep, err := r.restore(ctx, img, p, part)
		if err != nil {
			return all, fmt.Errorf("picture %d of %d: %w", n+1, f.count, err)
		}
		start = time.Now()
		if err := out.Add(restored, t); err != nil {
			return all, err
		}
		rep.Times.Decode, rep.Times.Encode = decoded, time.Since(start)
		if n == 0 {
			all = rep
			all.Losses = losses(restored, enc.Format)
		} else {
			all.Times.add(rep.Times)
			all.Warnings = append(all.Warnings, img.Meta.Warnings...)
		}
	}
	all.Pictures = f.count
	write := func(w io.Writer) error {
		_, err := out.WriteTo(w)
		return err
	}
	if j.Out == Stream {
		return all, write(stdout)
	}
	if err := os.MkdirAll(filepath.Dir(j.Out), 0o777); err != nil {
		return all, err
	}
	return all, atomicfile.Write(ctx, j.Out, write)
}

// add adds the times of another picture.
func (t *Times) add(o Times) {
	t.Decode += o.Decode
	t.Estimate += o.Estimate
	t.Load += o.Load
	t.Run += o.Run
	t.Encode += o.Encode
}

// RouteFile estimates the degradation of an image file, or of what stdin holds
// for Stream, within the memory bound.
func (r *Restorer) RouteFile(ctx context.Context, path string, opt FileOptions, stdin io.Reader) (router.Decision, error) {
	o := opt.Override
	opt.Format = imaging.PNG // which takes any size
	if err := o.Check(r.model.Config); err != nil {
		return router.Decision{}, err
	}
	src, err := r.probe(Job{In: path}, opt, stdin)
	if err != nil {
		return router.Decision{}, input(err)
	}
	u, err := r.estimatorUse()
	if err != nil {
		return router.Decision{}, err
	}
	p := picture{what: opt.name(path), w: src.W, h: src.H, held: src.DecodeBytes + src.PixelBytes()}
	if err := r.check(p, u); err != nil {
		return router.Decision{}, err
	}
	held, err := r.host.Reserve(ctx, r.need(p, u))
	if err != nil {
		return router.Decision{}, err
	}
	defer held.Release()
	r.host.Collect(src.DecodeBytes)
	f := src.file
	if f == nil {
		if f, err = openFile(Job{In: path}, opt, nil); err != nil {
			return router.Decision{}, input(err)
		}
	}
	defer f.pictures.Close()
	img, _, err := f.pictures.Next()
	if err != nil {
		return router.Decision{}, input(f.named(err))
	}
	return r.asked(ctx, img.Filled(), o)
}

// decoded restores the image of a job and writes the result.
func (r *Restorer) decoded(ctx context.Context, j Job, img *imaging.Image, p picture, opt FileOptions, held *ledger.Reservation, stdout io.Writer) (Report, error) {
	out, rep, err := r.restore(ctx, img, p, opt.Options)
	if err != nil {
		return rep, err
	}
	held.Unclaim()
	if !opt.Compare {
		img = nil
	}
	f := opt.formatOf(j.Out, out.Meta.Format)
	work := imaging.Config{W: out.W, H: out.H, Channels: out.Channels, Depth: out.Depth}.EncodeWork(f)
	r.host.Collect(work)
	rep.Losses = losses(out, f)
	start := time.Now()
	_, end := stage.Start(ctx, "encode", j.Out)
	err = encode(ctx, j.Out, img, out, opt, stdout)
	end()
	rep.Times.Encode = time.Since(start)
	return rep, err
}

// losses names what writing img as f will not keep, beside what f never keeps.
func losses(img *imaging.Image, f imaging.Format) []string {
	always := imaging.Losses(&imaging.Image{Channels: 3, Depth: 8}, f)
	return slices.DeleteFunc(imaging.Losses(img, f), func(s string) bool { return slices.Contains(always, s) })
}

// formatOf is the format that the result at path of a file of some format is written in.
func (o FileOptions) formatOf(path string, in imaging.Format) imaging.Format {
	if o.Format != "" {
		return o.Format
	}
	if path != Stream {
		if f, err := imaging.FormatFromPath(path); err == nil {
			return f
		}
	}
	if in != "" && in != imaging.GIF {
		return in
	}
	return imaging.PNG
}

func encode(ctx context.Context, path string, before, after *imaging.Image, opt FileOptions, stdout io.Writer) error {
	enc := opt.Encode
	enc.Format = opt.formatOf(path, after.Meta.Format)
	if path == Stream {
		return imaging.Encode(stdout, after, enc)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	if err := imaging.EncodeFile(ctx, path, after, enc); err != nil || !opt.Compare {
		return err
	}
	both, err := imaging.Compare(before.Oriented(), after)
	if err != nil {
		return err
	}
	return imaging.EncodeFile(ctx, ComparePath(path), both, imaging.EncodeOptions{Format: imaging.PNG})
}

// ComparePath is where the before and after picture of a result goes.
func ComparePath(out string) string {
	return strings.TrimSuffix(out, filepath.Ext(out)) + ".compare.png"
}
