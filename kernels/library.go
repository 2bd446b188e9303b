package kernels

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"unirestorer/kernels/abi"
)

//go:embed ptx/*.ptx
var images embed.FS

// Modules lists the names of the PTX images.
func Modules() []string {
	files, err := fs.Glob(images, "ptx/*.ptx")
	if err != nil {
		return nil // the pattern is constant and well formed
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), ".ptx")
	}
	slices.Sort(files)
	return files
}

// Image returns the PTX of a module for devices of compute capability arch, 90 for 9.0.
func Image(module string, arch int) ([]byte, error) {
	b, err := images.ReadFile("ptx/" + module + ".ptx")
	if err != nil {
		return nil, fmt.Errorf("no kernel module %q", module)
	}
	return ImageFor(b, arch), nil
}

// ImageFor makes of what the compiler makes of a source the image for devices of compute capability arch: what it holds of
// programmatic dependent launch are instructions of sm_90, and left out for devices before.
func ImageFor(b []byte, arch int) []byte {
	if arch >= dependentLaunch {
		return bytes.Replace(b, []byte(".target sm_80"), []byte(".target sm_90"), 1)
	}
	portable := make([]byte, 0, len(b))
	for line := range bytes.Lines(b) {
		if !bytes.Contains(line, []byte("griddepcontrol")) {
			portable = append(portable, line...)
		}
	}
	return portable
}

// dependentLaunch is the compute capability from which kernels may start before those in front of them have ended.
const dependentLaunch = 90

// defaultShared is the shared memory a block may have without asking.
const defaultShared = 48 << 10

// Library holds the kernels loaded on one device. Modules are loaded when a kernel of theirs is first used. It may be
// used from several goroutines.
type Library struct {
	dev  abi.Device
	arch int

	mu        sync.Mutex
	modules   map[string]abi.Module
	functions map[string]*function
}

type function struct {
	abi.Function
	shared int // dynamic shared memory allowed so far
}

// NewLibrary makes a library for a device of compute capability arch, 90 for 9.0, with nothing loaded yet.
func NewLibrary(dev abi.Device, arch int) *Library {
	return &Library{dev: dev, arch: arch, modules: map[string]abi.Module{}, functions: map[string]*function{}}
}

// Function returns a kernel that may be launched with the given dynamic shared memory.
func (l *Library) Function(module, kernel string, shared int) (abi.Function, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.functions[kernel]
	if f == nil {
		m, err := l.module(module)
		if err != nil {
			return nil, err
		}
		df, err := m.Function(kernel)
		if err != nil {
			return nil, fmt.Errorf("kernel %s: %w", kernel, err)
		}
		f = &function{Function: df, shared: defaultShared}
		l.functions[kernel] = f
	}
	if shared > f.shared {
		if err := f.SetMaxDynamicShared(shared); err != nil {
			return nil, fmt.Errorf("kernel %s: %d bytes of shared memory: %w", kernel, shared, err)
		}
		f.shared = shared
	}
	return f.Function, nil
}

func (l *Library) module(name string) (abi.Module, error) {
	if m := l.modules[name]; m != nil {
		return m, nil
	}
	image, err := Image(name, l.arch)
	if err != nil {
		return nil, err
	}
	m, err := l.dev.LoadModule(name, image)
	if err != nil {
		return nil, fmt.Errorf("load kernels %s: %w", name, err)
	}
	l.modules[name] = m
	return m, nil
}

// Run enqueues a launch.
func (l *Library) Run(ctx context.Context, s abi.Stream, launch *Launch) error {
	f, err := l.Function(launch.Module, launch.Kernel, launch.Shape.Shared)
	if err != nil {
		return err
	}
	return s.Launch(ctx, f, launch.Shape, &launch.Args)
}

// Close unloads all modules.
func (l *Library) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var first error
	for name, m := range l.modules {
		if err := m.Close(); err != nil && first == nil {
			first = fmt.Errorf("unload kernels %s: %w", name, err)
		}
	}
	clear(l.modules)
	clear(l.functions)
	return first
}
