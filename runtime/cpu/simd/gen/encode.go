package main

import "fmt"

// Go's assembler has no names for most of NEON's arithmetic in single
// precision. These are the encodings of the Arm Architecture Reference Manual
// (C7.2), for vectors of four lanes unless said otherwise, each beside its name
// there.

// three is an instruction of the form name vd.4s, vn.4s, vm.4s.
type three struct {
	name string
	word uint32
}

var (
	fadd  = three{"fadd", 0x4e20d400}
	fsub  = three{"fsub", 0x4ea0d400}
	fmul  = three{"fmul", 0x6e20dc00}
	fdiv  = three{"fdiv", 0x6e20fc00}
	fmax  = three{"fmax", 0x4e20f400} // NaN where either operand is
	fmin  = three{"fmin", 0x4ea0f400}
	fmla  = three{"fmla", 0x4e20cc00} // d += n·m
	fmls  = three{"fmls", 0x4ea0cc00}
	faddp = three{"faddp", 0x6e20d400} // sums of neighbours of n, then of m
	fmaxp = three{"fmaxp", 0x6e20f400}
	fcmgt = three{"fcmgt", 0x6ea0e400} // all ones where n > m
)

func (i three) encode(d, n, m int) (word uint32, text string) {
	return i.word | field(m)<<16 | field(n)<<5 | field(d), fmt.Sprintf("%s v%d.4s, v%d.4s, v%d.4s", i.name, d, n, m)
}

// two is an instruction of one operand; its name has the lanes to be formatted
// with the registers.
type two struct {
	text string
	word uint32
}

var (
	fsqrt  = two{"fsqrt v%d.4s, v%d.4s", 0x6ea1f800}
	frintn = two{"frintn v%d.4s, v%d.4s", 0x4e218800} // to the nearest, ties to even
	fcvtns = two{"fcvtns v%d.4s, v%d.4s", 0x4e21a800}
	fcvtl  = two{"fcvtl v%d.4s, v%d.4h", 0x0e217800}
	fcvtl2 = two{"fcvtl2 v%d.4s, v%d.8h", 0x4e217800}
)

func (i two) encode(d, n int) (word uint32, text string) {
	return i.word | field(n)<<5 | field(d), fmt.Sprintf(i.text, d, n)
}

// encodeFMLAByLane is d += n·m[lane].
func encodeFMLAByLane(d, n, m, lane int) (word uint32, text string) {
	word = 0x4f801000 | uint32(lane&1)<<21 | uint32(lane>>1)<<11 | field(m)<<16 | field(n)<<5 | field(d)
	return word, fmt.Sprintf("fmla v%d.4s, v%d.4s, v%d.s[%d]", d, n, m, lane)
}

// encodeSHL shifts integer lanes left, by 0 to 31.
func encodeSHL(d, n, by int) (word uint32, text string) {
	return 0x4f005400 | uint32(32+by)<<16 | field(n)<<5 | field(d), fmt.Sprintf("shl v%d.4s, v%d.4s, #%d", d, n, by)
}

// encodeLDR and encodeSTR move a whole vector from and to base + off.
func encodeLDR(t, base, off int) (word uint32, text string) {
	return 0x3ce06800 | field(off)<<16 | field(base)<<5 | field(t), fmt.Sprintf("ldr q%d, [x%d, x%d]", t, base, off)
}

func encodeSTR(t, base, off int) (word uint32, text string) {
	return 0x3ca06800 | field(off)<<16 | field(base)<<5 | field(t), fmt.Sprintf("str q%d, [x%d, x%d]", t, base, off)
}

// field is a register's number in an instruction.
func field(r int) uint32 { return uint32(r & 31) }
