package weightstest

import (
	"encoding/binary"
	"math/big"
	"slices"
)

// pickler writes pickles in protocol 2, with the operations that torch.save uses.
type pickler struct{ out []byte }

func (p *pickler) op(ops ...byte) { p.out = append(p.out, ops...) }

func (p *pickler) begin() { p.op(0x80, 2) }

func (p *pickler) text(s string) {
	p.op('X')
	p.out = binary.LittleEndian.AppendUint32(p.out, uint32(len(s)))
	p.out = append(p.out, s...)
}

// integer writes v ≥ 0 in the shortest of the forms that Python uses.
func (p *pickler) integer(v int) {
	switch v := int64(v); {
	case v < 1<<8:
		p.op('K', byte(v))
	case v < 1<<16:
		p.op('M')
		p.out = binary.LittleEndian.AppendUint16(p.out, uint16(v))
	case v < 1<<31:
		p.op('J')
		p.out = binary.LittleEndian.AppendUint32(p.out, uint32(v))
	default:
		p.long(big.NewInt(v))
	}
}

// long writes v ≥ 0 as a little-endian two's complement number.
func (p *pickler) long(v *big.Int) {
	bytes := append([]byte{0}, v.Bytes()...)
	if len(bytes) > 1 && bytes[1] < 0x80 {
		bytes = bytes[1:]
	}
	slices.Reverse(bytes)
	p.op(0x8a, byte(len(bytes)))
	p.op(bytes...)
}

func (p *pickler) tuple(values []int) {
	p.op('(')
	for _, v := range values {
		p.integer(v)
	}
	p.op('t')
}

func (p *pickler) global(module, name string) {
	p.op('c')
	p.out = append(p.out, module+"\n"+name+"\n"...)
}

// orderedDict leaves an empty OrderedDict.
func (p *pickler) orderedDict() {
	p.global("collections", "OrderedDict")
	p.op(')', 'R')
}

// tensor writes a contiguous tensor at the start of a storage.
func (p *pickler) tensor(class, key string, numel int, shape []int) {
	p.global("torch._utils", "_rebuild_tensor_v2")
	p.op('(', '(')
	p.text("storage")
	p.global("torch", class)
	p.text(key)
	p.text("cpu")
	p.integer(numel)
	p.op('t', 'Q')
	p.integer(0)
	p.tuple(shape)
	strides := make([]int, len(shape))
	step := 1
	for i := len(shape) - 1; i >= 0; i-- {
		strides[i] = step
		step *= shape[i]
	}
	p.tuple(strides)
	p.op(0x89) // requires_grad
	p.orderedDict()
	p.op('t', 'R')
}
