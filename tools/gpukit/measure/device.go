// Package measure times kernels, networks and starts on a GPU. On a simulated device it goes through the same motions;
// times then mean nothing.
package measure

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"unirestorer/runtime/cuda"
	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// Open opens a device by name: "cuda" or "cuda:N" for a GPU, "sim" for the simulator.
func Open(name string) (device.Device, error) {
	kind, which, _ := strings.Cut(name, ":")
	switch kind {
	case "cuda":
		return cuda.Open(which, cuda.Options{})
	case "sim":
		return ptxsim.New(ptxsim.Options{NoCheck: true, Memory: 64 << 30})
	}
	return nil, fmt.Errorf("device %q: want cuda, cuda:N or sim", name)
}

// bench is a device with a stream and what was allocated for a measurement.
type bench struct {
	dev     device.Device
	stream  device.Stream
	start   device.Event
	end     device.Event
	buffers []device.Buffer
}

func newBench(dev device.Device) (*bench, error) {
	b := &bench{dev: dev}
	var err error
	if b.stream, err = dev.NewStream(); err != nil {
		return nil, err
	}
	if b.start, err = dev.NewEvent(); err != nil {
		return nil, errors.Join(err, b.close())
	}
	if b.end, err = dev.NewEvent(); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// alloc reserves memory until freed or closed.
func (b *bench) alloc(size int64) (device.Buffer, error) {
	m, err := b.dev.Alloc(max(size, 256))
	if err == nil {
		b.buffers = append(b.buffers, m)
	}
	return m, err
}

// free gives back all memory.
func (b *bench) free() error {
	var errs []error
	for _, m := range b.buffers {
		errs = append(errs, b.dev.Free(m))
	}
	b.buffers = nil
	return errors.Join(errs...)
}

func (b *bench) close() error {
	errs := []error{b.free()}
	if b.end != nil {
		errs = append(errs, b.end.Close())
	}
	if b.start != nil {
		errs = append(errs, b.start.Close())
	}
	if b.stream != nil {
		errs = append(errs, b.stream.Close())
	}
	return errors.Join(errs...)
}

// fillChunk is the size of the pattern that fill repeats.
const fillChunk = 8 << 20

// fill writes random values that are finite, and below 1, both as fp16 and as fp32.
func (b *bench) fill(ctx context.Context, m device.Buffer, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	pattern := make([]byte, 0, fillChunk)
	for len(pattern) < fillChunk && int64(len(pattern)) < m.Size {
		v := uint16(rng.UintN(0x3c00)) | uint16(rng.UintN(2))<<15
		pattern = binary.LittleEndian.AppendUint16(pattern, v)
	}
	for at := int64(0); at < m.Size; at += int64(len(pattern)) {
		n := min(int64(len(pattern)), m.Size-at)
		part, err := m.Slice(at, n)
		if err != nil {
			return err
		}
		if err := b.stream.CopyHtoD(part, pattern[:n]); err != nil {
			return err
		}
	}
	return b.stream.Synchronize(ctx)
}
