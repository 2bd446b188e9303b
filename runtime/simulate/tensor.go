package simulate

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// tensorHelp describes the tensor maps that ParseArg reads.
const tensorHelp = "tensormap:TYPE:DIMS:BOX[:OPTION...] is a tensor map as cuTensorMapEncodeTiled makes one, DIMS and BOX such as 64x32 with the innermost " +
	"dimension first, of a buffer of its own or of=I, that of argument I; options: random, unset, swizzle=32|64|128, steps=1x2, pitch=BYTES (of the second dimension), nan"

// tensorTypes are the types of tensors' elements.
var tensorTypes = map[string]ptxsim.TensorType{
	"u8": ptxsim.TensorU8, "i8": ptxsim.TensorU8, "u16": ptxsim.TensorU16, "i16": ptxsim.TensorU16, "u32": ptxsim.TensorU32, "i32": ptxsim.TensorS32,
	"s32": ptxsim.TensorS32, "u64": ptxsim.TensorU64, "i64": ptxsim.TensorS64, "s64": ptxsim.TensorS64, "f16": ptxsim.TensorF16,
	"bf16": ptxsim.TensorBF16, "f32": ptxsim.TensorF32, "f64": ptxsim.TensorF64,
}

// Tensor is an argument that is a tensor map.
type Tensor struct {
	Map ptxsim.TensorMap // its address is known when the buffers are
	Of  int              // argument whose buffer it describes, -1 for one of its own
}

// parseTensor reads what follows "tensormap:".
func parseTensor(text string) (a Arg, err error) {
	parts := strings.Split(text, ":")
	if len(parts) < 3 {
		return a, errors.New("want " + tensorHelp)
	}
	t := &Tensor{Of: -1}
	a = Arg{Type: strings.ToLower(parts[0]), Fill: fillZeros, Tensor: t}
	kind, known := tensorTypes[a.Type]
	if !known {
		return a, fmt.Errorf("unknown type %q", parts[0])
	}
	t.Map.Type = kind
	dims, err := sizesOf(parts[1], 1<<32)
	if err != nil {
		return a, err
	}
	box, err := sizesOf(parts[2], 256)
	if err != nil {
		return a, err
	}
	if len(box) != len(dims) {
		return a, fmt.Errorf("a box of %d dimensions for %d", len(box), len(dims))
	}
	t.Map.Rank = len(dims)
	for i := range dims {
		t.Map.Dims[i], t.Map.Box[i], t.Map.Steps[i] = dims[i], uint32(box[i]), 1
	}
	pitch := uint64(0)
	for _, o := range parts[3:] {
		if err := a.tensorOption(o, &pitch); err != nil {
			return a, err
		}
	}
	bytes, err := t.layOut(pitch)
	if err != nil {
		return a, err
	}
	a.Count = int64(bytes / uint64(kind.Size()))
	return a, t.Map.Check()
}

// tensorOption reads one of the options behind dimensions and box.
func (a *Arg) tensorOption(text string, pitch *uint64) (err error) {
	t := a.Tensor
	name, value, _ := strings.Cut(text, "=")
	number := func(most uint64) uint64 {
		n, convErr := strconv.ParseUint(value, 10, 64)
		if convErr != nil || n > most {
			err = fmt.Errorf("%q is no number up to %d", value, most)
		}
		return n
	}
	switch {
	case text == "random":
		a.Fill = fillRandom
	case text == "unset":
		a.Fill = fillUnset
	case text == "nan":
		t.Map.NaN = true
	case name == "swizzle":
		t.Map.Swizzle = int(number(128))
	case name == "pitch":
		*pitch = number(1 << 40)
	case name == "of":
		t.Of = int(number(1 << 10))
	case name == "steps":
		steps, err := sizesOf(value, 8)
		if err == nil && len(steps) != t.Map.Rank {
			err = fmt.Errorf("%d steps for %d dimensions", len(steps), t.Map.Rank)
		}
		if err != nil {
			return err
		}
		for i, s := range steps {
			t.Map.Steps[i] = uint32(s)
		}
	default:
		return fmt.Errorf("unknown option %q", text)
	}
	return err
}

// layOut gives the strides of all dimensions but the first, by the pitch of the second unless that is 0, and the bytes of
// the whole tensor.
func (t *Tensor) layOut(pitch uint64) (uint64, error) {
	row := t.Map.Dims[0] * uint64(t.Map.Type.Size())
	stride := (row + 15) &^ 15
	if pitch != 0 {
		if stride = pitch; pitch < row {
			return 0, fmt.Errorf("a pitch of %d bytes for %d elements", pitch, t.Map.Dims[0])
		}
	}
	for i := 1; i < t.Map.Rank; i++ {
		t.Map.Strides[i-1] = stride
		if stride > 1<<40/t.Map.Dims[i] {
			return 0, errors.New("the tensor is too large")
		}
		stride *= t.Map.Dims[i]
	}
	return stride, nil
}

// sizesOf reads "64x32".
func sizesOf(text string, most uint64) (out []uint64, err error) {
	for p := range strings.SplitSeq(text, "x") {
		n, err := strconv.ParseUint(p, 10, 64)
		if err != nil || n < 1 || n > most {
			return nil, fmt.Errorf("%q: want sizes such as 64x32, each from 1 to %d", text, most)
		}
		out = append(out, n)
	}
	if len(out) > 5 {
		return nil, fmt.Errorf("%q has more than five dimensions", text)
	}
	return out, nil
}

// encode makes the map of a buffer.
func (t *Tensor) encode(b device.Buffer) ([]byte, error) {
	m := t.Map
	m.Address = uint64(b.Ptr)
	last := m.Dims[0] * uint64(m.Type.Size())
	for i := 1; i < m.Rank; i++ {
		last += (m.Dims[i] - 1) * m.Strides[i-1]
	}
	if last > uint64(b.Size) {
		return nil, fmt.Errorf("the tensor of %d bytes is larger than the buffer of %d", last, b.Size)
	}
	return m.Encode()
}
