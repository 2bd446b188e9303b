//go:build cuda && linux

package cuda

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"gorgonia.org/cu"

	"unirestorer/runtime/cuda/internal/cuext"
	"unirestorer/runtime/device"
)

// logBytes is how much of the driver's PTX compiler's messages is kept.
const logBytes = 16 << 10

// module is a loaded image.
type module struct {
	gpu  *gpu
	name string
	mod  cu.Module
	res  *resource

	mu        sync.Mutex
	functions map[string]*function
}

// LoadModule compiles PTX for the device, or loads a cubin. The compiler's messages are part of the error.
func (g *gpu) LoadModule(name string, image []byte) (device.Module, error) {
	if err := checkImage(image); err != nil {
		return nil, fmt.Errorf("load module %s: %w", name, err)
	}
	m := &module{gpu: g, name: name, functions: map[string]*function{}}
	log := make([]byte, logBytes)
	err := g.do("cuModuleLoadDataEx", func() (err error) {
		// cu appends the zero that ends PTX, and copies what is given with the zeros that a cubin contains.
		m.mod, err = cu.LoadDataEx(string(image), &cu.JITErrorLogBuffer{Buffer: log})
		return err
	})
	if err != nil {
		text, _, _ := strings.Cut(string(log), "\x00")
		if text = strings.TrimSpace(text); text != "" {
			return nil, fmt.Errorf("load module %s: %w\n%s", name, err, text)
		}
		return nil, fmt.Errorf("load module %s: %w", name, err)
	}
	m.res = g.own(&resource{kind: kindModule, name: "module " + name, call: "cuModuleUnload", free: m.mod.Unload})
	return m, nil
}

// checkImage refuses what the driver, which is not told how long the image is, would read beyond its end or only in
// part.
func checkImage(image []byte) error {
	if len(image) == 0 {
		return errors.New("the image is empty")
	}
	if bytes.HasPrefix(image, []byte(elf.ELFMAG)) {
		if _, err := elf.NewFile(bytes.NewReader(image)); err != nil {
			return fmt.Errorf("damaged cubin: %w", err)
		}
		return nil
	}
	if at := bytes.IndexByte(bytes.TrimRight(image, "\x00"), 0); at >= 0 {
		return fmt.Errorf("neither PTX nor a cubin: a zero at byte %d", at)
	}
	return nil
}

// Function returns the kernel with the given name. Asking again returns the same Function.
func (m *module) Function(name string) (device.Function, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.functions[name]; f != nil {
		return f, nil
	}
	f := &function{mod: m, name: name}
	err := m.gpu.do("cuModuleGetFunction", func() (err error) {
		f.fn, err = m.mod.Function(name)
		return err
	})
	if err == nil {
		err = f.describe()
	}
	if err != nil {
		return nil, fmt.Errorf("kernel %s of module %s: %w", name, m.name, err)
	}
	m.functions[name] = f
	return f, nil
}

// Global returns the memory of a .global or .const variable.
func (m *module) Global(name string) (device.Buffer, error) {
	var p cu.DevicePtr
	var size int64
	err := m.gpu.do("cuModuleGetGlobal", func() (err error) {
		p, size, err = m.mod.Global(name)
		return err
	})
	if err != nil {
		return device.Buffer{}, fmt.Errorf("variable %s of module %s: %w", name, m.name, err)
	}
	return device.Buffer{Ptr: device.Ptr(p), Size: size}, nil
}

// Close unloads the module.
func (m *module) Close() error { return m.gpu.release(m.res) }

// function is a kernel, with what a launch is checked against.
type function struct {
	mod     *module
	name    string
	fn      cu.Function
	threads uint64         // most threads per block
	dynamic atomic.Int64   // most dynamic shared memory in bytes
	params  []device.Field // places of the parameters
	known   bool           // whether the driver could tell the parameters
}

// Name returns the kernel's name.
func (f *function) Name() string { return f.name }

// describe asks the driver for the kernel's limits and signature.
func (f *function) describe() error {
	a, err := f.attributes()
	if err != nil {
		return err
	}
	f.threads = uint64(a.MaxThreadsPerBlock)
	f.dynamic.Store(int64(a.MaxDynamicShared))
	return f.mod.gpu.do("cuFuncGetParamInfo", func() error {
		for i := 0; ; i++ {
			offset, size, err := cuext.Parameter(f.fn, i)
			if err != nil {
				// Any other error means a driver that cannot tell: launches are then not checked.
				f.known = errors.Is(err, cuext.InvalidValue)
				return nil
			}
			f.params = append(f.params, device.Field{Offset: offset, Size: size})
		}
	})
}

// Attributes returns the kernel's resources and limits.
func (f *function) Attributes() (device.Attributes, error) {
	a, err := f.attributes()
	if err != nil {
		return a, fmt.Errorf("attributes of kernel %s: %w", f.name, err)
	}
	if n := len(f.params); n > 0 {
		a.ParamBytes = f.params[n-1].Offset + f.params[n-1].Size
	}
	return a, nil
}

func (f *function) attributes() (device.Attributes, error) {
	var a device.Attributes
	err := f.mod.gpu.do("cuFuncGetAttribute", func() (err error) {
		for _, q := range []struct {
			attribute cu.FunctionAttribute
			to        *int
		}{
			{cu.NumRegs, &a.Registers},
			{cu.SharedSizeBytes, &a.StaticShared},
			{cuext.MaxDynamicShared, &a.MaxDynamicShared},
			{cu.LocalSizeBytes, &a.LocalBytes},
			{cu.ConstSizeBytes, &a.ConstBytes},
			{cu.FnMaxThreadsPerBlock, &a.MaxThreadsPerBlock},
			{cu.PtxVersion, &a.PTXVersion},
		} {
			if *q.to, err = f.fn.Attribute(q.attribute); err != nil {
				return err
			}
		}
		return nil
	})
	return a, err
}

// SetMaxDynamicShared allows launches with up to n bytes of dynamic shared memory.
func (f *function) SetMaxDynamicShared(n int) error {
	if n < 0 || n > f.mod.gpu.info.SharedPerBlockOptin {
		return fmt.Errorf("kernel %s: %d bytes of dynamic shared memory; a block can have %d",
			f.name, n, f.mod.gpu.info.SharedPerBlockOptin)
	}
	err := f.mod.gpu.do("cuFuncSetAttribute", func() error { return cuext.SetMaxDynamicShared(f.fn, n) })
	if err != nil {
		return fmt.Errorf("kernel %s: allow %d bytes of dynamic shared memory: %w", f.name, n, err)
	}
	f.dynamic.Store(int64(n))
	return nil
}

// check refuses what the driver would refuse without saying why, and arguments that are not the kernel's, which it
// would take.
func (f *function) check(shape *device.Shape, args *device.Args) error {
	limit := &f.mod.gpu.info
	switch n := shape.Block.Count(); {
	case n == 0 || shape.Grid.Count() == 0:
		return errors.New("a dimension is zero")
	case n > f.threads:
		return fmt.Errorf("block of %d threads: the kernel allows %d", n, f.threads)
	case int64(shape.Grid.X) > limit.MaxGridX || int64(max(shape.Grid.Y, shape.Grid.Z)) > limit.MaxGridYZ:
		return fmt.Errorf("grid is too large: at most (%d,%d,%d)", limit.MaxGridX, limit.MaxGridYZ, limit.MaxGridYZ)
	case shape.Shared < 0 || int64(shape.Shared) > f.dynamic.Load():
		return fmt.Errorf("%d bytes of dynamic shared memory: the kernel may have %d (SetMaxDynamicShared raises it)",
			shape.Shared, f.dynamic.Load())
	}
	if !f.known {
		return nil
	}
	fields := args.Fields()
	if len(fields) != len(f.params) {
		return fmt.Errorf("%d arguments for %d parameters", len(fields), len(f.params))
	}
	for i, p := range f.params {
		if fields[i] != p {
			return fmt.Errorf("argument %d has %d bytes at offset %d, the parameter has %d at %d",
				i, fields[i].Size, fields[i].Offset, p.Size, p.Offset)
		}
	}
	return nil
}
