// Package codecs runs libjpeg-turbo, libtiff and libwebp, compiled to WebAssembly from Debian's sources, in a sandbox
// (wazero): for files that the pure-Go decoders do not read, and for lossy WebP, which nothing else in Go writes. A module
// is unpacked and compiled when a file first needs it, so that programs that meet ordinary files pay nothing.
//
// An error inside a library ends the call into it and leaves its memory readable: rows and strips decoded so far are kept.
// tools/codecs builds the modules and names sources, digests and licences.
package codecs

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

//go:embed jpeg.wasm.gz
var jpegFile []byte

//go:embed tiff.wasm.gz
var tiffFile []byte

//go:embed webp.wasm.gz
var webpFile []byte

// module is a WebAssembly program, unpacked and compiled once, when it is first needed. The cache shares the compiled code
// between the runtimes of all instances, each of which has a memory limit of its own.
type module struct {
	code func() ([]byte, error)
}

var (
	jpeg  = newModule(jpegFile)
	tiff  = newModule(tiffFile)
	webp  = newModule(webpFile)
	cache = sync.OnceValue(wazero.NewCompilationCache)
)

func newModule(packed []byte) *module {
	return &module{code: sync.OnceValues(func() ([]byte, error) {
		z, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			return nil, err
		}
		code, err := io.ReadAll(z)
		if err != nil {
			return nil, err
		}
		// The first compilation is kept by a runtime that lives as long as the program.
		ctx := experimental.WithCompilationWorkers(context.Background(), runtime.GOMAXPROCS(0))
		_, err = wazero.NewRuntimeWithConfig(ctx, config(maxMemory, false)).CompileModule(ctx, code)
		return code, err
	})}
}

func config(limit int64, cancel bool) wazero.RuntimeConfig {
	pages := uint32(min(max(limit, baseMemory), maxMemory) / pageBytes)
	return wazero.NewRuntimeConfig().WithCompilationCache(cache()).WithMemoryLimitPages(pages).WithCloseOnContextDone(cancel)
}

// errMemory reports a picture that needs more memory inside the sandbox than was allowed. Use errors.Is.
var errMemory = errors.New("not enough memory for the decoder")

const (
	pageBytes = 1 << 16
	maxMemory = 1<<32 - pageBytes
	// baseMemory is what a module takes before it sees a file: its stack, tables and code of libc.
	baseMemory = 4 << 20
)

// instance is a module at work on one file. It serves one goroutine.
type instance struct {
	ctx     context.Context
	runtime wazero.Runtime
	mod     api.Module
	stack   api.MutableGlobal
	top     uint64 // of the stack before any call
}

// start instantiates a module that may grow to limit bytes of memory.
func (m *module) start(ctx context.Context, limit int64) (*instance, error) {
	code, err := m.code()
	if err != nil {
		return nil, fmt.Errorf("unpack decoder: %w", err)
	}
	// A module that can be cancelled is compiled otherwise, and twice the code would be compiled; files decode in bounded
	// time, and callers look at ctx between calls.
	r := wazero.NewRuntimeWithConfig(ctx, config(limit, false))
	in := &instance{ctx: ctx, runtime: r}
	if _, err = wasi_snapshot_preview1.Instantiate(ctx, r); err == nil {
		var compiled wazero.CompiledModule
		if compiled, err = r.CompileModule(ctx, code); err == nil {
			in.mod, err = r.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithStartFunctions("_initialize"))
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start decoder: %w", err), r.Close(ctx))
	}
	stack, ok := in.mod.ExportedGlobal("__stack_pointer").(api.MutableGlobal)
	if !ok {
		return nil, errors.Join(errors.New("start decoder: no stack pointer"), in.close())
	}
	in.stack, in.top = stack, stack.Get()
	return in, nil
}

func (in *instance) close() error { return in.runtime.Close(in.ctx) }

// call calls an exported function. A trap is an error that carries what the library said, and the instance stays usable.
func (in *instance) call(name string, args ...uint64) (uint64, error) {
	if err := in.ctx.Err(); err != nil {
		return 0, err
	}
	f := in.mod.ExportedFunction(name)
	if f == nil {
		return 0, fmt.Errorf("decoder has no function %s", name)
	}
	out, err := f.Call(in.ctx, args...)
	if err != nil {
		in.stack.Set(in.top)
		if msg := in.message("error_message"); msg != "" {
			return 0, errors.New(msg)
		}
		return 0, fmt.Errorf("decoder failed in %s: %w", name, firstLine(err))
	}
	if len(out) == 0 {
		return 0, nil
	}
	return out[0], nil
}

// firstLine leaves away the stack that wazero puts below a trap's name.
func firstLine(err error) error {
	s := err.Error()
	for i := range s {
		if s[i] == '\n' {
			return errors.New(s[:i])
		}
	}
	return err
}

// alloc reserves n bytes inside.
func (in *instance) alloc(n int64) (uint32, error) {
	if n < 0 || n > math.MaxUint32 {
		return 0, errMemory
	}
	p, err := in.call("reserve", uint64(n))
	if err != nil {
		return 0, err
	}
	if p == 0 && n > 0 {
		return 0, errMemory
	}
	return uint32(p), nil
}

// put copies data inside.
func (in *instance) put(data []byte) (uint32, error) {
	p, err := in.alloc(int64(len(data)))
	if err != nil {
		return 0, err
	}
	if !in.mod.Memory().Write(p, data) {
		return 0, errMemory
	}
	return p, nil
}

// view is a window on n bytes inside; it is valid until the next call.
func (in *instance) view(p uint32, n int64) ([]byte, error) {
	if n < 0 || n > math.MaxUint32 {
		return nil, errMemory
	}
	b, ok := in.mod.Memory().Read(p, uint32(n))
	if !ok {
		return nil, errors.New("decoder points outside its memory")
	}
	return b, nil
}

// words reads n 32-bit words inside.
func (in *instance) words(p uint32, n int) ([]int, error) {
	b, err := in.view(p, int64(4*n))
	if err != nil {
		return nil, err
	}
	out := make([]int, n)
	for i := range out {
		out[i] = int(int32(uint32(b[4*i]) | uint32(b[4*i+1])<<8 | uint32(b[4*i+2])<<16 | uint32(b[4*i+3])<<24))
	}
	return out, nil
}

// message reads what the library noted, empty if nothing.
func (in *instance) message(name string) string {
	f := in.mod.ExportedFunction(name)
	if f == nil {
		return ""
	}
	out, err := f.Call(in.ctx)
	if err != nil || len(out) == 0 {
		return ""
	}
	b, ok := in.mod.Memory().Read(uint32(out[0]), 256)
	if !ok {
		return ""
	}
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(bytes.ToValidUTF8(b, []byte("?")))
}

// int calls a function for a small number; what cannot be had is 0.
func (in *instance) int(name string) int {
	v, err := in.call(name)
	if err != nil {
		return 0
	}
	return int(int32(v))
}
