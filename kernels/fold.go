package kernels

import "unirestorer/kernels/abi"

// AttentionFold turns Gram matrices and the projection behind the attention into one matrix an image.
type AttentionFold struct {
	// Partial is fp32 [images][Heads][Splits][GramSize(Head)]; or Gram is fp32 [images][Heads][Head][PadC(Head)].
	Partial     abi.Buffer
	Splits      int
	Gram        abi.Buffer
	Temperature abi.Buffer // fp32 [Heads]
	W           abi.Buffer // fp16 [Outputs][PadC(Heads·Head)]
	Out         abi.Buffer // fp16 [images][Outputs][PadC(Heads·Head)]
	// Scratch is of FoldScratch bytes for each head of each image.
	Scratch abi.Buffer
	// Arrived is a uint32 for each head of each image: zero before the first launch, and zero again after every launch.
	// Launches that may run at the same time must not share it. Heads wider than MaxFoldHead need none.
	Arrived                      abi.Buffer
	Images, Heads, Head, Outputs int
}

// MaxFoldHead is the widest head whose attention fits into shared memory.
const MaxFoldHead = 104

// FoldScratch is the memory in bytes for the attention of a head of d channels.
func FoldScratch(d int) int64 {
	if d > MaxFoldHead {
		return 4 * int64(d) * int64(d)
	}
	padded := int64(foldPadded(d))
	return 2 * padded * padded
}

func foldPadded(d int) int { return ceilDiv(d, 16) * 16 }

// foldRows are the rows of a head that a block of fold makes.
const foldRows = 4

// Fold computes the matrices: one launch, or two for heads wider than MaxFoldHead.
func Fold(f AttentionFold) ([]Launch, error) {
	p := &problems{kernel: "fold"}
	p.positive("images, heads, head and outputs", f.Images, f.Heads, f.Head, f.Outputs)
	c, d := PadC(f.Heads*f.Head), PadC(f.Head)
	if f.Partial.IsZero() == f.Gram.IsZero() {
		p.addf("want either partial sums or Gram matrices")
	}
	if !f.Partial.IsZero() {
		p.positive("splits", f.Splits)
		p.fits("partial Gram matrices", f.Partial, f.Images*f.Heads*f.Splits*GramSize(f.Head), 4)
	} else {
		p.fits("Gram matrices", f.Gram, f.Images*f.Heads*f.Head*d, 4)
	}
	p.fits("temperature", f.Temperature, f.Heads, 4)
	p.fits("projection", f.W, f.Outputs*c, 2)
	p.fits("result", f.Out, f.Images*f.Outputs*c, 2)
	wide := f.Head > MaxFoldHead
	p.fits("scratch", f.Scratch, f.Images*f.Heads*int(FoldScratch(f.Head)), 1)
	if !wide {
		p.fits("counters", f.Arrived, f.Images*f.Heads, 4)
	}
	var a abi.Args
	a.Buf(f.Partial).Buf(f.Gram).Buf(f.Temperature).Buf(f.W).Buf(f.Out).Buf(f.Scratch).Buf(f.Arrived)
	a.I32(int32(f.Splits)).I32(int32(d)).I32(int32(f.Head)).I32(int32(f.Heads)).I32(int32(f.Outputs)).I32(int32(c))
	gram := 4 * int64(f.Images*f.Heads) * int64(f.Head*d)
	if !f.Partial.IsZero() {
		gram = 4 * int64(f.Images*f.Heads) * int64(f.Splits*GramSize(max(f.Head, 1)))
	}
	matrices := 2 * int64(f.Outputs) * int64(c) * int64(1+f.Images)
	ops := 2 * int64(f.Images) * int64(f.Outputs) * int64(c) * int64(f.Head)
	args := structure(&a)
	if !wide {
		l, err := p.done(Launch{
			Module: "fold", Args: args, Bytes: gram + matrices, Operations: ops,
			Shape:   abi.Shape{Grid: abi.D3(foldPadded(f.Head)/foldRows, f.Heads, f.Images), Block: abi.D1(512)},
			Arrived: f.Arrived, Arrivals: foldPadded(f.Head) / foldRows,
		})
		return []Launch{l}, err
	}
	scratch := 4 * int64(f.Images*f.Heads) * int64(f.Head*f.Head)
	p.kernel = "attention_rows"
	rows, err := p.done(Launch{
		Module: "fold", Args: args, Bytes: gram + scratch, Operations: 4 * int64(f.Images*f.Heads) * int64(f.Head*f.Head),
		Shape: abi.Shape{Grid: abi.D2(ceilDiv(f.Head, 4), f.Images*f.Heads), Block: abi.D1(128)},
	})
	if err != nil {
		return nil, err
	}
	p.kernel = "fold_wide"
	l, err := p.done(Launch{
		Module: "fold", Args: args, Bytes: scratch + matrices, Operations: ops,
		Shape: abi.Shape{Grid: abi.D3(ceilDiv(f.Outputs*c, 256), 1, f.Images), Block: abi.D1(256)},
	})
	return []Launch{rows, l}, err
}
