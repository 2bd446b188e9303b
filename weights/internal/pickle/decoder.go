// Package pickle reads the subset of Python's pickle protocol 2 that PyTorch writes checkpoints in.
//
// It is a data reader, not an interpreter: nothing is imported or called. A global is only a name, and names, calls,
// object states and persistent references are handed to a Handler, which knows the few that it accepts. Opcodes that
// PyTorch does not write are refused. Input, text, nesting and the number of values are limited, so hostile input
// costs bounded memory and time; no step recurses.
package pickle

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"unicode/utf8"
)

// Handler gives meaning to what a pickle asks for. An error from any method ends decoding.
type Handler interface {
	// Global decides whether a name may appear at all.
	Global(g Global) error
	// Call returns what fn(args) stands for.
	Call(fn Global, args Tuple) (any, error)
	// SetState applies a state to a value.
	SetState(value, state any) error
	// Persistent returns what a reference to something outside the pickle stands for.
	Persistent(id any) (any, error)
}

// Limits bound what one Decoder accepts over all the pickles it decodes.
type Limits struct {
	Bytes   int64 // length of the pickles
	Text    int   // length of one string
	Values  int   // values created or recalled, and marks
	Nesting int   // marks open at a time
}

// DefaultLimits fit a checkpoint with about a hundred thousand tensors.
var DefaultLimits = Limits{Bytes: 256 << 20, Text: 16 << 20, Values: 4 << 20, Nesting: 1000}

// maxGlobal is the longest module or class name accepted.
const maxGlobal = 256

// Decoder reads pickles that follow one another.
type Decoder struct {
	r       *bufio.Reader
	read    int64 // bytes consumed
	size    int64 // bytes there are
	handler Handler
	limits  Limits

	stack []any
	marks []int
	memo  map[uint32]any
}

// NewDecoder reads from r, which holds size bytes.
func NewDecoder(r io.Reader, size int64, h Handler, l Limits) *Decoder {
	return &Decoder{r: bufio.NewReaderSize(r, 64<<10), size: size, handler: h, limits: l}
}

// Offset returns how many bytes the pickles decoded so far took.
func (d *Decoder) Offset() int64 { return d.read }

// errors that say what is wrong with a pickle; Decode adds where.
var (
	errUnderflow = errors.New("takes a value that is not there")
	errNoMark    = errors.New("has no mark to go back to")
)

// Decode reads one pickle.
func (d *Decoder) Decode() (any, error) {
	d.stack, d.marks, d.memo = d.stack[:0], d.marks[:0], make(map[uint32]any)
	for first := true; ; first = false {
		at := d.read
		op, err := d.byte()
		if err != nil {
			return nil, fmt.Errorf("pickle at byte %d: %w", at, err)
		}
		if first && op != opProto {
			return nil, fmt.Errorf("pickle at byte %d: starts with %#02x instead of a protocol version", at, op)
		}
		if op == opStop {
			if len(d.marks) > 0 || len(d.stack) != 1 {
				return nil, fmt.Errorf("pickle at byte %d: stops with %d values and %d marks instead of one value",
					at, len(d.stack), len(d.marks))
			}
			return d.stack[0], nil
		}
		if err := d.step(op); err != nil {
			return nil, fmt.Errorf("pickle at byte %d: %s: %w", at, opName(op), err)
		}
	}
}

func (d *Decoder) step(op byte) error {
	if o, ok := operations[op]; ok && o.run != nil {
		return o.run(d)
	}
	return errors.New("not an operation that PyTorch writes")
}

// count charges one value to the limit.
func (d *Decoder) count() error {
	if d.limits.Values <= 0 {
		return errors.New("more values than a checkpoint needs")
	}
	d.limits.Values--
	return nil
}

func (d *Decoder) push(v any) error {
	d.stack = append(d.stack, v)
	return d.count()
}

// floor is the height of the stack below which the innermost mark forbids to pop.
func (d *Decoder) floor() int {
	if len(d.marks) == 0 {
		return 0
	}
	return d.marks[len(d.marks)-1]
}

// pop takes the last n values. The result is a copy.
func (d *Decoder) pop(n int) ([]any, error) {
	at := len(d.stack) - n
	if at < d.floor() {
		return nil, errUnderflow
	}
	return d.cut(at), nil
}

// popMark takes the innermost mark and the values above it.
func (d *Decoder) popMark() ([]any, error) {
	if len(d.marks) == 0 {
		return nil, errNoMark
	}
	at := d.floor()
	d.marks = d.marks[:len(d.marks)-1]
	return d.cut(at), nil
}

func (d *Decoder) cut(at int) []any {
	items := append([]any(nil), d.stack[at:]...)
	clear(d.stack[at:])
	d.stack = d.stack[:at]
	return items
}

func (d *Decoder) top() (any, error) {
	if len(d.stack) <= d.floor() {
		return nil, errUnderflow
	}
	return d.stack[len(d.stack)-1], nil
}

func (d *Decoder) extend(items []any) error {
	v, err := d.top()
	if err != nil {
		return err
	}
	if _, passed := v.(*Object); passed {
		return nil
	}
	list, ok := v.(*List)
	if !ok {
		return fmt.Errorf("appends to a %s", kind(v))
	}
	list.Items = append(list.Items, items...)
	return nil
}

func (d *Decoder) set(items []any) error {
	v, err := d.top()
	if err != nil {
		return err
	}
	if _, passed := v.(*Object); passed {
		return nil
	}
	dict, ok := v.(*Dict)
	if !ok {
		return fmt.Errorf("sets items of a %s", kind(v))
	}
	if len(items)%2 != 0 {
		return errors.New("a key has no value")
	}
	for i := 0; i < len(items); i += 2 {
		if err := dict.add(items[i], items[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (d *Decoder) put(index uint32) error {
	v, err := d.top()
	if err != nil {
		return err
	}
	d.memo[index] = v
	return d.count()
}

func (d *Decoder) get(index uint32) error {
	v, ok := d.memo[index]
	if !ok {
		return fmt.Errorf("nothing is stored under %d", index)
	}
	return d.push(v)
}

func (d *Decoder) global() error {
	module, err := d.line()
	if err != nil {
		return err
	}
	name, err := d.line()
	if err != nil {
		return err
	}
	g := Global{module, name}
	if err := d.handler.Global(g); err != nil {
		return err
	}
	return d.push(g)
}

func (d *Decoder) call() error {
	operands, err := d.pop(2)
	if err != nil {
		return err
	}
	if made, passed := operands[0].(*Object); passed { // of a value that is passed over
		return d.push(made)
	}
	fn, ok := operands[0].(Global)
	if !ok {
		return fmt.Errorf("calls a %s", kind(operands[0]))
	}
	args, ok := operands[1].(Tuple)
	if !ok {
		return fmt.Errorf("calls %s with a %s for arguments", fn, kind(operands[1]))
	}
	value, err := d.handler.Call(fn, args)
	if err != nil {
		return fmt.Errorf("%s: %w", fn, err)
	}
	return d.push(value)
}

func (d *Decoder) setState() error {
	state, err := d.pop(1)
	if err != nil {
		return err
	}
	value, err := d.top()
	if err != nil {
		return err
	}
	return d.handler.SetState(value, state[0])
}

func (d *Decoder) text() error {
	b, err := d.bytes(4)
	if err != nil {
		return err
	}
	n := int64(binary.LittleEndian.Uint32(b))
	if n > int64(d.limits.Text) {
		return fmt.Errorf("a string of %d bytes is longer than the limit of %d", n, d.limits.Text)
	}
	b, err = d.bytes(n)
	if err != nil {
		return err
	}
	if !utf8.Valid(b) {
		return errors.New("a string is not valid UTF-8")
	}
	return d.push(string(b))
}

// long reads a little-endian two's complement integer of up to 255 bytes.
func (d *Decoder) long() error {
	n, err := d.byte()
	if err != nil {
		return err
	}
	b, err := d.bytes(int64(n))
	if err != nil {
		return err
	}
	if n <= 8 {
		var v uint64
		for i := range b {
			v |= uint64(b[i]) << (8 * i)
		}
		shift := 64 - 8*int(n)
		return d.push(int64(v<<shift) >> shift)
	}
	bigEndian := make([]byte, n)
	for i := range b {
		bigEndian[len(b)-1-i] = b[i]
	}
	v := new(big.Int).SetBytes(bigEndian)
	if b[n-1]&0x80 != 0 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), 8*uint(n)))
	}
	return d.push(v)
}

func (d *Decoder) byte() (byte, error) {
	b, err := d.bytes(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// bytes reads n bytes; they are valid until the next read.
func (d *Decoder) bytes(n int64) ([]byte, error) {
	if err := d.consume(n); err != nil {
		return nil, err
	}
	if n <= int64(d.r.Size()) {
		b, err := d.r.Peek(int(n))
		if err != nil {
			return nil, noEOF(err)
		}
		_, err = d.r.Discard(int(n))
		return b, err
	}
	b := make([]byte, n)
	_, err := io.ReadFull(d.r, b)
	return b, noEOF(err)
}

func (d *Decoder) line() (string, error) {
	var line []byte
	for {
		b, err := d.byte()
		if err != nil {
			return "", err
		}
		if b == '\n' {
			break
		}
		if len(line) == maxGlobal {
			return "", fmt.Errorf("a name is longer than %d bytes", maxGlobal)
		}
		line = append(line, b)
	}
	if !utf8.Valid(line) {
		return "", errors.New("a name is not valid UTF-8")
	}
	return string(line), nil
}

func (d *Decoder) consume(n int64) error {
	if n > d.size-d.read {
		return fmt.Errorf("needs %d bytes where %d are left: %w", n, d.size-d.read, io.ErrUnexpectedEOF)
	}
	if n > d.limits.Bytes-d.read {
		return fmt.Errorf("longer than the limit of %d bytes", d.limits.Bytes)
	}
	d.read += n
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
