package pools

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"

	"unirestorer/graph/models"
	"unirestorer/runtime/experts"
	"unirestorer/weights/atomicfile"
)

// SetUtility keeps what each expert gains for each leaf, in dB, in a model folder's configuration; see
// models.RouterConfig. Weights are left as they are.
func SetUtility(ctx context.Context, m *experts.Model, utility [][]float64) error {
	c := *m.Config
	c.Router.Utility = utility
	err := c.Check()
	var data []byte
	if err == nil {
		data, err = json.MarshalIndent(&c, "", "  ")
	}
	if err == nil {
		err = atomicfile.Write(ctx, filepath.Join(m.Path, models.ConfigFile), func(w io.Writer) error {
			_, err := w.Write(append(data, '\n'))
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("keep gains in %s: %w", m.Path, err)
	}
	return nil
}
