package pickle

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The operations of protocol 2 that PyTorch writes (Python's Lib/pickletools.py describes each).
const (
	opMark       = '('
	opStop       = '.'
	opBinInt     = 'J'
	opBinInt1    = 'K'
	opBinInt2    = 'M'
	opNone       = 'N'
	opBinPersID  = 'Q'
	opReduce     = 'R'
	opBinUnicode = 'X'
	opAppend     = 'a'
	opBuild      = 'b'
	opGlobal     = 'c'
	opAppends    = 'e'
	opBinGet     = 'h'
	opLongBinGet = 'j'
	opBinPut     = 'q'
	opLongBinPut = 'r'
	opSetItem    = 's'
	opTuple      = 't'
	opSetItems   = 'u'
	opEmptyDict  = '}'
	opEmptyList  = ']'
	opEmptyTuple = ')'
	opBinFloat   = 'G'
	opProto      = 0x80
	opNewObj     = 0x81
	opTuple1     = 0x85
	opTuple2     = 0x86
	opTuple3     = 0x87
	opNewTrue    = 0x88
	opNewFalse   = 0x89
	opLong1      = 0x8a
)

// operation is what a byte of a pickle does. Decode itself stops, so STOP runs nothing.
type operation struct {
	name string
	run  func(*Decoder) error
}

func (d *Decoder) proto() error {
	version, err := d.byte()
	if err == nil && version != 2 {
		err = fmt.Errorf("version %d is not supported, only 2", version)
	}
	return err
}

func (d *Decoder) mark() error {
	if len(d.marks) >= d.limits.Nesting {
		return fmt.Errorf("nested deeper than %d", d.limits.Nesting)
	}
	d.marks = append(d.marks, len(d.stack))
	return d.count()
}

func (d *Decoder) persistent() error {
	id, err := d.pop(1)
	if err != nil {
		return err
	}
	value, err := d.handler.Persistent(id[0])
	if err != nil {
		return err
	}
	return d.push(value)
}

func tupleOf(d *Decoder, items []any) error { return d.push(Tuple(items)) }

// pushing pushes a new value.
func pushing(value func() any) func(*Decoder) error {
	return func(d *Decoder) error { return d.push(value()) }
}

// argument reads n bytes and does something with them.
func argument(n int64, use func(*Decoder, []byte) error) func(*Decoder) error {
	return func(d *Decoder) error {
		b, err := d.bytes(n)
		if err != nil {
			return err
		}
		return use(d, b)
	}
}

// number reads n bytes and pushes what they stand for.
func number(n int64, value func([]byte) any) func(*Decoder) error {
	return argument(n, func(d *Decoder, b []byte) error { return d.push(value(b)) })
}

// index reads n bytes that name a place of the memo.
func index(n int64, use func(*Decoder, uint32) error) func(*Decoder) error {
	return argument(n, func(d *Decoder, b []byte) error {
		var wide [4]byte
		copy(wide[:], b)
		return use(d, binary.LittleEndian.Uint32(wide[:]))
	})
}

// last takes n values and does something with them.
func last(n int, use func(*Decoder, []any) error) func(*Decoder) error {
	return func(d *Decoder) error {
		items, err := d.pop(n)
		if err != nil {
			return err
		}
		return use(d, items)
	}
}

// marked takes the values above the innermost mark and does something with them.
func marked(use func(*Decoder, []any) error) func(*Decoder) error {
	return func(d *Decoder) error {
		items, err := d.popMark()
		if err != nil {
			return err
		}
		return use(d, items)
	}
}

var operations = map[byte]operation{
	opProto: {"PROTO", (*Decoder).proto},
	opMark:  {"MARK", (*Decoder).mark},
	opStop:  {"STOP", nil},

	opNone:       {"NONE", pushing(func() any { return nil })},
	opNewTrue:    {"NEWTRUE", pushing(func() any { return true })},
	opNewFalse:   {"NEWFALSE", pushing(func() any { return false })},
	opEmptyTuple: {"EMPTY_TUPLE", pushing(func() any { return Tuple{} })},
	opEmptyList:  {"EMPTY_LIST", pushing(func() any { return &List{} })},
	opEmptyDict:  {"EMPTY_DICT", pushing(func() any { return &Dict{} })},

	opBinInt1:    {"BININT1", number(1, func(b []byte) any { return int64(b[0]) })},
	opBinInt2:    {"BININT2", number(2, func(b []byte) any { return int64(binary.LittleEndian.Uint16(b)) })},
	opBinInt:     {"BININT", number(4, func(b []byte) any { return int64(int32(binary.LittleEndian.Uint32(b))) })},
	opBinFloat:   {"BINFLOAT", number(8, func(b []byte) any { return math.Float64frombits(binary.BigEndian.Uint64(b)) })},
	opLong1:      {"LONG1", (*Decoder).long},
	opBinUnicode: {"BINUNICODE", (*Decoder).text},

	opTuple1:   {"TUPLE1", last(1, tupleOf)},
	opTuple2:   {"TUPLE2", last(2, tupleOf)},
	opTuple3:   {"TUPLE3", last(3, tupleOf)},
	opTuple:    {"TUPLE", marked(tupleOf)},
	opAppend:   {"APPEND", last(1, (*Decoder).extend)},
	opAppends:  {"APPENDS", marked((*Decoder).extend)},
	opSetItem:  {"SETITEM", last(2, (*Decoder).set)},
	opSetItems: {"SETITEMS", marked((*Decoder).set)},

	opBinPut:     {"BINPUT", index(1, (*Decoder).put)},
	opLongBinPut: {"LONG_BINPUT", index(4, (*Decoder).put)},
	opBinGet:     {"BINGET", index(1, (*Decoder).get)},
	opLongBinGet: {"LONG_BINGET", index(4, (*Decoder).get)},

	opGlobal:    {"GLOBAL", (*Decoder).global},
	opReduce:    {"REDUCE", (*Decoder).call},
	opNewObj:    {"NEWOBJ", (*Decoder).call}, // a class and the arguments of its __new__
	opBuild:     {"BUILD", (*Decoder).setState},
	opBinPersID: {"BINPERSID", (*Decoder).persistent},
}

func opName(op byte) string {
	if o, ok := operations[op]; ok {
		return o.name
	}
	return fmt.Sprintf("operation %#02x", op)
}
