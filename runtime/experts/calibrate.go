package experts

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"unirestorer/graph/models"
	"unirestorer/runtime/ranges"
	"unirestorer/weights"
	"unirestorer/weights/atomicfile"
)

// Calibrate measures the ranges of all networks of a model folder and keeps them in its ranges.json. done, unless nil, is
// told before each network what comes and how many there are.
func Calibrate(ctx context.Context, path string, done func(name string, i, count int)) error {
	f, err := weights.OpenFolder(path)
	if err != nil {
		return err
	}
	digest := f.Digest()
	m, err := newModel(path, f)
	if err != nil {
		return err
	}
	defer m.Close() // only read
	c := m.Config
	c.Ranges = &models.RangeTable{}
	tell := func(name string, i int) {
		if done != nil {
			done(name, i, len(c.Experts)+1)
		}
	}
	tell("the estimator", 0)
	if err := ranges.Estimator(ctx, c, m.Source); err != nil {
		return fmt.Errorf("calibrate %s: %w", path, err)
	}
	for i := range c.Experts {
		tell(c.RangeKey(i), i+1)
		if err := ranges.Expert(ctx, c, m.Source, i, models.Options{}); err != nil {
			return fmt.Errorf("calibrate %s: %w", path, err)
		}
	}
	data, err := c.Ranges.Encode(digest)
	if err != nil {
		return fmt.Errorf("calibrate %s: %w", path, err)
	}
	return atomicfile.Write(ctx, filepath.Join(path, models.RangesFile), func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}
