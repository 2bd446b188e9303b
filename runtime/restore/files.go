package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"unirestorer/runtime/imaging"
)

// Stream as an input or output means standard input or output.
const Stream = "-"

// Job is one image to restore.
type Job struct {
	In, Out string
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
// by their extension are left out. Nothing is read yet.
func Jobs(inputs []string, out string, format imaging.Format) ([]Job, error) {
	if len(inputs) == 0 {
		return nil, errors.New("no input given")
	}
	if out == "" {
		return nil, errors.New("no output given")
	}
	var jobs []Job
	intoFolder := len(inputs) > 1 || strings.HasSuffix(out, string(filepath.Separator)) || isDir(out)
	for _, in := range inputs {
		found, err := jobsOf(in, out, format, intoFolder)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, found...)
	}
	return jobs, checkJobs(jobs)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func jobsOf(in, out string, format imaging.Format, intoFolder bool) ([]Job, error) {
	if in == Stream {
		if intoFolder {
			return nil, errors.New("standard input needs an output file, not a folder")
		}
		return []Job{{In: in, Out: out}}, nil
	}
	info, err := os.Stat(in)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		if out == Stream {
			return nil, fmt.Errorf("%s is a folder; standard output takes one image", in)
		}
		return folderJobs(in, out, format)
	}
	if intoFolder {
		if out == Stream {
			return nil, errors.New("standard output takes one image")
		}
		out = filepath.Join(out, withFormat(filepath.Base(in), format))
	}
	return []Job{{In: in, Out: out}}, nil
}

func folderJobs(in, out string, format imaging.Format) ([]Job, error) {
	own, err := os.Stat(out)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var jobs []Job
	err = filepath.WalkDir(in, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			// An output folder inside the input would feed on itself.
			if info, err := d.Info(); err == nil && own != nil && path != in && os.SameFile(own, info) {
				return fs.SkipDir
			}
			return nil
		}
		if _, err := imaging.FormatFromPath(path); err != nil {
			return nil
		}
		rel, err := filepath.Rel(in, path)
		if err != nil {
			return err
		}
		jobs = append(jobs, Job{In: path, Out: filepath.Join(out, withFormat(rel, format)), FromFolder: true})
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
func checkJobs(jobs []Job) error {
	from := map[string]string{}
	for _, j := range jobs {
		if j.Out == Stream {
			continue
		}
		out := filepath.Clean(j.Out)
		if other, ok := from[out]; ok {
			return fmt.Errorf("%s and %s would both be written to %s", other, j.In, j.Out)
		}
		from[out] = j.In
		a, errA := os.Stat(j.In)
		b, errB := os.Stat(j.Out)
		if errA == nil && errB == nil && os.SameFile(a, b) {
			return fmt.Errorf("%s: the result would replace the input", j.In)
		}
	}
	return nil
}

// File restores one image file. stdin and stdout serve jobs that name Stream.
// The result appears under its name only when it is complete.
func (r *Restorer) File(ctx context.Context, j Job, opt FileOptions, stdin io.Reader, stdout io.Writer) (Report, error) {
	rep, err := r.file(ctx, j, opt, stdin, stdout)
	if err != nil {
		return rep, fmt.Errorf("restore %s: %w", j.In, err)
	}
	return rep, nil
}

func (r *Restorer) file(ctx context.Context, j Job, opt FileOptions, stdin io.Reader, stdout io.Writer) (Report, error) {
	start := time.Now()
	img, err := decode(j.In, opt.Limits, stdin)
	if err != nil {
		return Report{}, err
	}
	decoded := time.Since(start)
	out, rep, err := r.Restore(ctx, img, opt.Options)
	rep.Times.Decode = decoded
	if err != nil {
		return rep, err
	}
	start = time.Now()
	err = encode(ctx, j.Out, img, out, opt, stdout)
	rep.Times.Encode = time.Since(start)
	return rep, err
}

func decode(path string, limits imaging.Limits, stdin io.Reader) (*imaging.Image, error) {
	if path == Stream {
		return imaging.Decode(stdin, limits)
	}
	return imaging.DecodeFile(path, limits)
}

func encode(ctx context.Context, path string, before, after *imaging.Image, opt FileOptions, stdout io.Writer) error {
	enc := opt.Encode
	enc.Format = opt.Format
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
