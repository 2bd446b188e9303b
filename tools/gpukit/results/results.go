// Package results holds what the GPU kit finds out on a machine: one JSON file, and tables made of it.
package results

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"gonum.org/v1/gonum/stat"
)

// Status says how a stage ended.
type Status string

// Statuses.
const (
	OK          Status = "ok"
	Failed      Status = "failed"
	TimedOut    Status = "timed out"
	Unavailable Status = "not available"
)

// Stage is a step of the kit's run, a process with a time limit.
type Stage struct {
	Name    string  `json:"name"`
	Status  Status  `json:"status"`
	Reason  string  `json:"reason,omitempty"` // for everything but ok
	Seconds float64 `json:"seconds"`
	LimitS  float64 `json:"limit_s"`
	// Log is the end of what it printed.
	Log string `json:"log,omitempty"`
}

// Machine is what was measured on.
type Machine struct {
	GPU    string `json:"gpu"` // name, memory, clocks and driver as nvidia-smi prints them, or why there is none
	NVCC   string `json:"nvcc"`
	Torch  string `json:"torch"`
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	System string `json:"system"`
	Libc   string `json:"libc"`
}

// Timing summarises repeated measurements in milliseconds.
type Timing struct {
	Median float64 `json:"median_ms"`
	Least  float64 `json:"least_ms"`
	P90    float64 `json:"p90_ms"`
	Runs   int     `json:"runs"`
}

// TimingOf summarises times; of none it is the zero Timing.
func TimingOf(times []time.Duration) Timing {
	if len(times) == 0 {
		return Timing{}
	}
	ms := make([]float64, len(times))
	for i, t := range times {
		ms[i] = float64(t) / float64(time.Millisecond)
	}
	slices.Sort(ms)
	return Timing{stat.Quantile(0.5, stat.Empirical, ms, nil), ms[0], stat.Quantile(0.9, stat.Empirical, ms, nil), len(ms)}
}

// Kernel is a kind of launch with its time.
type Kernel struct {
	Network    string `json:"network"`
	Kernel     string `json:"kernel"`
	Grid       string `json:"grid"`
	Block      uint64 `json:"block"`
	Count      int    `json:"launches"` // in a run of the network
	Bytes      int64  `json:"bytes"`
	Operations int64  `json:"operations"`
	// PredictedUS is the time predicted for it, the gap in front left out, and Binding what sets that.
	PredictedUS float64 `json:"predicted_us"`
	Binding     string  `json:"binding"`
	// WarmUS is the time of a launch among equal ones in a captured graph, the step from one to the next included; ColdUS
	// that of one alone after L2 was filled with other data, two events included.
	WarmUS float64 `json:"warm_us"`
	ColdUS float64 `json:"cold_us"`
}

// Kernels are the times of all kinds of launches.
type Kernels struct {
	Device string `json:"device"`
	// LaunchUS is a launch that does next to nothing, among equal ones in a captured graph; EventUS the distance of two
	// events with nothing between them.
	LaunchUS float64  `json:"launch_us"`
	EventUS  float64  `json:"event_us"`
	Rows     []Kernel `json:"rows"`
}

// Run is a network at a size on a runtime.
type Run struct {
	Network string `json:"network"`
	// Runtime is one of ours, "graph" and "launches", or PyTorch's "eager", "eager, graph", "compile" and "compile, graph".
	Runtime string `json:"runtime"`
	Batch   int    `json:"batch"`
	Height  int    `json:"height"`
	Width   int    `json:"width"`
	// Device is the time between two events around a run, with inputs and outputs on the device. Wall is that of a whole
	// run from host memory to host memory.
	Device Timing `json:"device"`
	Wall   Timing `json:"wall"`
	// LoadS is the time until the network could run, FirstMS the first run, compilation included where it happens there.
	LoadS   float64 `json:"load_s"`
	FirstMS float64 `json:"first_ms"`
	// Bytes is what the network holds on the device at its peak, weights included.
	Bytes int64 `json:"bytes"`
	// PredictedMS is the time predicted for our kernels.
	PredictedMS float64 `json:"predicted_ms,omitempty"`
	// PSNR and MaxAbs compare the result with PyTorch's in fp32, for values up to 1; "inf" for equal ones. Empty: not compared.
	PSNR   string `json:"psnr_db,omitempty"`
	MaxAbs string `json:"max_abs,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Start is a cold start: a new process to its first result.
type Start struct {
	What string `json:"what"`
	Wall Timing `json:"wall"`
	// Error says why it was not measured.
	Error string `json:"error,omitempty"`
}

// Report is everything.
type Report struct {
	Kit     json.RawMessage `json:"kit,omitempty"` // what the kit was built from
	Date    time.Time       `json:"date"`
	Quick   bool            `json:"quick"` // small networks, few repetitions: not for quoting
	Machine Machine         `json:"machine"`
	Stages  []Stage         `json:"stages"`
	Verify  json.RawMessage `json:"verify,omitempty"` // as unirestorer verify --json prints it
	Kernels *Kernels        `json:"kernels,omitempty"`
	Ours    []Run           `json:"experts,omitempty"`
	Peers   []Run           `json:"peers,omitempty"`
	Starts  []Start         `json:"starts,omitempty"`
}

// Read reads a report.
func Read(path string) (*Report, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &Report{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

// Merge takes over the stages of a later report and what they found.
func (r *Report) Merge(later *Report) error {
	if r.Quick != later.Quick {
		return fmt.Errorf("one report is of a quick run, the other is not")
	}
	if r.Machine.GPU != "" && later.Machine.GPU != "" && gpuName(r.Machine.GPU) != gpuName(later.Machine.GPU) {
		return fmt.Errorf("the reports are of different GPUs, %s and %s", gpuName(r.Machine.GPU), gpuName(later.Machine.GPU))
	}
	for _, s := range later.Stages {
		if i := slices.IndexFunc(r.Stages, func(o Stage) bool { return o.Name == s.Name }); i >= 0 {
			r.Stages[i] = s
		} else {
			r.Stages = append(r.Stages, s)
		}
	}
	if later.Machine.GPU != "" {
		r.Machine, r.Date = later.Machine, later.Date
	}
	if later.Kit != nil {
		r.Kit = later.Kit
	}
	if later.Verify != nil {
		r.Verify = later.Verify
	}
	if later.Kernels != nil {
		r.Kernels = later.Kernels
	}
	r.Ours, r.Peers = mergeRuns(r.Ours, later.Ours), mergeRuns(r.Peers, later.Peers)
	if later.Starts != nil {
		r.Starts = later.Starts
	}
	return nil
}

// gpuName is the first field of nvidia-smi's line.
func gpuName(line string) string {
	for i, c := range line {
		if c == ',' {
			return line[:i]
		}
	}
	return line
}

// Same reports whether two runs are of the same network, runtime and size.
func (r Run) Same(o Run) bool {
	return r.Network == o.Network && r.Runtime == o.Runtime && r.Batch == o.Batch && r.Height == o.Height && r.Width == o.Width
}

func mergeRuns(old, later []Run) []Run {
	for _, r := range later {
		i := slices.IndexFunc(old, r.Same)
		switch {
		case i < 0:
			old = append(old, r)
		case r.Device.Runs == 0 && r.PSNR != "": // a comparison alone
			old[i].PSNR, old[i].MaxAbs = r.PSNR, r.MaxAbs
		default:
			old[i] = r
		}
	}
	return old
}
