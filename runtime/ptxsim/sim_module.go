package ptxsim

import (
	"errors"
	"fmt"

	"unirestorer/runtime/device"
)

// Module is a loaded PTX image.
type Module struct {
	dev *Device
	mod *module
}

// LoadModule parses and decodes a PTX image. A kernel with instructions, modifiers or directives that are not supported is
// refused when it is launched, by an error that names the line.
func (d *Device) LoadModule(name string, image []byte) (device.Module, error) {
	if err := d.lock(); err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	m, err := newModule(d.mem, d.opt.Memory-d.mem.used, name, image)
	if err != nil {
		return nil, fmt.Errorf("load module %s: %w", name, err)
	}
	if m.file.arch > d.opt.Arch {
		m.unload(d.mem)
		return nil, fmt.Errorf("load module %s: written for %s, the device is sm_%d", name, m.file.target, d.opt.Arch)
	}
	if d.opt.Rough {
		for _, p := range m.progs {
			p.roughen(d.opt.Arch)
		}
	}
	mod := &Module{d, m}
	d.modules[mod] = true
	return mod, nil
}

// Function returns a kernel by name.
func (m *Module) Function(name string) (device.Function, error) {
	p := m.mod.progs[name]
	if p == nil {
		return nil, fmt.Errorf("module %s has no kernel %s", m.mod.name, name)
	}
	return &Function{mod: m, prog: p}, nil
}

// Kernels returns the names of the module's kernels in the order of the file.
func (m *Module) Kernels() []string {
	var out []string
	for _, f := range m.mod.file.funcs {
		if f.entry {
			out = append(out, f.name)
		}
	}
	return out
}

// Global returns the memory of a .global or .const variable.
func (m *Module) Global(name string) (device.Buffer, error) {
	a := m.mod.globals[name]
	if a == nil {
		return device.Buffer{}, fmt.Errorf("module %s has no variable %s", m.mod.name, name)
	}
	return device.Buffer{Ptr: device.Ptr(a.base), Size: m.mod.vars[name].size()}, nil
}

// Close frees the module's variables.
func (m *Module) Close() error {
	if err := m.dev.lock(); err != nil {
		return nil // closed with the device
	}
	defer m.dev.mu.Unlock()
	if m.dev.modules[m] {
		delete(m.dev.modules, m)
		m.mod.unload(m.dev.mem)
	}
	return nil
}

// Function is a kernel.
type Function struct {
	mod         *Module
	prog        *program
	maxDynamic  int
	nonPortable bool // clusters of more than eight blocks
}

// Name returns the kernel's name.
func (f *Function) Name() string { return f.prog.kernel.name }

// Refused says why the kernel cannot run: it, or a function it calls, uses what the simulator does not support. It is nil
// for kernels that can.
func (f *Function) Refused() error { return f.mod.mod.refused[f.prog.kernel.name] }

// Param is one parameter of a kernel: its place in the parameter buffer, in bytes.
type Param struct {
	Offset, Size, Align int
	Name, Type          string // as the PTX has them; the type is that of an element
}

// Params returns the kernel's parameters in order.
func (f *Function) Params() []Param {
	var out []Param
	for _, v := range f.prog.kernel.params {
		out = append(out, Param{int(v.off), int(v.size()), v.align, v.name, v.typ.String()})
	}
	return out
}

// registers returns the table's figure, or the estimate.
func (f *Function) registers() int {
	if n, ok := f.mod.dev.opt.Registers[f.Name()]; ok {
		return n
	}
	return f.prog.registers
}

// Attributes returns the kernel's resources. Registers are an estimate unless Options.Registers names the kernel.
func (f *Function) Attributes() (device.Attributes, error) {
	if err := f.Refused(); err != nil {
		return device.Attributes{}, fmt.Errorf("kernel %s: %w", f.Name(), err)
	}
	k := f.prog.kernel
	a := device.Attributes{
		Registers: f.registers(), StaticShared: f.prog.staticShared, MaxDynamicShared: f.dynamicLimit(),
		LocalBytes: f.prog.localBytes, ParamBytes: f.prog.paramBytes, MaxThreadsPerBlock: 1024, PTXVersion: f.mod.mod.file.arch,
	}
	for _, v := range f.mod.mod.file.vars {
		if v.space == spConst {
			a.ConstBytes += int(v.size())
		}
	}
	if n := k.maxntid; n[0] != 0 {
		a.MaxThreadsPerBlock = min(a.MaxThreadsPerBlock, n[0]*n[1]*n[2])
	}
	return a, nil
}

// dynamicLimit returns how much dynamic shared memory launches may have now.
func (f *Function) dynamicLimit() int {
	return max(f.maxDynamic, 48<<10-f.prog.staticShared)
}

// SetMaxDynamicShared allows launches with up to n bytes of dynamic shared memory.
func (f *Function) SetMaxDynamicShared(n int) error {
	limit := f.mod.dev.arch.SharedPerBlock - f.prog.staticShared
	if n < 0 || n > limit {
		return fmt.Errorf("kernel %s: %d bytes of dynamic shared memory: the device allows %d beside %d static ones",
			f.Name(), n, limit, f.prog.staticShared)
	}
	f.maxDynamic = n
	return nil
}

// checkShape refuses launch shapes that a device would refuse.
func (f *Function) checkShape(s device.Shape) error {
	if err := f.Refused(); err != nil {
		return err
	}
	for _, n := range []uint32{s.Grid.X, s.Grid.Y, s.Grid.Z, s.Block.X, s.Block.Y, s.Block.Z} {
		if n == 0 {
			return fmt.Errorf("a dimension is zero")
		}
	}
	if s.Grid.X > 1<<31-1 || s.Grid.Y > 65535 || s.Grid.Z > 65535 {
		return fmt.Errorf("grid is too large: at most (2147483647,65535,65535)")
	}
	k := f.prog.kernel
	if err := f.checkCluster(s); err != nil {
		return err
	}
	limit := uint64(1024)
	if n := k.maxntid; n[0] != 0 {
		limit = min(limit, uint64(n[0]*n[1]*n[2]))
	}
	if n := s.Block.Count(); n > limit || s.Block.Z > 64 {
		return fmt.Errorf("block of %d threads: the kernel allows %d", n, limit)
	}
	if n := k.reqntid; n[0] != 0 && (s.Block != device.Dim3{X: uint32(n[0]), Y: uint32(n[1]), Z: uint32(n[2])}) {
		return fmt.Errorf("the kernel requires blocks of (%d,%d,%d)", n[0], n[1], n[2])
	}
	if n, known := f.mod.dev.opt.Registers[f.Name()]; known {
		a := f.mod.dev.arch
		warps := (int(s.Block.Count()) + lanes - 1) / lanes
		if perWarp := int(align(int64(n*lanes), int64(a.RegisterGranule))); perWarp*warps > a.Registers {
			return fmt.Errorf("%d registers for each of %d threads are more than the %d of a multiprocessor", n, s.Block.Count(), a.Registers)
		}
	}
	if n, most := s.Grid.Count(), f.residentBlocks(s); s.Cooperative && n > most {
		return fmt.Errorf("%w: %d, of which %d run at a time", ErrTooManyBlocks, n, most)
	}
	if s.Shared < 0 || s.Shared > f.dynamicLimit() {
		return fmt.Errorf("%d bytes of dynamic shared memory: the kernel may have %d (SetMaxDynamicShared raises it)", s.Shared, f.dynamicLimit())
	}
	return nil
}

// ErrTooManyBlocks says that the blocks of a cooperative launch cannot all run at the same time.
var ErrTooManyBlocks = errors.New("too many blocks for a cooperative launch")

// residentBlocks is how many blocks of a launch the device runs at a time.
func (f *Function) residentBlocks(s device.Shape) uint64 {
	d := f.mod.dev
	o := d.arch.Occupancy(int(s.Block.Count()), f.registers(), f.prog.staticShared+s.Shared)
	return uint64(o.Blocks * d.Info().SMs)
}

// checkArgs compares the arguments with the kernel's parameters.
func (f *Function) checkArgs(args *device.Args) error {
	var fields []device.Field
	if args != nil {
		fields = args.Fields()
	}
	params := f.Params()
	if len(fields) != len(params) {
		return fmt.Errorf("%d arguments for %d parameters", len(fields), len(params))
	}
	for i, p := range params {
		if fields[i].Size != p.Size || fields[i].Offset != p.Offset {
			return fmt.Errorf("argument %d has %d bytes at offset %d, the parameter has %d at %d",
				i, fields[i].Size, fields[i].Offset, p.Size, p.Offset)
		}
	}
	return nil
}

// Clusters of up to portableCluster blocks run on every device that has clusters (CUDA C++ Programming Guide 12.4, section
// 5.2.1).
const (
	portableCluster = 8
	maxCluster      = 16
)

// AllowNonPortableCluster allows clusters of more than eight blocks, which not every device can run.
func (f *Function) AllowNonPortableCluster(allow bool) { f.nonPortable = allow }

// checkCluster refuses clusters that a device would refuse.
func (f *Function) checkCluster(s device.Shape) error {
	k := f.prog.kernel
	own := device.Dim3{X: uint32(k.cluster[0]), Y: uint32(k.cluster[1]), Z: uint32(k.cluster[2])}
	if s.Cluster.X|s.Cluster.Y|s.Cluster.Z != 0 {
		if s.Cluster.X == 0 || s.Cluster.Y == 0 || s.Cluster.Z == 0 {
			return fmt.Errorf("a dimension of the cluster is zero")
		}
		if own.X != 0 && own != s.Cluster {
			return fmt.Errorf("the kernel requires clusters of %v blocks", own)
		}
	} else if own.X == 0 && k.explicitCluster {
		return fmt.Errorf("the kernel requires that the launch names the shape of its clusters (.explicitcluster)")
	}
	c := clusterOf(k, s)
	n := c.Count()
	if s.Cluster.X == 0 && own.X == 0 {
		return nil
	}
	limit := uint64(portableCluster)
	if f.nonPortable {
		limit = maxCluster
	}
	switch {
	case f.mod.dev.opt.Arch < 90:
		return fmt.Errorf("sm_%d has no clusters", f.mod.dev.opt.Arch)
	case c.X > maxCluster || c.Y > maxCluster || c.Z > maxCluster || n > limit:
		return fmt.Errorf("cluster of %d blocks: at most %d are allowed (%d with the attribute for clusters of a size that is not portable)", n, limit, maxCluster)
	case k.maxClusterRank != 0 && n > uint64(k.maxClusterRank):
		return fmt.Errorf("cluster of %d blocks: the kernel allows %d", n, k.maxClusterRank)
	case s.Grid.X%c.X != 0 || s.Grid.Y%c.Y != 0 || s.Grid.Z%c.Z != 0:
		return fmt.Errorf("the grid %v is not a multiple of the cluster %v", s.Grid, c)
	}
	return nil
}
