package simulate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// textureHelp describes the textures and surfaces that ParseArg reads.
const textureHelp = "texture:TYPE[xCHANNELS]:SIZE[:OPTION...] is a texture or surface object, SIZE such as 64x32 with the width first, of a buffer of its own " +
	"or of=I; types are i8 to i32, u8 to u32, f16, f32; options: random, unset, layers=N, linear, normalized, float (integers read as such), wrap, clamp, mirror, border"

// Texture is an argument that is a texture or surface object.
type Texture struct {
	ptxsim.Texture
	Of int // argument whose buffer it describes, -1 for one of its own
}

// textureTypes are the types of channels.
var textureTypes = map[string]ptxsim.TensorType{
	"u8": ptxsim.TensorU8, "i8": ptxsim.TensorU8, "u16": ptxsim.TensorU16, "i16": ptxsim.TensorU16, "u32": ptxsim.TensorU32, "i32": ptxsim.TensorU32,
	"f16": ptxsim.TensorF16, "f32": ptxsim.TensorF32,
}

var addressModes = map[string]ptxsim.AddressMode{
	"wrap": ptxsim.AddressWrap, "clamp": ptxsim.AddressClamp, "mirror": ptxsim.AddressMirror, "border": ptxsim.AddressBorder,
}

// parseTexture reads what follows "texture:".
func parseTexture(text string) (a Arg, err error) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 {
		return a, errors.New("want " + textureHelp)
	}
	name, channels, several := strings.Cut(strings.ToLower(parts[0]), "x")
	t := &Texture{Of: -1}
	t.Channels, t.Signed, t.Address = 1, name != "" && name[0] == 'i', ptxsim.AddressClamp
	a = Arg{Type: name, Fill: fillZeros, Texture: t}
	var known bool
	if t.Type, known = textureTypes[name]; !known {
		return a, fmt.Errorf("unknown type %q", parts[0])
	}
	if several {
		if t.Channels, err = strconv.Atoi(channels); err != nil {
			return a, fmt.Errorf("unknown type %q", parts[0])
		}
	}
	size, err := sizesOf(parts[1], 1<<28)
	if err != nil {
		return a, err
	}
	if t.Dims = len(size); t.Dims > 3 {
		return a, fmt.Errorf("%q has more than three dimensions", parts[1])
	}
	for i, n := range size {
		t.Size[i] = int(n)
	}
	for _, o := range parts[2:] {
		if err := t.option(&a, o); err != nil {
			return a, err
		}
	}
	if err := t.Check(); err != nil {
		return a, err
	}
	if t.Bytes() > 1<<40 {
		return a, errors.New("the texture is too large")
	}
	a.Count = t.Bytes() / int64(t.Type.Size())
	return a, nil
}

// option applies one.
func (t *Texture) option(a *Arg, text string) (err error) {
	name, value, _ := strings.Cut(text, "=")
	mode, isMode := addressModes[text]
	switch {
	case isMode:
		t.Address = mode
	case text == "random":
		a.Fill = fillRandom
	case text == "unset":
		a.Fill = fillUnset
	case text == "linear":
		t.Linear = true
	case text == "normalized":
		t.Normalized = true
	case text == "float":
		t.AsFloat = true
	case name == "layers":
		if t.Layers, err = strconv.Atoi(value); err != nil || t.Layers < 1 {
			return fmt.Errorf("%q is no number of layers", value)
		}
	case name == "of":
		if t.Of, err = strconv.Atoi(value); err != nil || t.Of < 0 {
			return fmt.Errorf("%q is no number of an argument", value)
		}
	default:
		return fmt.Errorf("unknown option %q", text)
	}
	return nil
}

// object makes the object and returns its handle as kernels take it.
func (t *Texture) object(dev *ptxsim.Device, b device.Buffer) ([]byte, error) {
	handle, err := dev.NewTexture(b, t.Texture)
	if err != nil {
		return nil, err
	}
	return binary.LittleEndian.AppendUint64(nil, handle), nil
}
