package kernels_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/kernels"
	"unirestorer/runtime/device"
)

// TestLayersMoveWholeSectorsWithoutBankConflicts holds the kernels between the products at the channel counts of the
// full-size experts. Window attention is allowed more than it uses because a head of 24 channels begins or ends in the middle
// of a sector, and four lanes read 16 bytes of a row of the bias; L2 has the rest. The norm's fp32 vectors are read in halves
// of sectors, of which L1 has the other. Everything else moves as it lies.
func TestLayersMoveWholeSectorsWithoutBankConflicts(t *testing.T) {
	for _, s := range []struct {
		name        string
		run         func(r *rig)
		load, store float64
		conflicts   float64 // of a request to shared memory
	}{
		{"window attention", func(r *rig) {
			rng := newRand(1)
			qkv, _ := r.fresh(rng, 1, 16, 16, 144)
			bias := r.attentionBias(normals(rng, 2*64*64, 0, 1), 8)
			r.run(kernels.WindowAttention(qkv, r.unwritten(1, 16, 16, 48), bias, 2, 8, 4, r.flag()))
		}, 0.65, 0.75, 0},
		{"attention", func(r *rig) {
			qkv, _ := r.fresh(newRand(1), 1, 1, 50, 3*256)
			r.run(kernels.Attention(qkv, r.unwritten(1, 1, 50, 256), 4, r.flag()))
		}, 0.99, 0.99, 0},
		{"reflect padding", func(r *rig) {
			x, _ := r.fresh(newRand(1), 1, 16, 16, 48)
			r.run(kernels.Pad(x, r.unwritten(1, 18, 18, 48), 1, 1, kernels.Reflect))
		}, 0.99, 0.99, 0},
		{"multiply-add", func(r *rig) {
			x, _ := r.fresh(newRand(1), 1, 16, 16, 40)
			r.run(kernels.MulAdd(x, x, x, r.unwritten(1, 16, 16, 40)))
		}, 0.99, 0.99, 0},
		{"sigmoid", func(r *rig) {
			x, _ := r.fresh(newRand(1), 1, 16, 16, 40)
			r.run(kernels.Sigmoid(x, r.unwritten(1, 16, 16, 40), r.flag()))
		}, 0.99, 0.99, 0},
		{"selective kernel", func(r *rig) {
			x, _ := r.fresh(newRand(1), 1, 32, 32, 48)
			logits, _ := r.fresh(newRand(2), 1, 1, 1, 96)
			r.run(kernels.SelectiveKernel(x, x, logits, x, r.unwritten(1, 32, 32, 48), r.flag()))
		}, 0.95, 0.99, 0.1},
		{"global mean", func(r *rig) {
			x, _ := r.fresh(newRand(1), 1, 32, 32, 64)
			r.run(kernels.PoolPartial(x, kernels.Tensor{}, r.alloc(4*kernels.PoolShares(32*32)*64)))
		}, 0.99, 0.99, 0},
		{"window sums", func(r *rig) {
			x, _ := r.fresh(newRand(1), 1, 32, 32, 64)
			r.run(kernels.WindowSums(x, kernels.Tensor{}, 24, r.alloc(4*9*32*64)))
		}, 0.99, 0.99, 0},
		{"window means", func(r *rig) {
			r.run(kernels.WindowMeans(r.floats(make([]float32, 32*32*64)), 1, 24, r.unwritten(1, 32, 9, 64)))
		}, 0.99, 0.99, 0},
		{"channel norm", func(r *rig) {
			x, _ := r.fresh(newRand(1), 1, 1, 50, 768)
			w := r.floats(make([]float32, 768))
			r.run(kernels.ChannelNorm(x, r.unwritten(1, 1, 50, 768), kernels.BiasFree, w, device.Buffer{}, 1e-5))
		}, 0.7, 0.99, 0},
		{"export", func(r *rig) {
			x, _ := r.fresh(newRand(1), 1, 32, 32, 3)
			r.run(kernels.Export(x, r.alloc(4*32*32*3), kernels.NCHW, false))
		}, 0.99, 0.99, 0},
		{"guard", func(r *rig) {
			x, _ := r.fresh(newRand(1), 1, 64, 64, 8)
			r.run(kernels.CountNonFinite(x.Buffer, x.Values(), false, r.upload(make([]byte, kernels.GuardStateBytes)), device.Buffer{}, r.alloc(16)))
		}, 0.99, 0, 0},
	} {
		t.Run(s.name, func(t *testing.T) {
			r := ownRig(t, 0)
			s.run(r)
			rep := r.dev.LastReport()
			c := rep.Counters
			requests := c.SharedLoad.Requests + c.SharedStore.Requests + c.Matrix.Requests
			t.Logf("%s: load %.3f store %.3f, %d conflicts of %d requests", rep.Kernel, c.GlobalLoad.Efficiency(), c.GlobalStore.Efficiency(), c.Conflicts(), requests)
			require.GreaterOrEqual(t, c.GlobalLoad.Efficiency(), s.load)
			require.GreaterOrEqual(t, c.GlobalStore.Efficiency(), s.store)
			require.LessOrEqual(t, float64(c.Conflicts()), s.conflicts*float64(requests))
		})
	}
}

// Sums in a fixed order, and counters that only the last block reads, give the same bits however blocks and warps take turns.
func TestTheOrderOfBlocksDoesNotShow(t *testing.T) {
	run := func(seed int64) [][]byte {
		r := ownRig(t, seed)
		rng := newRand(3)
		x, _ := r.fresh(rng, 2, 24, 20, 24)
		var results [][]byte
		keep := func(b device.Buffer) { results = append(results, r.download(b, int(b.Size))) }

		shares := kernels.PoolShares(24 * 20)
		partial, mean := r.alloc(4*2*shares*24), r.unwritten(2, 1, 1, 24)
		r.run(kernels.PoolPartial(x, x, partial))
		r.run(kernels.PoolFinish(partial, shares, 0.5, mean))
		keep(mean.Buffer)

		y := r.unwritten(2, 24, 20, 8)
		r.run(kernels.WindowAttention(x, y, r.attentionBias(normals(rng, 64*64, 0, 1), 8), 1, 8, 4, r.flag()))
		keep(y.Buffer)

		statistics := r.alloc(8 * 2 * kernels.RescaleShares(x.Values()/2))
		r.run(kernels.RescalePartial(x, statistics))
		keep(statistics)

		v := make([]uint16, 40000)
		for i := 0; i < len(v); i += 997 {
			v[i] = 0x7e00
		}
		result := r.upload(make([]byte, 16))
		r.run(kernels.CountNonFinite(r.halves(v), len(v), false, r.upload(make([]byte, kernels.GuardStateBytes)), device.Buffer{}, result))
		keep(result)
		return results
	}
	want := run(0)
	for seed := int64(1); seed <= 3; seed++ {
		require.Equal(t, want, run(seed), "seed %d", seed)
	}
}
