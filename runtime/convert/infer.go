package convert

import "unirestorer/graph/models"

// Hints give the constructor arguments that a checkpoint does not store. The
// zero value stands for the released model.
type Hints = models.Hints

// releasedTrainSize is the side of the patches that the pool's NAFNetLocal were
// trained on.
const releasedTrainSize = 256

// withDefaults says what the released checkpoint leaves out: its NAFNets are
// local ones.
func withDefaults(h Hints) Hints {
	if h.TrainSize == 0 {
		h.TrainSize = releasedTrainSize
	}
	return h
}
