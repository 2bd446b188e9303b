package experts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"unirestorer/graph/models"
	"unirestorer/weights"
)

// Link describes a file for a model folder to refer to.
func Link(ctx context.Context, path string) (*models.LinkedFile, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(abs)
	if err != nil {
		return nil, err
	}
	digest, err := FileDigest(ctx, abs)
	if err != nil {
		return nil, err
	}
	return &models.LinkedFile{Path: abs, Bytes: info.Size(), Modified: info.ModTime().UnixNano(), SHA256: digest}, nil
}

// FileDigest is the SHA-256 of a file in hexadecimal.
func FileDigest(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// linked is a model folder with the tensors of files that it refers to.
type linked struct {
	weights.Source // the folder's own
	files          []linkedFile
	closers        []io.Closer
}

type linkedFile struct {
	prefix string // in the model
	inner  string // in the file
	file   weights.File
}

// openLinks opens the files that experts of c refer to beside the folder's own
// tensors.
func openLinks(folder string, own weights.File, c *models.Config) (_ weights.Source, _ io.Closer, err error) {
	l := &linked{Source: own, closers: []io.Closer{own}}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	for i, e := range c.Experts {
		if e.File == nil {
			continue
		}
		f, err := openLink(folder, e.File)
		if err != nil {
			return nil, nil, fmt.Errorf("expert %d (%s): %w", i, e.Name, err)
		}
		l.closers = append(l.closers, f)
		l.files = append(l.files, linkedFile{prefix: e.Prefix, inner: e.File.Prefix, file: f})
	}
	if len(l.files) == 0 {
		return own, own, nil
	}
	return l, l, nil
}

func openLink(folder string, f *models.LinkedFile) (weights.File, error) {
	path := f.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(folder, path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("linked file: %w", err)
	}
	if info.Size() != f.Bytes || info.ModTime().UnixNano() != f.Modified {
		digest, err := FileDigest(context.Background(), path)
		if err != nil {
			return nil, fmt.Errorf("linked file: %w", err)
		}
		if !strings.EqualFold(digest, f.SHA256) {
			return nil, fmt.Errorf("linked file %s has changed: its SHA-256 is %s, not %s; add it to the pool anew", path, digest, f.SHA256)
		}
	}
	return weights.OpenRoots(path, []string{f.Root})
}

// Names implements weights.Source.
func (l *linked) Names() []string {
	names := l.Source.Names()
	for _, f := range l.files {
		for _, name := range f.file.Names() {
			if rest, ok := strings.CutPrefix(name, f.inner); ok {
				names = append(names, f.prefix+rest)
			}
		}
	}
	slices.Sort(names)
	return names
}

// Tensor implements weights.Source.
func (l *linked) Tensor(name string) (*weights.Tensor, error) {
	for _, f := range l.files {
		if rest, ok := strings.CutPrefix(name, f.prefix); ok {
			t, err := f.file.Tensor(f.inner + rest)
			if err != nil {
				return nil, err
			}
			return t.WithName(name), nil
		}
	}
	return l.Source.Tensor(name)
}

// Close closes the folder and all files.
func (l *linked) Close() error {
	var errs []error
	for _, c := range l.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
