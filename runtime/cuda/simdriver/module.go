//go:build cuda && cudasim && linux

package simdriver

// #include <stddef.h>
// #include <stdint.h>
import "C"

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// The numbers of CUjit_option that are served.
const (
	jitErrorLog     = 5
	jitErrorLogSize = 6
)

// module is a loaded image. Its functions keep their handles.
type module struct {
	ctx       *context
	mod       device.Module
	functions map[string]C.uintptr_t
	pending   atomic.Int64 // launches that have not run
}

// function is a kernel.
type function struct {
	mod *module
	fn  *ptxsim.Function
}

//export cuModuleLoadDataEx
func cuModuleLoadDataEx(handle *C.uintptr_t, image unsafe.Pointer, n C.uint, options *C.int, values unsafe.Pointer) C.int {
	c, r := enter()
	if r != success {
		return r
	}
	if r := c.unsafeCall(); r != success {
		return r
	}
	text := C.GoString((*C.char)(image))
	if bytes.HasPrefix([]byte(text), []byte("\x7fELF")) {
		return fail(invalidSource, errors.New("the simulator cannot execute a cubin"))
	}
	mod, err := c.sim.LoadModule("ptx", []byte(text))
	if err != nil {
		writeLog(unsafe.Slice(options, n), values, err.Error())
		return fail(invalidPTX, nil)
	}
	m := &module{ctx: c, mod: mod, functions: map[string]C.uintptr_t{}}
	c.own(m, "module")
	*handle = C.uintptr_t(put(m))
	return success
}

// writeLog puts text into the buffer that the options give for the compiler's errors.
func writeLog(options []C.int, values unsafe.Pointer, text string) {
	var log unsafe.Pointer
	var size uintptr
	for i, option := range options {
		value := unsafe.Add(values, uintptr(i)*unsafe.Sizeof(uintptr(0)))
		switch option {
		case jitErrorLog:
			log = *(*unsafe.Pointer)(value)
		case jitErrorLogSize:
			size = *(*uintptr)(value)
		}
	}
	if log == nil || size == 0 {
		return
	}
	b := unsafe.Slice((*byte)(log), size)
	b[copy(b[:size-1], text)] = 0
}

// moduleOf returns a module of the current context.
func moduleOf(handle C.uintptr_t) (*module, C.int) { return own[*module](handle) }

func (m *module) context() *context { return m.ctx }

//export cuModuleUnload
func cuModuleUnload(handle C.uintptr_t) C.int {
	m, r := moduleOf(handle)
	if r != success {
		return r
	}
	if r := m.ctx.unsafeCall(); r != success {
		return r
	}
	if n := m.pending.Load(); n > 0 {
		return found("a module was unloaded before %d launches of its kernels were waited for", n)
	}
	drop(handle)
	for _, f := range m.functions {
		drop(f)
	}
	m.ctx.disown(m)
	return done(m.mod.Close())
}

//export cuModuleGetFunction
func cuModuleGetFunction(handle *C.uintptr_t, in C.uintptr_t, name *C.char) C.int {
	m, r := moduleOf(in)
	if r != success {
		return r
	}
	text := C.GoString(name)
	if *handle = m.functions[text]; *handle != 0 {
		return success
	}
	f, err := m.mod.Function(text)
	if err != nil {
		return fail(notFound, nil)
	}
	*handle = C.uintptr_t(put(&function{mod: m, fn: f.(*ptxsim.Function)}))
	m.functions[text] = *handle
	return success
}

//export cuModuleGetGlobal_v2
func cuModuleGetGlobal_v2(p *C.uint64_t, size *C.size_t, in C.uintptr_t, name *C.char) C.int {
	m, r := moduleOf(in)
	if r != success {
		return r
	}
	b, err := m.mod.Global(C.GoString(name))
	if err != nil {
		return fail(notFound, nil)
	}
	*p, *size = C.uint64_t(b.Ptr), C.size_t(b.Size)
	return success
}

// functionOf returns a function of the current context.
func functionOf(handle C.uintptr_t) (*function, C.int) { return own[*function](handle) }

func (f *function) context() *context { return f.mod.ctx }

// The CUfunction_attribute numbers that can be set here.
const (
	maxDynamicShared   = 8
	nonPortableCluster = 14
)

//export cuFuncGetAttribute
func cuFuncGetAttribute(value *C.int, attribute C.int, handle C.uintptr_t) C.int {
	f, r := functionOf(handle)
	if r != success {
		return r
	}
	a, err := f.fn.Attributes()
	if err != nil {
		return done(err)
	}
	values := map[C.int]int{0: a.MaxThreadsPerBlock, 1: a.StaticShared, 2: a.ConstBytes, 3: a.LocalBytes,
		4: a.Registers, 5: a.PTXVersion, 6: a.PTXVersion, maxDynamicShared: a.MaxDynamicShared}
	v, ok := values[attribute]
	if !ok {
		return fail(invalidValue, fmt.Errorf("function attribute %d is not simulated", attribute))
	}
	*value = C.int(v)
	return success
}

//export cuFuncSetAttribute
func cuFuncSetAttribute(handle C.uintptr_t, attribute, value C.int) C.int {
	f, r := functionOf(handle)
	if r != success {
		return r
	}
	switch attribute {
	case maxDynamicShared:
	case nonPortableCluster:
		f.fn.AllowNonPortableCluster(value != 0)
		return success
	default:
		return fail(invalidValue, fmt.Errorf("function attribute %d cannot be set", attribute))
	}
	return done(f.fn.SetMaxDynamicShared(int(value)))
}

//export cuFuncGetParamInfo
func cuFuncGetParamInfo(handle C.uintptr_t, i C.size_t, offset, size *C.size_t) C.int {
	f, r := functionOf(handle)
	if r != success {
		return r
	}
	params := f.fn.Params()
	if int(i) >= len(params) {
		return fail(invalidValue, nil)
	}
	*offset, *size = C.size_t(params[i].Offset), C.size_t(params[i].Size)
	return success
}
