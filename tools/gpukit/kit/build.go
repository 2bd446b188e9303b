package kit

import (
	"compress/gzip"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"unirestorer/tools/gpukit/measure"
)

// BuildOptions choose what a kit is built from.
type BuildOptions struct {
	// Repository is the root of the sources.
	Repository string
	// Tags are Go's build tags, "cuda" for a kit that finds GPUs.
	Tags string
	// Tests leaves out the test binaries when false.
	Tests bool
	// Most is the largest size of the kit in bytes, 0 for no bound.
	Most int64
	Log  io.Writer
}

// description says what a kit was built from.
type description struct {
	Built   time.Time `json:"built"`
	Go      string    `json:"go"`
	Tags    string    `json:"tags"`
	Commit  string    `json:"commit"`
	Changed bool      `json:"changed,omitempty"` // since that commit
	// Libc is the newest version of the C library's symbols that the programs need, empty if they need none.
	Libc string `json:"libc,omitempty"`
}

// Build makes a kit in a folder; what was there is replaced once everything is built.
func Build(ctx context.Context, folder string, opt BuildOptions) (err error) {
	folder, err = filepath.Abs(folder)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(folder), 0o777); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(folder), ".gpukit-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(fresh)) }()
	if err := os.Chmod(fresh, 0o755); err != nil {
		return err
	}
	l := Layout(fresh)
	if err := compile(ctx, l, opt); err != nil {
		return err
	}
	if err := copyParts(l, opt.Repository); err != nil {
		return err
	}
	d := describe(ctx, opt)
	if d.Libc, err = libc(l); err != nil {
		return err
	}
	if err := measure.WriteJSON(ctx, l.description(), d); err != nil {
		return err
	}
	for _, path := range l.programs() {
		if err := pack(path); err != nil {
			return err
		}
	}
	size, err := sizeOf(fresh)
	if err != nil {
		return err
	}
	fmt.Fprintf(opt.Log, "%.1f MiB", float64(size)/(1<<20))
	if d.Libc != "" {
		fmt.Fprintf(opt.Log, ", for Linux with glibc %s or newer", d.Libc)
	}
	fmt.Fprintln(opt.Log)
	if opt.Most > 0 && size > opt.Most {
		return fmt.Errorf("the kit takes %d bytes, more than %d", size, opt.Most)
	}
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	return os.Rename(fresh, folder)
}

// compile builds the programs and the test binaries.
func compile(ctx context.Context, l Layout, opt BuildOptions) error {
	flags := []string{"-trimpath", "-ldflags=-s -w", "-tags=" + opt.Tags}
	builds := [][]string{
		append(append([]string{"build"}, flags...), "-o", l.gpukit(), "./tools/gpukit"),
		append(append([]string{"build"}, flags...), "-o", l.cli(), "./cmd/unirestorer"),
	}
	if opt.Tests {
		for _, p := range testPackages {
			builds = append(builds, append(append([]string{"test", "-c"}, flags...), "-o", l.test(p), "./"+p))
		}
	}
	for _, args := range builds {
		if err := os.MkdirAll(filepath.Dir(args[len(args)-2]), 0o777); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = opt.Repository
		cmd.Stdout, cmd.Stderr = opt.Log, opt.Log
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("go %s %s: %w", args[0], args[len(args)-1], err)
		}
	}
	return nil
}

// copyParts copies what tests and scripts read.
func copyParts(l Layout, repository string) error {
	for _, p := range []string{
		"testdata/goldens", "runtime/cuda/testdata", "tools/nets", "tools/peers/peer_networks.py", "tools/gpukit/pytorch",
	} {
		if err := copyTree(filepath.Join(l.tree(), p), filepath.Join(repository, p)); err != nil {
			return err
		}
	}
	return copyFile(filepath.Join(string(l), "run.sh"), filepath.Join(repository, "tools", "gpukit", "run.sh"))
}

func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == "__pycache__" {
			return fs.SkipDir
		}
		if d.IsDir() {
			return nil
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return copyFile(filepath.Join(to, rel), path)
	})
}

func copyFile(to, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return err
	}
	return os.WriteFile(to, data, info.Mode().Perm())
}

// pack compresses a program, if it was built; run.sh unpacks it.
func pack(path string) (err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := os.Create(path + ".gz")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := gzip.NewWriter(f)
	if _, err := w.Write(data); err != nil {
		return err
	}
	return errors.Join(w.Close(), os.Remove(path))
}

func describe(ctx context.Context, opt BuildOptions) description {
	d := description{Built: time.Now().UTC().Truncate(time.Second), Go: runtime.Version(), Tags: opt.Tags}
	git := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = opt.Repository
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}
	if commit, err := git("rev-parse", "--short", "HEAD"); err == nil { // sources without git are fine too
		d.Commit = commit
		if changes, err := git("status", "--porcelain"); err == nil {
			d.Changed = changes != ""
		}
	}
	return d
}

// libc is the newest version of glibc's symbols that a program of the kit asks for.
func libc(l Layout) (string, error) {
	newest := ""
	for _, path := range l.programs() {
		f, err := elf.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		symbols, err := f.ImportedSymbols()
		if errors.Is(err, elf.ErrNoSymbols) { // linked statically
			err = nil
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		for _, s := range symbols {
			if v, ok := strings.CutPrefix(s.Version, "GLIBC_"); ok && newer(v, newest) {
				newest = v
			}
		}
	}
	return newest, nil
}

// newer compares versions such as 2.34, number by number.
func newer(a, b string) bool {
	numbers := func(v string) []int {
		var all []int
		for _, part := range strings.Split(v, ".") {
			n, err := strconv.Atoi(part)
			if err != nil {
				return nil // not a number: the oldest
			}
			all = append(all, n)
		}
		return all
	}
	return slices.Compare(numbers(a), numbers(b)) > 0
}

func sizeOf(folder string) (int64, error) {
	var n int64
	err := filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		n += info.Size()
		return err
	})
	return n, err
}
