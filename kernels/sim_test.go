package kernels_test

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/kernels"
	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
	"unirestorer/weights/half"
)

// rig runs launches on a checking simulator. What the kernels do not write stays unwritten, so that reading it is an error.
type rig struct {
	testing.TB
	dev    *ptxsim.Device
	lib    *kernels.Library
	stream device.Stream
}

// rough says whether the simulator is to be no better than a card may be: inaccurate functions, sums of tensor cores cut
// off. The suite passes either way.
func rough() bool { return os.Getenv("UNIRESTORER_TEST_ROUGH") != "" }

// shared is one device for all tests that do not ask for their own, so that every module is parsed once.
var shared = sync.OnceValues(func() (*rig, error) {
	dev, err := ptxsim.New(deviceOptions(ptxsim.Options{Rough: rough()}))
	if err != nil {
		return nil, err
	}
	return &rig{dev: dev, lib: libraryOn(dev)}, nil
})

func newRig(t testing.TB) *rig {
	t.Helper()
	s, err := shared()
	require.NoError(t, err)
	return s.with(t)
}

// ownRig has a device to itself, whose reports no other test disturbs; a seed not 0 draws the order of blocks and warps.
func ownRig(t testing.TB, seed int64) *rig {
	t.Helper()
	dev, err := ptxsim.New(deviceOptions(ptxsim.Options{Seed: seed, Rough: rough()}))
	require.NoError(t, err)
	r := (&rig{dev: dev, lib: libraryOn(dev)}).with(t)
	t.Cleanup(func() { require.NoError(t, dev.Close()) })
	return r
}

func (r *rig) with(t testing.TB) *rig {
	t.Helper()
	noteTest(t)
	s, err := r.dev.NewStream()
	require.NoError(t, err)
	return &rig{t, r.dev, r.lib, s}
}

func (r *rig) alloc(bytes int) device.Buffer {
	r.Helper()
	b, err := r.dev.Alloc(int64(bytes))
	require.NoError(r, err)
	r.Cleanup(func() { require.NoError(r, r.dev.Free(b)) })
	return b
}

func (r *rig) upload(content []byte) device.Buffer {
	r.Helper()
	if len(content) == 0 {
		return device.Buffer{}
	}
	b := r.alloc(len(content))
	require.NoError(r, r.stream.CopyHtoD(b, content))
	return b
}

func (r *rig) floats(v []float32) device.Buffer {
	r.Helper()
	b := make([]byte, 4*len(v))
	for i, f := range v {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(f))
	}
	return r.upload(b)
}

func (r *rig) ints(v []int32) device.Buffer {
	r.Helper()
	b := make([]byte, 4*len(v))
	for i, f := range v {
		binary.LittleEndian.PutUint32(b[4*i:], uint32(f))
	}
	return r.upload(b)
}

func (r *rig) halves(v []uint16) device.Buffer {
	r.Helper()
	b := make([]byte, 2*len(v))
	for i, f := range v {
		binary.LittleEndian.PutUint16(b[2*i:], f)
	}
	return r.upload(b)
}

// rows uploads pixels of l.Channels values as fp16 rows in a layout.
func (r *rig) rows(v []float32, l kernels.Layout) device.Buffer {
	r.Helper()
	h := make([]uint16, 0, len(v)/l.Channels*l.Pitch())
	row := make([]uint16, l.Pitch())
	for ; len(v) > 0; v = v[l.Channels:] {
		half.F32ToF16(row, l.Spread(v[:l.Channels]))
		h = append(h, row...)
	}
	return r.halves(h)
}

// floatRows uploads pixels as fp32 rows.
func (r *rig) floatRows(v []float32, l kernels.Layout) device.Buffer {
	r.Helper()
	var f []float32
	for ; len(v) > 0; v = v[l.Channels:] {
		f = append(f, l.Spread(v[:l.Channels])...)
	}
	return r.floats(f)
}

// flag is an overflow flag, not raised.
func (r *rig) flag() device.Buffer {
	r.Helper()
	return r.upload(make([]byte, kernels.OverflowBytes))
}

// emptyRows allocates fp16 rows that nobody has written.
func (r *rig) emptyRows(pixels int, l kernels.Layout) device.Buffer {
	return r.alloc(2 * pixels * l.Pitch())
}

func (r *rig) run(l kernels.Launch, err error) {
	r.Helper()
	require.NoError(r, err)
	require.NoError(r, r.lib.Run(context.Background(), r.stream, &l))
	require.Positive(r, l.Bytes)
}

func (r *rig) download(b device.Buffer, n int) []byte {
	r.Helper()
	v := make([]byte, n)
	require.NoError(r, r.stream.CopyDtoH(v, b))
	return v
}

// pixels reads fp16 rows back and requires zeros in the padding.
func (r *rig) pixels(b device.Buffer, pixels int, l kernels.Layout) []float32 {
	r.Helper()
	row := make([]float32, l.Pitch())
	raw := r.download(b, 2*pixels*l.Pitch())
	v := make([]float32, 0, pixels*l.Channels)
	for i := range pixels {
		half.DecodeF16(row, raw[2*i*l.Pitch():][:2*l.Pitch()])
		v = append(v, r.channels(row, l)...)
	}
	return v
}

// floatPixels is pixels for fp32 rows.
func (r *rig) floatPixels(b device.Buffer, pixels int, l kernels.Layout) []float32 {
	r.Helper()
	row := make([]float32, l.Pitch())
	raw := r.download(b, 4*pixels*l.Pitch())
	v := make([]float32, 0, pixels*l.Channels)
	for i := range pixels {
		for c := range row {
			row[c] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*(i*l.Pitch()+c):]))
		}
		v = append(v, r.channels(row, l)...)
	}
	return v
}

func (r *rig) channels(row []float32, l kernels.Layout) []float32 {
	r.Helper()
	v := make([]float32, l.Channels)
	for p, f := range row {
		if c := l.Channel(p); c >= 0 {
			v[c] = f
		} else {
			require.Zero(r, f, "padding at position %d", p)
		}
	}
	return v
}

// rounded is v rounded to fp16.
func rounded(v []float32) []float32 {
	h := make([]uint16, len(v))
	half.F32ToF16(h, v)
	out := make([]float32, len(v))
	half.F16ToF32(out, h)
	return out
}
