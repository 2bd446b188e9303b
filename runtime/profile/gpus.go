package profile

import "unirestorer/runtime/predict"

// GPU is a graphics card that times can be predicted for.
type GPU = predict.Card

// GPUs lists the cards that predictions know.
func GPUs() ([]GPU, error) { return predict.All() }

// FindGPU finds a card by name, or reads the file that describes one.
func FindGPU(name string) (GPU, error) { return predict.Load(name) }

// Prediction is how long a GPU is expected to take for a run, launch by launch; see package predict.
type Prediction struct {
	Launches   int   `json:"launches"`
	Bytes      int64 `json:"bytes_moved"`
	Operations int64 `json:"operations"`
	// Kernels is the sum over launches of the time of the resource that binds; Launch is the time between kernels.
	Kernels float64 `json:"kernel_seconds"`
	Launch  float64 `json:"launch_seconds"`
	// Issue is the sum of the times that issuing the kernels' instructions takes, a floor of Kernels.
	Issue float64 `json:"issue_seconds"`
	// Memory is what the network holds there.
	Arena   int64 `json:"arena_bytes"`
	Weights int64 `json:"weight_bytes"`
}

// Seconds is the predicted time.
func (p *Prediction) Seconds() float64 { return p.Kernels + p.Launch }

// price fills in the predicted times of the launches of parts, and adds them up.
func price(g *GPU, parts []Part, counts [][]predict.Counts) Prediction {
	var p Prediction
	for i := range parts {
		for j := range parts[i].Launches {
			l := &parts[i].Launches[j]
			t := g.Time(counts[i][j])
			l.Predicted, l.Binding = t.Total(), t.Binding
			p.Launches++
			p.Bytes += l.Bytes
			p.Operations += l.Operations
			p.Kernels += t.Kernel
			p.Launch += t.Gap
			p.Issue += t.Terms[predict.Issue]
		}
	}
	return p
}
