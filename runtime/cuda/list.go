//go:build cuda && linux

package cuda

import (
	"fmt"

	"gorgonia.org/cu"

	"unirestorer/runtime/cuda/internal/cuext"
	"unirestorer/runtime/device"
)

// minimumArch is the compute capability that the kernels are written for.
const minimumArch = 80

// List returns the GPUs of this machine in the driver's order, which CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER
// change. Without a usable GPU its error wraps [ErrNoDevice].
func List() ([]device.Info, error) {
	n, err := cu.NumDevices()
	if err != nil {
		return nil, noDevice(failed("cuDeviceGetCount", err))
	}
	if n == 0 {
		return nil, noDevice(&Error{Call: "cuDeviceGetCount", Code: codeNoDevice})
	}
	infos := make([]device.Info, n)
	for i := range infos {
		if infos[i], err = describe(i); err != nil {
			return nil, fmt.Errorf("describe GPU %d: %w", i, err)
		}
	}
	return infos, nil
}

// noDevice says why no GPU can be used and what to do about it.
func noDevice(err *Error) error {
	if _, why := driverStatus(); why != "" {
		if foreignLibc(why) {
			return fmt.Errorf("%w: %s; NVIDIA's driver needs glibc, and this program was built for another C library: "+
				"build or take one for glibc", ErrNoDevice, why)
		}
		return fmt.Errorf("%w: %s; install the NVIDIA driver; in a container, start it with access to the GPU "+
			"(docker run --gpus all)", ErrNoDevice, why)
	}
	if err.Code == codeNoDevice {
		return fmt.Errorf("%w: the driver is installed but finds no GPU: see nvidia-smi, and CUDA_VISIBLE_DEVICES "+
			"if it is set", ErrNoDevice)
	}
	return fmt.Errorf("%w: %w", ErrNoDevice, err)
}

// uuid writes the identity of a GPU or of a MIG slice as nvidia-smi does.
func uuid(id [16]byte, mig bool) string {
	kind := "GPU"
	if mig {
		kind = "MIG"
	}
	return fmt.Sprintf("%s-%x-%x-%x-%x-%x", kind, id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// describe asks for identity and limits of the GPU with the given index.
func describe(index int) (device.Info, error) {
	gpu, err := cu.GetDevice(index)
	if err != nil {
		return device.Info{}, failed("cuDeviceGet", err)
	}
	info := device.Info{Index: index}
	if info.Name, err = gpu.Name(); err != nil {
		return device.Info{}, failed("cuDeviceGetName", err)
	}
	id, mig, err := cuext.UUID(gpu)
	if err != nil {
		return device.Info{}, failed("cuDeviceGetUuid", err)
	}
	info.UUID = uuid(id, mig)
	if info.TotalMemory, err = gpu.TotalMem(); err != nil {
		return device.Info{}, failed("cuDeviceTotalMem", err)
	}

	var gridX, gridY int
	for _, a := range []struct {
		attribute cu.DeviceAttribute
		to        *int
	}{
		{cu.ComputeCapabilityMajor, &info.Major},
		{cu.ComputeCapabilityMinor, &info.Minor},
		{cu.MultiprocessorCount, &info.SMs},
		{cu.MaxThreadsPerBlock, &info.MaxThreadsPerBlock},
		{cu.MaxThreadsPerMultiprocessor, &info.MaxThreadsPerSM},
		{cu.MaxSharedMemoryPerBlock, &info.SharedPerBlock},
		{cuext.SharedPerBlockOptin, &info.SharedPerBlockOptin},
		{cu.MaxSharedMemoryPerMultiprocessor, &info.SharedPerSM},
		{cu.MaxRegistersPerMultiprocessor, &info.RegistersPerSM},
		{cu.MaxGridDimX, &gridX},
		{cu.MaxGridDimY, &gridY},
	} {
		if *a.to, err = gpu.Attribute(a.attribute); err != nil {
			return device.Info{}, fmt.Errorf("attribute %d: %w", a.attribute, failed("cuDeviceGetAttribute", err))
		}
	}
	// These only inform. A driver that does not tell one of them leaves it 0.
	info.L2Bytes, _ = gpu.Attribute(cu.L2CacheSize)
	info.ClockKHz, _ = gpu.Attribute(cu.ClockRate)
	info.MemoryClockKHz, _ = gpu.Attribute(cu.MemoryClockRate)
	info.MemoryBusWidthBits, _ = gpu.Attribute(cu.GlobalMemoryBusWidth)
	info.ConcurrentCopyEngine, _ = gpu.Attribute(cu.AsyncEngineCount)
	integrated, _ := gpu.Attribute(cu.Integrated)
	info.Integrated = integrated != 0
	info.MaxGridX, info.MaxGridYZ = int64(gridX), int64(gridY)
	info.Simulated = simulated
	return info, nil
}

// Open makes the GPU that selector names ready for use: "" for the first, an index as [List] counts them ("1",
// "cuda:1"), or a UUID as nvidia-smi prints it, of which an unambiguous beginning will do. Without a usable GPU the
// error wraps [ErrNoDevice].
//
// Opening takes the GPU's primary context, the one that other libraries in the process share.
func Open(selector string, opt Options) (device.Device, error) {
	infos, err := List()
	if err != nil {
		return nil, err
	}
	at, err := Choose(infos, selector)
	if err != nil {
		return nil, err
	}
	info := infos[at]
	if info.Arch() < minimumArch {
		return nil, fmt.Errorf("%w: GPU %d (%s) has compute capability %d.%d; the kernels need %d.%d",
			ErrNoDevice, info.Index, info.Name, info.Major, info.Minor, minimumArch/10, minimumArch%10)
	}
	if opt.MemoryBudget < 0 {
		return nil, fmt.Errorf("memory budget of %d bytes is negative", opt.MemoryBudget)
	}
	ordinal, err := cu.GetDevice(info.Index)
	if err != nil {
		return nil, fmt.Errorf("open GPU %d: %w", info.Index, failed("cuDeviceGet", err))
	}
	ctx, err := ordinal.RetainPrimaryCtx()
	if err != nil {
		return nil, fmt.Errorf("open GPU %d (%s): %w", info.Index, info.Name, failed("cuDevicePrimaryCtxRetain", err))
	}
	return newGPU(info, ordinal, ctx, opt), nil
}
