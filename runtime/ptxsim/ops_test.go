package ptxsim_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// An opCase is one instruction with an independent statement of its result. In the text, D stands for the
// destination and A, B, C for the sources; shape gives their registers in this order: h 16, r 32, d 64 bits, p a
// predicate (true for odd operands).
type opCase struct {
	text  string
	shape string
	want  func(a, b, c uint64) uint64
	gen   string                      // operands: i integers, f floats, h halves (pairs for r), e bfloat16, d doubles, s small integers
	close func(got, want uint64) bool // nil: equal bits
}

const opThreads = 512

// operand values that are worth trying, by kind
var specialValues = map[byte][]uint64{
	'i': {0, 1, 2, 31, 32, 33, 63, 64, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
		0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff},
	'f': {0, 0x80000000, 1, 0x80000001, 0x007fffff, 0x00800000, 0x3f800000, 0xbf800000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000,
		0x7fc00000, 0x3f7fffff, 0x33800000, 0x4b800000, 0x3f000000, 0x40200000, 0x4f000000, 0x5f000000},
	'h': {0, 0x80008000, 0x00010001, 0x03ff0400, 0x3c003c01, 0xbc00bc00, 0x7bff7bff, 0x7c00fc00, 0x7e003c00, 0x3c007e00, 0x14000c00},
	'e': {0, 0x80008000, 0x00010001, 0x007f0080, 0x3f803f81, 0xbf80bf80, 0x7f7f7f7f, 0x7f80ff80, 0x7fc03f80, 0x3f807fc0},
	'd': {0, 1 << 63, 1, 0x3ff0000000000000, 0x7fefffffffffffff, 0x7ff0000000000000, 0x7ff8000000000000, 0x4000000000000000},
	's': {0, 1, 2, 3, 7, 8, 15, 16, 24, 31, 32, 33, 40, 63, 64, 100, 255},
}

func genOperand(kind byte, i int, rng *rand.Rand) uint64 {
	sp := specialValues[kind]
	if rng.IntN(4) == 0 {
		return sp[rng.IntN(len(sp))]
	}
	switch kind {
	case 'f':
		if rng.IntN(3) == 0 {
			return uint64(rng.Uint32())
		}
		return uint64(math.Float32bits(float32(rng.NormFloat64() * math.Exp2(float64(rng.IntN(20)-10)))))
	case 'h':
		if rng.IntN(3) == 0 {
			return uint64(rng.Uint32())
		}
		return uint64(halfBits(rng.NormFloat64()))<<16 | uint64(halfBits(rng.NormFloat64()*8))
	case 'e':
		if rng.IntN(3) == 0 {
			return uint64(rng.Uint32())
		}
		f := func() uint64 { return uint64(math.Float32bits(float32(rng.NormFloat64())) >> 16) }
		return f()<<16 | f()
	case 'd':
		return math.Float64bits(rng.NormFloat64() * math.Exp2(float64(rng.IntN(60)-30)))
	case 's':
		return uint64(rng.IntN(70))
	}
	return rng.Uint64() >> rng.IntN(64)
}

// opKernel writes a kernel around an instruction.
func opKernel(name string, c opCase) string {
	reg := func(i int, k byte) string { return fmt.Sprintf("%%%c%d", k, i) }
	text := c.text
	names := "DABC"
	var b strings.Builder
	fmt.Fprintf(&b, `.visible .entry %s(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 pd)
{
	.reg .pred %%p<8>; .reg .b16 %%h<8>; .reg .b32 %%r<16>; .reg .b64 %%d<32>;
	mov.u32 %%r10, %%tid.x;
	mul.wide.u32 %%d10, %%r10, 8;
	ld.param.u64 %%d11, [pa]; ld.param.u64 %%d12, [pb]; ld.param.u64 %%d13, [pc]; ld.param.u64 %%d14, [pd];
	add.s64 %%d11, %%d11, %%d10; add.s64 %%d12, %%d12, %%d10; add.s64 %%d13, %%d13, %%d10; add.s64 %%d14, %%d14, %%d10;
	ld.global.u64 %%d1, [%%d11]; ld.global.u64 %%d2, [%%d12]; ld.global.u64 %%d3, [%%d13];
	mov.u64 %%d0, 0; mov.u32 %%r0, 0;
`, name)
	for i := 1; i < len(c.shape); i++ {
		switch c.shape[i] {
		case 'h':
			fmt.Fprintf(&b, "\tcvt.u16.u64 %%h%d, %%d%d;\n", i, i)
		case 'r':
			fmt.Fprintf(&b, "\tcvt.u32.u64 %%r%d, %%d%d;\n", i, i)
		case 'p':
			fmt.Fprintf(&b, "\tand.b64 %%d20, %%d%d, 1; setp.ne.s64 %%p%d, %%d20, 0;\n", i, i)
		}
	}
	for i := range c.shape {
		text = strings.ReplaceAll(text, " "+names[i:i+1], " "+reg(i, c.shape[i]))
		text = strings.ReplaceAll(text, "!"+names[i:i+1], "!"+reg(i, c.shape[i]))
	}
	fmt.Fprintf(&b, "\t%s;\n", text)
	switch c.shape[0] {
	case 'h':
		b.WriteString("\tcvt.u64.u16 %d0, %h0;\n")
	case 'r':
		b.WriteString("\tcvt.u64.u32 %d0, %r0;\n")
	case 'p':
		b.WriteString("\tselp.u64 %d0, 1, 0, %p0;\n")
	}
	b.WriteString("\tst.global.u64 [%d14], %d0;\n\tret;\n}\n")
	return b.String()
}

// runOps runs each case on its own kernel and compares.
func runOps(t *testing.T, cases []opCase) {
	t.Helper()
	var src strings.Builder
	src.WriteString(".version 8.4\n.target sm_90\n.address_size 64\n")
	for i, c := range cases {
		src.WriteString(opKernel(fmt.Sprintf("k%d", i), c))
	}
	r := newRig(t, ptxsim.Options{}, "ops", []byte(src.String()))
	rng := rand.New(rand.NewPCG(11, 12))
	for i, c := range cases {
		var in [3][]uint64
		var buf [3]device.Buffer
		for k := range in {
			raw := make([]byte, 8*opThreads)
			kind := c.gen[min(k, len(c.gen)-1)]
			for j := range opThreads {
				v := genOperand(kind, j, rng)
				in[k] = append(in[k], v)
				binary.LittleEndian.PutUint64(raw[8*j:], v)
			}
			buf[k] = r.upload(raw)
		}
		out := r.alloc(8 * opThreads)
		var a device.Args
		require.NoError(t, r.launch(fmt.Sprintf("k%d", i), device.D1(1), device.D1(opThreads), 0,
			a.Buf(buf[0]).Buf(buf[1]).Buf(buf[2]).Buf(out)), c.text)
		got := r.bytes(out)
		for j := range opThreads {
			var v [3]uint64
			for k := range v {
				v[k] = in[k][j]
				if k+1 < len(c.shape) {
					switch c.shape[k+1] {
					case 'h':
						v[k] &= 0xffff
					case 'r':
						v[k] &= 0xffffffff
					case 'p':
						v[k] &= 1
					}
				}
			}
			want, g := c.want(v[0], v[1], v[2]), binary.LittleEndian.Uint64(got[8*j:])
			if c.close != nil && c.close(g, want) {
				continue
			}
			require.Equal(t, fmt.Sprintf("%#x", want), fmt.Sprintf("%#x", g), "%s with a=%#x b=%#x c=%#x", c.text, v[0], v[1], v[2])
		}
	}
}

func s32(v uint64) int64 { return int64(int32(v)) }
func s16(v uint64) int64 { return int64(int16(v)) }
func u32(v int64) uint64 { return uint64(uint32(v)) }
func u16(v int64) uint64 { return uint64(uint16(v)) }

func bigS(v uint64) *big.Int { return big.NewInt(int64(v)) }
func bigU(v uint64) *big.Int { return new(big.Int).SetUint64(v) }

// bigBits returns 64 bits of x starting at bit n.
func bigBits(x *big.Int, n uint) uint64 {
	m := new(big.Int).Lsh(big.NewInt(1), 64)
	return new(big.Int).Mod(new(big.Int).Rsh(x, n), m).Uint64()
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func TestIntegerInstructionsMatchTheirDefinitions(t *testing.T) {
	sat := func(v int64) uint64 { return u32(max(min(v, math.MaxInt32), math.MinInt32)) }
	abs := func(v int64) int64 { return max(v, -v) }
	div := func(f func(a, b int64) int64, bits uint) func(a, b, c uint64) uint64 {
		return func(a, b, _ uint64) uint64 {
			x, y := int64(a<<(64-bits))>>(64-bits), int64(b<<(64-bits))>>(64-bits)
			return uint64(f(x, y)) << (64 - bits) >> (64 - bits)
		}
	}
	quo := func(a, b int64) int64 {
		if b == 0 {
			return -1
		}
		return a / b
	}
	rem := func(a, b int64) int64 {
		if b == 0 {
			return a
		}
		return a % b
	}
	runOps(t, []opCase{
		{"add.s32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return u32(int64(a + b)) }, "i", nil},
		{"add.u64 D, A, B", "ddd", func(a, b, _ uint64) uint64 { return a + b }, "i", nil},
		{"add.s16 D, A, B", "hhh", func(a, b, _ uint64) uint64 { return u16(int64(a + b)) }, "i", nil},
		{"add.sat.s32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return sat(s32(a) + s32(b)) }, "i", nil},
		{"sub.s32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return u32(int64(a - b)) }, "i", nil},
		{"sub.sat.s32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return sat(s32(a) - s32(b)) }, "i", nil},
		{"sub.u64 D, A, B", "ddd", func(a, b, _ uint64) uint64 { return a - b }, "i", nil},
		{"mul.lo.s32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return u32(int64(a * b)) }, "i", nil},
		{"mul.lo.s64 D, A, B", "ddd", func(a, b, _ uint64) uint64 { return a * b }, "i", nil},
		{"mul.lo.u16 D, A, B", "hhh", func(a, b, _ uint64) uint64 { return u16(int64(a * b)) }, "i", nil},
		{"mul.hi.s32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return u32(s32(a) * s32(b) >> 32) }, "i", nil},
		{"mul.hi.u32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return a * b >> 32 }, "i", nil},
		{"mul.hi.s16 D, A, B", "hhh", func(a, b, _ uint64) uint64 { return u16(s16(a) * s16(b) >> 16) }, "i", nil},
		{"mul.hi.u16 D, A, B", "hhh", func(a, b, _ uint64) uint64 { return a * b >> 16 }, "i", nil},
		{"mul.hi.s64 D, A, B", "ddd", func(a, b, _ uint64) uint64 { return bigBits(new(big.Int).Mul(bigS(a), bigS(b)), 64) }, "i", nil},
		{"mul.hi.u64 D, A, B", "ddd", func(a, b, _ uint64) uint64 { return bigBits(new(big.Int).Mul(bigU(a), bigU(b)), 64) }, "i", nil},
		{"mul.wide.s32 D, A, B", "drr", func(a, b, _ uint64) uint64 { return uint64(s32(a) * s32(b)) }, "i", nil},
		{"mul.wide.u32 D, A, B", "drr", func(a, b, _ uint64) uint64 { return a * b }, "i", nil},
		{"mul.wide.s16 D, A, B", "rhh", func(a, b, _ uint64) uint64 { return u32(s16(a) * s16(b)) }, "i", nil},
		{"mul.wide.u16 D, A, B", "rhh", func(a, b, _ uint64) uint64 { return a * b }, "i", nil},
		{"mad.lo.s32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 { return u32(int64(a*b + c)) }, "i", nil},
		{"mad.hi.s32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 { return u32(s32(a)*s32(b)>>32 + s32(c)) }, "i", nil},
		{"mad.hi.sat.s32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 { return sat(s32(a)*s32(b)>>32 + s32(c)) }, "i", nil},
		{"mad.hi.u32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 { return u32(int64(a*b>>32 + c)) }, "i", nil},
		{"mad.lo.u64 D, A, B, C", "dddd", func(a, b, c uint64) uint64 { return a*b + c }, "i", nil},
		{"mad.hi.s64 D, A, B, C", "dddd", func(a, b, c uint64) uint64 { return bigBits(new(big.Int).Mul(bigS(a), bigS(b)), 64) + c }, "i", nil},
		{"mad.lo.s16 D, A, B, C", "hhhh", func(a, b, c uint64) uint64 { return u16(int64(a*b + c)) }, "i", nil},
		{"mad.wide.s32 D, A, B, C", "drrd", func(a, b, c uint64) uint64 { return uint64(s32(a)*s32(b)) + c }, "i", nil},
		{"mad.wide.u32 D, A, B, C", "drrd", func(a, b, c uint64) uint64 { return a*b + c }, "i", nil},
		{"mad.wide.u16 D, A, B, C", "rhhr", func(a, b, c uint64) uint64 { return u32(int64(a*b + c)) }, "i", nil},
		{"mul24.lo.s32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return u32((s32(a) << 40 >> 40) * (s32(b) << 40 >> 40)) }, "i", nil},
		{"mul24.hi.u32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return u32(int64((a & 0xffffff) * (b & 0xffffff) >> 16)) }, "i", nil},
		{"mad24.lo.u32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 { return u32(int64((a&0xffffff)*(b&0xffffff) + c)) }, "i", nil},
		{"div.s32 D, A, B", "rrr", div(quo, 32), "is", nil},
		{"div.s64 D, A, B", "ddd", div(quo, 64), "i", nil},
		{"div.s16 D, A, B", "hhh", div(quo, 16), "i", nil},
		{"div.u32 D, A, B", "rrr", func(a, b, _ uint64) uint64 {
			if b == 0 {
				return 0xffffffff
			}
			return a / b
		}, "is", nil},
		{"rem.s32 D, A, B", "rrr", div(rem, 32), "i", nil},
		{"rem.s64 D, A, B", "ddd", div(rem, 64), "i", nil},
		{"rem.u32 D, A, B", "rrr", func(a, b, _ uint64) uint64 {
			if b == 0 {
				return a
			}
			return a % b
		}, "is", nil},
		{"abs.s32 D, A", "rr", func(a, _, _ uint64) uint64 { return u32(abs(s32(a))) }, "i", nil},
		{"abs.s64 D, A", "dd", func(a, _, _ uint64) uint64 { return uint64(abs(int64(a))) }, "i", nil},
		{"abs.s16 D, A", "hh", func(a, _, _ uint64) uint64 { return u16(abs(s16(a))) }, "i", nil},
		{"neg.s32 D, A", "rr", func(a, _, _ uint64) uint64 { return u32(-s32(a)) }, "i", nil},
		{"neg.s16 D, A", "hh", func(a, _, _ uint64) uint64 { return u16(-s16(a)) }, "i", nil},
		{"min.s32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return u32(min(s32(a), s32(b))) }, "i", nil},
		{"max.s32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return u32(max(s32(a), s32(b))) }, "i", nil},
		{"min.u32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return min(a, b) }, "i", nil},
		{"max.u64 D, A, B", "ddd", func(a, b, _ uint64) uint64 { return max(a, b) }, "i", nil},
		{"min.s64 D, A, B", "ddd", func(a, b, _ uint64) uint64 { return uint64(min(int64(a), int64(b))) }, "i", nil},
		{"max.s16 D, A, B", "hhh", func(a, b, _ uint64) uint64 { return u16(max(s16(a), s16(b))) }, "i", nil},
		{"min.u16 D, A, B", "hhh", func(a, b, _ uint64) uint64 { return min(a, b) }, "i", nil},
		{"sad.s32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 { return u32(s32(c) + abs(s32(a)-s32(b))) }, "i", nil},
		{"sad.u32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 { return u32(int64(c + max(a, b) - min(a, b))) }, "i", nil},
		{"dp4a.s32.u32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 {
			for i := 0; i < 32; i += 8 {
				c += uint64(int64(int8(a>>i)) * int64(uint8(b>>i)))
			}
			return u32(int64(c))
		}, "i", nil},
		{"dp2a.hi.s32.s32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 {
			return u32(s32(c) + s16(a)*int64(int8(b>>16)) + s16(a>>16)*int64(int8(b>>24)))
		}, "i", nil},
		{"{add.cc.u32 %r4, A, B; addc.u32 D, A, C;}", "rrrr", func(a, b, c uint64) uint64 { return u32(int64(a + c + (a+b)>>32)) }, "i", nil},
		{"{sub.cc.u32 %r4, A, B; subc.u32 D, A, C;}", "rrrr", func(a, b, c uint64) uint64 { return u32(int64(a - c - b2u(a < b))) }, "i", nil},
		{"{add.cc.u64 %d4, A, B; addc.u64 D, 0, 0;}", "ddd", func(a, b, _ uint64) uint64 { _, c := bits.Add64(a, b, 0); return c }, "i", nil},
		{"{mad.lo.cc.u32 %r4, A, B, C; madc.hi.u32 D, A, B, 0;}", "rrrr", func(a, b, c uint64) uint64 { return (a*b + c) >> 32 }, "i", nil},
	})
}

func TestBitInstructionsMatchTheirDefinitions(t *testing.T) {
	shift := func(n uint64, w uint) uint { return uint(min(n, uint64(w))) }
	runOps(t, []opCase{
		{"and.b32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return a & b }, "i", nil},
		{"or.b64 D, A, B", "ddd", func(a, b, _ uint64) uint64 { return a | b }, "i", nil},
		{"xor.b16 D, A, B", "hhh", func(a, b, _ uint64) uint64 { return a ^ b }, "i", nil},
		{"not.b32 D, A", "rr", func(a, _, _ uint64) uint64 { return ^a & 0xffffffff }, "i", nil},
		{"not.b16 D, A", "hh", func(a, _, _ uint64) uint64 { return ^a & 0xffff }, "i", nil},
		{"cnot.b32 D, A", "rr", func(a, _, _ uint64) uint64 { return b2u(a == 0) }, "is", nil},
		{"and.pred D, A, B", "ppp", func(a, b, _ uint64) uint64 { return a & b }, "i", nil},
		{"xor.pred D, A, !B", "ppp", func(a, b, _ uint64) uint64 { return a ^ b ^ 1 }, "i", nil},
		{"not.pred D, A", "pp", func(a, _, _ uint64) uint64 { return a ^ 1 }, "i", nil},
		{"shl.b32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return a << shift(b, 32) & 0xffffffff }, "is", nil},
		{"shl.b64 D, A, B", "ddr", func(a, b, _ uint64) uint64 { return a << shift(b, 64) }, "is", nil},
		{"shl.b16 D, A, B", "hhr", func(a, b, _ uint64) uint64 { return a << shift(b, 16) & 0xffff }, "is", nil},
		{"shr.u32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return a >> shift(b, 32) }, "is", nil},
		{"shr.s32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return u32(s32(a) >> shift(b, 32)) }, "is", nil},
		{"shr.s64 D, A, B", "ddr", func(a, b, _ uint64) uint64 { return uint64(int64(a) >> shift(b, 64)) }, "is", nil},
		{"shr.s16 D, A, B", "hhr", func(a, b, _ uint64) uint64 { return u16(s16(a) >> shift(b, 16)) }, "is", nil},
		{"shf.l.wrap.b32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 { return (b<<32 | a) << (c & 31) >> 32 }, "iis", nil},
		{"shf.r.wrap.b32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 { return (b<<32 | a) >> (c & 31) & 0xffffffff }, "iis", nil},
		{"shf.l.clamp.b32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 { return (b<<32 | a) << min(c, 32) >> 32 }, "iis", nil},
		{"shf.r.clamp.b32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 { return (b<<32 | a) >> min(c, 32) & 0xffffffff }, "iis", nil},
		{"lop3.b32 D, A, B, C, 0xe8", "rrrr", func(a, b, c uint64) uint64 { return a&b | a&c | b&c }, "i", nil},
		{"lop3.b32 D, A, B, C, 0x96", "rrrr", func(a, b, c uint64) uint64 { return a ^ b ^ c }, "i", nil},
		{"lop3.b32 D, A, B, C, 0xca", "rrrr", func(a, b, c uint64) uint64 { return a&b | ^a&c&0xffffffff }, "i", nil},
		{"lop3.b32 D, A, B, C, 0xf8", "rrrr", func(a, b, c uint64) uint64 { return a | b&c }, "i", nil},
		{"lop3.b32 D, A, B, C, 0x6a", "rrrr", func(a, b, c uint64) uint64 { return a&b ^ c }, "i", nil},
		{"lop3.b32 D, A, B, C, 0x78", "rrrr", func(a, b, c uint64) uint64 { return a ^ b&c }, "i", nil},
		{"lop3.b32 D, A, B, C, 0xea", "rrrr", func(a, b, c uint64) uint64 { return a&b | c }, "i", nil},
		{"lop3.b32 D, A, B, C, 0x80", "rrrr", func(a, b, c uint64) uint64 { return a & b & c }, "i", nil},
		{"lop3.b32 D, A, B, C, 0xfe", "rrrr", func(a, b, c uint64) uint64 { return a | b | c }, "i", nil},
		{"lop3.b32 D, A, B, C, 0x1b", "rrrr", func(a, b, c uint64) uint64 {
			var r uint64
			for i := range 32 {
				k := a>>i&1<<2 | b>>i&1<<1 | c>>i&1
				r |= 0x1b >> k & 1 << i
			}
			return r
		}, "i", nil},
		{"bfe.u32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 {
			b, c = b&255, c&255
			if b > 63 || c == 0 {
				return 0
			}
			if c < 32 {
				return a >> b & (1<<c - 1)
			}
			return a >> b
		}, "iss", nil},
		{"bfe.s32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 {
			b, c = b&255, c&255
			if c == 0 {
				return 0
			}
			v := s32(a) >> min(b, 63) // sign-extended beyond bit 31
			if c < 32 && b+c <= 32 {
				v = v << (64 - c) >> (64 - c)
			}
			return u32(v)
		}, "iss", nil},
		{"bfe.u64 D, A, B, C", "ddrr", func(a, b, c uint64) uint64 {
			b, c = b&255, c&255
			if b > 63 {
				return 0
			}
			if c < 64 {
				return a >> b & (1<<c - 1)
			}
			return a >> b
		}, "iss", nil},
		{"bfi.b32 D, A, B, C, 8", "rrrr", func(a, b, c uint64) uint64 {
			c &= 255
			if c > 31 {
				return b
			}
			m := uint64(0xff) << c & 0xffffffff
			return b&^m | a<<c&m
		}, "iis", nil},
		{"bfi.b64 D, A, B, C, 20", "dddr", func(a, b, c uint64) uint64 {
			c &= 255
			if c > 63 {
				return b
			}
			m := uint64(0xfffff) << c
			return b&^m | a<<c&m
		}, "iis", nil},
		{"bfind.u32 D, A", "rr", func(a, _, _ uint64) uint64 { return u32(int64(bits.Len64(a)) - 1) }, "i", nil},
		{"bfind.shiftamt.u32 D, A", "rr", func(a, _, _ uint64) uint64 {
			if a == 0 {
				return 0xffffffff
			}
			return uint64(bits.LeadingZeros32(uint32(a)))
		}, "i", nil},
		{"bfind.s32 D, A", "rr", func(a, _, _ uint64) uint64 {
			v := s32(a)
			if v < 0 {
				v = ^v
			}
			return u32(int64(bits.Len64(uint64(v))) - 1)
		}, "i", nil},
		{"bfind.u64 D, A", "rd", func(a, _, _ uint64) uint64 { return u32(int64(bits.Len64(a)) - 1) }, "i", nil},
		{"clz.b32 D, A", "rr", func(a, _, _ uint64) uint64 { return uint64(32 - bits.Len64(a)) }, "i", nil},
		{"clz.b64 D, A", "rd", func(a, _, _ uint64) uint64 { return uint64(64 - bits.Len64(a)) }, "i", nil},
		{"popc.b32 D, A", "rr", func(a, _, _ uint64) uint64 { return uint64(strings.Count(fmt.Sprintf("%b", a), "1")) }, "i", nil},
		{"popc.b64 D, A", "rd", func(a, _, _ uint64) uint64 { return uint64(strings.Count(fmt.Sprintf("%b", a), "1")) }, "i", nil},
		{"brev.b32 D, A", "rr", func(a, _, _ uint64) uint64 {
			var r uint64
			for i := range 32 {
				r |= a >> i & 1 << (31 - i)
			}
			return r
		}, "i", nil},
		{"brev.b64 D, A", "dd", func(a, _, _ uint64) uint64 {
			var r uint64
			for i := range 64 {
				r |= a >> i & 1 << (63 - i)
			}
			return r
		}, "i", nil},
		{"prmt.b32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 {
			src := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(a)), uint32(b))
			var r uint64
			for i := range 4 {
				s := c >> (4 * i) & 15
				v := src[s&7]
				if s > 7 {
					v = byte(int8(v) >> 7)
				}
				r |= uint64(v) << (8 * i)
			}
			return r
		}, "i", nil},
		{"prmt.b32 D, A, B, 0x5410", "rrr", func(a, b, _ uint64) uint64 { return a&0xffff | b&0xffff<<16 }, "i", nil},
		{"prmt.b32.rc16 D, A, B, C", "rrrr", func(a, _, c uint64) uint64 { return a >> (16 * (c & 1)) & 0xffff * 0x10001 }, "i", nil},
		{"szext.clamp.s32 D, A, B", "rrr", func(a, b, _ uint64) uint64 {
			if b >= 32 {
				return a
			}
			if b == 0 {
				return 0
			}
			return u32(s32(a) << (64 - b) >> (64 - b))
		}, "is", nil},
		{"fns.b32 D, A, 3, 2", "rr", func(a, _, _ uint64) uint64 {
			n := 0
			for i := 3; i < 32; i++ {
				if a>>i&1 != 0 {
					if n++; n == 2 {
						return uint64(i)
					}
				}
			}
			return 0xffffffff
		}, "i", nil},
		{"mov.b32 D, {%h1, %h2}", "rhh", func(a, b, _ uint64) uint64 { return a | b<<16 }, "i", nil},
		{"mov.b64 D, {%r1, %r2}", "drr", func(a, b, _ uint64) uint64 { return a | b<<32 }, "i", nil},
		{"mov.b32 {%h0, %h4}, A", "hr", func(a, _, _ uint64) uint64 { return a & 0xffff }, "i", nil},
		{"mov.b64 {_, %r0}, A", "rd", func(a, _, _ uint64) uint64 { return a >> 32 }, "i", nil},
		{"mov.b64 D, {%h1, %h2, %h3, %h1}", "dhhh", func(a, b, c uint64) uint64 { return a | b<<16 | c<<32 | a<<48 }, "i", nil},
		{"selp.b32 D, A, B, C", "rrrp", func(a, b, c uint64) uint64 {
			if c != 0 {
				return a
			}
			return b
		}, "i", nil},
		{"selp.b64 D, A, B, C", "dddp", func(a, b, c uint64) uint64 {
			if c != 0 {
				return a
			}
			return b
		}, "i", nil},
		{"slct.s32.s32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 {
			if s32(c) >= 0 {
				return a
			}
			return b
		}, "i", nil},
		{"slct.b32.f32 D, A, B, C", "rrrr", func(a, b, c uint64) uint64 {
			if math.Float32frombits(uint32(c)) >= 0 {
				return a
			}
			return b
		}, "iif", nil},
	})
}

func TestComparisonsMatchTheirDefinitions(t *testing.T) {
	type pair struct {
		op   string
		hold func(x int) bool // of the sign of the comparison
	}
	ops := []pair{{"eq", func(x int) bool { return x == 0 }}, {"ne", func(x int) bool { return x != 0 }}, {"lt", func(x int) bool { return x < 0 }},
		{"le", func(x int) bool { return x <= 0 }}, {"gt", func(x int) bool { return x > 0 }}, {"ge", func(x int) bool { return x >= 0 }}}
	var cases []opCase
	for _, o := range ops {
		sign := func(less, more bool) uint64 { return b2u(o.hold(int(b2u(more)) - int(b2u(less)))) }
		cases = append(cases,
			opCase{"setp." + o.op + ".s32 D, A, B", "prr", func(a, b, _ uint64) uint64 { return sign(s32(a) < s32(b), s32(a) > s32(b)) }, "i", nil},
			opCase{"setp." + o.op + ".u32 D, A, B", "prr", func(a, b, _ uint64) uint64 { return sign(a < b, a > b) }, "i", nil},
			opCase{"setp." + o.op + ".s64 D, A, B", "pdd", func(a, b, _ uint64) uint64 { return sign(int64(a) < int64(b), int64(a) > int64(b)) }, "i", nil},
			opCase{"setp." + o.op + ".u64 D, A, B", "pdd", func(a, b, _ uint64) uint64 { return sign(a < b, a > b) }, "i", nil},
			opCase{"setp." + o.op + ".s16 D, A, B", "phh", func(a, b, _ uint64) uint64 { return sign(s16(a) < s16(b), s16(a) > s16(b)) }, "i", nil},
		)
		for _, u := range []string{"", "u"} {
			float := func(x, y float64) uint64 {
				if x != x || y != y {
					return b2u(u == "u")
				}
				return sign(x < y, x > y)
			}
			f := func(v uint64) float64 { return float64(math.Float32frombits(uint32(v))) }
			cases = append(cases,
				opCase{"setp." + o.op + u + ".f32 D, A, B", "prr", func(a, b, _ uint64) uint64 { return float(f(a), f(b)) }, "f", nil},
				opCase{"setp." + o.op + u + ".f64 D, A, B", "pdd", func(a, b, _ uint64) uint64 { return float(math.Float64frombits(a), math.Float64frombits(b)) }, "d", nil},
				opCase{"setp." + o.op + u + ".f16 D, A, B", "phh", func(a, b, _ uint64) uint64 { return float(halfValue(uint16(a)), halfValue(uint16(b))) }, "h", nil},
				opCase{"setp." + o.op + u + ".bf16 D, A, B", "phh", func(a, b, _ uint64) uint64 { return float(f(a<<16), f(b<<16)) }, "e", nil},
				opCase{"set." + o.op + u + ".f32.f32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return float(f(a), f(b)) * 0x3f800000 }, "f", nil},
				opCase{"set." + o.op + u + ".f16x2.f16x2 D, A, B", "rrr", func(a, b, _ uint64) uint64 {
					return float(halfValue(uint16(a)), halfValue(uint16(b)))*0x3c00 | float(halfValue(uint16(a>>16)), halfValue(uint16(b>>16)))*0x3c000000
				}, "h", nil},
				opCase{"{setp." + o.op + u + ".f16x2 %p4|%p5, A, B; selp.u32 %r4, 1, 0, %p4; selp.u32 %r5, 2, 0, %p5; or.b32 D, %r4, %r5;}", "rrr",
					func(a, b, _ uint64) uint64 {
						return float(halfValue(uint16(a)), halfValue(uint16(b))) | 2*float(halfValue(uint16(a>>16)), halfValue(uint16(b>>16)))
					}, "h", nil},
			)
		}
	}
	cases = append(cases,
		opCase{"setp.lo.u32 D, A, B", "prr", func(a, b, _ uint64) uint64 { return b2u(a < b) }, "i", nil},
		opCase{"setp.hs.u64 D, A, B", "pdd", func(a, b, _ uint64) uint64 { return b2u(a >= b) }, "i", nil},
		opCase{"setp.lt.and.s32 D, A, B, !C", "prrp", func(a, b, c uint64) uint64 { return b2u(s32(a) < s32(b) && c == 0) }, "i", nil},
		opCase{"setp.eq.or.u32 D, A, B, C", "prrp", func(a, b, c uint64) uint64 { return b2u(a == b || c != 0) }, "i", nil},
		opCase{"{setp.gt.xor.u32 %p4|%p0, A, B, C;}", "prrp", func(a, b, c uint64) uint64 { return b2u(!(a > b) != (c != 0)) }, "i", nil},
		opCase{"setp.num.f32 D, A, B", "prr", func(a, b, _ uint64) uint64 {
			return b2u(a&0x7fffffff <= 0x7f800000 && b&0x7fffffff <= 0x7f800000)
		}, "f", nil},
		opCase{"setp.nan.f32 D, A, B", "prr", func(a, b, _ uint64) uint64 {
			return b2u(a&0x7fffffff > 0x7f800000 || b&0x7fffffff > 0x7f800000)
		}, "f", nil},
		opCase{"set.lt.u32.s32 D, A, B", "rrr", func(a, b, _ uint64) uint64 { return b2u(s32(a) < s32(b)) * 0xffffffff }, "i", nil},
		opCase{"testp.subnormal.f32 D, A", "pr", func(a, _, _ uint64) uint64 { return b2u(a&0x7f800000 == 0 && a&0x7fffff != 0) }, "f", nil},
		opCase{"testp.finite.f32 D, A", "pr", func(a, _, _ uint64) uint64 { return b2u(a&0x7fffffff < 0x7f800000) }, "f", nil},
		opCase{"testp.notanumber.f64 D, A", "pd", func(a, _, _ uint64) uint64 { f := math.Float64frombits(a); return b2u(f != f) }, "d", nil},
	)
	runOps(t, cases)
}
