package ptxsim

import (
	"fmt"
	"math"

	"unirestorer/runtime/device"
)

// AddressMode says what lies outside of a texture.
type AddressMode uint8

// Address modes, with the numbers of CUaddress_mode.
const (
	AddressWrap   AddressMode = iota // the texture again
	AddressClamp                     // its edge
	AddressMirror                    // its mirror image
	AddressBorder                    // zeros
)

// Texture describes memory that kernels read by texture instructions, and read and write by surface instructions. Its texels
// lie in rows, row after row, slice after slice, layer after layer.
type Texture struct {
	Type     TensorType // of a channel: 8, 16 or 32 bits, F16 or F32
	Channels int        // 1, 2 or 4
	Dims     int        // 1 to 3
	Size     [3]int     // texels: width, height, depth
	Layers   int        // of an array of textures of one or two dimensions, else 0
	Signed   bool       // integers have a sign

	Linear     bool // interpolates between texels: for results that are floats
	Normalized bool // coordinates from 0 to 1
	AsFloat    bool // integers of 8 and 16 bits are read as floats, 1 for the largest
	Address    AddressMode
}

// texel is the bytes of one element.
func (t *Texture) texel() int { return t.Channels * t.Type.Size() }

// Bytes is the size of the memory that a texture describes.
func (t *Texture) Bytes() int64 {
	n := int64(t.texel()) * int64(max(t.Layers, 1))
	for i := range t.Dims {
		n *= int64(t.Size[i])
	}
	return n
}

// integer reports whether the channels are integers.
func (t *Texture) integer() bool { return t.Type < TensorF16 }

// maxTexture bounds the sizes of textures (CUDA C++ Programming Guide 12.4, table 21, compute capability 8.0).
var maxTexture = [4][3]int{1: {1 << 28}, 2: {131072, 65536}, 3: {16384, 16384, 16384}}

// Check returns what is wrong with the description.
func (t *Texture) Check() error {
	switch {
	case t.Type.Size() == 0 || t.Type.Size() > 4 || t.Type > TensorF32:
		return fmt.Errorf("texture: channels of type %d", t.Type)
	case t.Channels != 1 && t.Channels != 2 && t.Channels != 4:
		return fmt.Errorf("texture: %d channels, not 1, 2 or 4", t.Channels)
	case t.Dims < 1 || t.Dims > 3:
		return fmt.Errorf("texture: %d dimensions, not 1 to 3", t.Dims)
	case t.Layers < 0 || t.Layers > 2048 || t.Layers > 0 && t.Dims == 3:
		return fmt.Errorf("texture: %d layers of %d dimensions", t.Layers, t.Dims)
	}
	for i := range t.Dims {
		if most := maxTexture[t.Dims][i]; t.Size[i] < 1 || t.Size[i] > most {
			return fmt.Errorf("texture: %d texels in dimension %d, not 1 to %d", t.Size[i], i, most)
		}
	}
	return t.checkReading()
}

// checkReading is Check for how texels are read.
func (t *Texture) checkReading() error {
	switch {
	case t.AsFloat && (!t.integer() || t.Type.Size() > 2):
		return fmt.Errorf("texture: only integers of 8 and 16 bits are read as floats")
	case t.Linear && t.integer() && !t.AsFloat:
		return fmt.Errorf("texture: integers cannot be interpolated")
	case t.Address > AddressBorder:
		return fmt.Errorf("texture: address mode %d", t.Address)
	}
	return nil
}

// texture is a texture of a device's memory.
type texture struct {
	Texture
	mem  *allocation
	base uint64
}

// textureAlignment is what CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT says of these cards.
const textureAlignment = 512

// textureHandles is where handles begin, which are no addresses.
const textureHandles = 0x7ffb_0000_0000

// NewTexture makes a texture of a buffer and returns its handle, which kernels take as a parameter of 64 bits. It lives as
// long as the device.
func (d *Device) NewTexture(b device.Buffer, t Texture) (uint64, error) {
	if err := t.Check(); err != nil {
		return 0, err
	}
	if n := t.Bytes(); n > b.Size {
		return 0, fmt.Errorf("texture: %d bytes in a buffer of %d", n, b.Size)
	}
	if b.Ptr%textureAlignment != 0 {
		return 0, fmt.Errorf("texture: address 0x%x is not a multiple of %d", uint64(b.Ptr), textureAlignment)
	}
	if err := d.lock(); err != nil {
		return 0, err
	}
	defer d.mu.Unlock()
	a, _, err := d.mem.hostRange(uint64(b.Ptr), t.Bytes())
	if err != nil {
		return 0, fmt.Errorf("texture: %w", err)
	}
	d.mem.textures = append(d.mem.textures, &texture{t, a, uint64(b.Ptr)})
	return textureHandles + uint64(len(d.mem.textures)), nil
}

// textureOf finds a texture by its handle; nil if there is none.
func (m *memory) textureOf(handle uint64) *texture {
	if i := handle - textureHandles - 1; i < uint64(len(m.textures)) {
		return m.textures[i]
	}
	return nil
}

// value is a channel of a texel as a float.
func (t *texture) value(p []byte) float32 {
	bits := uint32(loadSmall(p, t.Type.Size()))
	switch {
	case t.Type == TensorF32:
		return math.Float32frombits(bits)
	case t.Type == TensorF16:
		return f16to32(bits)
	case t.Signed:
		most := float32(int(1)<<(8*t.Type.Size()-1) - 1)
		return max(-1, float32(t.extend(bits))/most)
	}
	return float32(bits) / float32(int(1)<<(8*t.Type.Size())-1)
}

// extend gives an integer channel its sign.
func (t *texture) extend(bits uint32) int32 {
	if n := 32 - 8*t.Type.Size(); t.Signed {
		return int32(bits<<n) >> n
	}
	return int32(bits)
}

// span is where a coordinate falls: between two texels, or on one (weight 0 for the second). Texels outside are -1.
type span struct {
	at     [2]int64
	weight float64 // of the second
}

// along finds where a coordinate falls in a dimension (CUDA C++ Programming Guide 12.4, section 10: texture fetching).
func (t *texture) along(dim int, x float32, linear bool) span {
	n := int64(t.Size[dim])
	mode, v := t.Address, float64(x)
	if t.Normalized {
		if mode == AddressWrap {
			v -= math.Floor(v)
		}
		v *= float64(n)
	} else if mode == AddressWrap || mode == AddressMirror {
		mode = AddressClamp
	}
	if v != v {
		v = 0
	}
	v = min(max(v, -1<<40), 1<<40)
	if !linear {
		i := int64(math.Floor(v))
		return span{at: [2]int64{t.inside(i, n, mode), -1}}
	}
	v -= 0.5
	i := int64(math.Floor(v))
	// Weights have eight bits behind the point.
	weight := math.Round((v-float64(i))*256) / 256
	return span{at: [2]int64{t.inside(i, n, mode), t.inside(i+1, n, mode)}, weight: weight}
}

// inside is the texel that index i of n means, -1 if it is a zero.
func (t *texture) inside(i, n int64, mode AddressMode) int64 {
	switch {
	case i >= 0 && i < n:
		return i
	case mode == AddressWrap:
		return (i%n + n) % n
	case mode == AddressMirror:
		if i = (i%(2*n) + 2*n) % (2 * n); i >= n {
			i = 2*n - 1 - i
		}
		return i
	case mode == AddressClamp:
		return min(max(i, 0), n-1)
	}
	return -1
}

// layer is the texture of an array that an index means.
func (t *texture) layer(i int64) int64 { return min(max(i, 0), int64(t.Layers)-1) }

// channels are those of a texel as 32-bit values: floats, or integers as they are.
func (t *texture) channels(p []byte) (out [4]uint32) {
	size := t.Type.Size()
	for c := range t.Channels {
		out[c] = uint32(t.extend(uint32(loadSmall(p[c*size:], size))))
		if !t.integer() || t.AsFloat {
			out[c] = math.Float32bits(t.value(p[c*size:]))
		}
	}
	return out
}
