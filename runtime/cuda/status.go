package cuda

import "unirestorer/runtime/device"

// Driver is what the CUDA driver says of itself and of the GPUs that it shows to this process.
type Driver struct {
	Version int      `json:"version"` // the CUDA it is for, 12040 for 12.4; 0 where none is loaded
	Library string   `json:"library,omitempty"`
	GPUs    []Status `json:"gpus,omitempty"`
	// Simulated tells that there is no driver: the program plays one.
	Simulated bool `json:"simulated,omitempty"`
}

// Status is a GPU, or a slice of one, as the driver describes it.
type Status struct {
	device.Info
	GPU string `json:"gpu"` // the UUID of the whole GPU
	MIG bool   `json:"mig"` // whether this is a slice of it

	ComputeMode int  `json:"compute_mode"` // 0 default, 2 prohibited, 3 exclusive to a process
	ECC         bool `json:"ecc"`
	Integrated  bool `json:"integrated"` // shares the host's memory, as Jetson's do
	Watchdog    bool `json:"watchdog"`   // kernels that run for seconds are ended, as where a display is attached
}
