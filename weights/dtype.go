package weights

import "fmt"

// DType is the type of a tensor's elements. Its set is that of the safetensors format.
type DType uint8

// The element types. F16 and BF16 are IEEE 754 binary16 and bfloat16. The F8, F6 and F4 types are those of the OCP
// microscaling formats and their FNUZ variants; C64 is a pair of F32.
const (
	invalidDType DType = iota
	F64
	F32
	F16
	BF16
	I64
	I32
	I16
	I8
	U64
	U32
	U16
	U8
	Bool
	C64
	F8E4M3
	F8E5M2
	F8E8M0
	F8E4M3FNUZ
	F8E5M2FNUZ
	F6E2M3
	F6E3M2
	F4
	dtypeCount
)

var dtypes = [dtypeCount]struct {
	name string // in safetensors headers
	bits int
}{
	invalidDType: {"invalid", 0},
	F64:          {"F64", 64},
	F32:          {"F32", 32},
	F16:          {"F16", 16},
	BF16:         {"BF16", 16},
	I64:          {"I64", 64},
	I32:          {"I32", 32},
	I16:          {"I16", 16},
	I8:           {"I8", 8},
	U64:          {"U64", 64},
	U32:          {"U32", 32},
	U16:          {"U16", 16},
	U8:           {"U8", 8},
	Bool:         {"BOOL", 8},
	C64:          {"C64", 64},
	F8E4M3:       {"F8_E4M3", 8},
	F8E5M2:       {"F8_E5M2", 8},
	F8E8M0:       {"F8_E8M0", 8},
	F8E4M3FNUZ:   {"F8_E4M3FNUZ", 8},
	F8E5M2FNUZ:   {"F8_E5M2FNUZ", 8},
	F6E2M3:       {"F6_E2M3", 6},
	F6E3M2:       {"F6_E3M2", 6},
	F4:           {"F4", 4},
}

// parseDType returns the type that safetensors headers call name.
func parseDType(name string) (DType, error) {
	for d := F64; d < dtypeCount; d++ {
		if dtypes[d].name == name {
			return d, nil
		}
	}
	return invalidDType, fmt.Errorf("unknown dtype %q", name)
}

// String returns the name in safetensors headers, such as "F16".
func (d DType) String() string {
	if d >= dtypeCount {
		return fmt.Sprintf("DType(%d)", uint8(d))
	}
	return dtypes[d].name
}

// bits is the size of an element in bits, 0 for a value that is not a DType.
func (d DType) bits() int {
	if d >= dtypeCount {
		return 0
	}
	return dtypes[d].bits
}

// Size is the size of an element in bytes, 0 for types whose elements are not whole bytes.
func (d DType) Size() int {
	if d.bits()%8 != 0 {
		return 0
	}
	return d.bits() / 8
}

// IsFloat says whether the type is a real floating-point type.
func (d DType) IsFloat() bool {
	switch d {
	case F64, F32, F16, BF16, F8E4M3, F8E5M2, F8E8M0, F8E4M3FNUZ, F8E5M2FNUZ, F6E2M3, F6E3M2, F4:
		return true
	default:
		return false
	}
}
