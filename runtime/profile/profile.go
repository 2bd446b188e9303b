package profile

import (
	"slices"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/predict"
)

// Format and Version mark a stored profile.
const (
	Format  = "unirestorer-profile"
	Version = 1
)

// Profile is what was found out about a model on one device. Times are in
// seconds, sizes in bytes.
type Profile struct {
	Format  string       `json:"format"`
	Version int          `json:"version"`
	Model   string       `json:"model"`
	Machine Machine      `json:"machine"`
	Device  backend.Info `json:"device"`
	// Peaks are the limits of the device, nil where nothing is timed.
	Peaks *Peaks `json:"peaks,omitempty"`
	// Predicted is the GPU that predictions are for.
	Predicted *GPU      `json:"predicted_gpu,omitempty"`
	Method    Method    `json:"method"`
	Networks  []Network `json:"networks"`
	Routed    *Routed   `json:"routed,omitempty"`
}

// Method says how times were measured.
type Method struct {
	// Warmup is the number of runs after the first that are not counted.
	Warmup int `json:"warmup_runs"`
	// MinRuns, MaxRuns and MaxSeconds bound the runs of each network.
	MinRuns    int     `json:"min_runs"`
	MaxRuns    int     `json:"max_runs"`
	MaxSeconds float64 `json:"max_seconds"`
	// Precision ends a measurement early: half the width of the median's 95 %
	// confidence interval, relative to the median.
	Precision float64 `json:"precision"`
	// NodeRuns is the number of further runs in which nodes are timed, less where
	// they take more than MaxSeconds.
	NodeRuns int `json:"node_runs"`
}

// Kind says what a network does in the model.
type Kind string

// The kinds of networks.
const (
	Estimator Kind = "estimator"
	Router    Kind = "router"
	Expert    Kind = "expert"
)

// NetworkID says which network of a model, at which size and batch.
type NetworkID struct {
	Kind Kind `json:"kind"`
	// Index is the expert's number, or -1.
	Index        int    `json:"index"`
	Name         string `json:"name"`
	Architecture string `json:"architecture"`
	Width        int    `json:"width"`
	Height       int    `json:"height"`
	Batch        int    `json:"batch"`
}

// Network is one network at one size and batch.
type Network struct {
	NetworkID
	// SameAs is the expert of the same structure that times were measured on; nil
	// if it was this one.
	SameAs *int `json:"same_as,omitempty"`

	Parameters int64 `json:"parameters"`
	Tensors    int   `json:"tensors"`
	// Stored is what the network's tensors take in the model, those shared with
	// other experts included; 0 if they are stored nowhere.
	Stored int64      `json:"stored_bytes"`
	Cost   graph.Cost `json:"cost"`
	// Bytes is every operand of every node, or of every launch on a GPU, once.
	// Operations count a multiply-add as two.
	Bytes      int64 `json:"bytes_moved"`
	Operations int64 `json:"operations"`
	Nodes      int   `json:"nodes"`
	// Launches is the number of kernels of a run; 0 on the host.
	Launches int            `json:"launches,omitempty"`
	Memory   backend.Memory `json:"memory"`

	Measured  *Measured   `json:"measured,omitempty"`
	Predicted *Prediction `json:"predicted,omitempty"`
	Counters  []Counters  `json:"counters,omitempty"`
	// Peak is the part that most of the arena is alive in, and what holds it.
	Peak  *MemoryPeak `json:"memory_peak,omitempty"`
	Parts []Part      `json:"parts,omitempty"`
}

// MemoryPeak is where a run needs most of its arena.
type MemoryPeak struct {
	Part string `json:"part"`
	// Bytes are alive there; the arena is larger where tensors cannot be placed
	// without gaps.
	Bytes int64 `json:"bytes"`
	// Holders are the tensors alive, the largest first, and scratch.
	Holders []graph.Holding `json:"holders"`
}

// Measured are the times, memory and energy of runs.
type Measured struct {
	// Load is the time from the model to a program that can run; First that of
	// the first run, which may finish what loading put off.
	Load  float64 `json:"load_seconds"`
	First float64 `json:"first_run_seconds"`
	// Samples are the times of the counted runs in order.
	Samples []float64 `json:"samples_seconds"`
	Latency Latency   `json:"latency"`
	// Device are the times of further runs between events on a GPU's stream,
	// without copying input and output; nil on the host.
	Device []float64 `json:"device_seconds,omitempty"`
	// NodeRun is the mean time of the runs that parts' times are means over; 0
	// where no nodes were timed.
	NodeRun float64 `json:"node_run_seconds,omitempty"`
	// Contention says what disturbed the times; nil where nothing did.
	Contention *Contention `json:"contention,omitempty"`
	// PeakResident is the most memory the process has had resident while the
	// network was loaded and run; 0 where the system does not tell.
	PeakResident int64 `json:"peak_resident_bytes,omitempty"`
	// Energy is the energy of a run in joules, nil where nothing tells.
	Energy *float64 `json:"joules_per_run,omitempty"`
	// EnergySource says what told, NoEnergy why nothing did.
	EnergySource string `json:"energy_source,omitempty"`
	NoEnergy     string `json:"no_energy,omitempty"`
}

// Part is what runs as one, a node or several: what it costs and how long it
// took.
type Part struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	Stage string `json:"stage"`
	// Cost, Bytes and Operations are as in Network.
	Cost       graph.Cost `json:"cost"`
	Bytes      int64      `json:"bytes_moved"`
	Operations int64      `json:"operations"`
	// Launches are the node's kernels on the device, or on the GPU that times are
	// predicted for.
	Launches []Launch `json:"launches,omitempty"`
	// Nodes are the nodes that run as one, with no times of their own; nil for a
	// single one. Bytes of the part leave out what they hand to each other.
	Nodes []Part `json:"nodes,omitempty"`
	// Start and Seconds are means over the faster half of the timed runs, so that
	// parts add up to a run; 0 without any.
	Start   float64 `json:"start_seconds"`
	Seconds float64 `json:"seconds"`
	// Live is the number of bytes of the arena alive while the part runs.
	Live int64 `json:"live_bytes,omitempty"`
	// Samples are the times of all timed runs, in order; the others are theirs.
	Samples []float64 `json:"samples_seconds,omitempty"`
	Min     float64   `json:"min_seconds,omitempty"`
	P50     float64   `json:"p50_seconds,omitempty"`
	P90     float64   `json:"p90_seconds,omitempty"`
	P99     float64   `json:"p99_seconds,omitempty"`
}

// Launch is a kernel that a node launches.
type Launch struct {
	Kernel     string `json:"kernel"`
	Shape      string `json:"shape"`
	Bytes      int64  `json:"bytes_moved"`
	Operations int64  `json:"operations"`
	// Predicted is the time on the GPU that predictions are for, with the gap before the launch, and Binding what sets it.
	Predicted float64      `json:"predicted_seconds,omitempty"`
	Binding   predict.Term `json:"binding,omitempty"`
}

// Busy is the median time that the device works on a run, in seconds: without
// copies on a GPU, the latency on the host.
func (m *Measured) Busy() float64 {
	if len(m.Device) == 0 {
		return m.Latency.P50
	}
	return quantile(0.5, slices.Sorted(slices.Values(m.Device)))
}

// pixels is the number of pixels of a run, all images together.
func (n *NetworkID) pixels() float64 {
	return float64(n.Width) * float64(n.Height) * float64(n.Batch)
}

// label names the network in tables.
func (n *NetworkID) label() string {
	if n.Kind == Expert {
		return n.Name
	}
	return string(n.Kind)
}
