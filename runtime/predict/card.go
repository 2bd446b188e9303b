// Package predict says how long kernels take on a GPU that need not be at hand. The PTX simulator counts what a launch
// does; a [Card] has the rates; the slowest resource, or the latency of the blocks' dependent steps, gives the time and
// is named.
package predict

import (
	"fmt"
	"slices"
	"strings"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// Card holds the rates of a graphics card. Rates per cycle are those of one multiprocessor.
type Card struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// SMs and Arch are what launch shapes depend on, 90 for compute capability 9.0.
	SMs  int `json:"sms"`
	Arch int `json:"arch"`
	// Clock is the frequency under load in Hz.
	Clock float64 `json:"clock"`
	// Tensor are multiply-adds a cycle of mma.sync with fp16 operands and fp32 sums. FP32, Integer, Half (pairs),
	// Convert and Special are lanes a cycle.
	Tensor  float64 `json:"tensor"`
	FP32    float64 `json:"fp32"`
	Integer float64 `json:"integer"`
	Half    float64 `json:"half"`
	Convert float64 `json:"convert"`
	Special float64 `json:"special"`
	// L2 and HBM are bytes a second between L2 and the multiprocessors and to device memory; L2Size are bytes.
	L2     float64 `json:"l2"`
	HBM    float64 `json:"hbm"`
	L2Size float64 `json:"l2_size"`
	// Gap is the time between the end of a kernel and the start of the one that waits for it in a replayed graph;
	// EarlyGap that between kernels that start early (programmatic dependent launch). In seconds.
	Gap      float64 `json:"gap"`
	EarlyGap float64 `json:"early_gap"`
	// Latencies are in cycles.
	Latencies ptxsim.Latencies `json:"latencies"`
	// Source says where the figures come from.
	Source string `json:"source"`
}

const (
	measured = "copies and matrix products measured on this card, the rest published microbenchmarks of its architecture"
	assumed  = "the vendor's specification and programming guide, published microbenchmarks of its architecture"
)

// gap and earlyGap are what replayed graphs of small kernels show on recent cards: about 1.3 µs between kernels that
// depend on each other, about 0.45 µs with programmatic dependent launch.
const gap, earlyGap = 1.3e-6, 0.45e-6

// Cards lists the cards that predictions know.
func Cards() []Card {
	// The throughput of each instruction by compute capability is that of the CUDA programming guide. mma.sync reaches
	// all of the tensor cores' rate up to Ada and on consumer cards, and about 63 % of wgmma's on Hopper and half on Blackwell's
	// tcgen05; consumer cards halve the rate for sums in fp32.
	base := func(arch int) Card {
		c := Card{
			Arch: arch, FP32: 128, Integer: 64, Half: 64, Convert: 64, Special: 16, Gap: gap, EarlyGap: gap,
			Latencies: ptxsim.DefaultLatencies(), Source: assumed,
		}
		switch arch {
		case 80:
			c.FP32, c.Half, c.Tensor, c.Latencies.TensorInterval = 64, 128, 1024, 8
		case 86, 89, 120:
			c.Tensor, c.Latencies.TensorInterval = 256, 32
		case 90:
			c.Half, c.Tensor, c.EarlyGap = 128, 1290, earlyGap
			c.Latencies.TensorInterval = 6.4
		case 100:
			c.Half, c.Tensor, c.EarlyGap = 128, 1290, earlyGap
			c.Latencies.TensorInterval = 6.4
		}
		if arch == 120 {
			c.EarlyGap = earlyGap
		}
		return c
	}
	card := func(name, title string, arch, sms int, ghz, l2TBs, hbmGBs, l2MB float64) Card {
		c := base(arch)
		c.Name, c.Title, c.SMs, c.Clock, c.L2, c.HBM, c.L2Size = name, title, sms, ghz*1e9, l2TBs*1e12, hbmGBs*1e9, l2MB*1e6
		return c
	}
	h200 := card("h200", "NVIDIA H200 SXM 141 GB", 90, 132, 1.75, 5.5, 4300, 50)
	h200.Source = measured
	pro := card("a10", "NVIDIA A10 24 GB", 86, 72, 1.5, 1.8, 540, 6) // full-rate sums in fp32
	pro.Tensor, pro.Latencies.TensorInterval = 512, 16
	l4 := card("l4", "NVIDIA L4 24 GB", 89, 58, 1.5, 1.6, 270, 48)
	l4.Tensor, l4.Latencies.TensorInterval = 512, 16
	l40s := card("l40s", "NVIDIA L40S 48 GB", 89, 142, 2.2, 4.2, 780, 96)
	l40s.Tensor, l40s.Latencies.TensorInterval = 512, 16
	return []Card{
		h200,
		card("h100", "NVIDIA H100 SXM 80 GB", 90, 132, 1.75, 5.5, 3000, 50),
		card("h100-pcie", "NVIDIA H100 PCIe 80 GB", 90, 114, 1.5, 4.1, 1800, 50),
		card("a100", "NVIDIA A100 SXM 80 GB", 80, 108, 1.38, 4.4, 1800, 40),
		pro, l4, l40s,
		card("rtx3090", "NVIDIA GeForce RTX 3090", 86, 82, 1.8, 2.4, 860, 6),
		card("rtx4090", "NVIDIA GeForce RTX 4090", 89, 128, 2.6, 5.0, 920, 72),
		card("b200", "NVIDIA B200 180 GB", 100, 148, 1.8, 7.0, 7000, 126),
		card("rtx5090", "NVIDIA GeForce RTX 5090", 120, 170, 2.5, 6.0, 1600, 96),
	}
}

// Find finds a card by name.
func Find(name string) (Card, error) { return find(Cards(), name, "") }

// find finds one of these cards by name. otherwise says, in the error, what else a name could be.
func find(all []Card, name, otherwise string) (Card, error) {
	i := slices.IndexFunc(all, func(c Card) bool { return strings.EqualFold(c.Name, name) })
	if i < 0 {
		var names []string
		for _, c := range all {
			names = append(names, c.Name)
		}
		return Card{}, fmt.Errorf("unknown GPU %q (known: %s%s)", name, strings.Join(names, ", "), otherwise)
	}
	return all[i], nil
}

// info are the card's limits as lowering asks for them.
func (c Card) info() device.Info {
	a, _ := ptxsim.ArchOf(c.Arch)
	return device.Info{
		Name: c.Title, Major: c.Arch / 10, Minor: c.Arch % 10, SMs: c.SMs, MaxThreadsPerBlock: 1024, MaxThreadsPerSM: a.MaxThreads,
		SharedPerBlock: 48 << 10, SharedPerBlockOptin: a.SharedPerBlock, SharedPerSM: a.Shared, RegistersPerSM: a.Registers,
		MaxGridX: 1<<31 - 1, MaxGridYZ: 65535,
	}
}

// Of is the card with the limits and the name of a device: the last of that name and size, else an H200 with the device's
// multiprocessors and architecture.
func Of(dev device.Info) Card {
	all := Cards()
	best := all[0]
	for _, c := range all {
		words := strings.Fields(c.Title)
		if c.SMs == dev.SMs && strings.HasPrefix(dev.Name, strings.Join(words[:2], " ")) {
			best = c
		}
	}
	if _, known := ptxsim.ArchOf(10*dev.Major + dev.Minor); known {
		best.Arch = 10*dev.Major + dev.Minor
	}
	best.SMs = max(dev.SMs, 1)
	return best
}
