package ptxsim_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// warpKernel wraps a body that computes %r0..%r7 of each lane from %in0..%in15, words of the lane's row of the
// input. The rows %r0..%r7 are stored to the lane's row of the output.
func warpKernel(body string) string {
	var b strings.Builder
	b.WriteString(`.version 8.4
.target sm_90
.address_size 64
.visible .entry k(.param .u64 pin, .param .u64 pout)
{
	.reg .pred %p<8>; .reg .b16 %h<8>; .reg .b32 %r<16>; .reg .b32 %in<16>; .reg .b32 %t<16>; .reg .b64 %d<16>; .reg .f32 %f<16>;
	.shared .align 128 .b8 smem[4096];
	mov.u32 %t0, %tid.x;
	ld.param.u64 %d0, [pin]; ld.param.u64 %d1, [pout];
	mul.wide.u32 %d2, %t0, 64; add.u64 %d0, %d0, %d2;
	mul.wide.u32 %d2, %t0, 32; add.u64 %d1, %d1, %d2;
`)
	for i := range 16 {
		fmt.Fprintf(&b, "\tld.global.u32 %%in%d, [%%d0+%d];\n", i, 4*i)
	}
	for i := range 8 {
		fmt.Fprintf(&b, "\tmov.u32 %%r%d, 0;\n", i)
	}
	b.WriteString(body)
	for i := range 8 {
		fmt.Fprintf(&b, "\n\tst.global.u32 [%%d1+%d], %%r%d;", 4*i, i)
	}
	b.WriteString("\n\tret;\n}\n")
	return b.String()
}

// runWarp runs a body on one warp.
func runWarp(t *testing.T, body string, in [32][16]uint32) (out [32][8]uint32) {
	t.Helper()
	r := newRig(t, ptxsim.Options{}, "warp", []byte(warpKernel(body)))
	var raw []byte
	for _, row := range in {
		for _, v := range row {
			raw = binary.LittleEndian.AppendUint32(raw, v)
		}
	}
	dst := r.alloc(32 * 32)
	var a device.Args
	require.NoError(t, r.launch("k", device.D1(1), device.D1(32), 0, a.Buf(r.upload(raw)).Buf(dst)), body)
	for i, v := range fromWords[uint32](r.bytes(dst)) {
		out[i/8][i%8] = v
	}
	return out
}

func randomRows(rng *rand.Rand) (in [32][16]uint32) {
	for l := range in {
		for i := range in[l] {
			in[l][i] = rng.Uint32()
		}
	}
	return in
}

func TestShufflesFollowTheirDefinition(t *testing.T) {
	in := randomRows(rand.New(rand.NewPCG(1, 3)))
	for _, c := range []struct {
		mode   string
		b, seg int // segment width
	}{{"up", 1, 32}, {"up", 5, 8}, {"down", 3, 32}, {"down", 2, 16}, {"bfly", 16, 32}, {"bfly", 3, 4}, {"idx", 7, 32}, {"idx", 5, 8}, {"idx", 31, 32}} {
		clamp := 31
		if c.mode == "up" {
			clamp = 0
		}
		cv := (32-c.seg)<<8 | clamp
		out := runWarp(t, fmt.Sprintf("shfl.sync.%s.b32 %%r0|%%p1, %%in0, %d, %d, 0xffffffff; selp.u32 %%r1, 1, 0, %%p1;", c.mode, c.b, cv), in)
		for l := range 32 {
			first := l / c.seg * c.seg
			src := map[string]int{"up": l - c.b, "down": l + c.b, "bfly": l ^ c.b, "idx": first + c.b%c.seg}[c.mode]
			ok := src >= first && src < first+c.seg
			if !ok {
				src = l
			}
			require.Equal(t, in[src][0], out[l][0], "%+v lane %d", c, l)
			require.Equal(t, uint32(b2u(ok)), out[l][1], "%+v lane %d", c, l)
		}
	}
}

func TestVotesMatchesAndReductionsFollowTheirDefinition(t *testing.T) {
	in := randomRows(rand.New(rand.NewPCG(1, 4)))
	var ballot, odd uint32
	sum, least, xor := uint32(0), uint32(math.MaxUint32), uint32(0)
	for l := range in {
		in[l][1] %= 3
		in[l][2] = 7
		ballot |= uint32(b2u(in[l][0] > 1<<30)) << l
		odd |= 1 << l & 0xaaaaaaaa
		sum, least, xor = sum+in[l][0], min(least, in[l][0]), xor^in[l][0]
	}
	out := runWarp(t, `
	setp.gt.u32 %p1, %in0, 1073741824;
	vote.sync.ballot.b32 %r0, %p1, 0xffffffff;
	vote.sync.any.pred %p2, %p1, 0xffffffff; selp.u32 %r1, 1, 0, %p2;
	vote.sync.all.pred %p2, !%p1, 0xffffffff; selp.u32 %t1, 2, 0, %p2; or.b32 %r1, %r1, %t1;
	vote.sync.uni.pred %p2, %p1, 0xffffffff; selp.u32 %t1, 4, 0, %p2; or.b32 %r1, %r1, %t1;
	match.any.sync.b32 %r2, %in1, 0xffffffff;
	match.all.sync.b32 %r3|%p3, %in2, 0xffffffff;
	redux.sync.add.u32 %r4, %in0, 0xffffffff;
	redux.sync.min.u32 %r5, %in0, 0xffffffff;
	redux.sync.xor.b32 %r6, %in0, 0xffffffff;
	and.b32 %t2, %t0, 1; setp.eq.u32 %p4, %t2, 1;
	@!%p4 bra SKIP;
	activemask.b32 %r7;
	SKIP:`, in)
	for l, r := range out {
		require.Equal(t, ballot, r[0])
		require.Equal(t, uint32(1), r[1])
		var same uint32
		for k := range in {
			same |= uint32(b2u(in[k][1] == in[l][1])) << k
		}
		require.Equal(t, same, r[2])
		require.Equal(t, full32, r[3])
		require.Equal(t, sum, r[4])
		require.Equal(t, least, r[5])
		require.Equal(t, xor, r[6])
		require.Equal(t, odd*uint32(l%2), r[7])
	}
}

const full32 = uint32(math.MaxUint32)

func TestSpecialRegistersOfLanes(t *testing.T) {
	out := runWarp(t, `
	mov.u32 %r0, %laneid; mov.u32 %r1, %lanemask_lt; mov.u32 %r2, %lanemask_ge; mov.u32 %r3, %lanemask_eq;
	mov.u32 %r4, %lanemask_le; mov.u32 %r5, %lanemask_gt; mov.u32 %r6, %ntid.x; mov.u32 %r7, WARP_SZ;`, [32][16]uint32{})
	for l, r := range out {
		lt := uint32(1)<<l - 1
		require.Equal(t, [8]uint32{uint32(l), lt, ^lt, 1 << l, lt | 1<<l, ^(lt | 1<<l), 32, 32}, r)
	}
}

func TestTensorCoreInstructionsMultiplyMatrices(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 5))
	half := func(v float64) uint32 { return uint32(halfBits(v)) }
	bf := func(v float64) uint32 { return math.Float32bits(float32(v)) >> 16 }
	f32 := func(v float64) uint32 { return math.Float32bits(float32(v)) }
	for _, c := range []struct {
		op             string
		k              int
		typ            string
		enc            func(float64) uint32
		accHalf        bool
		na, nb, nc, ep int // registers, elements per register
	}{
		{"m16n8k16", 16, "f16", half, false, 4, 2, 4, 2},
		{"m16n8k8", 8, "f16", half, false, 2, 1, 4, 2},
		{"m16n8k16", 16, "f16", half, true, 4, 2, 2, 2},
		{"m16n8k16", 16, "bf16", bf, false, 4, 2, 4, 2},
		{"m16n8k8", 8, "bf16", bf, false, 2, 1, 4, 2},
		{"m16n8k8", 8, "tf32", f32, false, 4, 2, 4, 1},
		{"m16n8k4", 4, "tf32", f32, false, 2, 1, 4, 1},
	} {
		aAt := func(lane, i, e int) (int, int) { // row, k
			if c.ep == 1 {
				return lane/4 + i%2*8, lane%4 + i/2*4
			}
			return lane/4 + i%2*8, lane%4*2 + e + i/2*8
		}
		bAt := func(lane, i, e int) (int, int) { // k, column
			if c.ep == 1 {
				return lane%4 + 4*i, lane / 4
			}
			return lane%4*2 + e + 8*i, lane / 4
		}
		var a, b, acc [16][16]float64
		for i := range 16 {
			for j := range 16 {
				// Small integers over powers of two: every sum is exact in any order.
				a[i][j], b[i][j], acc[i][j] = float64(rng.IntN(17)-8)/4, float64(rng.IntN(17)-8)/2, float64(rng.IntN(9)-4)
			}
		}
		var in [32][16]uint32
		for l := range 32 {
			for i := range c.na {
				for e := range c.ep {
					r, k := aAt(l, i, e)
					in[l][i] |= c.enc(a[r][k]) << (16 * e)
				}
			}
			for i := range c.nb {
				for e := range c.ep {
					k, n := bAt(l, i, e)
					in[l][4+i] |= c.enc(b[k][n]) << (16 * e)
				}
			}
			for i := range c.nc {
				if c.accHalf {
					in[l][6+i] = half(acc[l/4+8*i][l%4*2]) | half(acc[l/4+8*i][l%4*2+1])<<16
				} else {
					in[l][6+i] = f32(acc[l/4+i/2*8][l%4*2+i%2])
				}
			}
		}
		regs := func(name string, first, n int) string {
			var s []string
			for i := range n {
				s = append(s, fmt.Sprintf("%%%s%d", name, first+i))
			}
			return "{" + strings.Join(s, ",") + "}"
		}
		at := "f32"
		if c.accHalf {
			at = "f16"
		}
		out := runWarp(t, fmt.Sprintf("mma.sync.aligned.%s.row.col.%s.%s.%s.%s %s, %s, %s, %s;", c.op, at, c.typ, c.typ, at,
			regs("r", 0, c.nc), regs("in", 0, c.na), regs("in", 4, c.nb), regs("in", 6, c.nc)), in)
		for l := range 32 {
			for i := range c.nc {
				want := func(row, col int) float64 {
					s := acc[row][col]
					for k := range c.k {
						s += a[row][k] * b[k][col]
					}
					return s
				}
				if c.accHalf {
					require.Equal(t, half(want(l/4+8*i, l%4*2))|half(want(l/4+8*i, l%4*2+1))<<16, out[l][i])
				} else {
					require.Equal(t, want(l/4+i/2*8, l%4*2+i%2), float64(math.Float32frombits(out[l][i])), "%s %s lane %d register %d", c.op, c.typ, l, i)
				}
			}
		}
	}
}

func TestMatrixMovesPlaceElements(t *testing.T) {
	var in [32][16]uint32
	// Element (row r, column c) of matrix m is 256m + 8r + c; lane l stores the half-words of row l of 32.
	for l := range 32 {
		for i := range 4 {
			v := uint32(l/8*256 + l%8*8 + 2*i)
			in[l][i] = v | (v+1)<<16
		}
	}
	fill := `
	mov.u32 %t1, smem; shl.b32 %t2, %t0, 4; add.u32 %t1, %t1, %t2;
	st.shared.v4.u32 [%t1], {%in0, %in1, %in2, %in3};
	bar.warp.sync 0xffffffff;
`
	elem := func(m, r, c int) uint32 { return uint32(256*m + 8*r + c) }
	out := runWarp(t, fill+`
	ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r0,%r1,%r2,%r3}, [%t1];
	ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%r4,%r5,%r6,%r7}, [%t1];`, in)
	for l, v := range out {
		for m := range 4 {
			require.Equal(t, elem(m, l/4, l%4*2)|elem(m, l/4, l%4*2+1)<<16, v[m])
			require.Equal(t, elem(m, l%4*2, l/4)|elem(m, l%4*2+1, l/4)<<16, v[4+m])
		}
	}
	out = runWarp(t, fill+`
	ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r0,%r1}, [%t1];
	ldmatrix.sync.aligned.m8n8.x1.trans.shared::cta.b16 {%r2}, [%t1];
	movmatrix.sync.aligned.m8n8.trans.b16 %r3, %r0;
	stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%t1+1024], {%r0, %r1};
	bar.warp.sync 0xffffffff;
	and.b32 %t3, %t0, 15; shl.b32 %t3, %t3, 4; mov.u32 %t4, smem; add.u32 %t3, %t3, %t4;
	ld.shared.v4.u32 {%r4,%r5,%r6,%r7}, [%t3+1024];`, in)
	for l, v := range out {
		require.Equal(t, elem(0, l/4, l%4*2)|elem(0, l/4, l%4*2+1)<<16, v[0])
		require.Equal(t, elem(1, l/4, l%4*2)|elem(1, l/4, l%4*2+1)<<16, v[1])
		require.Equal(t, elem(0, l%4*2, l/4)|elem(0, l%4*2+1, l/4)<<16, v[2])
		require.Equal(t, v[2], v[3])
		row := l % 16
		for i := range 4 { // the stored matrix is the transpose
			require.Equal(t, elem(row/8, 2*i, row%8)|elem(row/8, 2*i+1, row%8)<<16, v[4+i])
		}
	}
}

func TestAtomicsOnSharedMemoryFollowTheirDefinition(t *testing.T) {
	in := randomRows(rand.New(rand.NewPCG(1, 6)))
	for _, c := range []struct {
		op   string
		init uint32
		fold func(acc, v uint32) uint32
	}{
		{"add.u32", 5, func(a, v uint32) uint32 { return a + v }},
		{"min.s32", 0, func(a, v uint32) uint32 { return uint32(min(int32(a), int32(v))) }},
		{"max.u32", 0, func(a, v uint32) uint32 { return max(a, v) }},
		{"and.b32", full32, func(a, v uint32) uint32 { return a & v }},
		{"or.b32", 0, func(a, v uint32) uint32 { return a | v }},
		{"xor.b32", 0, func(a, v uint32) uint32 { return a ^ v }},
		{"exch.b32", 0, func(_, v uint32) uint32 { return v }},
		{"inc.u32", 7, func(a, v uint32) uint32 {
			if a >= v {
				return 0
			}
			return a + 1
		}},
		{"dec.u32", 7, func(a, v uint32) uint32 {
			if a == 0 || a > v {
				return v
			}
			return a - 1
		}},
		{"add.f32", 0, func(a, v uint32) uint32 {
			return math.Float32bits(math.Float32frombits(a) + math.Float32frombits(v))
		}},
		{"add.noftz.f16x2", 0, func(a, v uint32) uint32 {
			f := func(x, y uint32) uint32 {
				return uint32(halfBits(halfValue(uint16(x)) + halfValue(uint16(y))))
			}
			return f(a, v) | f(a>>16, v>>16)<<16
		}},
	} {
		rows := in
		for l := range rows {
			switch {
			case strings.Contains(c.op, "f32"):
				rows[l][0] = math.Float32bits(float32(l) * 0.37)
			case strings.Contains(c.op, "f16"):
				rows[l][0] = uint32(halfBits(float64(l)*0.11)) | uint32(halfBits(float64(l)))<<16
			case strings.HasPrefix(c.op, "inc"), strings.HasPrefix(c.op, "dec"):
				rows[l][0] = 11
			}
		}
		out := runWarp(t, fmt.Sprintf(`
	mov.u32 %%t1, smem;
	setp.eq.u32 %%p1, %%t0, 0;
	@%%p1 st.shared.u32 [%%t1], %d;
	bar.warp.sync 0xffffffff;
	atom.shared.%s %%r0, [%%t1], %%in0;
	bar.warp.sync 0xffffffff;
	ld.shared.u32 %%r1, [%%t1];`, c.init, c.op), rows)
		acc := c.init
		for l := range rows {
			require.Equal(t, acc, out[l][0], "%s lane %d", c.op, l)
			acc = c.fold(acc, rows[l][0])
		}
		require.Equal(t, acc, out[31][1], c.op)
	}
}

func TestBarrierReductions(t *testing.T) {
	in := randomRows(rand.New(rand.NewPCG(1, 7)))
	n := uint32(0)
	for l := range in {
		in[l][0] &= 1
		n += in[l][0]
	}
	out := runWarp(t, `
	setp.eq.u32 %p1, %in0, 1;
	bar.red.popc.u32 %r0, 0, %p1;
	bar.red.or.pred %p2, 1, 32, %p1; selp.u32 %r1, 1, 0, %p2;
	bar.red.and.pred %p3, 2, !%p1; selp.u32 %r2, 1, 0, %p3;`, in)
	require.Equal(t, [8]uint32{n, 1, 0}, out[9])
}

func TestLoadsAndStoresOfAllWidths(t *testing.T) {
	var in [32][16]uint32
	for l := range 32 {
		in[l][0] = 0x8091a2b3 + uint32(l)
	}
	out := runWarp(t, `
	mov.u32 %t1, smem; shl.b32 %t2, %t0, 4; add.u32 %t1, %t1, %t2;
	st.shared.v4.u32 [%t1], {%in0, 1, 2, 3};
	ld.shared.s8 %r0, [%t1+3];
	ld.shared.u8 %r1, [%t1+3];
	ld.shared.s16 %r2, [%t1+2];
	ld.shared.v2.u16 {%h1, %h2}, [%t1]; mov.b32 %r3, {%h2, %h1};
	ld.shared.u64 %d5, [%t1]; shr.u64 %d5, %d5, 32; cvt.u32.u64 %r4, %d5;
	ld.shared.s32 %d6, [%t1]; shr.s64 %d6, %d6, 40; cvt.u32.u64 %r5, %d6;
	st.shared.u8 [%t1+4], %in0; ld.volatile.shared.u32 %r6, [%t1+4];
	cvt.u64.u32 %d7, %t1; cvta.shared.u64 %d8, %d7; ld.u32 %r7, [%d8];`, in)
	for l, v := range out {
		x := in[l][0]
		require.Equal(t, [8]uint32{uint32(int32(int8(x >> 24))), x >> 24, uint32(int32(int16(x >> 16))), x>>16 | x<<16, 1,
			uint32(int64(int32(x)) >> 40), x & 0xff, x}, v)
	}
}

func TestUnsupportedCodeIsRefusedWithItsLine(t *testing.T) {
	dev, err := ptxsim.New(ptxsim.Options{Arch: 80, Memory: 4 << 20})
	require.NoError(t, err)
	head := ".version 8.4\n.target sm_80\n.address_size 64\n.extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b); .entry k() {\n.reg .b32 %r<9>; .reg .f32 %f<9>; .reg .b64 %d<4>; .reg .pred %p<4>;\n"
	for _, c := range []struct{ body, want string }{
		{"vadd.s32.s32.s32 %r1, %r2, %r3;", "line 6: vadd.s32.s32.s32: unsupported instruction"},
		{"tex.level.2d.v4.f32.f32 {%f1,%f2,%f3,%f4}, [%d1, {%f5,%f6}], %f7;", "mipmaps are not supported"},
		{"tex.cube.v4.f32.f32 {%f1,%f2,%f3,%f4}, [%d1, {%f5,%f6,%f7,%f7}];", "unsupported geometry"},
		{"tex.2d.v4.f32.f32 {%f1,%f2,%f3,%f4}, [%d1, %d2, {%f5,%f6}];", "samplers of their own are not supported"},
		{"tex.2d.v4.f32.f32 {%f1,%f2,%f3,%f4}, [%d1, {%f5}];", "1 coordinates, wants 2"},
		{"suld.p.2d.v4.b32.trap {%r1,%r2,%r3,%r4}, [%d1, {%r5,%r6}];", "only .b is supported"},
		{"txq.filter_mode.b32 %r1, [%d1];", "only sizes can be asked for"},
		{"add.s32.wobble %r1, %r2, %r3;", "line 6: add.s32.wobble: unsupported modifier .wobble"},
		{"add.s32 %r1, %r2;", "has 2 operands, wants 3"},
		{"add.s32 %r1, %d1, %r3;", "operand 1: a b64 register for s32"},
		{"add.s32 %r1, %r2, %r99;", "unknown register %r99"},
		{"bra NOWHERE;", "unknown label NOWHERE"},
		{"wgmma.fence.sync.aligned;", "wgmma requires .target sm_90a"},
		{"mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%r1}, {%r1}, {%r1}, {%r1};", "shape and types are not supported"},
		{"cp.async.bulk.commit_group;", "cp.async.bulk requires .target sm_90 or higher"},
		{"ld.global.v4.u64 {%d0,%d1,%d2,%d3}, [%d0];", "vector of 32 bytes"},
		{"sqrt.f32 %f1, %f2;", "needs a rounding mode"},
		{"call helper;", "unknown function helper"},
		{"{ .param .b32 x; .param .b32 y; .param .b32 z; .param .b32 w; call (x), vprintf, (w, w); }", "variable w of 4 bytes for 8"},
		{"{ .param .b64 x; .param .b8 y; call (y), vprintf, (x, x); }", "variable y of 1 bytes for 4"},
		{"{ .param .b64 x; call vprintf, (x); }", "call of vprintf with 1 arguments"},
	} {
		require.ErrorContains(t, refusal(t, dev, head+c.body+"\nret;\n}\n"), c.want, c.body)
	}
	_, err = dev.LoadModule("m", []byte(head+"add.s32 %r1, %r2, %r3\nret;\n}\n"))
	require.ErrorContains(t, err, "load module m: ")
	require.ErrorContains(t, err, "expected")
	_, err = dev.LoadModule("m", []byte(head+"frobnicate.b32 %r1, %r2;\nret;\n}\n"))
	require.ErrorContains(t, err, "line 6: frobnicate.b32: unknown instruction")
	_, err = dev.LoadModule("m", []byte(".version 8.4\n.target sm_90a\n.entry k() { ret; }"))
	require.ErrorContains(t, err, "written for sm_90a, the device is sm_80")
	_, err = dev.LoadModule("m", []byte("\x7fELF\x02"))
	require.ErrorContains(t, err, "line 1")
	require.ErrorContains(t, refusal(t, dev, ".version 8.4\n.target sm_80\n.func f() { call f; ret; }\n.entry k() { call f; ret; }"), "recursi")
	_, err = dev.LoadModule("m", []byte(".version 8.4\n.target sm_80\n.global .b8 x[1000000];\n.global .b8 y[1000000000];"))
	require.ErrorIs(t, err, device.ErrOutOfMemory)
	require.ErrorContains(t, err, "line 4: variable y of 1000000000 bytes")
	free, total, err := dev.Memory()
	require.NoError(t, err)
	require.Equal(t, total, free, "a module that does not load keeps no memory")
}

// refusal loads a module and returns the error of that, or of launching its kernel k.
func refusal(t *testing.T, dev *ptxsim.Device, ptx string) error {
	t.Helper()
	mod, err := dev.LoadModule("m", []byte(ptx))
	if err != nil {
		return err
	}
	defer mod.Close()
	f, err := mod.Function("k")
	require.NoError(t, err)
	str, err := dev.NewStream()
	require.NoError(t, err)
	err = str.Launch(t.Context(), f, device.Shape{Grid: device.D1(1), Block: device.D1(32)}, nil)
	if err == nil {
		err = str.Synchronize(t.Context())
	}
	require.ErrorContains(t, err, "kernel k")
	_, attrErr := f.Attributes()
	require.Error(t, attrErr)
	return err
}

// TestAnUnsupportedKernelLeavesTheOthersOfItsModule has one kernel that parses but cannot be decoded, and one whose body
// holds a directive that is not known.
func TestAnUnsupportedKernelLeavesTheOthersOfItsModule(t *testing.T) {
	ptx := ".version 8.4\n.target sm_80\n.address_size 64\n" +
		".visible .entry bad() {\nistypep.texref;\nret;\n}\n" +
		".visible .entry worse() {\n{ .calltargets a; }\nret;\n}\n" +
		".global .texref image;\n.visible .entry sampled() {\n.reg .f32 %f<6>;\ntex.2d.v4.f32.f32 {%f0,%f1,%f2,%f3}, [image, {%f4,%f5}];\nret;\n}\n" +
		".visible .entry good(.param .u64 p) {\n.reg .b64 %d<2>;\nld.param.u64 %d0, [p];\nst.global.u32 [%d0], 7;\nret;\n}\n"
	r := newRig(t, ptxsim.Options{}, "mixed", []byte(ptx))
	y := r.alloc(4)
	var a device.Args
	require.NoError(t, r.launch("good", device.D1(1), device.D1(1), 0, a.Buf(y)))
	require.Equal(t, []uint32{7}, fromWords[uint32](r.bytes(y)))
	require.ErrorContains(t, r.launch("bad", device.D1(1), device.D1(1), 0, nil), "line 5: istypep.texref")
	require.ErrorContains(t, r.launch("sampled", device.D1(1), device.D1(1), 0, nil), "line 15: tex.2d.v4.f32.f32: texture and surface references are not supported")
	require.ErrorContains(t, r.launch("worse", device.D1(1), device.D1(1), 0, nil), "line 9: directive")
}
