package imaging

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// goldenCase is an entry of testdata/golden/cases.json; testdata/make.py says what the kinds are.
type goldenCase struct {
	Kind, Source, Expected string
	Size, W, H, Tolerance  int
}

func goldenCases(t testing.TB, kind string) []goldenCase {
	t.Helper()
	raw, err := os.ReadFile("testdata/golden/cases.json")
	require.NoError(t, err)
	var all, out []goldenCase
	require.NoError(t, json.Unmarshal(raw, &all))
	for _, c := range all {
		if c.Kind == kind {
			out = append(out, c)
		}
	}
	require.NotEmpty(t, out)
	return out
}

func golden(t testing.TB, name string) *Image {
	t.Helper()
	img, err := DecodeFile(filepath.Join("testdata", "golden", name), Limits{})
	require.NoError(t, err)
	return img
}

// requirePixels compares images sample by sample.
func requirePixels(t testing.TB, want, got *Image, tolerance int) {
	t.Helper()
	require.NoError(t, got.Check())
	require.Equal(t, [4]int{want.W, want.H, want.Channels, want.Depth}, [4]int{got.W, got.H, got.Channels, got.Depth},
		"width, height, channels, depth")
	worst, at := 0, 0
	for i := range want.W * want.H * want.Channels {
		d := int(want.sample16(i)) - int(got.sample16(i))
		if want.Depth == 8 {
			d /= 257
		}
		if d = max(d, -d); d > worst {
			worst, at = d, i
		}
	}
	p := at / want.Channels
	require.LessOrEqual(t, worst, tolerance, "worst sample: pixel (%d,%d) channel %d", p%want.W, p/want.W, at%want.Channels)
}

func TestDecodedPixelsMatchPillow(t *testing.T) {
	for _, c := range goldenCases(t, "decode") {
		if c.Source == "cmyk.jpg" {
			continue // inks are those of a press here; Pillow takes the complement
		}
		t.Run(c.Source, func(t *testing.T) {
			requirePixels(t, golden(t, c.Expected), golden(t, c.Source), c.Tolerance)
		})
	}
}

func TestResizeMatchesPillow(t *testing.T) {
	for _, c := range goldenCases(t, "resize") {
		t.Run(fmt.Sprintf("%s_%dx%d", c.Source, c.W, c.H), func(t *testing.T) {
			got, err := golden(t, c.Source).Resize(c.W, c.H)
			require.NoError(t, err)
			requirePixels(t, golden(t, c.Expected), got, 0)
		})
	}
}

func TestEstimatorImageMatchesTorchvision(t *testing.T) {
	for _, c := range goldenCases(t, "estimator") {
		t.Run(fmt.Sprintf("%s_%d", c.Source, c.Size), func(t *testing.T) {
			got, err := estimatorImage(golden(t, c.Source), EstimatorView{Size: c.Size})
			require.NoError(t, err)
			requirePixels(t, golden(t, c.Expected), got, 0)
		})
	}
}

func TestOrientedMatchesPillow(t *testing.T) {
	for _, c := range goldenCases(t, "orient") {
		t.Run(c.Source, func(t *testing.T) {
			got := golden(t, c.Source).Oriented()
			require.Equal(t, 1, got.Meta.Orientation)
			requirePixels(t, golden(t, c.Expected), got, 0)
		})
	}
}

// tensor is an entry of a safetensors file.
type tensor struct {
	Dtype string
	Shape []int
	raw   []byte
}

func readSafetensors(t *testing.T, path string) map[string]tensor {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	n := binary.LittleEndian.Uint64(b)
	var head map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(b[8:8+n], &head))
	out := map[string]tensor{}
	for name, raw := range head {
		if name == "__metadata__" {
			continue
		}
		var e struct {
			Dtype   string `json:"dtype"`
			Shape   []int  `json:"shape"`
			Offsets [2]int `json:"data_offsets"`
		}
		require.NoError(t, json.Unmarshal(raw, &e))
		out[name] = tensor{e.Dtype, e.Shape, b[8+int(n)+e.Offsets[0] : 8+int(n)+e.Offsets[1]]}
	}
	return out
}

// TestEstimatorInputMatchesUpstream compares every stage with the arrays of upstream's own preprocessing.
func TestEstimatorInputMatchesUpstream(t *testing.T) {
	const size = 64
	mean := [3]float32{0.48145466, 0.4578275, 0.40821073}
	std := [3]float32{0.26862954, 0.26130258, 0.27577711}
	arrays := readSafetensors(t, "testdata/preprocess.safetensors")
	for _, name := range []string{"landscape_100x75", "portrait_41x50_upscaled"} {
		t.Run(name, func(t *testing.T) {
			img, err := DecodeFile("testdata/"+name+".png", Limits{})
			require.NoError(t, err)

			want := arrays[name+"/resized_u8_hwc"]
			resized, err := img.Resize(want.Shape[1], want.Shape[0])
			require.NoError(t, err)
			require.Equal(t, want.raw, resized.Pix)

			cropped, err := resized.CenterCrop(size, size)
			require.NoError(t, err)
			require.Equal(t, arrays[name+"/cropped_u8_hwc"].raw, cropped.Pix)

			in, err := EstimatorInput(img, EstimatorView{Size: size}, mean, std)
			require.NoError(t, err)
			chw := arrays[name]
			require.Equal(t, []int{3, size, size}, chw.Shape)
			for i, v := range in {
				p, c := i/3, i%3
				want := math.Float32frombits(binary.LittleEndian.Uint32(chw.raw[4*(c*size*size+p):]))
				require.Equal(t, want, v, "pixel %d channel %d", p, c)
			}
		})
	}
}
