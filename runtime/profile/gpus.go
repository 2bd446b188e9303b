package profile

import (
	"fmt"
	"slices"
	"strings"

	"unirestorer/runtime/device"
)

// GPU is a graphics card that times can be predicted for.
type GPU struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Peaks Peaks  `json:"peaks"`
	// Launch is what a kernel adds to the one before it, however little it does.
	Launch float64 `json:"launch_seconds"`
	// SMs and Arch are what launch shapes depend on, 90 for compute capability
	// 9.0.
	SMs  int `json:"sms"`
	Arch int `json:"arch"`
}

// launchSeconds is assumed for every card: kernels that depend on each other and
// have next to nothing to do follow each other within 1 to 2 µs when a captured
// graph is replayed.
const launchSeconds = 1.5e-6

const (
	measured  = "measured: large copies, large products of matrices in fp16 with sums in fp32"
	published = "the vendor's published specification, dense fp16 with sums in fp32"
)

// GPUs lists the cards that predictions know.
func GPUs() []GPU {
	vendor := func(name, title string, tflops, gbs float64, sms, arch int) GPU {
		return GPU{name, title, Peaks{tflops * 1e12, gbs * 1e9, published}, launchSeconds, sms, arch}
	}
	return []GPU{
		{"h200", "NVIDIA H200 SXM 141 GB", Peaks{790e12, 4.3e12, measured}, launchSeconds, 132, 90},
		vendor("h100", "NVIDIA H100 SXM 80 GB", 989.4, 3350, 132, 90),
		vendor("h100-pcie", "NVIDIA H100 PCIe 80 GB", 756, 2000, 114, 90),
		vendor("a100", "NVIDIA A100 SXM 80 GB", 312, 2039, 108, 80),
		vendor("a10", "NVIDIA A10 24 GB", 125, 600, 72, 86),
		vendor("l4", "NVIDIA L4 24 GB", 121, 300, 58, 89),
		vendor("l40s", "NVIDIA L40S 48 GB", 362, 864, 142, 89),
		vendor("rtx3090", "NVIDIA GeForce RTX 3090", 71, 936, 82, 86),
		vendor("rtx4090", "NVIDIA GeForce RTX 4090", 165.2, 1008, 128, 89),
	}
}

// FindGPU finds a card by name.
func FindGPU(name string) (GPU, error) {
	all := GPUs()
	i := slices.IndexFunc(all, func(g GPU) bool { return strings.EqualFold(g.Name, name) })
	if i < 0 {
		var names []string
		for _, g := range all {
			names = append(names, g.Name)
		}
		return GPU{}, fmt.Errorf("unknown GPU %q (known: %s)", name, strings.Join(names, ", "))
	}
	return all[i], nil
}

// limits are the card's as lowering asks for them.
func (g GPU) limits() device.Info {
	return device.Info{Name: g.Title, Major: g.Arch / 10, Minor: g.Arch % 10, SMs: g.SMs}
}

// Prediction is the least time a GPU can take for a run, launch by launch. It
// is a floor: kernels that reach neither the memory's nor the tensor cores'
// full speed take longer.
type Prediction struct {
	Launches   int   `json:"launches"`
	Bytes      int64 `json:"bytes_moved"`
	Operations int64 `json:"operations"`
	// Kernels is the sum over launches of the longer of the time for the bytes
	// and the time for the operations; Launch is the time between kernels.
	Kernels float64 `json:"kernel_seconds"`
	Launch  float64 `json:"launch_seconds"`
	// Memory is what the network holds there.
	Arena   int64 `json:"arena_bytes"`
	Weights int64 `json:"weight_bytes"`
}

// Floor is the predicted time in seconds.
func (p *Prediction) Floor() float64 { return p.Kernels + p.Launch }

// Predict adds up launches.
func (g GPU) Predict(launches []Launch) Prediction {
	p := Prediction{Launches: len(launches), Launch: float64(len(launches)) * g.Launch}
	for _, l := range launches {
		p.Bytes += l.Bytes
		p.Operations += l.Operations
		p.Kernels += g.Peaks.Floor(l.Operations, l.Bytes)
	}
	return p
}
