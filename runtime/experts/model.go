// Package experts holds a model's experts: which of them are compiled and
// resident, under a byte budget.
//
// The pool counts bytes the way backends hold them, parts with equal keys once,
// reserves them before they are taken, and evicts the least recently used
// experts that are idle. With switched adapters, LoRA experts of one base at
// one size share a program; the adapter least recently used, and not in use, is
// the one that goes.
package experts

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"unirestorer/graph/models"
	"unirestorer/weights"
)

// Model is an opened model folder.
type Model struct {
	Config *models.Config
	Source weights.Source
	// Path is where the model was opened, for messages.
	Path string

	closer io.Closer
}

// NewModel is a model whose tensors come from elsewhere than a model folder. Close
// closes closer, which may be nil.
func NewModel(path string, c *models.Config, src weights.Source, closer io.Closer) (*Model, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("model %s: %w", path, err)
	}
	if c.Ranges == nil {
		c.Ranges = &models.RangeTable{}
	}
	return &Model{Config: c, Source: src, Path: path, closer: closer}, nil
}

// OpenModel opens a model folder. Weights are mapped, not read.
func OpenModel(path string) (*Model, error) {
	f, err := weights.OpenFolder(path)
	if err != nil {
		return nil, err
	}
	return newModel(path, f)
}

// OpenModelFS opens a model folder inside a file system, such as one embedded
// in the program.
func OpenModelFS(name string, files fs.FS) (*Model, error) {
	f, err := weights.OpenFolderFS(name, files)
	if err != nil {
		return nil, err
	}
	return newModel(name, f)
}

func newModel(path string, f *weights.Folder) (*Model, error) {
	c, err := models.ParseConfig(f.Config())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open model %s: %w", path, err), f.Close())
	}
	if data := f.Ranges(); data != nil {
		if c.Ranges, err = models.DecodeRanges(data, f.Digest()); err != nil {
			return nil, errors.Join(fmt.Errorf("open model %s: %w", path, err), f.Close())
		}
	}
	src, closer, err := openLinks(path, f, c)
	if err != nil {
		return nil, fmt.Errorf("open model %s: %w", path, err)
	}
	return &Model{Config: c, Source: src, Path: path, closer: closer}, nil
}

// Close unmaps the weights. Programs compiled from the model keep their own
// copies.
func (m *Model) Close() error {
	if m.closer == nil {
		return nil
	}
	return m.closer.Close()
}

// CheckFinite reads all values of an expert's weights and names one that is infinite or not a number.
func (m *Model) CheckFinite(expert int) error {
	specs, err := m.Config.ExpertStored(expert)
	if err != nil {
		return err
	}
	for _, s := range models.Used(specs) {
		t, err := m.Source.Tensor(s.Name)
		if err == nil {
			err = t.CheckFinite()
		}
		if err != nil {
			return fmt.Errorf("weights of expert %d: %w", expert, err)
		}
	}
	return nil
}

// WeightBytes is what the weights of these experts take in the model, what several share counted once; the base of an
// adapter counts with it.
func (m *Model) WeightBytes(experts []int) (int64, error) {
	total, seen := int64(0), map[weights.StorageKey]bool{}
	add := func(i int) error {
		specs, err := m.Config.ExpertStored(i)
		if err != nil {
			return err
		}
		for _, s := range models.Used(specs) {
			t, err := m.Source.Tensor(s.Name)
			if err != nil {
				return err
			}
			if key := t.StorageKey(); !seen[key] {
				seen[key] = true
				total += t.NumBytes()
			}
		}
		return nil
	}
	for _, i := range experts {
		if err := add(i); err != nil {
			return 0, fmt.Errorf("expert %d: %w", i, err)
		}
		if e := m.Config.Experts[i]; e.Adapter != nil && e.Base != nil {
			if err := add(*e.Base); err != nil {
				return 0, fmt.Errorf("expert %d: %w", *e.Base, err)
			}
		}
	}
	return total, nil
}
