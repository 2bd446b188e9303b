package imaging

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// lcmsSamples are what Little CMS makes of some colours; see testdata/colour/make.py.
type lcmsSamples struct {
	In   [][]uint8 `json:"in"`
	SRGB [][]uint8 `json:"srgb"`
	From [][]uint8 `json:"from"`
	Back [][]uint8 `json:"back"`
}

func colourSamples(t testing.TB) map[string]lcmsSamples {
	data, err := os.ReadFile("testdata/colour/samples.json")
	require.NoError(t, err)
	raw := map[string]map[string][][]int{}
	require.NoError(t, json.Unmarshal(data, &raw))
	narrow := func(v [][]int) [][]uint8 {
		out := make([][]uint8, len(v))
		for i := range v {
			for _, x := range v[i] {
				out[i] = append(out[i], uint8(x))
			}
		}
		return out
	}
	all := map[string]lcmsSamples{}
	for name, s := range raw {
		all[name] = lcmsSamples{narrow(s["in"]), narrow(s["srgb"]), narrow(s["from"]), narrow(s["back"])}
	}
	require.Len(t, all, 7)
	return all
}

func testProfile(t testing.TB, name string) []byte {
	data, err := os.ReadFile("testdata/colour/" + name)
	require.NoError(t, err)
	return data
}

// requireClose bounds differences by 1/255 on average and 3/255 at most.
func requireClose(t *testing.T, want, got []float64, what string) {
	sum, most := 0.0, 0.0
	for i := range want {
		d := math.Abs(want[i] - got[i])
		sum += d
		most = max(most, d)
	}
	t.Logf("%s: mean %.3f, most %.2f of 255", what, sum/float64(len(want)), most)
	require.LessOrEqual(t, sum/float64(len(want)), 1.0, what)
	require.LessOrEqual(t, most, 3.0, what)
}

func TestColoursAreConvertedAsLittleCMSDoes(t *testing.T) {
	for name, s := range colourSamples(t) {
		t.Run(name, func(t *testing.T) {
			var want, got []float64
			if name == "cmyk.icc" {
				var pix []uint8
				for i, in := range s.In {
					pix = append(pix, in...)
					for _, v := range s.SRGB[i] {
						want = append(want, float64(v))
					}
				}
				img, err := rgbOfCMYK(pix, len(pix), len(s.In), 1, testProfile(t, name))
				require.NoError(t, err)
				for _, v := range img.Pix {
					got = append(got, float64(v))
				}
				requireClose(t, want, got, "to sRGB")
				return
			}
			cm, err := newICCMap(testProfile(t, name))
			require.NoError(t, err)
			require.NotNil(t, cm)
			unit := func(v []uint8) (out [3]float32) {
				for c := range out {
					out[c] = float32(v[min(c, len(v)-1)]) / 255
				}
				return out
			}
			for i, in := range s.In {
				v := cm.toSRGB(unit(in))
				for c := range 3 {
					want, got = append(want, float64(s.SRGB[i][c])), append(got, 255*float64(v[c]))
				}
			}
			requireClose(t, want, got, "to sRGB")
			want, got = nil, nil
			for i, in := range s.From {
				v := cm.fromSRGB(unit(in))
				for c, b := range s.Back[i] {
					want, got = append(want, float64(b)), append(got, 255*float64(clamp01(v[c])))
				}
			}
			if len(want) > 0 {
				requireClose(t, want, got, "from sRGB")
			}
		})
	}
}

// managed is a random picture with a profile, as if read from a file.
func managed(t *testing.T, profile string, channels, depth int) *Image {
	img := noise(t, 40, 30, channels, depth)
	img.Meta.ICC = testProfile(t, profile)
	require.NoError(t, img.manageColour())
	require.NotNil(t, img.colour)
	return img
}

func TestAnUnchangedPictureComesBackExactly(t *testing.T) {
	for _, profile := range []string{"prophoto.icc", "adobe.icc", "p3.icc", "table.icc", "grey18.icc"} {
		for _, depth := range []int{8, 16} {
			for _, alpha := range []int{0, 1} {
				channels := 3 + alpha
				if profile == "grey18.icc" {
					channels = 1 + alpha
				}
				img := managed(t, profile, channels, depth)
				out := img.Clone()
				rgb := make([]float32, 40*30*3)
				require.NoError(t, img.RGBFloat(rgb, img.Bounds()))
				for _, v := range rgb {
					require.True(t, v >= 0 && v <= 1)
				}
				require.NoError(t, out.SetRGBFloat(rgb, img.Bounds()))
				for i := range out.Pix {
					require.InDelta(t, img.Pix[i], out.Pix[i], 1, profile)
				}
				for i := range out.Pix16 {
					require.InDelta(t, img.Pix16[i], out.Pix16[i], 40, profile)
				}
			}
		}
	}
}

// TestNetworksSeeTheSameColoursWhateverTheProfile makes a picture in sRGB and its twin in another space.
func TestNetworksSeeTheSameColoursWhateverTheProfile(t *testing.T) {
	twin := smooth(t, 64, 48, 3)
	for i, v := range twin.Pix { // not so colourful that P3 could not hold it
		twin.Pix[i] = 64 + v/2
	}
	for _, profile := range []string{"prophoto.icc", "adobe.icc", "table.icc"} {
		img := newLike(twin.W, twin.H, 3, 16)
		for i := range img.Pix16 {
			img.Pix16[i] = twin.sample16(i)
		}
		img.Meta.ICC = testProfile(t, profile)
		require.NoError(t, img.manageColour())
		img.eachPixel(img.colour.fromSRGB)
		want, got := make([]float32, len(twin.Pix)), make([]float32, len(twin.Pix))
		require.NoError(t, twin.RGBFloat(want, twin.Bounds()))
		require.NoError(t, img.RGBFloat(got, img.Bounds()))
		var w, g []float64
		for i := range want {
			w, g = append(w, 255*float64(want[i])), append(g, 255*float64(got[i]))
		}
		requireClose(t, w, g, profile)

		before := img.Clone()
		a, err := estimatorImage(twin, EstimatorView{Size: 32})
		require.NoError(t, err)
		b, err := estimatorImage(img, EstimatorView{Size: 32})
		require.NoError(t, err)
		require.Equal(t, before, img, "the input is left alone")
		for i := range a.Pix {
			require.InDelta(t, a.Pix[i], b.Pix[i], 3)
		}
	}
}

func TestWhatAFormatCannotDescribeBecomesSRGB(t *testing.T) {
	img := managed(t, "adobe.icc", 3, 8)
	want := img.asSRGB()
	require.NotEqual(t, want.Pix, img.Pix)
	require.Equal(t, want.Pix, decoded(t, encoded(t, img, EncodeOptions{Format: BMP})).Pix)
	require.Contains(t, Losses(img, BMP), "colours outside sRGB (Adobe primaries, gamma 2.2 is converted)")
	for _, f := range []Format{PNG, TIFF, WebP} {
		back := decoded(t, encoded(t, img, EncodeOptions{Format: f}))
		require.Equal(t, img.Pix, back.Pix, f)
		require.Equal(t, img.Meta.ICC, back.Meta.ICC, f)
		require.Equal(t, "Adobe primaries, gamma 2.2", back.colourSpace())
	}
}

// pngWith makes a small PNG with colour chunks.
func pngWith(t *testing.T, chunks ...pngChunk) []byte {
	img := noise(t, 8, 8, 3, 8)
	data := encoded(t, img, EncodeOptions{Format: PNG})
	out := bytes.Clone(data[:pngHeaderLen])
	for _, c := range chunks {
		out = appendPNGChunk(out, c)
	}
	return append(out, data[pngHeaderLen:]...)
}

func TestColourChunksOfPNGHaveTheirOrder(t *testing.T) {
	gamma := func(g uint32) pngChunk { return pngChunk{"gAMA", binary.BigEndian.AppendUint32(nil, g)} }
	srgb := pngChunk{"sRGB", []byte{0}}
	p3 := pngChunk{"cICP", []byte{12, 13, 0, 1}}
	for _, c := range []struct {
		chunks []pngChunk
		space  string
	}{
		{nil, ""},
		{[]pngChunk{srgb}, ""},
		{[]pngChunk{gamma(45455)}, ""},
		{[]pngChunk{gamma(100000)}, "gamma 1"},
		{[]pngChunk{gamma(55556)}, "gamma 1.8"},
		{[]pngChunk{srgb, gamma(100000)}, ""},
		{[]pngChunk{{"cICP", []byte{1, 13, 0, 1}}, gamma(100000)}, ""},
		{[]pngChunk{p3, srgb}, "CodingIndependentCodePoints{ColorPrimaries: 12, TransferCharacteristics: 13, MatrixCoefficients: 0, VideoFullRange: 1}"},
	} {
		require.Equal(t, c.space, decoded(t, pngWith(t, c.chunks...)).colourSpace(), "%v", c.chunks)
	}
	for transfer, name := range map[byte]string{16: "PQ", 18: "HLG"} {
		_, err := Decode(bytes.NewReader(pngWith(t, pngChunk{"cICP", []byte{9, transfer, 0, 1}})), Limits{})
		require.ErrorContains(t, err, name)
	}
}

func TestAProfileThatLeadsOnlyToSRGBIsConverted(t *testing.T) {
	img := noise(t, 8, 8, 3, 8)
	img.Meta.ICC = testProfile(t, "oneway.icc")
	got := decoded(t, encoded(t, img, EncodeOptions{Format: PNG}))
	require.Empty(t, got.colourSpace())
	require.Nil(t, got.Meta.ICC)
	require.Contains(t, Losses(got, PNG)[0], "scanner")
	require.NotEqual(t, img.Pix, got.Pix)
}

func TestAnUnusableProfileIsSaidAndKept(t *testing.T) {
	img := noise(t, 8, 8, 3, 8)
	img.Meta.ICC = profile("RGB ")
	got := decoded(t, encoded(t, img, EncodeOptions{Format: PNG}))
	require.Equal(t, img.Pix, got.Pix)
	require.Equal(t, img.Meta.ICC, got.Meta.ICC)
	require.Len(t, got.Meta.Warnings, 1)
}

// TestProfilesThatClaimMoreThanTheyHoldCostNothing edits counts and lengths.
func TestProfilesThatClaimMoreThanTheyHoldCostNothing(t *testing.T) {
	good := testProfile(t, "p3.icc")
	curve := bytes.Index(good, []byte("curv\x00"))
	require.Positive(t, curve)
	for name, at := range map[string]int{"tags": 128, "offset": 136, "length": 140, "curve": curve + 8} {
		data := bytes.Clone(good)
		binary.BigEndian.PutUint32(data[at:], 0x7fffffff)
		_, err := newICCMap(data)
		require.Error(t, err, name)
	}
}

// FuzzProfile feeds any bytes to the profile reader.
func FuzzProfile(f *testing.F) {
	for _, name := range []string{"prophoto.icc", "table.icc", "grey18.icc", "oneway.icc", "cmyk.icc"} {
		f.Add(testProfile(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 || validICC(data) == nil {
			return
		}
		if p, err := cmykPipeline(data); err == nil {
			_ = p
			img, err := rgbOfCMYK(make([]uint8, 16), 8, 2, 2, data)
			require.NoError(t, err)
			require.NoError(t, img.Check())
		}
		cm, err := newICCMap(data)
		if err != nil || cm == nil {
			return
		}
		for _, v := range cm.toSRGB([3]float32{0.2, 0.5, 0.9}) {
			require.False(t, v != v, "not a number")
		}
	})
}

func BenchmarkColour(b *testing.B) {
	for _, name := range []string{"prophoto.icc", "table.icc"} {
		cm, err := newICCMap(testProfile(b, name))
		require.NoError(b, err)
		b.Run(name+"/to", func(b *testing.B) {
			for b.Loop() {
				cm.toSRGB([3]float32{0.3, 0.6, 0.1})
			}
		})
		b.Run(name+"/restored", func(b *testing.B) {
			for b.Loop() {
				cm.restored([3]float32{0.3, 0.6, 0.1}, [3]float32{0.3, 0.6, 0.1})
			}
		})
	}
}

func TestInksWithoutAProfileAreThoseOfAPress(t *testing.T) {
	pix := []uint8{0, 0, 0, 0, 255, 0, 0, 0, 0, 255, 0, 0, 0, 0, 255, 0, 0, 0, 0, 255}
	img, err := rgbOfCMYK(pix, len(pix), 5, 1, nil)
	require.NoError(t, err)
	at := func(x int) [3]int { return [3]int{int(img.Pix[3*x]), int(img.Pix[3*x+1]), int(img.Pix[3*x+2])} }
	require.Greater(t, min(at(0)[0], at(0)[1], at(0)[2]), 250, "paper is white")
	require.Less(t, at(1)[0], 40, "cyan holds red back")
	require.Greater(t, at(1)[2], 180)
	require.Less(t, at(2)[1], 60, "magenta holds green back")
	require.Greater(t, at(2)[0], 180)
	require.Less(t, at(3)[2], 60, "yellow holds blue back")
	require.Less(t, max(at(4)[0], at(4)[1], at(4)[2]), 70, "black")
	bad := append(bytes.Clone(profile("CMYK")), 0)
	img, err = rgbOfCMYK(pix, len(pix), 5, 1, bad)
	require.NoError(t, err)
	require.Len(t, img.Meta.Warnings, 1)
}
