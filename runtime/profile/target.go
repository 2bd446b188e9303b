package profile

import (
	"fmt"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/experts"
	"unirestorer/weights"
)

// Target names a network of a model at one size and batch. Size means nothing
// to the estimator, which sees images of its own size, and to the router.
type Target struct {
	Kind          Kind
	Expert        int
	Width, Height int
	Batch         int
}

// String says what is profiled, for messages.
func (t Target) String() string {
	if t.Kind != Expert {
		return fmt.Sprintf("%s, batch %d", t.Kind, t.Batch)
	}
	return fmt.Sprintf("expert %d at %dx%d, batch %d", t.Expert, t.Width, t.Height, t.Batch)
}

// subject is a target with what is known of it before anything is built.
type subject struct {
	Target
	name, architecture string
	specs              []models.Spec // under the names of the model
	build              func(src weights.Source) (*graph.Graph, error)
}

// subject looks a target up.
func (t Target) subject(m *experts.Model, adapters experts.Adapters) (*subject, error) {
	if t.Batch < 1 {
		return nil, fmt.Errorf("batch %d: want at least 1", t.Batch)
	}
	c := m.Config
	s := &subject{Target: t}
	opt := models.Options{Unmerged: adapters == experts.Unmerged, Switchable: adapters == experts.Switched}
	within := func(src weights.Source, prefix string) weights.Source {
		if src == nil {
			return nil
		}
		return weights.Prefix(src, prefix)
	}
	prefix := ""
	switch t.Kind {
	case Estimator:
		encoder, _, err := c.Heads()
		if err != nil {
			return nil, err
		}
		if s.specs, err = encoder.Stored(); err != nil {
			return nil, err
		}
		side := encoder.Vision.ImageSize
		s.Width, s.Height, s.Expert = side, side, -1
		s.name, s.architecture, prefix = string(Estimator), c.Estimator.Architecture, c.Estimator.Prefix
		s.build = func(src weights.Source) (*graph.Graph, error) {
			return encoder.Build(within(src, prefix), t.Batch, opt)
		}
	case Router:
		_, heads, err := c.Heads()
		if err != nil {
			return nil, err
		}
		if s.specs, err = heads.Stored(); err != nil {
			return nil, err
		}
		s.Width, s.Height, s.Expert = 1, 1, -1
		s.name, s.architecture, prefix = string(Router), "router", c.Router.Prefix
		s.build = func(src weights.Source) (*graph.Graph, error) { return heads.Build(within(src, prefix), t.Batch, opt) }
	case Expert:
		net, err := c.Expert(t.Expert)
		if err != nil {
			return nil, err
		}
		if s.specs, err = models.Stored(net); err != nil {
			return nil, err
		}
		if s.Height, s.Width, err = models.Fit(net, t.Height, t.Width); err != nil {
			return nil, err
		}
		e := c.Experts[t.Expert]
		s.name, s.architecture, prefix = e.Name, e.Architecture, e.Prefix
		s.build = func(src weights.Source) (*graph.Graph, error) {
			return c.BuildExpert(src, t.Expert, t.Batch, s.Height, s.Width, opt)
		}
	default:
		return nil, fmt.Errorf("unknown kind of network %q", t.Kind)
	}
	for i := range s.specs {
		s.specs[i].Name = prefix + s.specs[i].Name
	}
	return s, nil
}

// stored is what the subject's tensors take in a model folder, equal ones
// counted once; 0 for models that are not stored.
func (s *subject) stored(src weights.Source) (int64, error) {
	folder, ok := src.(*weights.Folder)
	if !ok {
		return 0, nil
	}
	var total int64
	seen := map[weights.StorageKey]bool{}
	for _, spec := range models.Used(s.specs) { // conversion leaves the others out
		t, err := folder.Tensor(spec.Name)
		if err != nil {
			return 0, err
		}
		if key := t.StorageKey(); !seen[key] {
			seen[key] = true
			total += t.NumBytes()
		}
	}
	return total, nil
}
