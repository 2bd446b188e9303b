package main

import "fmt"

// depthwise is isa.depthwise for vectors of four channels.
func (n *neon) depthwise(k int) {
	share := 6 // neighbouring outputs that share their loads
	if k == 5 {
		share = 4
	}
	// Where pixel p of a row of the input begins.
	places := make([]gp, share+k-1)
	stride := n.strideArg("ldx")
	for p := range places {
		switch p {
		case 0:
			places[0] = n.gp()
			n.set(0, places[0])
		default:
			places[p] = n.gp()
			n.addInt(places[p-1], stride, places[p])
		}
	}
	inputAt, outputAt, pixels := n.gp(), n.gp(), n.intArg("pixels")
	n.set(0, inputAt)
	n.set(0, outputAt)

	rows := make([]gp, k)
	for i := range rows {
		rows[i] = n.gp()
	}
	dst, w := n.gp(), n.gp()

	// compute does one vector of channels of count pixels and moves on; rest is
	// nil for a whole one.
	compute := func(count int, rest *gp) {
		sums, wv, x := n.vecs(count), n.vecs(k), n.vec()
		n.readAt(w, k*k*neonBytes, sums[:1])
		for _, r := range sums[1:] {
			n.moveVec(sums[0], r)
		}
		for i, row := range rows {
			for j := range wv {
				n.readAt(w, (i*k+j)*neonBytes, wv[j:j+1])
			}
			for p := range count + k - 1 {
				if rest == nil {
					n.loadVec(row, places[p], x)
				} else {
					at := n.gp()
					n.addInt(row, places[p], at)
					n.readRest(at, *rest, x)
				}
				for j := range wv {
					if o := p - j; o >= 0 && o < count {
						n.arith(fmla, x, wv[j], sums[o])
					}
				}
			}
			if rest == nil {
				n.step(row, neonBytes)
			}
		}
		at := dst
		if count > 1 {
			at = n.gp()
			n.move(dst, at)
		}
		for p, r := range sums {
			if rest == nil {
				n.writeAt([]vec{r}, at, 0)
			} else {
				n.writeRest(r, at, *rest)
			}
			if p+1 < count {
				n.nextRow(at, "ldst")
			}
		}
		if rest == nil {
			n.step(dst, neonBytes)
			n.step(w, (k*k+1)*neonBytes)
		}
	}
	// block computes all channels of count pixels, as long as that many are left.
	block := func(count int) {
		top, end := n.newLabel("pixels"), n.newLabel("pixelsdone")
		n.label(top)
		n.jumpIfConst(pixels, "LT", count, end)
		n.step(pixels, -count)
		for i, row := range rows {
			n.op(regs(row), nil, "MOVD r%d_base+%d(FP), %s", i, n.offset(fmt.Sprintf("r%d_base", i)), row)
			n.addInt(row, inputAt, row)
		}
		n.op(regs(dst), nil, "MOVD dst_base+%d(FP), %s", n.offset("dst_base"), dst)
		n.addInt(dst, outputAt, dst)
		n.op(regs(w), nil, "MOVD w_base+%d(FP), %s", n.offset("w_base"), w)
		n.addInt(inputAt, places[count], inputAt)
		by, factor := n.strideArg("ldst"), n.gp()
		n.set(count, factor)
		n.op(regs(outputAt), regs(outputAt, by, factor), "MADD %s, %s, %s, %s", by, outputAt, factor, outputAt)
		next, tail, done := n.newLabel("vector"), n.newLabel("tail"), n.newLabel("done")
		vectors := n.intArg("n")
		n.shiftRight(vectors, 2)
		n.jumpIfConst(vectors, "EQ", 0, tail)
		n.label(next)
		compute(count, nil)
		n.op(regs(vectors), regs(vectors), "SUBS $1, %s, %s", vectors, vectors)
		n.op(nil, nil, "BNE "+next).jump = next
		n.label(tail)
		rest := n.intArg("n")
		n.op(regs(rest), regs(rest), "AND $3, %s, %s", rest, rest)
		n.jumpIfConst(rest, "EQ", 0, done)
		compute(count, &rest)
		n.label(done)
		n.jump(top)
		n.label(end)
	}
	block(share)
	block(1)
	n.finish()
}
