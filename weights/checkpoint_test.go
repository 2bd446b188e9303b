package weights

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pthCase describes a file that torch.save made, with what torch.load gives for it.
type pthCase struct {
	File      string `json:"file"`
	Container string `json:"container"`
	RootKey   string `json:"root_key"`
	Expect    string `json:"expect"`
	Tensors   []struct {
		Name    string  `json:"name"`
		DType   string  `json:"dtype"`
		Shape   []int   `json:"shape"`
		Strides []int   `json:"stored_strides"`
		Offset  int     `json:"storage_offset"`
		First   []any   `json:"first8_row_major"`
		Sum     flexSum `json:"sum"`
		SHA256  string  `json:"sha256_contiguous_le"`
	} `json:"tensors"`
}

// flexSum is a number or one of the texts "nan", "inf", "-inf".
type flexSum float64

func (f *flexSum) UnmarshalJSON(text []byte) error {
	v, err := strconv.ParseFloat(strings.Trim(string(text), `"`), 64)
	*f = flexSum(v)
	return err
}

var torchNames = map[string]DType{
	"float64": F64, "float32": F32, "float16": F16, "bfloat16": BF16, "int64": I64, "int32": I32, "int16": I16,
	"int8": I8, "uint8": U8, "bool": Bool,
}

func pthCases(t testing.TB) []pthCase {
	t.Helper()
	dir := filepath.Join("testdata", "pth_formats")
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	require.NoError(t, err)
	var cases []pthCase
	for _, path := range paths {
		if filepath.Base(path) == "index.json" {
			continue
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		var c pthCase
		require.NoError(t, json.Unmarshal([]byte(strings.ReplaceAll(string(text), "NaN", `"nan"`)), &c), path)
		c.File = filepath.Join(dir, c.File)
		cases = append(cases, c)
	}
	require.Len(t, cases, 13)
	return cases
}

func TestCheckpointsReadAsTorchLoadsThem(t *testing.T) {
	for _, c := range pthCases(t) {
		t.Run(filepath.Base(c.File), func(t *testing.T) {
			f, err := Open(c.File)
			if c.Expect == "error" {
				require.ErrorContains(t, err, c.File)
				return
			}
			require.NoError(t, err)
			defer f.Close()
			p := f.(*Checkpoint)
			require.Equal(t, c.RootKey, p.RootKey())
			require.Equal(t, map[string]Format{"zip": FormatZip, "legacy": FormatLegacy}[c.Container], p.Format())
			require.NoError(t, p.Verify(context.Background()))
			var names []string
			for _, want := range c.Tensors {
				names = append(names, want.Name)
				x, err := p.Tensor(want.Name)
				require.NoError(t, err)
				require.Equal(t, torchNames[want.DType], x.DType, want.Name)
				require.Equal(t, want.Shape, x.Shape, want.Name)
				raw := rawCopy(t, x)
				sum := sha256.Sum256(raw)
				require.Equal(t, want.SHA256, hex.EncodeToString(sum[:]), want.Name)
				checkValues(t, x, want.First, float64(want.Sum))
			}
			require.Equal(t, names, p.Names())
		})
	}
}

// checkValues compares the first values, and the sum of all, after conversion to float32.
func checkValues(t *testing.T, x *Tensor, first []any, wantSum float64) {
	t.Helper()
	values := float32s(t, x)
	sum, size := 0.0, 0.0
	for i, v := range values {
		sum += float64(v)
		size += math.Abs(float64(v))
		if i >= len(first) {
			continue
		}
		var want float64
		switch f := first[i].(type) {
		case float64:
			want = f
		case bool:
			if f {
				want = 1
			}
		case string:
			var err error
			want, err = strconv.ParseFloat(f, 64)
			require.NoError(t, err)
		}
		require.Equal(t, float32(want), v, "%s[%d]", x.Name, i)
	}
	if math.IsNaN(wantSum) {
		require.True(t, math.IsNaN(sum))
		return
	}
	require.InDelta(t, wantSum, sum, 1e-6*size+1e-12, x.Name)
}

func TestUnknownClassesArePassedOverByName(t *testing.T) {
	_, err := OpenCheckpoint(filepath.Join("testdata", "pth_formats", "forbidden_global.pth"), CheckpointOptions{})
	require.ErrorContains(t, err, "passed over: builtins.print")
}

func TestSharedStoragesHaveEqualKeys(t *testing.T) {
	for _, file := range []string{"zip_views.pth", "legacy_views.pth"} {
		f, err := Open(filepath.Join("testdata", "pth_formats", file))
		require.NoError(t, err)
		defer f.Close()
		key := func(name string) StorageKey {
			x, err := f.Tensor(name)
			require.NoError(t, err)
			return x.StorageKey()
		}
		require.Equal(t, key("base"), key("tied"))
		for _, other := range []string{"row_slice", "col_slice", "transposed", "step", "expanded", "last_element"} {
			require.NotEqual(t, key("base"), key(other), other)
		}
	}
}

func TestRootKeyAndModulePrefixOptions(t *testing.T) {
	dir := filepath.Join("testdata", "pth_formats")
	ema, err := OpenCheckpoint(filepath.Join(dir, "zip_params_ema.pth"), CheckpointOptions{RootKeys: []string{"params_ema"}})
	require.NoError(t, err)
	defer ema.Close()
	require.Equal(t, "params_ema", ema.RootKey())
	plain, err := OpenCheckpoint(filepath.Join(dir, "zip_params_ema.pth"), CheckpointOptions{})
	require.NoError(t, err)
	defer plain.Close()
	require.Equal(t, plain.Names(), ema.Names())
	a, err := plain.Tensor("conv.weight")
	require.NoError(t, err)
	b, err := ema.Tensor("conv.weight")
	require.NoError(t, err)
	require.NotEqual(t, float32s(t, a), float32s(t, b))

	kept, err := OpenCheckpoint(filepath.Join(dir, "zip_training_ckpt.pt"), CheckpointOptions{KeepModulePrefix: true})
	require.NoError(t, err)
	defer kept.Close()
	for _, name := range kept.Names() {
		require.True(t, strings.HasPrefix(name, "module."), name)
	}

	_, err = OpenCheckpoint(filepath.Join(dir, "zip_params.pth"), CheckpointOptions{RootKeys: []string{"model", "net"}})
	require.ErrorContains(t, err, `no tensors under ["model" "net"]; the keys are ["params"]`)
}

// TestEveryTruncationIsAnError cuts files after each byte. A cut may only go unnoticed if it takes nothing that
// belongs to a tensor.
func TestEveryTruncationIsAnError(t *testing.T) {
	for _, file := range []string{"zip_params.pth", "legacy_params.pth", "zip64_layout.pth"} {
		data, err := os.ReadFile(filepath.Join("testdata", "pth_formats", file))
		require.NoError(t, err)
		for n := range data {
			c, err := openCheckpoint(blobOf(data[:n]), CheckpointOptions{})
			require.Error(t, err, "%s cut to %d of %d bytes", file, n, len(data))
			require.Nil(t, c)
		}
	}
}

func TestVerifyFindsChangedValues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.pth")
	data, err := os.ReadFile(filepath.Join("testdata", "pth_formats", "zip_params.pth"))
	require.NoError(t, err)
	c, err := openCheckpoint(blobOf(data), CheckpointOptions{})
	require.NoError(t, err)
	data[c.records[0].offset+5] ^= 1
	require.NoError(t, os.WriteFile(path, data, 0o600))
	damaged, err := OpenCheckpoint(path, CheckpointOptions{})
	require.NoError(t, err)
	defer damaged.Close()
	require.ErrorContains(t, damaged.Verify(context.Background()), "is damaged")

	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, damaged.Verify(cancelled), context.Canceled)
}

func TestOpenTellsWhatItCanNotRead(t *testing.T) {
	cases := map[string]struct {
		content string
		message string
	}{
		"empty":        {"", "the file is empty"},
		"text":         {"<html><body>Not found</body></html>", "neither a safetensors file nor a PyTorch checkpoint"},
		"lfs pointer":  {"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"},
		"bare pickle":  {"\x80\x02}.", "neither"},
		"empty zip":    {"PK\x05\x06" + strings.Repeat("\x00", 18), "without the record data.pkl"},
		"magic only":   {string(legacyMagic), "protocol version"},
		"lone zip sig": {"PK\x03\x04", "zip directory"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "model.pth")
			require.NoError(t, os.WriteFile(path, []byte(c.content), 0o600))
			f, err := Open(path)
			require.ErrorContains(t, err, c.message)
			require.ErrorContains(t, err, path)
			require.Nil(t, f)
		})
	}
	_, err := Open(filepath.Join(t.TempDir(), "missing.pth"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestClosedCheckpointGivesErrors(t *testing.T) {
	c, err := OpenCheckpoint(filepath.Join("testdata", "pth_formats", "zip_params.pth"), CheckpointOptions{})
	require.NoError(t, err)
	x, err := c.Tensor("conv.weight")
	require.NoError(t, err)
	raw, release, err := x.Raw()
	require.NoError(t, err)
	require.NoError(t, c.Close())
	sum := sha256.Sum256(raw)
	require.Equal(t, "6e26962b40d9930b4d6d33e4ef9942163ca02829881d1eed66c0350a2e5a4942", hex.EncodeToString(sum[:]))
	release()
	_, err = x.Float32()
	require.ErrorIs(t, err, fs.ErrClosed)
	require.ErrorContains(t, err, `tensor "conv.weight"`)
	_, _, err = x.Raw()
	require.ErrorIs(t, err, fs.ErrClosed)
	require.ErrorIs(t, c.Verify(context.Background()), fs.ErrClosed)
}

// TestWholeModelMatchesOriginalStateDict compares the checkpoint of a small complete model with the digests that
// PyTorch computed.
func TestWholeModelMatchesOriginalStateDict(t *testing.T) {
	text, err := os.ReadFile(goldens(t, "unirestorer_tiny", "state_dict.json"))
	require.NoError(t, err)
	var want struct {
		TensorCount int `json:"tensor_count"`
		Groups      map[string]struct {
			Tensors, Elements int
			SHA256            string
		}
		Order   struct{ First, Last []string } `json:"names_in_file_order"`
		Samples map[string][]json.RawMessage
	}
	require.NoError(t, json.Unmarshal(text, &want))
	f, err := Open(goldens(t, "unirestorer_tiny", "model.pth"))
	require.NoError(t, err)
	defer f.Close()
	names := f.Names()
	require.Len(t, names, want.TensorCount)
	require.Equal(t, want.Order.First, names[:len(want.Order.First)])
	require.Equal(t, want.Order.Last, names[len(names)-len(want.Order.Last):])

	slices.Sort(names)
	checked := 0
	for group, w := range want.Groups {
		sum := sha256.New()
		tensors, elements := 0, 0
		for _, name := range names {
			if name != group && !strings.HasPrefix(name, group+".") {
				continue
			}
			x, err := f.Tensor(name)
			require.NoError(t, err)
			tensors++
			elements += x.NumElements()
			if x.DType.IsFloat() {
				x = as(t, x, F32)
			}
			sum.Write(append([]byte(name), 0))
			_, err = x.WriteTo(sum)
			require.NoError(t, err)
		}
		require.Equal(t, w.Tensors, tensors, group)
		require.Equal(t, w.Elements, elements, group)
		require.Equal(t, w.SHA256, hex.EncodeToString(sum.Sum(nil)), group)
		checked += tensors
	}
	require.Equal(t, want.TensorCount, checked)
	for name, sample := range want.Samples {
		var dtype string
		var shape []int
		require.NoError(t, json.Unmarshal(sample[0], &dtype))
		require.NoError(t, json.Unmarshal(sample[1], &shape))
		x, err := f.Tensor(name)
		require.NoError(t, err)
		require.Equal(t, dtype, x.DType.String(), name)
		require.Equal(t, shape, x.Shape, name)
	}
}

func FuzzZipCheckpoint(f *testing.F) { fuzzCheckpoint(f, "zip") }

func FuzzLegacyCheckpoint(f *testing.F) { fuzzCheckpoint(f, "legacy") }

func fuzzCheckpoint(f *testing.F, container string) {
	for _, c := range pthCases(f) {
		if c.Container == container {
			data, err := os.ReadFile(c.File)
			require.NoError(f, err)
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := openCheckpoint(blobOf(data), CheckpointOptions{})
		if err != nil {
			return
		}
		exercise(t, c)
		_ = c.Verify(context.Background())
		require.NoError(t, c.Close())
	})
}

// FuzzCheckpointPickle changes only the pickle, inside an archive that is always sound, with storages "0" to "2".
func FuzzCheckpointPickle(f *testing.F) {
	for _, c := range pthCases(f) {
		data, err := os.ReadFile(c.File)
		require.NoError(f, err)
		if a, err := openArchive(blobOf(data)); err == nil {
			r, err := a.record(a.folder + "data.pkl")
			require.NoError(f, err)
			f.Add(data[r.offset : r.offset+r.size])
		}
	}
	f.Fuzz(func(t *testing.T, pickled []byte) {
		var out bytes.Buffer
		archive := zip.NewWriter(&out)
		for name, data := range map[string][]byte{
			"a/data.pkl": pickled, "a/data/0": make([]byte, 540), "a/data/1": make([]byte, 20), "a/data/2": nil,
		} {
			w, err := archive.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
			require.NoError(t, err)
			_, err = w.Write(data)
			require.NoError(t, err)
		}
		require.NoError(t, archive.Close())
		c, err := openCheckpoint(blobOf(out.Bytes()), CheckpointOptions{})
		if err != nil {
			return
		}
		exercise(t, c)
		require.NoError(t, c.Verify(context.Background()))
		require.NoError(t, c.Close())
	})
}

func TestWhatTrainingProgramsLeaveBesideTensorsIsPassedOver(t *testing.T) {
	for file, want := range map[string]string{"numpy-scalar.pth": "numpy.core.multiarray.scalar", "namespace.pth": "argparse.Namespace"} {
		c, err := OpenCheckpoint(filepath.Join("testdata", file), CheckpointOptions{})
		require.NoError(t, err)
		require.Len(t, c.Names(), 1)
		require.Contains(t, c.PassedOver(), want)
		require.NoError(t, c.Close())
	}
}
