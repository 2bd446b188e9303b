package imaging

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// TIFF field types.
const (
	typeByte     = 1
	typeASCII    = 2
	typeShort    = 3
	typeLong     = 4
	typeRational = 5
	typeUndef    = 7
	typeIFD      = 13
	typeLong8    = 16
	typeIFD8     = 18
)

// typeSizes holds the bytes of one value of each type; 0 marks unknown types.
var typeSizes = [...]int{0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8}

type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// tiffStream reads directories from a TIFF stream. Every access is checked against the length of the data.
type tiffStream struct {
	data  []byte
	order byteOrder
	first uint32 // offset of the first directory
	big   bool   // BigTIFF: counts and offsets of 64 bits
}

// entry is one tagged value. value aliases the stream it was read from.
type entry struct {
	tag, kind uint16
	count     uint32
	value     []byte
}

// directory is a list of entries, and directories they point to when it is to be written.
type directory struct {
	entries []entry
	nextAt  int // where the offset of the next directory is stored, 0 where the file ends before it
	subs    map[uint16]*directory
}

func openTIFF(data []byte) (*tiffStream, error) {
	if len(data) < 8 {
		return nil, io.ErrUnexpectedEOF
	}
	t := &tiffStream{data: data}
	switch string(data[:2]) {
	case "II":
		t.order = binary.LittleEndian
	case "MM":
		t.order = binary.BigEndian
	default:
		return nil, errors.New("no TIFF byte order mark")
	}
	switch v := t.order.Uint16(data[2:]); v {
	case 42:
	case 43:
		if len(data) < 16 {
			return nil, io.ErrUnexpectedEOF
		}
		if size, first := t.order.Uint16(data[4:]), t.order.Uint64(data[8:]); size != 8 || first > uint64(len(data)) {
			return nil, fmt.Errorf("BigTIFF with offsets of %d bytes and a directory at %d of %d", size, first, len(data))
		}
		t.big, t.first = true, uint32(t.order.Uint64(data[8:]))
		return t, nil
	default:
		return nil, fmt.Errorf("TIFF version %d", v)
	}
	t.first = t.order.Uint32(data[4:])
	return t, nil
}

// dir reads the directory at an offset. Entries of unknown type or with values outside the stream are left out.
func (t *tiffStream) dir(off uint32) (*directory, error) {
	at := uint64(off)
	if at < 8 || at+2 > uint64(len(t.data)) {
		return nil, fmt.Errorf("directory at offset %d of %d bytes", off, len(t.data))
	}
	if t.big {
		return t.bigDir(at)
	}
	n := int(t.order.Uint16(t.data[at:]))
	body := t.data[at+2:]
	if len(body) < 12*n {
		return nil, fmt.Errorf("directory of %d entries at offset %d of %d bytes", n, off, len(t.data))
	}
	d := &directory{}
	if len(body) >= 12*n+4 {
		d.nextAt = int(at) + 2 + 12*n
	}
	for i := range n {
		raw := body[12*i : 12*i+12]
		e := entry{tag: t.order.Uint16(raw), kind: t.order.Uint16(raw[2:]), count: t.order.Uint32(raw[4:])}
		if int(e.kind) >= len(typeSizes) || typeSizes[e.kind] == 0 {
			continue
		}
		size := uint64(e.count) * uint64(typeSizes[e.kind])
		if size <= 4 {
			e.value = raw[8 : 8+size : 8+size]
		} else {
			start := uint64(t.order.Uint32(raw[8:]))
			if start+size > uint64(len(t.data)) {
				continue
			}
			e.value = t.data[start : start+size : start+size]
		}
		d.entries = append(d.entries, e)
	}
	return d, nil
}

// bigDir is dir for BigTIFF.
func (t *tiffStream) bigDir(at uint64) (*directory, error) {
	size := uint64(len(t.data))
	if at+16 > size {
		return nil, fmt.Errorf("directory at offset %d of %d bytes", at, size)
	}
	n := t.order.Uint64(t.data[at:])
	if n > (size-at-16)/20 {
		return nil, fmt.Errorf("directory of %d entries at offset %d of %d bytes", n, at, size)
	}
	d := &directory{nextAt: int(at + 8 + 20*n)}
	for i := range n {
		raw := t.data[at+8+20*i:][:20]
		count := t.order.Uint64(raw[4:])
		e := entry{tag: t.order.Uint16(raw), kind: t.order.Uint16(raw[2:]), count: uint32(count)}
		if int(e.kind) >= len(typeSizes) || typeSizes[e.kind] == 0 || count > size {
			continue
		}
		bytes := count * uint64(typeSizes[e.kind])
		if bytes <= 8 {
			e.value = raw[12 : 12+bytes : 12+bytes]
		} else {
			start := t.order.Uint64(raw[12:])
			if start > size || bytes > size-start {
				continue
			}
			e.value = t.data[start : start+bytes : start+bytes]
		}
		d.entries = append(d.entries, e)
	}
	return d, nil
}

// next is the offset of the directory after d, 0 if it is the last.
func (t *tiffStream) next(d *directory) uint32 {
	switch {
	case d.nextAt == 0:
		return 0
	case !t.big:
		return t.order.Uint32(t.data[d.nextAt:])
	}
	if off := t.order.Uint64(t.data[d.nextAt:]); off < uint64(len(t.data)) {
		return uint32(off)
	}
	return 0
}

// subdir reads the directory that the entry of a tag points to, if d has one.
func (t *tiffStream) subdir(d *directory, tag uint16) (*directory, bool) {
	e, ok := d.find(tag)
	if !ok {
		return nil, false
	}
	off, ok := t.uint(e, 0)
	if !ok {
		return nil, false
	}
	sub, err := t.dir(off)
	return sub, err == nil
}

func (d *directory) find(tag uint16) (entry, bool) {
	i := slices.IndexFunc(d.entries, func(e entry) bool { return e.tag == tag })
	if i < 0 {
		return entry{}, false
	}
	return d.entries[i], true
}

// uint returns value i of an entry of an unsigned integer type.
func (t *tiffStream) uint(e entry, i int) (uint32, bool) {
	if i < 0 || i >= int(e.count) {
		return 0, false
	}
	switch e.kind {
	case typeByte:
		return uint32(e.value[i]), true
	case typeShort:
		return uint32(t.order.Uint16(e.value[2*i:])), true
	case typeLong, typeIFD:
		return t.order.Uint32(e.value[4*i:]), true
	case typeLong8, typeIFD8:
		v := t.order.Uint64(e.value[8*i:])
		return uint32(v), v <= math.MaxUint32
	}
	return 0, false
}

// uints returns all values of an entry of an unsigned integer type.
func (t *tiffStream) uints(d *directory, tag uint16) []uint32 {
	e, ok := d.find(tag)
	if !ok {
		return nil
	}
	var out []uint32
	for i := range int(e.count) {
		v, ok := t.uint(e, i)
		if !ok {
			return nil
		}
		out = append(out, v)
	}
	return out
}

// firstUint returns the first value of a tag, or def if the directory has none.
func (t *tiffStream) firstUint(d *directory, tag uint16, def uint32) uint32 {
	if e, ok := d.find(tag); ok {
		if v, ok := t.uint(e, 0); ok {
			return v
		}
	}
	return def
}

// rational returns the first value of a tag of type RATIONAL, or 0.
func (t *tiffStream) rational(d *directory, tag uint16) float64 {
	e, ok := d.find(tag)
	if !ok || e.kind != typeRational || e.count < 1 {
		return 0
	}
	num, den := t.order.Uint32(e.value), t.order.Uint32(e.value[4:])
	if den == 0 {
		return 0
	}
	return float64(num) / float64(den)
}

// setUint overwrites a single unsigned integer in the stream, and reports whether it could.
func (t *tiffStream) setUint(e entry, v uint32) bool {
	if e.count != 1 {
		return false
	}
	switch {
	case e.kind == typeShort && v <= 0xffff:
		t.order.PutUint16(e.value, uint16(v))
	case e.kind == typeLong:
		t.order.PutUint32(e.value, v)
	default:
		return false
	}
	return true
}

// copyFrom adds the entries that keep chooses, as long as their values fit the budget.
func (d *directory) copyFrom(src *directory, keep func(tag uint16) bool, budget *int) {
	seen := make(map[uint16]bool)
	for _, e := range d.entries {
		seen[e.tag] = true
	}
	for _, e := range src.entries {
		if seen[e.tag] || !keep(e.tag) || e.kind > typeIFD || len(e.value)+12 > *budget {
			continue
		}
		seen[e.tag] = true
		*budget -= len(e.value) + 12
		d.entries = append(d.entries, e)
	}
}

// addSub attaches a directory that an entry of the given tag will point to, unless it is empty.
func (d *directory) addSub(tag uint16, sub *directory) {
	if len(sub.entries) == 0 && len(sub.subs) == 0 {
		return
	}
	if d.subs == nil {
		d.subs = make(map[uint16]*directory)
	}
	d.subs[tag] = sub
}

// buildTIFF writes a stream that holds one directory and what hangs below it. Values must be in the given byte order.
func buildTIFF(order byteOrder, d *directory) []byte {
	b := tiffHeader(order, 8)
	return appendDirectory(b, order, d)
}

func tiffHeader(order byteOrder, first uint32) []byte {
	mark := "II"
	if order == byteOrder(binary.BigEndian) {
		mark = "MM"
	}
	b := order.AppendUint16([]byte(mark), 42)
	return order.AppendUint32(b, first)
}

// appendDirectory appends a directory, the values that do not fit its entries, and the directories below it. The
// stream must start at the first byte of b and have an even length.
func appendDirectory(b []byte, order byteOrder, d *directory) []byte {
	entries := slices.Clone(d.entries)
	for tag := range d.subs {
		entries = append(entries, entry{tag: tag, kind: typeLong, count: 1})
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return int(a.tag) - int(b.tag) })

	at := len(b)
	b = order.AppendUint16(b, uint16(len(entries)))
	b = append(b, make([]byte, 12*len(entries)+4)...)
	for i, e := range entries {
		slot := at + 2 + 12*i
		order.PutUint16(b[slot:], e.tag)
		order.PutUint16(b[slot+2:], e.kind)
		order.PutUint32(b[slot+4:], e.count)
		sub := d.subs[e.tag]
		if sub == nil && len(e.value) <= 4 {
			copy(b[slot+8:], e.value)
			continue
		}
		order.PutUint32(b[slot+8:], uint32(len(b)))
		if sub != nil {
			b = appendDirectory(b, order, sub)
			continue
		}
		b = append(b, e.value...)
		if len(e.value)%2 == 1 {
			b = append(b, 0)
		}
	}
	return b
}
