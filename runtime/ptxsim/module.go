package ptxsim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"unirestorer/runtime/device"
)

// module is a parsed PTX file with its variables placed in a device's memory.
type module struct {
	name    string
	file    *file
	vars    map[string]*variable
	globals map[string]*allocation // .global and .const variables
	progs   map[string]*program
	code    uint64           // address of the first function
	taken   []*function      // whose address is taken
	refused map[string]error // kernels that cannot run, and why
}

// newModule parses an image, allocates its variables, and decodes every kernel. One that uses what is not supported does
// not keep the others from running: it is refused, by name and line, when somebody launches it.
func newModule(mem *memory, free int64, name string, image []byte) (*module, error) {
	f, err := parse(string(image))
	if err != nil {
		return nil, err
	}
	if err := refuse(f); err != nil {
		return nil, err
	}
	m := &module{name: name, file: f, vars: map[string]*variable{}, globals: map[string]*allocation{}, progs: map[string]*program{}, refused: map[string]error{}}
	for _, v := range f.vars {
		m.vars[v.name] = v
	}
	m.placeFunctions(mem)
	for _, v := range f.vars {
		if v.space != spGlobal && v.space != spConst {
			continue
		}
		if v.extern || v.flex {
			continue // an error where it is used
		}
		if free -= v.size(); free < 0 {
			m.unload(mem)
			return nil, fmt.Errorf("line %d: variable %s of %d bytes: %w", v.line, v.name, v.size(), device.ErrOutOfMemory)
		}
		a := mem.alloc(max(v.size(), 1))
		a.name, a.readOnly, a.init = v.name, v.space == spConst, nil
		clear(a.data)
		m.globals[v.name] = a
	}
	for _, v := range f.vars {
		if err := m.initialise(v); err != nil {
			m.unload(mem)
			return nil, err
		}
	}
	for _, fn := range f.funcs {
		if !fn.entry {
			continue
		}
		if !fn.defined {
			m.unload(mem)
			return nil, fmt.Errorf("line %d: kernel %s has no body", fn.line, fn.name)
		}
		p, err := decodeKernel(m, fn)
		if errors.Is(err, errNoOpcode) {
			m.unload(mem)
			return nil, fmt.Errorf("kernel %s: %w", fn.name, err)
		}
		if err != nil {
			m.refused[fn.name] = err
			p = &program{kernel: fn, mod: m}
		}
		if p.staticShared > maxStaticShared {
			m.unload(mem)
			return nil, fmt.Errorf("kernel %s: %d bytes of static shared memory, at most %d", fn.name, p.staticShared, maxStaticShared)
		}
		m.progs[fn.name] = p
	}
	return m, nil
}

// function finds a function by name; nil if there is none.
func (m *module) function(name string) *function {
	for _, f := range m.file.funcs {
		if f.name == name {
			return f
		}
	}
	return nil
}

// initialise writes a variable's initial values to its memory.
func (m *module) initialise(v *variable) error {
	if len(v.init) == 0 {
		return nil
	}
	a := m.globals[v.name]
	if a == nil {
		return fmt.Errorf("line %d: variable %s cannot have initial values", v.line, v.name)
	}
	size := v.typ.size()
	if size > 8 {
		return fmt.Errorf("line %d: initial values of type %v are not supported", v.line, v.typ)
	}
	for i, iv := range v.init {
		bits := iv.bits
		if f := m.function(iv.symbol); f != nil {
			if size != 8 {
				return fmt.Errorf("line %d: variable %s: the address of function %s has 8 bytes", v.line, v.name, f.name)
			}
			bits += m.codeAddress(f)
		} else if iv.symbol != "" {
			t := m.globals[iv.symbol]
			if t == nil || size != 8 {
				return fmt.Errorf("line %d: variable %s: initial value %s is not the address of a variable", v.line, v.name, iv.symbol)
			}
			bits += t.base
		}
		var buf [8]byte
		binary.LittleEndian.PutUint64(buf[:], bits)
		copy(a.data[i*size:], buf[:size])
	}
	return nil
}

func (m *module) unload(mem *memory) {
	for _, a := range m.globals {
		mem.free(a)
	}
	m.globals = nil
}

// sharedUsed returns the module's shared variables that the functions mention.
func (m *module) sharedUsed(fns []*function) []*variable {
	used := map[string]bool{}
	var mark func(o *operand)
	mark = func(o *operand) {
		if o.kind == opdSymbol {
			used[o.name] = true
		}
		for i := range o.list {
			mark(&o.list[i])
		}
	}
	for _, fn := range fns {
		for i := range fn.body {
			for j := range fn.body[i].args {
				mark(&fn.body[i].args[j])
			}
		}
	}
	var out []*variable
	for _, v := range m.file.vars {
		if v.space == spShared && used[v.name] {
			out = append(out, v)
		}
	}
	return out
}

// source returns "file:line" of an instruction, and where that was inlined; "" if the PTX does not say.
func (m *module) source(in *inst) string {
	at := func(file, line int) string {
		if name, ok := m.file.sources[file]; ok && line != 0 {
			return fmt.Sprintf("%s:%d", filepath.Base(name), line)
		}
		return ""
	}
	src, outer := at(in.x.src.file, in.x.src.line), at(in.x.src.atFile, in.x.src.atLine)
	if outer != "" {
		src += " inlined at " + outer
	}
	return src
}
