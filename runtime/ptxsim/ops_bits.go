package ptxsim

import "math/bits"

// Shift amounts beyond the width give zero, or the sign for arithmetic right shifts.

func opShl32(d, a, b, _ *row32) {
	for i := range d {
		d[i] = a[i] << b[i]
	}
}

func opShrU32(d, a, b, _ *row32) {
	for i := range d {
		d[i] = a[i] >> b[i]
	}
}

func opShrS32(d, a, b, _ *row32) {
	for i := range d {
		d[i] = uint32(int32(a[i]) >> b[i])
	}
}

// shift64 shifts a row of 64-bit values by 32-bit amounts.
func opShl64(d, a *row64, b *row32) {
	for i := range d {
		d[i] = a[i] << b[i]
	}
}

func opShrU64(d, a *row64, b *row32) {
	for i := range d {
		d[i] = a[i] >> b[i]
	}
}

func opShrS64(d, a *row64, b *row32) {
	for i := range d {
		d[i] = uint64(int64(a[i]) >> b[i])
	}
}

// opShf shifts the pair b:a (b is the high half) and returns one half of it.
func opShf(left, wrap bool) op32 {
	return func(d, a, b, c *row32) {
		for i := range d {
			n := c[i] & 31
			if !wrap {
				n = min(c[i], 32)
			}
			pair := uint64(b[i])<<32 | uint64(a[i])
			if left {
				d[i] = uint32(pair << n >> 32)
			} else {
				d[i] = uint32(pair >> n)
			}
		}
	}
}

func opLop3(lut uint32) op32 {
	switch lut {
	case 0xc0:
		return opAnd[uint32]
	case 0xfc:
		return opOr[uint32]
	case 0x3c:
		return opXor[uint32]
	case 0x96:
		return func(d, a, b, c *row32) {
			for i := range d {
				d[i] = a[i] ^ b[i] ^ c[i]
			}
		}
	case 0x80:
		return func(d, a, b, c *row32) {
			for i := range d {
				d[i] = a[i] & b[i] & c[i]
			}
		}
	case 0xfe:
		return func(d, a, b, c *row32) {
			for i := range d {
				d[i] = a[i] | b[i] | c[i]
			}
		}
	case 0xea:
		return func(d, a, b, c *row32) {
			for i := range d {
				d[i] = a[i]&b[i] | c[i]
			}
		}
	case 0xf8:
		return func(d, a, b, c *row32) {
			for i := range d {
				d[i] = a[i] | b[i]&c[i]
			}
		}
	case 0x78:
		return func(d, a, b, c *row32) {
			for i := range d {
				d[i] = a[i] ^ b[i]&c[i]
			}
		}
	case 0x6a:
		return func(d, a, b, c *row32) {
			for i := range d {
				d[i] = a[i]&b[i] ^ c[i]
			}
		}
	}
	return func(d, a, b, c *row32) {
		for i := range d {
			d[i] = lop3(lut, a[i], b[i], c[i])
		}
	}
}

// lop3 evaluates the three-input function whose truth table is lut.
func lop3(lut, a, b, c uint32) (r uint32) {
	if lut&0x01 != 0 {
		r |= ^a & ^b & ^c
	}
	if lut&0x02 != 0 {
		r |= ^a & ^b & c
	}
	if lut&0x04 != 0 {
		r |= ^a & b & ^c
	}
	if lut&0x08 != 0 {
		r |= ^a & b & c
	}
	if lut&0x10 != 0 {
		r |= a & ^b & ^c
	}
	if lut&0x20 != 0 {
		r |= a & ^b & c
	}
	if lut&0x40 != 0 {
		r |= a & b & ^c
	}
	if lut&0x80 != 0 {
		r |= a & b & c
	}
	return r
}

func opClz32(d, a, _, _ *row32) {
	for i := range d {
		d[i] = uint32(bits.LeadingZeros32(a[i]))
	}
}

func opPopc32(d, a, _, _ *row32) {
	for i := range d {
		d[i] = uint32(bits.OnesCount32(a[i]))
	}
}

func opClz64(d *row32, a *row64, _, _ *row32) {
	for i := range d {
		d[i] = uint32(bits.LeadingZeros64(a[i]))
	}
}

func opPopc64(d *row32, a *row64, _, _ *row32) {
	for i := range d {
		d[i] = uint32(bits.OnesCount64(a[i]))
	}
}

func opBrev32(d, a, _, _ *row32) {
	for i := range d {
		d[i] = bits.Reverse32(a[i])
	}
}

func opBrev64(d, a, _, _ *row64) {
	for i := range d {
		d[i] = bits.Reverse64(a[i])
	}
}

// bfind returns the position of the most significant set bit of a w-bit value (the most significant bit that
// differs from the sign, if signed), or its distance from the top if shift, or all ones.
func bfind(v uint64, w int, signed, shift bool) uint32 {
	if signed {
		v = uint64(int64(v<<(64-w)) >> (64 - w))
		if int64(v) < 0 {
			v = ^v
		}
	}
	n := bits.Len64(v) - 1
	if n < 0 {
		return full
	}
	if shift {
		n = w - 1 - n
	}
	return uint32(n)
}

func opBfind32(signed, shift bool) op32 {
	return func(d, a, _, _ *row32) {
		for i := range d {
			d[i] = bfind(uint64(a[i]), 32, signed, shift)
		}
	}
}

func opBfind64(signed, shift bool) op32x {
	return func(d *row32, a *row64, _, _ *row32) {
		for i := range d {
			d[i] = bfind(a[i], 64, signed, shift)
		}
	}
}

// bfe extracts length bits at pos of a w-bit value, extended by the field's sign (or the value's, where the field
// leaves it) if signed.
func bfe(v uint64, pos, length uint32, w uint32, signed bool) uint64 {
	pos, length = pos&0xff, length&0xff
	if length == 0 {
		return 0
	}
	msb := w - 1
	var sign uint64
	if signed {
		sign = v >> min(pos+length-1, msb) & 1
	}
	var r uint64
	for i := range w {
		if i < length && pos+i <= msb {
			r |= v >> (pos + i) & 1 << i
		} else {
			r |= sign << i
		}
	}
	return r
}

func opBfe32(signed bool) op32 {
	return func(d, a, b, c *row32) {
		for i := range d {
			pos, n := b[i]&0xff, c[i]&0xff
			if n != 0 && pos+n <= 32 {
				if signed {
					d[i] = uint32(int32(a[i]<<(32-pos-n)) >> (32 - n))
				} else {
					d[i] = a[i] << (32 - pos - n) >> (32 - n)
				}
				continue
			}
			d[i] = uint32(bfe(uint64(a[i]), pos, n, 32, signed))
		}
	}
}

// bfi inserts the low length bits of a into b at pos.
func bfi(a, b uint64, pos, length, w uint32) uint64 {
	pos, length = pos&0xff, length&0xff
	if pos >= w || length == 0 {
		return b
	}
	mask := ^uint64(0)
	if length < 64 {
		mask = 1<<length - 1
	}
	mask <<= pos
	return b&^mask | a<<pos&mask
}

// prmt selects four bytes of the pair b:a.
func prmt(a, b, sel uint32) (r uint32) {
	pair := uint64(b)<<32 | uint64(a)
	for i := range 4 {
		s := sel >> (4 * i) & 15
		v := uint32(pair>>(8*(s&7))) & 0xff
		if s&8 != 0 {
			v = uint32(int32(int8(v))>>7) & 0xff
		}
		r |= v << (8 * i)
	}
	return r
}

func opPrmt(d, a, b, c *row32) {
	for i := range d {
		d[i] = prmt(a[i], b[i], c[i])
	}
}

// prmtMode returns the selector that a prmt mode stands for.
func prmtMode(mode string, c uint32) uint32 {
	n := c & 3
	switch mode {
	case "f4e":
		return [4]uint32{0x3210, 0x4321, 0x5432, 0x6543}[n]
	case "b4e":
		return [4]uint32{0x5670, 0x6701, 0x7012, 0x0123}[n]
	case "rc8":
		return n * 0x1111
	case "ecl":
		return [4]uint32{0x3210, 0x3211, 0x3222, 0x3333}[n]
	case "ecr":
		return [4]uint32{0x0000, 0x1110, 0x2210, 0x3210}[n]
	case "rc16":
		return [4]uint32{0x1010, 0x3232, 0x1010, 0x3232}[n]
	}
	return c
}

// dp4a returns c plus the dot product of four byte pairs.
func dp4a(a, b, c uint32, sa, sb bool) uint32 {
	ext := func(v uint32, signed bool) int32 {
		if signed {
			return int32(int8(v))
		}
		return int32(v & 0xff)
	}
	for i := 0; i < 32; i += 8 {
		c += uint32(ext(a>>i, sa) * ext(b>>i, sb))
	}
	return c
}

// dp2a returns c plus the dot product of two 16-bit values with two bytes, the high or the low ones.
func dp2a(a, b, c uint32, sa, sb, hi bool) uint32 {
	if hi {
		b >>= 16
	}
	for i := range 2 {
		x, y := int32(a>>(16*i)&0xffff), int32(b>>(8*i)&0xff)
		if sa {
			x = int32(int16(x))
		}
		if sb {
			y = int32(int8(y))
		}
		c += uint32(x * y)
	}
	return c
}
