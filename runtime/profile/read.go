package profile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// maxBytes bounds a stored profile.
const maxBytes = 1 << 30

// Write writes the profile as JSON, for Read.
func (p *Profile) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(p)
}

// ReadFile reads a stored profile.
func ReadFile(path string) (*Profile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	p, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return p, nil
}

// Read reads a profile that Write wrote, also one of a later program with
// further fields. Latencies are computed from the samples again.
func Read(r io.Reader) (*Profile, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxBytes {
		return nil, fmt.Errorf("more than %d bytes", maxBytes)
	}
	var p Profile
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("not a profile: %w", err)
	}
	if p.Format != Format {
		return nil, fmt.Errorf("not a profile: format is %q, want %q", p.Format, Format)
	}
	if p.Version != Version {
		return nil, fmt.Errorf("profile version %d is not supported, want %d", p.Version, Version)
	}
	if len(p.Networks) == 0 {
		return nil, errors.New("no networks in it")
	}
	for i := range p.Networks {
		if err := p.Networks[i].check(); err != nil {
			return nil, fmt.Errorf("network %d: %w", i, err)
		}
	}
	return &p, nil
}

// check reports figures that nothing measures.
func (n *Network) check() error {
	switch n.Kind {
	case Estimator, Router, Expert:
	default:
		return fmt.Errorf("unknown kind %q", n.Kind)
	}
	if n.Width < 1 || n.Height < 1 || n.Batch < 1 {
		return fmt.Errorf("%d images of %dx%d pixels", n.Batch, n.Width, n.Height)
	}
	for _, v := range []int64{
		n.Parameters, int64(n.Tensors), n.Stored, n.Cost.MACs, n.Cost.AttentionMACs, n.Cost.Executed, n.Bytes,
		n.Operations, int64(n.Nodes), int64(n.Launches), n.Memory.Arena, n.Memory.Weights,
	} {
		if v < 0 {
			return fmt.Errorf("a count of %d", v)
		}
	}
	m := n.Measured
	if m == nil {
		return nil
	}
	for _, v := range append([]float64{m.Load, m.First}, m.Device...) {
		if !(v >= 0) || math.IsInf(v, 0) {
			return fmt.Errorf("a time of %g seconds", v)
		}
	}
	var err error
	m.Latency, err = Summarise(m.Samples)
	return err
}
