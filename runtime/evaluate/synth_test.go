package evaluate

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/degrade"
	"unirestorer/runtime/imaging"
)

func synthetic(t testing.TB, list []*Photo, count, size int, names ...string) *Synthetic {
	t.Helper()
	s, err := NewSynthetic(list, SyntheticOptions{Cases: cases(t, names...), Count: count, Size: size, Seed: 9})
	require.NoError(t, err)
	return s
}

func picturesOf(t testing.TB, s Set, i int) (degraded, clean *imaging.Image) {
	t.Helper()
	degraded, clean, err := s.Pictures(context.Background(), i)
	require.NoError(t, err)
	return degraded, clean
}

func TestEveryCaseHasTheSameCrops(t *testing.T) {
	s := synthetic(t, photos(t, 32, [2]int{80, 60}, [2]int{50, 70}), 5, 32, "rain", "mixed", "clean", "noise:sigma=25")
	require.Equal(t, 20, s.Len())
	for i := range s.Len() {
		sample := s.Sample(i)
		require.Equal(t, s.Sample(i%5).Name, sample.Name)
		degraded, clean := picturesOf(t, s, i)
		_, same := picturesOf(t, s, i%5)
		require.Equal(t, same, clean)
		require.Equal(t, [4]int{32, 32, 3, 8}, [4]int{degraded.W, degraded.H, degraded.Channels, degraded.Depth})
		if sample.Case == CleanCase {
			require.Equal(t, clean, degraded)
			require.Equal(t, []string{"clean"}, sample.Kinds)
		} else {
			require.NotEqual(t, clean, degraded)
		}
	}
	require.Contains(t, s.Sample(0).Name, "a.png at 24,14", "the middle comes first")
	require.Equal(t, "rain:0.25", s.Sample(0).Variant)
	require.Equal(t, "rain:0.75", s.Sample(1).Variant)
	require.Equal(t, "rain:0.75", s.Sample(2).Variant, "the next round meets each photo at another severity")
	mixed := s.Sample(5)
	require.Len(t, mixed.Kinds, 2)
	require.Equal(t, "mixed", mixed.Variant)
	require.Equal(t, "noise:sigma=25", s.Sample(15).Case)
	require.Equal(t, []string{"noise"}, s.Sample(15).Kinds)
}

func TestPhotosMeetEveryVariantEquallyOften(t *testing.T) {
	for n := 1; n <= 5; n++ {
		var sizes [][2]int
		for range n {
			sizes = append(sizes, [2]int{40, 40})
		}
		s := synthetic(t, photos(t, 32, sizes...), 2*n, 32, "rain") // two severities
		met := map[string]int{}
		for i := range s.Len() {
			photo, _, _ := strings.Cut(s.Sample(i).Name, " at ")
			met[photo+s.Sample(i).Variant]++
		}
		require.Len(t, met, 2*n)
	}
}

func TestSyntheticPicturesFollowFromTheSeed(t *testing.T) {
	list := photos(t, 32, [2]int{80, 60})
	a, b := synthetic(t, list, 4, 32, "snow", "mixed"), synthetic(t, list, 4, 32, "snow", "mixed")
	other, err := NewSynthetic(list, SyntheticOptions{Cases: cases(t, "snow", "mixed"), Count: 4, Size: 32, Seed: 10})
	require.NoError(t, err)
	specs := map[string]bool{}
	for i := range a.Len() {
		require.Equal(t, a.Sample(i), b.Sample(i))
		da, _ := picturesOf(t, a, i)
		db, _ := picturesOf(t, b, i)
		require.Equal(t, da, db)
		do, _ := picturesOf(t, other, i)
		require.NotEqual(t, da, do)
		specs[a.Sample(i).Spec], specs[other.Sample(i).Spec] = true, true
		spec, err := degrade.ParseSpec(a.Sample(i).Spec)
		require.NoError(t, err)
		require.Equal(t, uint64(9*seedStep+i%4), spec.Seed)
	}
	require.Len(t, specs, 16, "no two pictures have the same degradation")
}

func TestCropsLookLikeCutoutsOfALargerDegradedPhoto(t *testing.T) {
	list := photos(t, 32, [2]int{120, 100})
	for _, name := range []string{"defocus", "motion"} {
		s := synthetic(t, list, 3, 32, name)
		for i := range 3 {
			_, spec, photo, at := s.plan(i)
			whole, err := Degrade(context.Background(), photo.picture, spec)
			require.NoError(t, err)
			degraded, _ := picturesOf(t, s, i)
			for k, v := range degraded.Pix {
				x, y := at.X+k/3%32, at.Y+k/3/32
				require.InDelta(t, float64(whole.Pix[(y*photo.picture.W+x)*3+k%3]), float64(v), 1, "%s %d", name, i)
			}
		}
	}
}

func TestHazeOfACropKnowsItsPlaceInThePhoto(t *testing.T) {
	ctx := context.Background()
	list := photos(t, 32, [2]int{64, 200})
	s := synthetic(t, list, 1, 32, "haze")
	_, spec, photo, at := s.plan(0)
	degraded, clean := picturesOf(t, s, 0)
	placed, err := Degrade(ctx, clean, spec.Crop(float64(at.Y)/200, float64(at.Y+32)/200))
	require.NoError(t, err)
	require.Equal(t, placed.Pix, degraded.Pix)
	alone, err := Degrade(ctx, clean, spec)
	require.NoError(t, err)
	require.NotEqual(t, alone.Pix, degraded.Pix)
	require.Equal(t, int64(64*200*3), s.Bytes())
	require.Equal(t, 200, photo.picture.H)
}

func TestDegradeKeepsDepthAlphaGreyAndTurnsUpright(t *testing.T) {
	ctx := context.Background()
	spec, err := degrade.ParseSpec("noise:0.5@3")
	require.NoError(t, err)
	for _, c := range []struct{ channels, depth int }{{1, 8}, {2, 16}, {3, 16}, {4, 8}} {
		img, err := imaging.New(12, 8, c.channels, c.depth)
		require.NoError(t, err)
		for i := range img.Pix {
			img.Pix[i] = uint8(i * 5)
		}
		for i := range img.Pix16 {
			img.Pix16[i] = uint16(i * 501)
		}
		img.Meta.Orientation = 6
		before := img.Clone()
		out, err := Degrade(ctx, img, spec)
		require.NoError(t, err)
		require.Equal(t, before, img, "the input is left alone")
		upright := img.Oriented()
		require.Equal(t, [4]int{8, 12, c.channels, c.depth}, [4]int{out.W, out.H, out.Channels, out.Depth})
		require.NotEqual(t, [2]any{upright.Pix, upright.Pix16}, [2]any{out.Pix, out.Pix16})
		if out.HasAlpha() {
			for i := c.channels - 1; i < 12*8*c.channels; i += c.channels {
				if c.depth == 8 {
					require.Equal(t, upright.Pix[i], out.Pix[i])
				} else {
					require.Equal(t, upright.Pix16[i], out.Pix16[i])
				}
			}
		}
	}
	_, err = Degrade(ctx, &imaging.Image{}, spec)
	require.Error(t, err)
	_, err = Degrade(ctx, nil, spec)
	require.Error(t, err)
}

func TestStandardCasesCoverEveryKind(t *testing.T) {
	list, err := StandardCases([]float64{0.5})
	require.NoError(t, err)
	var names []string
	for _, c := range list {
		names = append(names, c.Name)
	}
	for _, k := range append(degrade.Kinds(), degrade.HeldOutKinds()...) {
		require.Contains(t, names, k.String())
	}
	require.Equal(t, []string{"mixed", "noise:sigma=25", "jpeg:q=20", "clean"}, names[len(names)-4:])
}

func TestCasesThatMakeNoSenseAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"frogs":      `case degradation "frogs"`,
		"rain:2":     "severity 2 is outside",
		"rain:0.5@7": "the seed of a case comes from the evaluation's",
		"":           "empty",
	} {
		_, err := ParseCase(text, []float64{0.5})
		require.ErrorContains(t, err, want)
	}
	for _, name := range []string{"rain", "mixed"} {
		_, err := ParseCase(name, []float64{1.5})
		require.ErrorContains(t, err, "1.5")
		_, err = ParseCase(name, nil)
		require.ErrorContains(t, err, "no severities")
	}
	c, err := ParseCase(" Gaussian ", []float64{0.5})
	require.NoError(t, err)
	require.Equal(t, "noise", c.Name)
}

func TestSyntheticSetsThatCannotBeMadeAreRefused(t *testing.T) {
	list := photos(t, 32, [2]int{80, 60})
	good := SyntheticOptions{Cases: cases(t, "rain"), Count: 2, Size: 32}
	for want, change := range map[string]func(*SyntheticOptions){
		"crops of 15 pixels: want 16":              func(o *SyntheticOptions) { o.Size = 15 },
		"crops of 9000 pixels":                     func(o *SyntheticOptions) { o.Size = 9000 },
		"80×60 pixels are too few for crops of 64": func(o *SyntheticOptions) { o.Size = 64 },
		"0 crops for each case":                    func(o *SyntheticOptions) { o.Count = 0 },
		"crops for each case: want 1 to":           func(o *SyntheticOptions) { o.Count = math.MaxInt },
		"no cases":                                 func(o *SyntheticOptions) { o.Cases = nil },
		"case rain occurs twice":                   func(o *SyntheticOptions) { o.Cases = cases(t, "rain", "rain") },
		"seed 18446744073709551615":                func(o *SyntheticOptions) { o.Seed = math.MaxUint64 },
	} {
		opt := good
		change(&opt)
		_, err := NewSynthetic(list, opt)
		require.ErrorContains(t, err, want)
	}
	_, err := NewSynthetic(nil, good)
	require.ErrorContains(t, err, "no photos")
}

// counting counts how often pictures are made.
type counting struct {
	Set
	made int
}

func (c *counting) Pictures(ctx context.Context, i int) (degraded, clean *imaging.Image, err error) {
	c.made++
	return c.Set.Pictures(ctx, i)
}

func TestPicturesAreKeptWithinTheBudgetAndTheSameOtherwise(t *testing.T) {
	s := synthetic(t, photos(t, 32, [2]int{80, 60}), 4, 32, "rain")
	pair := int64(2 * 32 * 32 * 3)
	for _, c := range []struct {
		budget int64
		made   int
	}{{0, 12}, {pair - 1, 12}, {2 * pair, 8}, {4 * pair, 4}} {
		count := &counting{Set: s}
		kept := newCached(count, c.budget)
		for range 3 {
			for i := range s.Len() {
				degraded, clean := picturesOf(t, kept, i)
				wantDegraded, wantClean := picturesOf(t, s, i)
				require.Equal(t, [2]*imaging.Image{wantDegraded, wantClean}, [2]*imaging.Image{degraded, clean})
			}
		}
		require.Equal(t, c.made, count.made, "budget %d", c.budget)
	}
}
