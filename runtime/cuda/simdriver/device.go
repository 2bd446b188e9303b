//go:build cuda && cudasim && linux

package simdriver

// #include <stddef.h>
// #include <stdint.h>
import "C"

import (
	"fmt"
	"unsafe"

	"unirestorer/runtime/ptxsim"
)

// driverVersion is CUDA 12.4, whose PTX the simulator executes.
const driverVersion = 12040

// cuInit is called before this package's variables are initialised: it must not touch them.
//
//export cuInit
func cuInit(flags C.uint) C.int { return 0 }

//export cuDriverGetVersion
func cuDriverGetVersion(version *C.int) C.int {
	*version = driverVersion
	return success
}

//export cuDeviceGetCount
func cuDeviceGetCount(n *C.int) C.int {
	*n = C.int(len(state.gpus))
	return success
}

//export cuDeviceGet
func cuDeviceGet(gpu *C.int, ordinal C.int) C.int {
	if ordinal < 0 || int(ordinal) >= len(state.gpus) {
		return fail(invalidDevice, nil)
	}
	*gpu = ordinal
	return success
}

// card returns the card with the given number.
func card(n C.int) (*gpu, C.int) {
	if n < 0 || int(n) >= len(state.gpus) {
		return nil, fail(invalidDevice, nil)
	}
	return state.gpus[n], success
}

//export cuDeviceGetName
func cuDeviceGetName(name *C.char, size C.int, n C.int) C.int {
	g, r := card(n)
	if r != success {
		return r
	}
	text := append(fmt.Appendf(nil, "Simulated GPU (sm_%d)", g.arch), 0)
	if len(text) > int(size) {
		return fail(invalidValue, nil)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(name)), size), text)
	return success
}

//export cuDeviceGetUuid
func cuDeviceGetUuid(uuid unsafe.Pointer, n C.int) C.int {
	if _, r := card(n); r != success {
		return r
	}
	*(*[16]byte)(uuid) = [16]byte{0x51, 0x80 + byte(n), 14: 0xca, 15: byte(n)}
	return success
}

//export cuDeviceGetUuid_v2
func cuDeviceGetUuid_v2(uuid unsafe.Pointer, n C.int) C.int { return cuDeviceGetUuid(uuid, n) }

//export cuDeviceTotalMem_v2
func cuDeviceTotalMem_v2(size *C.size_t, n C.int) C.int {
	g, r := card(n)
	if r != success {
		return r
	}
	info, err := g.info()
	*size = C.size_t(info.memory)
	return done(err)
}

// limits are what the simulator says of a device.
type limits struct {
	memory     int64
	attributes map[C.int]int // by the number of CUdevice_attribute
}

// info describes the card.
func (g *gpu) info() (limits, error) {
	sim, err := ptxsim.New(ptxsim.Options{Arch: g.arch, Memory: g.memory})
	if err != nil {
		return limits{}, err
	}
	i := sim.Info()
	return limits{i.TotalMemory, map[C.int]int{
		1: i.MaxThreadsPerBlock, 2: i.MaxThreadsPerBlock, 3: i.MaxThreadsPerBlock, 4: 64, // block dimensions
		5: int(i.MaxGridX), 6: int(i.MaxGridYZ), 7: int(i.MaxGridYZ),
		8: i.SharedPerBlock, 10: 32, 13: i.ClockKHz, 16: i.SMs,
		36: i.MemoryClockKHz, 37: i.MemoryBusWidthBits, 38: i.L2Bytes, 39: i.MaxThreadsPerSM,
		40: i.ConcurrentCopyEngine, 75: i.Major, 76: i.Minor, 81: i.SharedPerSM, 82: i.RegistersPerSM,
		97: i.SharedPerBlockOptin,
	}}, sim.Close()
}

//export cuDeviceGetAttribute
func cuDeviceGetAttribute(value *C.int, attribute C.int, n C.int) C.int {
	g, r := card(n)
	if r != success {
		return r
	}
	info, err := g.info()
	if err != nil {
		return done(err)
	}
	v, ok := info.attributes[attribute]
	if !ok {
		return fail(invalidValue, fmt.Errorf("device attribute %d is not simulated", attribute))
	}
	*value = C.int(v)
	return success
}
