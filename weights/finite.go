package weights

import "fmt"

// CheckFinite reads all values and is an error if one of them is infinite or not a number: such a tensor came of training that
// failed, or of damage.
func (t *Tensor) CheckFinite() error {
	values := make([]float32, min(t.NumElements(), chunkBytes/4))
	for first := 0; first < t.NumElements(); first += len(values) {
		part := values[:min(len(values), t.NumElements()-first)]
		if err := t.ReadFloat32At(part, first); err != nil {
			return err
		}
		for i, v := range part {
			if v-v != 0 {
				return fmt.Errorf("tensor %q: value %d of %d is %g", t.Name, first+i, t.NumElements(), v)
			}
		}
	}
	return nil
}
