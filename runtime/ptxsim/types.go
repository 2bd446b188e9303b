package ptxsim

// dtype is a PTX fundamental type.
type dtype uint8

const (
	tNone dtype = iota
	tB8
	tB16
	tB32
	tB64
	tB128
	tU8
	tU16
	tU32
	tU64
	tS8
	tS16
	tS32
	tS64
	tF16
	tF16x2
	tBF16
	tBF16x2
	tTF32
	tF32
	tF64
	tPred
)

var typeNames = map[string]dtype{
	"b8": tB8, "b16": tB16, "b32": tB32, "b64": tB64, "b128": tB128,
	"u8": tU8, "u16": tU16, "u32": tU32, "u64": tU64,
	"s8": tS8, "s16": tS16, "s32": tS32, "s64": tS64,
	"f16": tF16, "f16x2": tF16x2, "bf16": tBF16, "bf16x2": tBF16x2,
	"tf32": tTF32, "f32": tF32, "f64": tF64, "pred": tPred,
}

// String returns the type as PTX spells it, without the dot.
func (t dtype) String() string {
	for name, v := range typeNames {
		if v == t {
			return name
		}
	}
	return "untyped"
}

// size returns the bytes a value of the type takes in memory.
func (t dtype) size() int {
	switch t {
	case tB8, tU8, tS8:
		return 1
	case tB16, tU16, tS16, tF16, tBF16:
		return 2
	case tB32, tU32, tS32, tF32, tF16x2, tBF16x2, tTF32:
		return 4
	case tB64, tU64, tS64, tF64:
		return 8
	case tB128:
		return 16
	}
	return 0
}

func (t dtype) signed() bool { return t >= tS8 && t <= tS64 }

func (t dtype) float() bool { return t >= tF16 && t <= tF64 }

func (t dtype) integer() bool { return t >= tU8 && t <= tS64 }

// bits reports whether t is an untyped-bits type.
func (t dtype) bits() bool { return t >= tB8 && t <= tB128 }

// space is a PTX state space.
type space uint8

const (
	spGeneric space = iota
	spGlobal
	spShared
	spLocal
	spConst
	spParam
)

var spaceNames = map[string]space{
	"global": spGlobal, "shared": spShared, "shared::cta": spShared, "shared::cluster": spShared, "local": spLocal, "const": spConst,
	"param": spParam, "param::entry": spParam, "param::func": spParam,
}

func (s space) String() string {
	return [...]string{"generic", "global", "shared", "local", "const", "param"}[s]
}
