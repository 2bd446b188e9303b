package imaging

import (
	"bufio"
	"encoding/binary"
	"io"
	"math/bits"
	"runtime"
	"slices"
	"sync"
)

// image/jpeg halves chroma whatever the picture is and writes the standard's example Huffman tables, and no other encoder in
// Go does better without a start-up of its own; hence this one: baseline, chroma at either resolution, Huffman tables made
// from the picture's own statistics (ITU-T T.81), all in integers, so that every machine writes the same bytes.
//
// Blocks are transformed on all cores, a row of blocks at a time, to a compact list of symbols.

// zigzag gives the place in a block of coefficient i in the order of the file.
var zigzag = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
}

// Example quantisation tables for luma and chroma, row by row (ITU-T T.81, tables K.1 and K.2).
var quantisation = [2][64]uint8{
	{
		16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
		18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
	},
	{
		17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
		99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
	},
}

// jpegQuantiser divides coefficients, which the transform leaves eight times too large, by a table for a quality of 1 to
// 100 as libjpeg scales it.
type jpegQuantiser struct {
	table  [64]uint8 // in the order of the file
	half   [64]int32
	factor [64]uint64
}

const reciprocalBits = 40

func newJPEGQuantiser(base *[64]uint8, quality int) *jpegQuantiser {
	scale := 200 - 2*quality
	if quality < 50 {
		scale = 5000 / quality
	}
	q := &jpegQuantiser{}
	for i, at := range zigzag {
		v := min(max((int(base[at])*scale+50)/100, 1), 255)
		q.table[i] = uint8(v)
		d := uint64(8 * v)
		q.half[i] = int32(d / 2)
		q.factor[i] = (1<<reciprocalBits + d - 1) / d // exact for the 17 bits that a coefficient can have
	}
	return q
}

func (q *jpegQuantiser) at(v int32, i int) int32 {
	if v < 0 {
		return -int32(uint64(q.half[i]-v) * q.factor[i] >> reciprocalBits)
	}
	return int32(uint64(q.half[i]+v) * q.factor[i] >> reciprocalBits)
}

// jpegBlock is 8×8 samples, centred on 0, and then their coefficients.
type jpegBlock [64]int32

// Multiples of cosines in 13 bits, for a transform of twelve products a line (Loeffler, Ligtenberg and Moschytz, ICASSP 1989).
const (
	cos0298 = 2446
	cos0390 = 3196
	cos0541 = 4433
	cos0765 = 6270
	cos0899 = 7373
	cos1175 = 9633
	cos1501 = 12299
	cos1847 = 15137
	cos1961 = 16069
	cos2053 = 16819
	cos2562 = 20995
	cos3072 = 25172
)

// transform is the forward cosine transform, times 8: rows keep two bits of fraction, which columns take away.
func (b *jpegBlock) transform() {
	for i := 0; i < 64; i += 8 {
		b.line(i, 1, 13-2, -2)
	}
	for i := range 8 {
		b.line(i, 8, 13+2, 2)
	}
}

// line transforms eight values step apart; products are brought down by shift bits, sums by sumShift (up if negative).
func (b *jpegBlock) line(at, step int, shift uint, sumShift int) {
	round := int32(1) << (shift - 1)
	p := b[at:]
	v0, v1, v2, v3 := p[0], p[step], p[2*step], p[3*step]
	v4, v5, v6, v7 := p[4*step], p[5*step], p[6*step], p[7*step]
	s0, d0, s1, d1 := v0+v7, v0-v7, v1+v6, v1-v6
	s2, d2, s3, d3 := v2+v5, v2-v5, v3+v4, v3-v4
	e0, e3, e1, e2 := s0+s3, s0-s3, s1+s2, s1-s2
	if sumShift < 0 {
		p[0], p[4*step] = (e0+e1)<<uint(-sumShift), (e0-e1)<<uint(-sumShift)
	} else {
		r := int32(1) << uint(sumShift-1)
		p[0], p[4*step] = (e0+e1+r)>>uint(sumShift), (e0-e1+r)>>uint(sumShift)
	}
	z := (e2 + e3) * cos0541
	p[2*step], p[6*step] = (z+e3*cos0765+round)>>shift, (z-e2*cos1847+round)>>shift

	z1, z2, z3, z4 := (d3+d0)*-cos0899, (d2+d1)*-cos2562, d3+d1, d2+d0
	z5 := (z3 + z4) * cos1175
	z3, z4 = z5-z3*cos1961, z5-z4*cos0390
	p[7*step] = (d3*cos0298 + z1 + z3 + round) >> shift
	p[5*step] = (d2*cos2053 + z2 + z4 + round) >> shift
	p[3*step] = (d1*cos3072 + z2 + z3 + round) >> shift
	p[step] = (d0*cos1501 + z1 + z4 + round) >> shift
}

// append adds the symbols of a block: the first coefficient in two bytes, then for each other that is not 0 the symbol of
// run and size and the bits of the value in one or two bytes, and 0 where the rest is 0. AC symbols are counted.
func (b *jpegBlock) append(to []byte, q *jpegQuantiser, counts *[256]int) []byte {
	to = binary.LittleEndian.AppendUint16(to, uint16(q.at(b[0], 0)))
	run := 0
	for i := 1; i < 64; i++ {
		v := q.at(b[zigzag[i]], i)
		if v == 0 {
			run++
			continue
		}
		for ; run > 15; run -= 16 {
			to = append(to, 0xf0)
			counts[0xf0]++
		}
		size, value := magnitude(v)
		symbol := byte(run<<4 | size)
		counts[symbol]++
		if to = append(to, symbol, byte(value)); size > 8 {
			to = append(to, byte(value>>8))
		}
		run = 0
	}
	if run > 0 {
		to = append(to, 0)
		counts[0]++
	}
	return to
}

// magnitude gives the size class of a value and its bits in it (T.81, F.1.2.1).
func magnitude(v int32) (size int, value uint32) {
	if v < 0 {
		size = bits.Len32(uint32(-v))
		return size, uint32(v-1) & (1<<size - 1)
	}
	return bits.Len32(uint32(v)), uint32(v)
}

// jpegCode is a Huffman code.
type jpegCode struct {
	lengths [17]int // how many codes of each length
	symbols []byte
	code    [256]uint32
	size    [256]uint8
}

// newJPEGCode makes the best code of at most 16 bits for the counts, without the code of all ones (T.81, K.2).
func newJPEGCode(counts *[256]int) *jpegCode {
	type node struct {
		count, symbol int
		left, right   *node
	}
	nodes := []*node{{count: 0, symbol: 256}} // takes the code of all ones
	for s, n := range counts {
		if n > 0 {
			nodes = append(nodes, &node{count: n, symbol: s})
		}
	}
	if len(nodes) == 1 {
		nodes = append(nodes, &node{count: 1, symbol: 0})
	}
	// The rarest two are joined until one is left. The last symbol must end up deepest: it comes first among equals.
	for list := nodes; len(list) > 1; nodes = list {
		slices.SortStableFunc(list, func(a, b *node) int { return a.count - b.count })
		list = append([]*node{{count: list[0].count + list[1].count, symbol: -1, left: list[0], right: list[1]}}, list[2:]...)
	}
	var lengths [300]int
	type leaf struct{ depth, count, symbol int }
	var leaves []leaf
	var walk func(n *node, depth int)
	walk = func(n *node, depth int) {
		if n.symbol >= 0 {
			lengths[depth]++
			if n.symbol < 256 {
				leaves = append(leaves, leaf{depth, n.count, n.symbol})
			}
			return
		}
		walk(n.left, depth+1)
		walk(n.right, depth+1)
	}
	walk(nodes[0], 0)
	for i := len(lengths) - 1; i > 16; i-- {
		for lengths[i] > 0 { // two deepest leaves: one goes up to its parent, one beside a shorter leaf, which goes down
			j := i - 2
			for lengths[j] == 0 {
				j--
			}
			lengths[i] -= 2
			lengths[i-1]++
			lengths[j+1] += 2
			lengths[j]--
		}
	}
	last := 16
	for lengths[last] == 0 {
		last--
	}
	lengths[last]-- // the code of all ones
	c := &jpegCode{}
	slices.SortFunc(leaves, func(a, b leaf) int {
		if a.depth != b.depth {
			return a.depth - b.depth
		}
		return a.symbol - b.symbol
	})
	code, at := uint32(0), 0
	for length := 1; length <= 16; length++ {
		c.lengths[length] = lengths[length]
		for range lengths[length] {
			s := leaves[at].symbol
			c.symbols = append(c.symbols, byte(s))
			c.code[s], c.size[s] = code, uint8(length)
			code++
			at++
		}
		code <<= 1
	}
	return c
}

// jpegPicture is a picture on its way into a file: rows of 1, 3 or 4 samples a pixel, of which a fourth is not looked at.
type jpegPicture struct {
	w, h, channels int
	pix            []uint8
	half           bool // chroma
	quant          [2]*jpegQuantiser
}

func (p *jpegPicture) colour() bool { return p.channels > 1 }

// unit is the side of what is coded together: a block, or a square of four and its two of chroma.
func (p *jpegPicture) unit() int {
	if p.colour() && p.half {
		return 16
	}
	return 8
}

// jpegRow is a row of units as symbols, and how often those of luma and chroma occur.
type jpegRow struct {
	symbols []byte
	ac      [2][256]int
}

// row transforms row y of the units into r, whose memory is used again.
func (p *jpegPicture) row(r *jpegRow, y int) {
	r.symbols, r.ac = r.symbols[:0], [2][256]int{}
	u := p.unit()
	var luma [4]jpegBlock
	var chroma [2]jpegBlock
	for x := 0; x < p.w; x += u {
		if !p.colour() {
			p.grey(&luma[0], x, y*u)
			luma[0].transform()
			r.symbols = luma[0].append(r.symbols, p.quant[0], &r.ac[0])
			continue
		}
		chroma = [2]jpegBlock{}
		n := u / 8 * u / 8
		for i := range n {
			p.block(&luma[i], &chroma, x, y*u, i)
			luma[i].transform()
			r.symbols = luma[i].append(r.symbols, p.quant[0], &r.ac[0])
		}
		for c := range chroma {
			if p.half { // sums of four, in 2 bits more
				for i, v := range chroma[c] {
					chroma[c][i] = (v + 1 + int32(i&1)) >> 2
				}
			}
			chroma[c].transform()
			r.symbols = chroma[c].append(r.symbols, p.quant[1], &r.ac[1])
		}
	}
}

// Beyond the right and lower edges the last pixel is repeated.
func (p *jpegPicture) grey(b *jpegBlock, x0, y0 int) {
	for y := range 8 {
		row := p.pix[min(y0+y, p.h-1)*p.w:]
		for x := range 8 {
			b[8*y+x] = int32(row[min(x0+x, p.w-1)]) - 128
		}
	}
}

// block reads block i of a unit to luma, and adds its chroma to that of the unit (JFIF 1.02, in 16 bits of fraction).
func (p *jpegPicture) block(luma *jpegBlock, chroma *[2]jpegBlock, x0, y0, i int) {
	const half = 1 << 15
	bx, by := i%2*8, i/2*8
	inside := x0+bx+8 <= p.w
	for y := range 8 {
		row := p.pix[min(y0+by+y, p.h-1)*p.w*p.channels:]
		for x := range 8 {
			column := x0 + bx + x
			if !inside {
				column = min(column, p.w-1)
			}
			px := row[column*p.channels:][:3:3]
			r, g, b := int32(px[0]), int32(px[1]), int32(px[2])
			luma[8*y+x] = (19595*r+38470*g+7471*b+half)>>16 - 128
			cb, cr := (-11059*r-21709*g+32768*b+half)>>16, (32768*r-27439*g-5329*b+half)>>16
			at := 8*y + x
			if p.half {
				at = (by+y)/2*8 + (bx+x)/2
			}
			chroma[0][at] += cb
			chroma[1][at] += cr
		}
	}
}

// writeJPEG writes a JPEG after its SOI and application segments. The picture is transformed twice, once to count symbols and
// once to write them, a few rows of units at a time, so that the memory it takes does not grow with the picture's height.
func writeJPEG(to io.Writer, w, h int, pix []uint8, channels, quality int, half bool) error {
	p := &jpegPicture{w: w, h: h, channels: channels, pix: pix, half: half}
	for i := range p.quant {
		p.quant[i] = newJPEGQuantiser(&quantisation[i], quality)
	}
	rows := (h + p.unit() - 1) / p.unit()
	counts := p.count(rows)
	codes := make([]*jpegCode, 4)
	for i := range codes {
		codes[i] = newJPEGCode(&counts[i])
	}
	if _, err := to.Write(p.header(codes)); err != nil {
		return err
	}
	b := &jpegBits{w: bufio.NewWriterSize(to, 1<<16)}
	batch := make([]jpegRow, min(rows, 4*runtime.GOMAXPROCS(0)))
	var before [3]int32
	for y := 0; y < rows; y += len(batch) {
		part := batch[:min(len(batch), rows-y)]
		parallelBands(len(part), 1, func(i0, i1 int) {
			for i := i0; i < i1; i++ {
				p.row(&part[i], y+i)
			}
		})
		for i := range part {
			p.walk(part[i].symbols, &before, func(table, size int, value uint32) {
				b.symbol(codes[2*table], byte(size))
				b.put(value, uint8(size))
			}, func(table int, symbol byte, value uint32) {
				b.symbol(codes[2*table+1], symbol)
				b.put(value, symbol&15)
			})
		}
	}
	return b.finish()
}

// count gives how often each symbol occurs: DC and AC of luma, DC and AC of chroma.
func (p *jpegPicture) count(rows int) (counts [4][256]int) {
	type ends struct{ first, last [3]int32 } // DC of the first and last block of a row of units
	row := make([]ends, rows)
	var mu sync.Mutex
	parallelBands(rows, 1, func(y0, y1 int) {
		var r jpegRow
		var mine [4][256]int
		for y := y0; y < y1; y++ {
			p.row(&r, y)
			var before [3]int32
			seen := [3]bool{}
			e := &row[y]
			p.walkDC(r.symbols, func(c int, v int32) {
				if !seen[c] {
					seen[c], e.first[c] = true, v
				} else {
					size, _ := magnitude(v - before[c])
					mine[2*min(c, 1)][size]++
				}
				before[c] = v
			})
			e.last = before
			for t := range 2 {
				for s, n := range r.ac[t] {
					mine[2*t+1][s] += n
				}
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for t := range mine {
			for s, n := range mine[t] {
				counts[t][s] += n
			}
		}
	})
	var before [3]int32
	for y := range row {
		for c := range p.components() {
			size, _ := magnitude(row[y].first[c] - before[c])
			counts[2*min(c, 1)][size]++
		}
		before = row[y].last
	}
	return counts
}

// components is how many there are.
func (p *jpegPicture) components() int {
	if p.colour() {
		return 3
	}
	return 1
}

// order is the component of each block of a unit.
func (p *jpegPicture) order() []int {
	if !p.colour() {
		return []int{0}
	}
	return append(slices.Repeat([]int{0}, p.unit()/8*p.unit()/8), 1, 2)
}

// walkDC calls fn with the component and first coefficient of each block.
func (p *jpegPicture) walkDC(symbols []byte, fn func(c int, v int32)) {
	order := p.order()
	for at := 0; at < len(symbols); {
		for _, c := range order {
			fn(c, int32(int16(binary.LittleEndian.Uint16(symbols[at:]))))
			at += 2
			for k := 1; k < 64; {
				symbol := symbols[at]
				at++
				if symbol == 0 {
					break
				}
				k += int(symbol>>4) + 1
				at += (int(symbol&15) + 7) / 8
			}
		}
	}
}

// walk goes through the symbols of a row, the first coefficients as differences to the block before.
func (p *jpegPicture) walk(symbols []byte, before *[3]int32, dc func(table, size int, value uint32),
	ac func(table int, symbol byte, value uint32)) {
	order := p.order()
	for at := 0; at < len(symbols); {
		for _, c := range order {
			v := int32(int16(binary.LittleEndian.Uint16(symbols[at:])))
			at += 2
			table := min(c, 1)
			size, value := magnitude(v - before[c])
			dc(table, size, value)
			before[c] = v
			for k := 1; k < 64; {
				symbol := symbols[at]
				at++
				k += int(symbol>>4) + 1
				value := uint32(0)
				if size := symbol & 15; size > 0 {
					value = uint32(symbols[at])
					if at++; size > 8 {
						value |= uint32(symbols[at]) << 8
						at++
					}
				}
				ac(table, symbol, value)
				if symbol == 0 {
					break
				}
			}
		}
	}
}

func (p *jpegPicture) header(codes []*jpegCode) []byte {
	tables := 1
	if p.colour() {
		tables = 2
	}
	var b []byte
	for t := range tables {
		b = appendSegment(b, 0xdb, append([]byte{byte(t)}, p.quant[t].table[:]...))
	}
	frame := []byte{8, byte(p.h >> 8), byte(p.h), byte(p.w >> 8), byte(p.w), 1, 1, 0x11, 0}
	scan := []byte{1, 1, 0x00, 0, 63, 0}
	if p.colour() {
		factors := byte(0x11)
		if p.half {
			factors = 0x22
		}
		frame = append(frame[:5], 3, 1, factors, 0, 2, 0x11, 1, 3, 0x11, 1)
		scan = []byte{3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0}
	}
	b = appendSegment(b, 0xc0, frame)
	for i, c := range codes[:2*tables] {
		s := []byte{byte(i%2<<4 | i/2)}
		for _, n := range c.lengths[1:] {
			s = append(s, byte(n))
		}
		b = appendSegment(b, 0xc4, append(s, c.symbols...))
	}
	return appendSegment(b, markerSOS, scan)
}

// jpegBits writes codes, with a zero after each byte of ones.
type jpegBits struct {
	w    *bufio.Writer
	acc  uint64
	bits uint8
}

func (b *jpegBits) symbol(c *jpegCode, s byte) { b.put(c.code[s], c.size[s]) }

func (b *jpegBits) put(v uint32, n uint8) {
	b.acc = b.acc<<n | uint64(v)
	b.bits += n
	for b.bits >= 8 {
		b.bits -= 8
		x := byte(b.acc >> b.bits)
		b.w.WriteByte(x) // a failed write is kept and comes with Flush
		if x == 0xff {
			b.w.WriteByte(0)
		}
	}
}

func (b *jpegBits) finish() error {
	if b.bits > 0 {
		b.put(1<<(8-b.bits)-1, 8-b.bits)
	}
	b.w.Write([]byte{0xff, markerEOI})
	return b.w.Flush()
}
