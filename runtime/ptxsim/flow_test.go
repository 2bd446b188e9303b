package ptxsim_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// edges are the two successors of a block; -1 leaves the kernel.
type edges [2]int

// flowKernel writes a kernel whose blocks branch by a hash of the lane's history, at most 40 times.
func flowKernel(flow []edges) string {
	var b strings.Builder
	b.WriteString(`.version 8.4
.target sm_80
.address_size 64
.entry k(.param .u64 p)
{
	.reg .pred %p<4>; .reg .b32 %r<9>; .reg .b64 %d<4>;
	ld.param.u64 %d1, [p]; mov.u32 %r1, %tid.x; mul.wide.u32 %d2, %r1, 4; add.u64 %d1, %d1, %d2;
	mov.u32 %r2, %r1; mov.u32 %r3, 40;
	bra B0;
`)
	target := func(t int) string {
		if t < 0 {
			return "END"
		}
		return fmt.Sprintf("B%d", t)
	}
	for i, e := range flow {
		fmt.Fprintf(&b, `B%d:
	mad.lo.u32 %%r2, %%r2, 1664525, %d;
	sub.u32 %%r3, %%r3, 1; setp.eq.u32 %%p1, %%r3, 0; @%%p1 bra END;
	shr.u32 %%r4, %%r2, 16; and.b32 %%r4, %%r4, 1; setp.eq.u32 %%p2, %%r4, 1;
	@%%p2 bra %s;
	bra.uni %s;
`, i, 1013904223+i, target(e[0]), target(e[1]))
	}
	b.WriteString("END:\n\tst.global.u32 [%d1], %r2;\n\tret;\n}\n")
	return b.String()
}

func flowReference(flow []edges, lane uint32) uint32 {
	v, at := lane, 0
	for n := 40; at >= 0; {
		v = v*1664525 + uint32(1013904223+at)
		if n--; n == 0 {
			break
		}
		at = flow[at][1-v>>16&1]
	}
	return v
}

// TestDivergentLanesFollowTheirOwnPaths runs random control-flow graphs, irreducible ones included.
func TestDivergentLanesFollowTheirOwnPaths(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	for range 60 {
		flow := make([]edges, 2+rng.IntN(9))
		for i := range flow {
			for k := range flow[i] {
				flow[i][k] = rng.IntN(len(flow)+1) - 1
			}
		}
		r := newRig(t, ptxsim.Options{}, "flow", []byte(flowKernel(flow)))
		out := r.alloc(4 * 64)
		var a device.Args
		require.NoError(t, r.launch("k", device.D1(1), device.D1(64), 0, a.Buf(out)))
		for lane, got := range fromWords[uint32](r.bytes(out)) {
			require.Equal(t, flowReference(flow, uint32(lane)), got, "graph %v lane %d", flow, lane)
		}
	}
}

// TestLanesReconvergeAfterEarlyReturnsAndBreaks requires that code after a divergent region is executed once for
// the whole warp: a shuffle there needs all lanes, and the store counts one instruction a warp.
func TestLanesReconvergeAfterEarlyReturnsAndBreaks(t *testing.T) {
	const head = ".version 8.4\n.target sm_80\n.address_size 64\n.entry k(.param .u64 p) {\n.reg .pred %p<9>; .reg .b32 %r<9>; .reg .b64 %d<4>;\n" +
		"ld.param.u64 %d1, [p]; mov.u32 %r1, %tid.x; mul.wide.u32 %d2, %r1, 4; add.u64 %d1, %d1, %d2; and.b32 %r2, %r1, 3;\n"
	for name, c := range map[string]struct {
		body   string
		stores uint64
	}{
		"if": {"setp.eq.u32 %p1, %r2, 0; @%p1 bra A; add.u32 %r1, %r1, 1; bra C; A: add.u32 %r1, %r1, 2; C: shfl.sync.bfly.b32 %r3, %r1, 1, 31, -1;" +
			"st.global.u32 [%d1], %r3; ret;", 1},
		"loop with different lengths": {"A: setp.eq.u32 %p1, %r2, 0; @%p1 bra C; sub.u32 %r2, %r2, 1; bra A; C: shfl.sync.bfly.b32 %r3, %r1, 1, 31, -1;" +
			"st.global.u32 [%d1], %r3; ret;", 1},
		"return inside a branch": {"setp.lt.u32 %p1, %r2, 2; @%p1 bra M; setp.eq.u32 %p2, %r2, 3; @%p2 bra X; add.u32 %r1, %r1, 5;" +
			"M: st.global.u32 [%d1], %r1; X: ret;", 1},
		"break out of two loops": {"mov.u32 %r4, 0; O: mov.u32 %r5, 0; I: add.u32 %r5, %r5, 1; setp.gt.u32 %p1, %r5, %r2; @%p1 bra N;" +
			"setp.eq.u32 %p2, %r4, %r2; @%p2 bra E; bra I; N: add.u32 %r4, %r4, 1; setp.lt.u32 %p3, %r4, 6; @%p3 bra O;" +
			"E: shfl.sync.bfly.b32 %r3, %r1, 1, 31, -1; st.global.u32 [%d1], %r3; ret;", 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, ptxsim.Options{}, "m", []byte(head+c.body+"\n}\n"))
			var a device.Args
			require.NoError(t, r.launch("k", device.D1(1), device.D1(32), 0, a.Buf(r.alloc(128))))
			require.Equal(t, c.stores, r.dev.LastReport().Counters.GlobalStore.Requests)
		})
	}
}

func TestIndirectBranchesGoWhereTheIndexSays(t *testing.T) {
	const ptx = ".version 8.4\n.target sm_80\n.address_size 64\n.entry k(.param .u64 p) {\n.reg .b32 %r<9>; .reg .b64 %d<4>;\n" +
		"ld.param.u64 %d1, [p]; mov.u32 %r1, %tid.x; mul.wide.u32 %d2, %r1, 4; add.u64 %d1, %d1, %d2; rem.u32 %r2, %r1, 3;\n" +
		"ways: .branchtargets A, B, C;\nbrx.idx %r2, ways;\nA: mov.u32 %r3, 10; bra E; B: mov.u32 %r3, 20; bra E; C: mov.u32 %r3, 30;\n" +
		"E: add.u32 %r3, %r3, %r1; st.global.u32 [%d1], %r3; ret;\n}\n"
	r := newRig(t, ptxsim.Options{}, "m", []byte(ptx))
	out := r.alloc(4 * 40)
	var a device.Args
	require.NoError(t, r.launch("k", device.D1(1), device.D1(40), 0, a.Buf(out)))
	for i, got := range fromWords[uint32](r.bytes(out)) {
		require.Equal(t, uint32(10*(i%3+1)+i), got)
	}
	require.Equal(t, uint64(2), r.dev.LastReport().Counters.GlobalStore.Requests)
}
