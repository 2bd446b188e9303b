//go:build cuda && linux

package nvml

// #cgo CFLAGS: -O2 -Wall
// #cgo LDFLAGS: -ldl
// #include "read.h"
import "C"

import "fmt"

// most bounds what is read: GPUs of a machine, and processes of a GPU.
const most = 256

// Read returns the state of the machine's GPUs. The error says that the library is missing or does not start.
func Read() (System, error) {
	var s C.struct_nvml_system
	why := [256]C.char{}
	if C.nvml_open(&s, &why[0], C.size_t(len(why))) != 0 {
		return System{}, fmt.Errorf("nvml: %s", C.GoString(&why[0]))
	}
	defer C.nvml_close()
	out := System{Driver: C.GoString(&s.driver[0])}
	for i := range min(int(s.count), most) {
		var g C.struct_nvml_gpu
		C.nvml_read(C.uint(i), &g)
		out.GPUs = append(out.GPUs, convert(i, &g))
	}
	return out, nil
}

func convert(index int, g *C.struct_nvml_gpu) GPU {
	known := func(what C.uint) bool { return g.known&what != 0 }
	u32 := func(what C.uint, v C.uint) *uint32 {
		if !known(what) {
			return nil
		}
		n := uint32(v)
		return &n
	}
	u64 := func(what C.uint, v C.ulonglong) *uint64 {
		if !known(what) {
			return nil
		}
		n := uint64(v)
		return &n
	}
	flag := func(what C.uint, v C.uint) *bool {
		if !known(what) {
			return nil
		}
		b := v != 0
		return &b
	}
	mode := func(what C.uint, v [2]C.uint) *Mode {
		if !known(what) {
			return nil
		}
		return &Mode{v[0] != 0, v[1] != 0}
	}
	out := GPU{
		Index: index, Name: C.GoString(&g.name[0]), UUID: C.GoString(&g.uuid[0]), Error: C.GoString(&g.error[0]),
		MIG: mode(C.KNOW_MIG, g.mig), ECC: mode(C.KNOW_ECC, g.ecc), ComputeMode: u32(C.KNOW_COMPUTE_MODE, g.compute_mode),
		Uncorrected: u64(C.KNOW_UNCORRECTED, g.uncorrected), RepairPending: flag(C.KNOW_PENDING, g.repair_pending),
		RepairFailed: flag(C.KNOW_FAILED, g.repair_failed), Throttle: u64(C.KNOW_THROTTLE, g.throttle),
		Energy: u64(C.KNOW_ENERGY, g.energy), Temperature: u32(C.KNOW_TEMPERATURE, g.temperature), PowerLimit: u32(C.KNOW_POWER, g.power[0]),
		PowerDefault: u32(C.KNOW_POWER, g.power[1]),
	}
	if known(C.KNOW_MEMORY) {
		out.Memory = &Memory{Total: uint64(g.memory.total), Free: uint64(g.memory.free)}
	}
	if known(C.KNOW_LINK) {
		out.Link = &Link{uint32(g.link[0]), uint32(g.link[1]), uint32(g.link[2]), uint32(g.link[3])}
	}
	for i := range min(int(g.processes), C.MAX_PROCESSES) {
		p := &g.process[i]
		q := Process{PID: uint32(p.info.pid), Name: C.GoString(&p.name[0]), MPS: p.mps != 0}
		if p.info.memory != ^C.ulonglong(0) {
			q.Bytes = uint64(p.info.memory)
		}
		out.Processes = append(out.Processes, q)
	}
	return out
}
