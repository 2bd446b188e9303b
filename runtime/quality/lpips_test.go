package quality

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/imaging"
	"unirestorer/weights"
)

// madeUp are the tensors of LPIPS with values by a formula, under names as given.
func madeUp(t *testing.T, conv, lin func(i int) string) *weights.Map {
	t.Helper()
	src := weights.NewMap()
	put := func(k int, name string, scale, low float64, dims ...int) {
		n := 1
		for _, d := range dims {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			u := float64(uint32(uint64(i)*2654435761+uint64(k)*40503)) / (1 << 32)
			v[i] = float32((u - low) * scale)
		}
		x, err := weights.FromFloat32(name, dims, v)
		require.NoError(t, err)
		src.Set(x)
	}
	for i, a := range alexNet {
		fan := float64(a.cin * a.kernel * a.kernel)
		put(3*i, conv(i)+"weight", math.Sqrt(12/fan)*1.4, .5, a.cout, a.cin, a.kernel, a.kernel)
		put(3*i+1, conv(i)+"bias", .2, .5, a.cout)
		put(3*i+2, lin(i), 1, 0, 1, a.cout, 1, 1)
	}
	return src
}

// The distances are those of PyTorch in double precision, by the same layers
// with the same values.
func TestLPIPSAgreesWithPyTorch(t *testing.T) {
	slices := func(i int) string { return fmt.Sprintf("net.slice%d.%d.", i+1, alexNet[i].number) }
	features := func(i int) string { return fmt.Sprintf("features.%d.", alexNet[i].number) }
	lin := func(i int) string { return fmt.Sprintf("lin%d.model.1.weight", i) }
	ctx := context.Background()
	for name, want := range map[string]float64{"nafnet": 1.446602023, "retinexformer": 0.850812510} {
		var pictures [2]*imaging.Image
		for i, file := range []string{"in.png", "expected.png"} {
			var err error
			pictures[i], err = imaging.DecodeFile(filepath.Join("..", "..", "testdata", "singles", name, file), imaging.Limits{})
			require.NoError(t, err)
		}
		for _, conv := range []func(int) string{slices, features} {
			l, err := NewLPIPS(madeUp(t, conv, lin))
			require.NoError(t, err)
			d, err := l.Distance(ctx, pictures[0], pictures[1])
			require.NoError(t, err)
			require.InDelta(t, want, d, 1e-5*want, name)
			d, err = l.Distance(ctx, pictures[0], pictures[0])
			require.NoError(t, err)
			require.Zero(t, d)
		}
	}
	src := madeUp(t, slices, lin)
	_, err := NewLPIPS(weights.Prefix(src, "nothing."))
	require.ErrorContains(t, err, "net.slice1.0.weight")
	l, err := NewLPIPS(src)
	require.NoError(t, err)
	small, err := imaging.New(16, 16, 3, 8)
	require.NoError(t, err)
	_, err = l.Distance(ctx, small, small)
	require.ErrorContains(t, err, "too small for AlexNet")
}
