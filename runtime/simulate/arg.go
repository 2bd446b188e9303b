package simulate

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"github.com/x448/float16"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// Fill says what a buffer holds before the launch.
type Fill string

// Fills of buffers.
const (
	fillZeros  Fill = "zeros"
	fillRandom Fill = "random" // floats of a normal distribution, integers from 0 to 99; the same on every machine
	fillUnset  Fill = "unset"  // nobody wrote it: reads are findings
	fillFile   Fill = "file"
)

// Arg is an argument of a kernel: a buffer in device memory, or a value.
type Arg struct {
	Text  string // as it was written
	Type  string // of an element: "f32"
	Value []byte // of a scalar; nil for a buffer
	Count int64  // elements of a buffer
	Fill  Fill
	Path  string // of the file

	Tensor  *Tensor  // a tensor map; Type, Count and Fill are those of the buffer that it describes
	Texture *Texture // a texture or surface object; the same
}

// HasBuffer reports whether the argument has a buffer of its own.
func (a *Arg) HasBuffer() bool { return a.Value == nil && a.of() < 0 }

// of is the argument whose buffer a tensor map or a texture describes, -1 for one of its own.
func (a *Arg) of() int {
	switch {
	case a.Tensor != nil:
		return a.Tensor.Of
	case a.Texture != nil:
		return a.Texture.Of
	}
	return -1
}

// sizes are the types by their size in bytes.
var sizes = map[string]int{
	"i8": 1, "u8": 1, "b8": 1, "s8": 1, "i16": 2, "u16": 2, "b16": 2, "s16": 2, "f16": 2, "bf16": 2,
	"i32": 4, "u32": 4, "b32": 4, "s32": 4, "f32": 4, "i64": 8, "u64": 8, "b64": 8, "s64": 8, "f64": 8,
}

// ArgHelp describes what ParseArg reads.
const ArgHelp = "TYPE:COUNT (a buffer of zeros), TYPE:COUNT:random, TYPE:COUNT:unset, TYPE:COUNT:FILE or TYPE:FILE (raw little-endian values), " +
	"TYPE=VALUE (a scalar) or hex=BYTES (a struct by value); types are i8 to i64, u8 to u64, f16, bf16, f32, f64. " + tensorHelp + ". " + textureHelp

// ParseArg reads an argument.
func ParseArg(text string) (Arg, error) {
	if rest, ok := strings.CutPrefix(text, "tensormap:"); ok {
		a, err := parseTensor(rest)
		if a.Text = text; err != nil {
			return a, fmt.Errorf("argument %q: %w", text, err)
		}
		return a, nil
	}
	if rest, ok := strings.CutPrefix(text, "texture:"); ok {
		a, err := parseTexture(rest)
		if a.Text = text; err != nil {
			return a, fmt.Errorf("argument %q: %w", text, err)
		}
		return a, nil
	}
	a := Arg{Text: text, Fill: fillZeros}
	if name, value, ok := strings.Cut(text, "="); ok && !strings.Contains(name, ":") {
		a.Type = strings.ToLower(name)
		var err error
		if a.Value, err = scalar(a.Type, value); err != nil {
			return a, fmt.Errorf("argument %q: %w", text, err)
		}
		return a, nil
	}
	name, rest, ok := strings.Cut(text, ":")
	a.Type = strings.ToLower(name)
	if !ok || rest == "" {
		return a, fmt.Errorf("argument %q: want %s", text, ArgHelp)
	}
	if sizes[a.Type] == 0 {
		return a, fmt.Errorf("argument %q: unknown type %q", text, name)
	}
	count, fill, filled := strings.Cut(rest, ":")
	n, err := strconv.ParseInt(count, 0, 64)
	if err != nil {
		a.Fill, a.Path = fillFile, rest
		return a, nil
	}
	if n <= 0 || n > math.MaxInt64/16 {
		return a, fmt.Errorf("argument %q: a buffer needs at least one element", text)
	}
	a.Count = n
	switch {
	case !filled || fill == "zeros" || fill == "zero":
	case fill == "random":
		a.Fill = fillRandom
	case fill == "unset":
		a.Fill = fillUnset
	case fill == "":
		return a, fmt.Errorf("argument %q: nothing after the last colon", text)
	default:
		a.Fill, a.Path = fillFile, fill
	}
	return a, nil
}

// scalar encodes a value.
func scalar(typ, text string) ([]byte, error) {
	if typ == "hex" {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) == 0 {
			return nil, fmt.Errorf("%q is not bytes in hexadecimal", text)
		}
		return b, nil
	}
	size := sizes[typ]
	if size == 0 {
		return nil, fmt.Errorf("unknown type %q", typ)
	}
	var bits uint64
	switch typ[0] {
	case 'f', 'b':
		if typ[0] == 'b' && typ != "bf16" {
			break
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", text)
		}
		return binary.LittleEndian.AppendUint64(nil, floatBits(typ, v))[:size], nil
	}
	if v, err := strconv.ParseInt(text, 0, 8*size); err == nil && (typ[0] == 'i' || typ[0] == 's' || v >= 0) {
		bits = uint64(v)
	} else if v, err := strconv.ParseUint(text, 0, 8*size); err == nil && typ[0] != 'i' && typ[0] != 's' {
		bits = v
	} else {
		return nil, fmt.Errorf("%q is no %s", text, typ)
	}
	return binary.LittleEndian.AppendUint64(nil, bits)[:size], nil
}

// floatBits is v in a floating-point format, rounded.
func floatBits(typ string, v float64) uint64 {
	switch typ {
	case "f16":
		return uint64(float16.Fromfloat32(float32(v)).Bits())
	case "bf16":
		b := math.Float32bits(float32(v))
		if v != v {
			return 0x7fff
		}
		return uint64((b + 0x7fff + b>>16&1) >> 16)
	case "f32":
		return uint64(math.Float32bits(float32(v)))
	}
	return math.Float64bits(v)
}

// content returns what a buffer holds, nil for one that nobody wrote, and its size.
func (a *Arg) content(rng *rand.Rand, limit int64) (b []byte, size int64, err error) {
	elem := int64(sizes[a.Type])
	size = a.Count * elem
	if a.Fill == fillFile {
		info, err := os.Stat(a.Path)
		if err != nil {
			return nil, 0, fmt.Errorf("argument %q: %w", a.Text, err)
		}
		switch {
		case a.Count == 0:
			size = info.Size()
		case info.Size() < size:
			return nil, 0, fmt.Errorf("argument %q: the file has %d bytes of %d", a.Text, info.Size(), size)
		}
		if size == 0 || size%elem != 0 {
			return nil, 0, fmt.Errorf("argument %q: %d bytes are not a number of %s", a.Text, size, a.Type)
		}
	}
	if size > limit {
		return nil, 0, fmt.Errorf("argument %q: %d bytes: %w (%d are free)", a.Text, size, device.ErrOutOfMemory, limit)
	}
	switch a.Fill {
	case fillUnset:
		return nil, size, nil
	case fillFile:
		b, err := os.ReadFile(a.Path)
		if err != nil {
			return nil, 0, fmt.Errorf("argument %q: %w", a.Text, err)
		}
		if int64(len(b)) < size {
			return nil, 0, fmt.Errorf("argument %q: the file changed while it was read", a.Text)
		}
		return b[:size], size, nil
	}
	b = make([]byte, size)
	if a.Fill == fillRandom {
		for at := int64(0); at < size; at += elem {
			bits := rng.Uint64N(100)
			if strings.HasPrefix(a.Type, "f") || a.Type == "bf16" {
				bits = floatBits(a.Type, rng.NormFloat64())
			}
			var word [8]byte
			binary.LittleEndian.PutUint64(word[:], bits)
			copy(b[at:at+elem], word[:])
		}
	}
	return b, size, nil
}

// ParseDim reads "X", "X,Y" or "X,Y,Z".
func ParseDim(text string) (device.Dim3, error) {
	d := device.Dim3{X: 1, Y: 1, Z: 1}
	parts := strings.Split(text, ",")
	if len(parts) > 3 {
		return d, fmt.Errorf("%q has more than three dimensions", text)
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(strings.TrimSpace(p), 10, 32)
		if err != nil || n == 0 {
			return d, fmt.Errorf("%q: want X, X,Y or X,Y,Z, each at least 1", text)
		}
		*[]*uint32{&d.X, &d.Y, &d.Z}[i] = uint32(n)
	}
	return d, nil
}

// values formats the first values of a buffer.
func values(typ string, b []byte, n int) []string {
	size := sizes[typ]
	var out []string
	for ; n > 0 && len(b) >= size; n-- {
		var word [8]byte
		copy(word[:], b[:size])
		bits := binary.LittleEndian.Uint64(word[:])
		switch {
		case typ == "f16":
			out = append(out, strconv.FormatFloat(float64(float16.Frombits(uint16(bits)).Float32()), 'g', 5, 32))
		case typ == "bf16":
			out = append(out, strconv.FormatFloat(float64(math.Float32frombits(uint32(bits)<<16)), 'g', 4, 32))
		case typ == "f32":
			out = append(out, strconv.FormatFloat(float64(math.Float32frombits(uint32(bits))), 'g', -1, 32))
		case typ == "f64":
			out = append(out, strconv.FormatFloat(math.Float64frombits(bits), 'g', -1, 64))
		case typ[0] == 'i' || typ[0] == 's':
			out = append(out, strconv.FormatInt(int64(bits<<(64-8*size))>>(64-8*size), 10))
		case typ[0] == 'b':
			out = append(out, fmt.Sprintf("0x%0*x", 2*size, bits))
		default:
			out = append(out, strconv.FormatUint(bits, 10))
		}
		b = b[size:]
	}
	return out
}

// ParseArch reads "sm_90", "sm_90a" or "90".
func ParseArch(text string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(text, "sm_"), "a"))
	if _, known := ptxsim.ArchOf(n); err != nil || !known {
		return 0, fmt.Errorf("%q: want sm_80, sm_86, sm_89, sm_90, sm_100 or sm_120", text)
	}
	return n, nil
}
