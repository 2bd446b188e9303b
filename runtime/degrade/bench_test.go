package degrade

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkPatch measures a 64×64 training patch of each kind at severity 0.6.
func BenchmarkPatch(b *testing.B) { benchmarkKinds(b, 64, 64) }

// BenchmarkMegapixel measures a photo of one megapixel of each kind at severity 0.6.
func BenchmarkMegapixel(b *testing.B) { benchmarkKinds(b, 1024, 1024) }

func benchmarkKinds(b *testing.B, w, h int) {
	img := testImage(w, h)
	for _, kind := range append(Kinds(), HeldOutKinds()...) {
		b.Run(kind.String(), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				spec, err := ParseSpec(fmt.Sprintf("%s:0.6@%d", kind, i))
				require.NoError(b, err)
				_, err = Apply(b.Context(), img, spec)
				require.NoError(b, err)
			}
		})
	}
}
