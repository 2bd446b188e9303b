package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"unirestorer/runtime/imaging"
)

// Stream as an input or output means standard input or output.
const Stream = "-"

// Job is one image to restore.
type Job struct {
	In, Out string
	// Second is the file of the second picture, for networks that take two.
	Second string
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
	// Compare writes a before and after picture beside the result.
	Compare bool
}

// Jobs finds the images that inputs, files and folders or Stream, name, and
// where each result goes. out is a file for a single named image and a folder
// otherwise; folders keep their structure, and files in them that are no images
// by their extension are left out. Nothing is read yet: a named file that is
// missing or damaged fails when its turn comes.
//
// It is an error if a result would replace an input, another result or a
// before and after picture, or if a result's format is not known.
func Jobs(inputs []string, out string, opt FileOptions) ([]Job, error) {
	if len(inputs) == 0 {
		return nil, errors.New("no input given")
	}
	if out == "" {
		return nil, errors.New("no output given")
	}
	var jobs []Job
	intoFolder := len(inputs) > 1 || os.IsPathSeparator(out[len(out)-1]) || isDir(out)
	for _, in := range inputs {
		found, err := jobsOf(in, out, opt.Format, intoFolder)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, found...)
	}
	return jobs, checkJobs(jobs, opt)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func jobsOf(in, out string, format imaging.Format, intoFolder bool) ([]Job, error) {
	switch {
	case in == Stream:
		if intoFolder {
			return nil, errors.New("standard input needs an output file, not a folder")
		}
		return []Job{{In: in, Out: out}}, nil
	case in == "":
		return nil, errors.New("an input without a name")
	case isDir(in):
		if out == Stream {
			return nil, fmt.Errorf("%s is a folder; standard output takes one image", in)
		}
		return folderJobs(in, out, format)
	case intoFolder:
		if out == Stream {
			return nil, errors.New("standard output takes one image")
		}
		if err := checkFolder(out); err != nil {
			return nil, err
		}
		out = filepath.Join(out, withFormat(filepath.Base(in), format))
	}
	return []Job{{In: in, Out: out}}, nil
}

// checkFolder reports something in the place of an output folder.
func checkFolder(out string) error {
	if info, err := os.Stat(out); err == nil && !info.IsDir() {
		return fmt.Errorf("%s is not a folder, which several results need", out)
	}
	return nil
}

func folderJobs(in, out string, format imaging.Format) ([]Job, error) {
	if err := checkFolder(out); err != nil {
		return nil, err
	}
	own, err := os.Stat(out)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	root, err := filepath.EvalSymlinks(in) // WalkDir does not follow a link, not even the first
	if err != nil {
		return nil, err
	}
	var jobs []Job
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			// An output folder inside the input would feed on itself.
			if info, err := d.Info(); err == nil && own != nil && path != root && os.SameFile(own, info) {
				return fs.SkipDir
			}
			return nil
		}
		if _, err := imaging.FormatFromPath(path); err != nil {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		jobs = append(jobs, Job{In: filepath.Join(in, rel), Out: filepath.Join(out, withFormat(rel, format)), FromFolder: true})
		return nil
	})
	return jobs, err
}

// withFormat replaces the extension of path by that of format.
func withFormat(path string, format imaging.Format) string {
	if format == "" {
		return path
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
		clean := filepath.Clean(path)
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
			if _, err := imaging.FormatFromPath(j.Out); err != nil {
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
	if other, ok := taken[filepath.Clean(j.In)]; ok {
		return fmt.Errorf("the result of %s would replace the input %s", other, j.In)
	}
	a, errA := os.Stat(j.In)
	b, errB := os.Stat(j.Out)
	if errA == nil && errB == nil && os.SameFile(a, b) {
		return fmt.Errorf("the result of %s would replace the input %s", j.In, j.In)
	}
	return nil
}

// File restores one image file. stdin and stdout serve jobs that name Stream.
// The result appears under its name only when it is complete.
func (r *Restorer) File(ctx context.Context, j Job, opt FileOptions, stdin io.Reader, stdout io.Writer) (Report, error) {
	start := time.Now()
	img, err := decode(j.In, opt.Limits, stdin)
	if err != nil {
		return Report{}, fmt.Errorf("restore: %w", err) // names the file
	}
	if j.Second != "" {
		if opt.Second, err = imaging.DecodeFile(j.Second, opt.Limits); err != nil {
			return Report{}, fmt.Errorf("restore: second picture: %w", err)
		}
		opt.Reserve += imageBytes(opt.Second)
	}
	decoded := time.Since(start)
	rep, err := r.decoded(ctx, j, img, opt, stdout)
	rep.Times.Decode = decoded
	if err != nil {
		return rep, fmt.Errorf("restore %s: %w", j.In, err)
	}
	return rep, nil
}

// decoded restores the image of a job and writes the result.
func (r *Restorer) decoded(ctx context.Context, j Job, img *imaging.Image, opt FileOptions, stdout io.Writer) (Report, error) {
	if opt.Compare {
		opt.Reserve += 2 * imageBytes(img) / 3
	}
	out, rep, err := r.Restore(ctx, img, opt.Options)
	if err != nil {
		return rep, err
	}
	rep.Losses = losses(out, opt.formatOf(j.Out, out))
	start := time.Now()
	err = encode(ctx, j.Out, img, out, opt, stdout)
	rep.Times.Encode = time.Since(start)
	return rep, err
}

// losses names what writing img as f will not keep, beside what f never keeps.
func losses(img *imaging.Image, f imaging.Format) []string {
	always := imaging.Losses(&imaging.Image{Channels: 3, Depth: 8}, f)
	return slices.DeleteFunc(imaging.Losses(img, f), func(s string) bool { return slices.Contains(always, s) })
}

// formatOf is the format that the result img at path is written in.
func (o FileOptions) formatOf(path string, img *imaging.Image) imaging.Format {
	if o.Format != "" {
		return o.Format
	}
	if path != Stream {
		if f, err := imaging.FormatFromPath(path); err == nil {
			return f
		}
	}
	if f := img.Meta.Format; f != "" {
		return f
	}
	return imaging.PNG
}

func decode(path string, limits imaging.Limits, stdin io.Reader) (*imaging.Image, error) {
	if path != Stream {
		return imaging.DecodeFile(path, limits)
	}
	img, err := imaging.Decode(stdin, limits)
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	return img, nil
}

func encode(ctx context.Context, path string, before, after *imaging.Image, opt FileOptions, stdout io.Writer) error {
	enc := opt.Encode
	enc.Format = opt.formatOf(path, after)
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
