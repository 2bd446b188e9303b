package weights

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/xrash/smetrics"
)

// Source gives tensors by name.
type Source interface {
	// Names lists the tensors in the source's own order. The caller may keep and change the slice.
	Names() []string
	// Tensor returns a tensor without reading its values. A name that the source does not have is a *MissingError.
	Tensor(name string) (*Tensor, error)
}

// MissingError says that a source has no tensor of a name. It is fs.ErrNotExist.
type MissingError struct {
	Name string // as it would be in the file
	File string // where it was looked for; empty for tensors in memory

	names func() []string
}

func (e *MissingError) Error() string {
	msg := fmt.Sprintf("no tensor %q", e.Name)
	if e.File != "" {
		msg = e.File + ": " + msg
	}
	if near := e.near(); len(near) > 0 {
		msg += fmt.Sprintf("; near it: %q", near)
	}
	return msg
}

// Unwrap returns fs.ErrNotExist.
func (e *MissingError) Unwrap() error { return fs.ErrNotExist }

// near returns up to three names of the source that are much like the missing one, the nearest first. They are looked
// for only when asked, so that probing for optional tensors costs nothing.
func (e *MissingError) near() []string {
	if e.names == nil {
		return nil
	}
	return NearestNames(e.Name, e.names())
}

// NearestNames returns up to three of names that are much like wanted, the nearest first.
func NearestNames(wanted string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	limit := max(2, len(wanted)/4)
	var found []candidate
	for _, name := range names {
		if len(name)-len(wanted) > limit || len(wanted)-len(name) > limit {
			continue
		}
		if d := smetrics.WagnerFischer(wanted, name, 1, 1, 1); d <= limit {
			found = append(found, candidate{name, d})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return a.distance - b.distance })
	var near []string
	for _, c := range found[:min(3, len(found))] {
		near = append(near, c.name)
	}
	return near
}

// table is a Source over a fixed list of tensors.
type table struct {
	file   string
	names  []string
	byName map[string]*Tensor
}

func newTable(file string, size int) *table {
	return &table{file: file, names: make([]string, 0, size), byName: make(map[string]*Tensor, size)}
}

// add refuses a second tensor of the same name.
func (t *table) add(x *Tensor) error {
	if _, again := t.byName[x.Name]; again {
		return fmt.Errorf("two tensors are named %q", x.Name)
	}
	t.names = append(t.names, x.Name)
	t.byName[x.Name] = x
	return nil
}

// Names lists the tensors in the order of the file.
func (t *table) Names() []string { return slices.Clone(t.names) }

// Tensor returns the tensor called name, or a *MissingError.
func (t *table) Tensor(name string) (*Tensor, error) {
	if x, ok := t.byName[name]; ok {
		return x, nil
	}
	return nil, &MissingError{Name: name, File: t.file, names: t.Names}
}

// Prefix shows the tensors of src whose names start with prefix, without it. Tensors keep their full names, and so do
// errors.
func Prefix(src Source, prefix string) Source {
	if prefix == "" {
		return src
	}
	return &prefixed{src, prefix}
}

type prefixed struct {
	src    Source
	prefix string
}

func (p *prefixed) Names() []string {
	var names []string
	for _, name := range p.src.Names() {
		if rest, ok := strings.CutPrefix(name, p.prefix); ok {
			names = append(names, rest)
		}
	}
	return names
}

func (p *prefixed) Tensor(name string) (*Tensor, error) { return p.src.Tensor(p.prefix + name) }
