package weights

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

var ctx = context.Background()

func makeFolder(t testing.TB, path string, opts FolderOptions, tensors ...*Tensor) FolderSummary {
	t.Helper()
	w, err := CreateFolder(path, opts)
	require.NoError(t, err)
	defer w.Close()
	for _, x := range tensors {
		require.NoError(t, w.Add(ctx, x))
	}
	s, err := w.Finish(ctx, []byte(`{"model":"test"}`))
	require.NoError(t, err)
	return s
}

func entries(t testing.TB, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestFolderRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model")
	tensors := everyDType(t)
	summary := makeFolder(t, path, FolderOptions{Metadata: map[string]string{"made": "here"}}, tensors...)
	require.Equal(t, len(tensors), summary.Tensors)
	require.Equal(t, 1, summary.Shards)
	require.Equal(t, []string{"config.json", "model-00001-of-00001.safetensors", "tensors.json"}, entries(t, path))
	require.Len(t, entries(t, filepath.Dir(path)), 1, "a temporary folder is left")

	file, err := Open(path)
	require.NoError(t, err)
	defer file.Close()
	f := file.(*Folder)
	require.Equal(t, `{"model":"test"}`, string(f.Config()))
	require.Equal(t, map[string]string{"made": "here"}, f.Metadata())
	require.True(t, slices.IsSorted(f.Names()))
	require.NoError(t, f.Verify(ctx))
	requireSameTensors(t, tensors, f)

	embedded, err := OpenFolderFS("embedded", os.DirFS(path))
	require.NoError(t, err)
	defer embedded.Close()
	requireSameTensors(t, tensors, embedded)
	require.NoError(t, embedded.Verify(ctx))
}

func requireSameTensors(t *testing.T, want []*Tensor, src Source) {
	t.Helper()
	require.Len(t, src.Names(), len(want))
	for _, w := range want {
		got, err := src.Tensor(w.Name)
		require.NoError(t, err)
		require.Equal(t, w.Name, got.Name)
		require.Equal(t, w.DType, got.DType)
		require.Len(t, got.Shape, len(w.Shape))
		require.Equal(t, rawCopy(t, w), rawCopy(t, got), w.Name)
	}
}

// streamFS hides everything but reading in order.
type streamFS struct{ fs.FS }

func (s streamFS) Open(name string) (fs.File, error) {
	f, err := s.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if _, isDir := f.(fs.ReadDirFile); isDir {
		return f, nil
	}
	return struct{ fs.File }{f}, nil
}

func TestFileSystemsWithoutRandomAccessAreReadAtOnce(t *testing.T) {
	x := tensorOf(t, "x", []float32{1, 2}, 2)
	var shard bytes.Buffer
	require.NoError(t, writeSafetensors(ctx, &shard, []*Tensor{x}, nil))
	fsys := fstest.MapFS{
		"config.json":       {Data: []byte("{}")},
		"a.safetensors":     {Data: shard.Bytes()},
		"notes.txt":         {Data: []byte("ignored")},
		".hid.safetensors":  {Data: []byte("ignored")},
		"sub/b.safetensors": {Data: []byte("ignored")},
	}
	f, err := OpenFolderFS("embedded", streamFS{fsys})
	require.NoError(t, err)
	requireSameTensors(t, []*Tensor{x}, f)
	require.ErrorContains(t, f.Verify(ctx), "no digests")
	require.NoError(t, f.Close())
	y, err := f.Tensor("x")
	require.NoError(t, err)
	_, err = y.Float32()
	require.ErrorIs(t, err, fs.ErrClosed)
}

func TestEqualTensorsAreStoredOnce(t *testing.T) {
	values := normal(1, 64, 1)
	a := tensorOf(t, "a", values, 8, 8)
	tensors := []*Tensor{
		a,
		a.WithName("same storage"),
		tensorOf(t, "same values", values, 8, 8),
		tensorOf(t, "other shape", values, 64),
		tensorOf(t, "other values", normal(2, 64, 1), 8, 8),
		as(t, as(t, a, F16), F32).WithName("rounded"),
	}
	path := filepath.Join(t.TempDir(), "model")
	s := makeFolder(t, path, FolderOptions{}, tensors...)
	require.Equal(t, 4, s.Tensors)
	require.Equal(t, 2, s.Aliases)
	f, err := OpenFolder(path)
	require.NoError(t, err)
	defer f.Close()
	require.Equal(t, map[string]string{"same storage": "a", "same values": "a"}, f.aliases)
	requireSameTensors(t, tensors, f)
	stored, err := f.Tensor("a")
	require.NoError(t, err)
	alias, err := f.Tensor("same values")
	require.NoError(t, err)
	require.Equal(t, stored.StorageKey(), alias.StorageKey())

	// Rounding makes more of them equal, and the same storage in another shape is not an alias.
	s = makeFolder(t, filepath.Join(t.TempDir(), "model"), FolderOptions{DType: RoundToF16}, tensors...)
	require.Equal(t, 3, s.Tensors)
	require.Equal(t, 3, s.Aliases)
}

func TestDTypePolicies(t *testing.T) {
	inexact := tensorOf(t, "inexact", []float32{0.1, 2}, 2)
	exact := tensorOf(t, "exact", []float32{0.5, float32(math.Copysign(0, -1)), float32(math.Inf(1)), 0x1p-24}, 4)
	large := tensorOf(t, "large", []float32{1, 70000}, 2)
	nan := tensorOf(t, "nan", []float32{float32(math.NaN())}, 1)
	double, err := NewTensor("double", F64, nil, []byte("\x00\x00\x00\x00\x00\x00\xf8\x3f")) // 1.5
	require.NoError(t, err)
	huge, err := NewTensor("huge", F64, nil, []byte("\x3c\xe4\x37\x7e\x00\x00\x00\x7f"))
	require.NoError(t, err)
	integer, err := NewTensor("integer", I64, nil, make([]byte, 8))
	require.NoError(t, err)
	brain := as(t, tensorOf(t, "brain", []float32{0x1p-30, 1}, 2), BF16)
	tensors := []*Tensor{inexact, exact, large, nan, double, huge, integer, brain}
	cases := []struct {
		name   string
		policy DTypePolicy
		want   string
		kept   int
	}{
		{"keep", KeepDType, "F32 F32 F32 F32 F64 F64 I64 BF16", 0},
		{"round", RoundToF16, "F16 F16 F32 F16 F16 F64 I64 F16", 2},
		{"exact", F16IfExact, "F32 F16 F32 F32 F16 F64 I64 BF16", 5},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "model")
			s := makeFolder(t, path, FolderOptions{DType: c.policy}, tensors...)
			require.Equal(t, c.kept, s.Kept)
			f, err := OpenFolder(path)
			require.NoError(t, err)
			defer f.Close()
			var types []string
			for _, x := range tensors {
				got, err := f.Tensor(x.Name)
				require.NoError(t, err)
				types = append(types, got.DType.String())
				want := make([]uint16, x.NumElements())
				require.NoError(t, x.ReadFloat16(want))
				have := make([]uint16, x.NumElements())
				require.NoError(t, got.ReadFloat16(have))
				require.Equal(t, want, have, x.Name)
			}
			require.Equal(t, c.want, strings.Join(types, " "))
		})
	}
}

func TestShardsHaveABoundedSize(t *testing.T) {
	var tensors []*Tensor
	for i := range 10 {
		tensors = append(tensors, tensorOf(t, string(rune('a'+i)), normal(uint64(i), 100, 1), 100))
	}
	tensors = append(tensors, tensorOf(t, "large", normal(99, 5000, 1), 5000))
	path := filepath.Join(t.TempDir(), "model")
	s := makeFolder(t, path, FolderOptions{ShardBytes: 1000}, tensors...)
	require.Equal(t, 6, s.Shards, "two of 400 bytes fit a shard, the large one is alone")
	f, err := OpenFolder(path)
	require.NoError(t, err)
	defer f.Close()
	requireSameTensors(t, tensors, f)

	empty := filepath.Join(t.TempDir(), "empty")
	require.Equal(t, 1, makeFolder(t, empty, FolderOptions{}).Shards)
	g, err := OpenFolder(empty)
	require.NoError(t, err)
	defer g.Close()
	require.Empty(t, g.Names())
}

func TestNothingIsLostByOverwriting(t *testing.T) {
	x := tensorOf(t, "x", []float32{1}, 1)
	y := tensorOf(t, "y", []float32{2}, 1)
	dir := t.TempDir()
	path := filepath.Join(dir, "model")
	require.NoError(t, os.Mkdir(path, 0o700))
	makeFolder(t, path, FolderOptions{}, x) // an empty folder is no obstacle

	_, err := CreateFolder(path, FolderOptions{})
	require.ErrorIs(t, err, fs.ErrExist)
	old, err := OpenFolder(path)
	require.NoError(t, err)
	defer old.Close()
	makeFolder(t, path, FolderOptions{Overwrite: true}, y)
	f, err := OpenFolder(path)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Equal(t, []string{"y"}, f.Names())
	requireSameTensors(t, []*Tensor{x}, old) // a folder that is open stays readable
	require.Equal(t, []string{"model"}, entries(t, dir))

	// Files that are not of a model.
	require.NoError(t, os.WriteFile(filepath.Join(path, "thesis.tex"), nil, 0o600))
	_, err = CreateFolder(path, FolderOptions{Overwrite: true})
	require.ErrorContains(t, err, "thesis.tex, which is not part of a model")
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("text"), 0o600))
	_, err = CreateFolder(file, FolderOptions{Overwrite: true})
	require.ErrorContains(t, err, "is not a folder")

	// What appears while the folder is being made is not lost either.
	late := filepath.Join(dir, "late")
	w, err := CreateFolder(late, FolderOptions{})
	require.NoError(t, err)
	require.NoError(t, w.Add(ctx, x))
	require.NoError(t, os.Mkdir(late, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(late, "config.json"), []byte("mine"), 0o600))
	_, err = w.Finish(ctx, nil)
	require.ErrorIs(t, err, fs.ErrExist)
	require.Equal(t, []string{"config.json"}, entries(t, late))
	require.Equal(t, []string{"file", "late", "model"}, entries(t, dir))
}

func TestUnfinishedFoldersLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	x := tensorOf(t, "x", []float32{1}, 1)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	w, err := CreateFolder(filepath.Join(dir, "model"), FolderOptions{})
	require.NoError(t, err)
	require.ErrorIs(t, w.Add(cancelled, x), context.Canceled)
	require.NoError(t, w.Add(ctx, x))
	require.ErrorContains(t, w.Add(ctx, x), `two tensors are named "x"`)
	_, err = w.Finish(cancelled, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, entries(t, dir))
	require.ErrorIs(t, w.Add(ctx, x), fs.ErrClosed)
	_, err = w.Finish(ctx, nil)
	require.ErrorIs(t, err, fs.ErrClosed)

	w, err = CreateFolder(filepath.Join(dir, "model"), FolderOptions{})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Empty(t, entries(t, dir))
	_, err = CreateFolder(filepath.Join(dir, "no", "model"), FolderOptions{})
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestVerifyFindsDamagedShards(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model")
	makeFolder(t, path, FolderOptions{}, tensorOf(t, "x", normal(1, 100, 1), 100))
	shard := filepath.Join(path, "model-00001-of-00001.safetensors")
	data, err := os.ReadFile(shard)
	require.NoError(t, err)
	data[len(data)-10] ^= 4
	require.NoError(t, os.WriteFile(shard, data, 0o600))
	f, err := OpenFolder(path)
	require.NoError(t, err)
	require.ErrorContains(t, f.Verify(ctx), "model-00001-of-00001.safetensors")
	require.NoError(t, f.Close())
	require.NoError(t, os.WriteFile(shard, data[:len(data)-1], 0o600))
	_, err = OpenFolder(path)
	require.ErrorContains(t, err, "tensors.json says")
	require.NoError(t, os.Remove(shard))
	_, err = OpenFolder(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// memoryFolder is a folder with one shard that holds the tensor "x".
func memoryFolder(t testing.TB, index string) fstest.MapFS {
	t.Helper()
	var shard bytes.Buffer
	require.NoError(t, writeSafetensors(ctx, &shard, []*Tensor{tensorOf(t, "x", []float32{1}, 1)}, nil))
	return fstest.MapFS{
		"config.json":   {Data: []byte("{}")},
		"a.safetensors": {Data: shard.Bytes()},
		"b.safetensors": {Data: shard.Bytes()},
		"tensors.json":  {Data: []byte(index)},
	}
}

const (
	zeroDigest = `"sha256":"0000000000000000000000000000000000000000000000000000000000000000"`
	// The shard of memoryFolder has this many bytes.
	goodIndex = `{"version":1,"shards":[{"file":"a.safetensors","bytes":68,` + zeroDigest + `}],"aliases":{"y":"x"}}`
)

func TestDamagedFoldersAreErrors(t *testing.T) {
	f, err := OpenFolderFS("m", memoryFolder(t, goodIndex))
	require.NoError(t, err)
	require.Equal(t, []string{"x", "y"}, f.Names())
	require.ErrorContains(t, f.Verify(ctx), "damaged")

	change := func(old, new string) string {
		require.Contains(t, goodIndex, old)
		return strings.Replace(goodIndex, old, new, 1)
	}
	cases := map[string]struct{ index, message string }{
		"empty":            {"", "unexpected EOF"},
		"no version":       {change(`"version":1,`, ""), "no version"},
		"newer version":    {change(`"version":1`, `"version":2`), "version 2 is not supported"},
		"unknown field":    {change(`"version"`, `"x":1,"version"`), `unknown field "x"`},
		"repeated field":   {change(`"version":1`, `"version":1,"version":1`), "appears twice"},
		"text after":       {goodIndex + "x", "text after the end"},
		"wrong size":       {change(`68`, `77`), "has 68 bytes, tensors.json says 77"},
		"digest":           {change(`"0000`, `"000`), "is not a SHA-256 digest"},
		"path upwards":     {change(`"a.safetensors"`, `"../a.safetensors"`), "is not the name of a shard"},
		"absolute path":    {change(`"a.safetensors"`, `"/a.safetensors"`), "is not the name of a shard"},
		"backslash":        {change(`"a.safetensors"`, `"..\\a.safetensors"`), "is not the name of a shard"},
		"other file":       {change(`"a.safetensors"`, `"config.json"`), "is not the name of a shard"},
		"missing shard":    {change(`"a.safetensors"`, `"c.safetensors"`), "shard c.safetensors"},
		"alias of nothing": {change(`"y":"x"`, `"y":"z"`), `alias "y": there is no stored tensor "z"`},
		"alias of itself":  {change(`"y":"x"`, `"y":"y"`), `there is no stored tensor "y"`},
		"alias of alias":   {change(`"y":"x"`, `"y":"x","z":"y"`), `alias "z": there is no stored tensor "y"`},
		"alias of stored":  {change(`"y":"x"`, `"x":"x"`), `alias "x": two tensors are named "x"`},
		"repeated alias":   {change(`"y":"x"`, `"y":"x","y":"x"`), `key "y" appears twice`},
		"alias number":     {change(`"y":"x"`, `"y":1`), "instead of a string"},
		"shard twice": {change(`"shards":[`, `"shards":[{"file":"a.safetensors","bytes":68,`+zeroDigest+`},`),
			`shard "a.safetensors" is listed twice`},
		"name twice": {change(`"shards":[`, `"shards":[{"file":"b.safetensors","bytes":68,`+zeroDigest+`},`),
			`two tensors are named "x"`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f, err := OpenFolderFS("m", memoryFolder(t, c.index))
			require.ErrorContains(t, err, c.message)
			require.ErrorContains(t, err, "model folder m: ")
			require.Nil(t, f)
		})
	}
	none := memoryFolder(t, "")
	delete(none, "tensors.json")
	_, err = OpenFolderFS("m", none)
	require.ErrorContains(t, err, `two tensors are named "x"`)
	delete(none, "a.safetensors")
	delete(none, "b.safetensors")
	_, err = OpenFolderFS("m", none)
	require.ErrorContains(t, err, "no tensors.json and no *.safetensors")
	delete(none, "config.json")
	_, err = OpenFolderFS("m", none)
	require.ErrorContains(t, err, "config.json")
}

// TestConvertingACheckpointKeepsEverything goes the whole way from a PyTorch file to a folder.
func TestConvertingACheckpointKeepsEverything(t *testing.T) {
	c, err := OpenCheckpoint(filepath.Join("testdata", "pth_formats", "zip_views.pth"), CheckpointOptions{})
	require.NoError(t, err)
	defer c.Close()
	var tensors []*Tensor
	for _, name := range c.Names() {
		x, err := c.Tensor(name)
		require.NoError(t, err)
		tensors = append(tensors, x)
	}
	path := filepath.Join(t.TempDir(), "model")
	s := makeFolder(t, path, FolderOptions{}, tensors...)
	require.Positive(t, s.Aliases)
	f, err := OpenFolder(path)
	require.NoError(t, err)
	defer f.Close()
	requireSameTensors(t, tensors, f)
}

func FuzzFolderIndex(f *testing.F) {
	f.Add([]byte(goodIndex))
	f.Add([]byte(`{"version":1,"shards":[],"aliases":{}}`))
	f.Add([]byte(`{"shards":[{"sha256":"` + strings.Repeat("ab", 32) + `","bytes":0,"file":"b.safetensors"}],"version":1}`))
	fsys := memoryFolder(f, "")
	f.Fuzz(func(t *testing.T, index []byte) {
		files := fstest.MapFS{"tensors.json": {Data: index}}
		for name, file := range fsys {
			if name != "tensors.json" {
				files[name] = file
			}
		}
		if folder, err := OpenFolderFS("m", files); err == nil {
			exercise(t, folder)
			_ = folder.Verify(ctx)
			require.NoError(t, folder.Close())
		}
		x, err := parseFolderIndex(bytes.NewReader(index))
		if err != nil {
			return
		}
		text, err := x.encode()
		require.NoError(t, err)
		again, err := parseFolderIndex(io.MultiReader(bytes.NewReader(text)))
		require.NoError(t, err)
		require.Equal(t, len(x.Shards), len(again.Shards))
		require.Equal(t, x.Aliases, again.Aliases)
	})
}
