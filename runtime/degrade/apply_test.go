package degrade

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func allKinds() []Kind { return append(Kinds(), HeldOutKinds()...) }

func mustApply(t *testing.T, img *Image, text string) *Image {
	t.Helper()
	spec, err := ParseSpec(text)
	require.NoError(t, err)
	out, err := Apply(t.Context(), img, spec)
	require.NoError(t, err)
	require.NoError(t, out.check())
	return out
}

func TestSeverityZeroLeavesTheImage(t *testing.T) {
	img := testImage(40, 30)
	for _, k := range allKinds() {
		require.Equal(t, img, mustApply(t, img, k.String()+":0"), k)
	}
	require.Equal(t, img, mustApply(t, img, "clean"))
}

func TestInputIsNotChanged(t *testing.T) {
	img := testImage(40, 30)
	before := img.clone()
	for _, k := range allKinds() {
		mustApply(t, img, k.String()+":1")
		require.Equal(t, before, img, k)
	}
}

func TestDamageGrowsWithSeverity(t *testing.T) {
	img := testImage(160, 120)
	for _, k := range allKinds() {
		last := 0.0
		for _, s := range []float64{0.12, 0.25, 0.5, 0.75, 1} {
			damage := 0.0
			for seed := range 6 {
				damage += meanSquare(img, mustApply(t, img, fmt.Sprintf("%s:%g@%d", k, s, seed)))
			}
			require.Greater(t, damage, last, "%s at %g", k, s)
			last = 0.95 * damage // blur of a periodic texture saturates
		}
	}
}

func TestWeakestDegradationsAreNearlyInvisible(t *testing.T) {
	img := testImage(160, 120)
	for _, k := range Kinds() {
		if k == JPEG {
			continue // the best quality is not lossless
		}
		require.Less(t, meanSquare(img, mustApply(t, img, k.String()+":0.004@1")), 1e-3, k)
	}
}

func TestSeedsMakeDifferentImages(t *testing.T) {
	img := testImage(96, 96)
	for _, k := range allKinds() {
		if k == JPEG || k == Defocus || k == LowResolution {
			continue // nothing random in them
		}
		a, b := mustApply(t, img, k.String()+":0.7@1"), mustApply(t, img, k.String()+":0.7@2")
		require.NotEqual(t, a, b, k)
		require.Equal(t, a, mustApply(t, img, k.String()+":0.7@1"), k)
	}
}

func TestTermsActFromSceneToFile(t *testing.T) {
	img := testImage(48, 48)
	a := mustApply(t, img, "jpeg:0.5+noise:0.3+rain:0.6+motion:0.2@4")
	b := mustApply(t, img, "rain:0.6+motion:0.2+noise:0.3+jpeg:0.5@4")
	require.Equal(t, a, b)

	step := img
	for _, term := range []string{"rain:0.6@4", "motion:0.2@4", "noise:0.3@4", "jpeg:0.5@4"} {
		step = mustApply(t, step, term)
	}
	require.Equal(t, step, a)
}

func TestEveryKindWorksAtEverySize(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {1, 19}, {23, 1}, {2, 3}, {17, 33}, {65, 7}} {
		img := testImage(size[0], size[1])
		for _, k := range allKinds() {
			for _, s := range []string{"0.01", "0.5", "1"} {
				out := mustApply(t, img, k.String()+":"+s+"@3")
				require.Equal(t, [2]int{out.W, out.H}, size)
			}
		}
	}
}

func TestExtremeParametersWork(t *testing.T) {
	img := testImage(33, 21)
	for _, k := range allKinds() {
		for _, def := range k.info().params {
			for _, v := range []float64{def.min, def.max} {
				spec := Spec{Terms: []Term{{Kind: k, Severity: 0.5, Set: []Setting{{def.name, v}}}}, Seed: 1}
				out, err := Apply(t.Context(), img, spec)
				require.NoError(t, err, spec)
				require.NoError(t, out.check(), spec)
			}
		}
	}
}

func TestResultDoesNotDependOnTheNumberOfCores(t *testing.T) {
	img := testImage(520, 300) // large enough to be shared between cores
	for _, k := range allKinds() {
		text := k.String() + ":0.8@6"
		cores := runtime.GOMAXPROCS(1)
		one := mustApply(t, img, text)
		runtime.GOMAXPROCS(7)
		seven := mustApply(t, img, text)
		runtime.GOMAXPROCS(cores)
		require.Equal(t, one, seven, k)
	}
}

func TestCancelledRunsReturnTheContextsError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, k := range allKinds() {
		_, err := Apply(ctx, testImage(32, 32), Spec{Terms: []Term{{Kind: k, Severity: 0.5}}})
		require.ErrorIs(t, err, context.Canceled, k)
	}
}

func TestBadImagesAreRefused(t *testing.T) {
	spec := Spec{Terms: []Term{{Kind: Noise, Severity: 0.5}}}
	nan := testImage(4, 4)
	nan.Pix[5] = float32(math.NaN())
	bright := testImage(4, 4)
	bright.Pix[12*3] = 1.5
	for name, c := range map[string]struct {
		img     *Image
		message string
	}{
		"nil":      {nil, "nil"},
		"empty":    {&Image{}, "size 0×0"},
		"negative": {&Image{W: -1, H: 3}, "size -1×3"},
		"huge":     {&Image{W: math.MaxInt, H: math.MaxInt}, "not between"},
		"short":    {&Image{W: 2, H: 2, Pix: make([]float32, 11)}, "needs 12 values, has 11"},
		"NaN":      {nan, "value NaN at column 1, row 0, channel 2"},
		"bright":   {bright, "value 1.5 at column 0, row 3, channel 0"},
	} {
		_, err := Apply(t.Context(), c.img, spec)
		require.ErrorContains(t, err, c.message, name)
	}
	_, err := Apply(t.Context(), testImage(2, 2), Spec{Terms: []Term{{Kind: -1}}})
	require.ErrorContains(t, err, "kind -1 does not exist")
	_, err = NewImage(0, 4)
	require.Error(t, err)
}

// TestCropsWithTheirReachMatchThePhoto degrades a crop with the margin that Reach asks for and expects its middle to be
// that of the whole photo.
func TestCropsWithTheirReachMatchThePhoto(t *testing.T) {
	img := testImage(150, 140)
	for _, text := range []string{"defocus:1", "motion:1@3", "motion:1,bend=300@3", "defocus:0.4+motion:0.6@8", "defocus:0.05"} {
		spec, err := ParseSpec(text)
		require.NoError(t, err)
		r := spec.Reach()
		crop, err := img.Crop(60-r, 50-r, 30+2*r, 25+2*r)
		require.NoError(t, err)
		want, err := mustApply(t, img, text).Crop(60, 50, 30, 25)
		require.NoError(t, err)
		got, err := mustApply(t, crop, text).Crop(r, r, 30, 25)
		require.NoError(t, err)
		for i := range want.Pix {
			// Prefix sums start at the crop's edge, which shifts their rounding.
			require.InDelta(t, want.Pix[i], got.Pix[i], 1e-6, text)
		}
	}
}

// TestOutputIsTheSameOnEveryMachine compares digests of the exact float32 results with those recorded in testdata, which
// hold for every processor. Run with UPDATE_DIGESTS=1 to record the results of a deliberate change.
func TestOutputIsTheSameOnEveryMachine(t *testing.T) {
	img := testImage(173, 131)
	var lines []string
	for _, k := range allKinds() {
		if k == JPEG {
			continue // its bytes are those of the Go release
		}
		for _, s := range []float64{0.3, 0.9} {
			text := fmt.Sprintf("%s:%g@42", k, s)
			digest := sha256.New()
			for _, v := range mustApply(t, img, text).Pix {
				bits := math.Float32bits(v)
				digest.Write([]byte{byte(bits), byte(bits >> 8), byte(bits >> 16), byte(bits >> 24)})
			}
			lines = append(lines, text+" "+hex.EncodeToString(digest.Sum(nil)[:16]))
		}
	}
	path := filepath.Join("testdata", "digests.txt")
	got := strings.Join(lines, "\n") + "\n"
	if os.Getenv("UPDATE_DIGESTS") != "" {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}
