package kernels

import (
	"encoding/binary"
	"fmt"
	"math"

	"unirestorer/kernels/abi"
)

// AdapterKind says how an adapter's change of a tensor is given.
type AdapterKind int32

// Kinds of adapters.
const (
	// AdapterLowRank is the product of two small matrices.
	AdapterLowRank AdapterKind = iota
	// AdapterDenseF16 and AdapterDenseF32 are the change itself, in fp16, for an fp16 or fp32 tensor.
	AdapterDenseF16
	AdapterDenseF32
)

// Adapter describes how one resident tensor is made from its base. Base and Out are different memory: Out is always made
// anew, so that no sequence of merges drifts.
type Adapter struct {
	Name      string // for errors
	Kind      AdapterKind
	Base, Out abi.Buffer
	Scale     float32 // alpha/r

	// Values is the length of a dense tensor; Delta holds its change in the same layout, fp16.
	Values int
	Delta  abi.Buffer

	// A low-rank tensor is a packed weight, fp16 [Rows][Kernel²][Pitch]: row r is filter RowOf[r] (int32, -1 for none) of
	// Filters, position p of a tap channel ChannelOf[p] (int32, -1 for none) of Channels. Without RowOf and ChannelOf they
	// are in order.
	Rows, Filters, Channels, Pitch int
	Kernel                         int
	RowOf, ChannelOf               abi.Buffer
	// A is fp16 [Inner][Channels·Kernel] and B fp16 [Filters·Kernel][Inner], as loralib's ConvLoRA stores them; B·A read
	// row by row is the change of the weight [Filters][Channels][Kernel][Kernel].
	A, B  abi.Buffer
	Inner int
	// Factor, fp32 [Channels], multiplies the columns of the sum, as the factors of a normalisation in front do; absent for
	// none.
	Factor abi.Buffer
	// NormSum, fp32 [Rows], takes the sums of Out's rows; absent for none.
	NormSum abi.Buffer
	// Bias, fp32 [Rows], takes BaseBias plus, unless NormBias is absent, the sum before Factor times NormBias, fp32
	// [Channels], the bias of the normalisation in front. Bias and BaseBias are both absent for none; with NormBias, Kernel
	// must be 1.
	BaseBias, Bias, NormBias abi.Buffer
}

const (
	adapterBytes  = 128 // of an Entry in lora.cu
	adapterRows   = 8
	adapterValues = 2048
)

// AdapterTableBytes is the size of the content of a table of so many tensors.
func AdapterTableBytes(tensors int) int64 { return adapterBytes * int64(tensors) }

// MergeFits tells whether MergeAdapter takes a kernel×kernel convolution's factors with so many values between them.
func MergeFits(kernel, inner int) bool {
	return inner > 0 && inner <= defaultShared/(4*adapterRows*kernel)
}

// AdapterTable is what MergeAdapter needs to know of a set of tensors.
type AdapterTable struct {
	// Content is the table's memory, to be copied to the device once.
	Content []byte

	entries, blocks, shared int
	bytes, operations       int64
}

// NewAdapterTable checks the tensors and lays out their table.
func NewAdapterTable(adapters []Adapter) (*AdapterTable, error) {
	if len(adapters) == 0 {
		return nil, fmt.Errorf("adapter of no tensors")
	}
	t := &AdapterTable{entries: len(adapters)}
	for i := range adapters {
		a := &adapters[i]
		p := &problems{kernel: "merge_adapter"}
		blocks := t.add(p, a)
		if p.err != nil {
			return nil, fmt.Errorf("adapter of %q: %w", a.Name, p.err)
		}
		if t.blocks > maxCount-blocks {
			return nil, fmt.Errorf("adapter of %q: the tensors are too many for one launch", a.Name)
		}
		t.append(a)
		t.blocks += blocks
	}
	return t, nil
}

// add checks a tensor and counts its work; it returns its blocks.
func (t *AdapterTable) add(p *problems, a *Adapter) int {
	if !(math.Abs(float64(a.Scale)) <= math.MaxFloat32) {
		p.addf("scale %g", a.Scale)
	}
	if a.Kind == AdapterDenseF16 || a.Kind == AdapterDenseF32 {
		elem := 2
		if a.Kind == AdapterDenseF32 {
			elem = 4
		}
		p.positive("values", a.Values)
		if a.Values > maxCount-adapterValues {
			p.addf("%d values are too many", a.Values)
		}
		p.fits("base", a.Base, a.Values, elem)
		p.fits("result", a.Out, a.Values, elem)
		p.fits("change", a.Delta, a.Values, 2)
		p.apart(a, a.Values*elem)
		t.bytes += int64(a.Values) * int64(2*elem+2)
		t.operations += 2 * int64(a.Values)
		return ceilDiv(a.Values, adapterValues)
	}
	if a.Kind != AdapterLowRank {
		p.addf("adapter kind %d", a.Kind)
		return 0
	}
	k := a.Kernel
	p.positive("rows, filters, channels, pitch, kernel and rank", a.Rows, a.Filters, a.Channels, a.Pitch, k, a.Inner)
	if p.err != nil {
		return 0
	}
	p.positive("weight", a.Rows, k, k, a.Pitch)
	values, factors := a.Rows*k*k*a.Pitch, adapterRows*k*a.Inner*4
	if k*k*a.Pitch > maxCount || a.Channels*k*k > maxCount || a.Rows > maxCount-adapterRows {
		p.addf("%d rows of %d values are too many", a.Rows, k*k*a.Pitch)
	}
	if factors > defaultShared {
		p.addf("rank %d of a %dx%d convolution is too large", a.Inner, k, k)
	}
	if a.RowOf.IsZero() && a.Rows > a.Filters || a.ChannelOf.IsZero() && a.Pitch < a.Channels {
		p.addf("%d rows and a pitch of %d for %d filters of %d channels", a.Rows, a.Pitch, a.Filters, a.Channels)
	}
	p.fits("base", a.Base, values, 2)
	p.fits("result", a.Out, values, 2)
	p.fits("A", a.A, a.Inner*a.Channels*k, 2)
	p.fits("B", a.B, a.Filters*k*a.Inner, 2)
	p.optional("row table", a.RowOf, a.Rows, 4)
	p.optional("channel table", a.ChannelOf, a.Pitch, 4)
	p.optional("factors", a.Factor, a.Channels, 4)
	p.optional("row sums", a.NormSum, a.Rows, 4)
	if !a.Bias.IsZero() {
		p.fits("bias", a.Bias, a.Rows, 4)
		p.fits("base bias", a.BaseBias, a.Rows, 4)
	}
	p.optional("normalisation's bias", a.NormBias, a.Channels, 4)
	if !a.NormBias.IsZero() && (k != 1 || a.Bias.IsZero()) {
		p.addf("the bias of a normalisation in front of a %dx%d convolution without a bias of its own", k, k)
	}
	p.apart(a, values*2)
	t.shared = max(t.shared, factors)
	t.bytes += 4*int64(values) + 2*int64(a.Inner*k*(a.Channels+a.Filters))
	t.operations += 2 * int64(values) * int64(a.Inner)
	return ceilDiv(a.Rows, adapterRows)
}

// apart checks that the result does not touch the base.
func (p *problems) apart(a *Adapter, bytes int) {
	if a.Base.Ptr < a.Out.Ptr+abi.Ptr(bytes) && a.Out.Ptr < a.Base.Ptr+abi.Ptr(bytes) {
		p.addf("base and result overlap")
	}
}

func (t *AdapterTable) append(a *Adapter) {
	first := a.A
	rows := a.Rows
	if a.Kind != AdapterLowRank {
		first, rows = a.Delta, a.Values
	}
	for _, b := range []abi.Buffer{a.Base, a.Out, first, a.B, a.RowOf, a.ChannelOf, a.Factor, a.NormSum, a.BaseBias, a.Bias, a.NormBias} {
		t.Content = binary.LittleEndian.AppendUint64(t.Content, uint64(b.Ptr))
	}
	for _, v := range []int{t.blocks, int(a.Kind), rows, a.Kernel, a.Inner, a.Channels, a.Pitch} {
		t.Content = binary.LittleEndian.AppendUint32(t.Content, uint32(v))
	}
	t.Content = binary.LittleEndian.AppendUint32(t.Content, math.Float32bits(a.Scale))
	t.Content = append(t.Content, make([]byte, adapterBytes-len(t.Content)%adapterBytes)...)
}

// MergeAdapter makes every tensor of the table, whose content is at the address of table, from its base: out = (base +
// strength·scale·change)·factor, rounded once. Strength 1 merges, 0 leaves the change out, bit for bit without a factor.
func MergeAdapter(t *AdapterTable, table abi.Buffer, strength float32) (Launch, error) {
	p := &problems{kernel: "merge_adapter"}
	p.fits("table", table, len(t.Content), 1)
	if !(math.Abs(float64(strength)) <= math.MaxFloat32) {
		p.addf("strength %g", strength)
	}
	var a abi.Args
	a.Buf(table).I32(int32(t.entries)).F32(strength)
	return p.done(Launch{
		Module: "lora", Shape: abi.Shape{Grid: abi.D1(t.blocks), Block: abi.D1(256), Shared: t.shared}, Args: a,
		Bytes: t.bytes, Operations: t.operations,
	})
}
