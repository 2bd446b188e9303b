package simulate

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

func options(t *testing.T, args ...string) Options {
	t.Helper()
	o := Options{File: filepath.Join("testdata", "saxpy.ptx"), Grid: device.D1(5), Block: device.D1(64)}
	for _, text := range args {
		a, err := ParseArg(text)
		require.NoError(t, err)
		o.Args = append(o.Args, a)
	}
	return o
}

// The kernel lets one thread too many write: n = 255 fits 256 elements, 256 does not.
func TestCleanKernelIsClean(t *testing.T) {
	o := options(t, "f32:256", "f32:256:random", "f32=2", "i32=255")
	o.Values, o.Schedules = 3, 4
	out := filepath.Join(t.TempDir(), "y.bin")
	o.Save = map[int]string{0: out}
	r, err := Run(context.Background(), o)
	require.NoError(t, err)
	require.True(t, r.Clean)
	require.Equal(t, "saxpy", r.Kernel)
	require.Equal(t, "sm_90", r.Arch)
	require.Equal(t, 4, r.Schedules)
	require.EqualValues(t, 16, r.Counters.GlobalLoad.Requests)
	require.EqualValues(t, 4, r.Derived.LoadSectors)
	require.Positive(t, r.Microseconds)
	require.NotEmpty(t, r.Stalls)
	require.NotEmpty(t, r.Hot[0].Text)

	y, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, r.Buffers[0].Values, values("f32", y, 3))
	require.NotEqual(t, "0", r.Buffers[0].Values[0])

	// What was saved can be an argument again: y + 0·x is y.
	again := options(t, "f32:"+out, "f32:256", "f32=0", "i32=255")
	again.Values = 3
	r, err = Run(context.Background(), again)
	require.NoError(t, err)
	require.Equal(t, values("f32", y, 3), r.Buffers[0].Values)
}

func TestFindingsNameTheLineOfCUDA(t *testing.T) {
	r, err := Run(context.Background(), options(t, "f32:256:random", "f32:300:random", "f32=2", "i32=256"))
	require.NoError(t, err)
	require.False(t, r.Clean)
	f := r.Findings[0]
	require.Equal(t, "saxpy.cu:5", f.Source)
	require.Equal(t, "y[i] += a * x[i];", f.SourceText)

	var text strings.Builder
	require.NoError(t, r.WriteText(&text))
	require.Contains(t, text.String(), "out-of-bounds access: saxpy line")
	require.Contains(t, text.String(), "      y[i] += a * x[i];\n")
	require.Contains(t, text.String(), "sectors each")

	js, err := json.Marshal(r)
	require.NoError(t, err)
	var back struct {
		Clean    bool
		Findings []struct {
			Kind   string
			Source string
			Text   string `json:"source_text"`
		}
	}
	require.NoError(t, json.Unmarshal(js, &back))
	require.False(t, back.Clean)
	require.Equal(t, "y[i] += a * x[i];", back.Findings[0].Text)
}

func TestReadsOfWhatNobodyWroteAreFindings(t *testing.T) {
	r, err := Run(context.Background(), options(t, "f32:256", "f32:256:unset", "f32=2", "i32=255"))
	require.NoError(t, err)
	require.False(t, r.Clean)
	require.EqualValues(t, "read of uninitialised memory", r.Findings[0].Kind)
}

func TestWhatCannotRunSaysWhy(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.ptx")
	require.NoError(t, os.WriteFile(empty, []byte(".version 8.4\n.target sm_80\n.address_size 64\n"), 0o644))
	good := []string{"f32:256", "f32:256", "f32=2", "i32=255"}
	for want, change := range map[string]func(o *Options){
		"no such file":                  func(o *Options) { o.File = "nothing.ptx" },
		"not a PTX file":                func(o *Options) { o.File = t.TempDir() },
		"there are no kernels in it":    func(o *Options) { o.File = empty },
		"no kernel gemm; there are sax": func(o *Options) { o.Kernel = "gemm" },
		"3 arguments for 4 parameters; its parameters are saxpy_param_0 (8 bytes, u64)": func(o *Options) { o.Args = o.Args[:3] },
		"argument 2 has 8 bytes at offset 16, the parameter has 4":                      func(o *Options) { o.Args[2].Value = make([]byte, 8) },
		"block of 2048 threads":        func(o *Options) { o.Block = device.D1(2048) },
		"300000 bytes of dynamic":      func(o *Options) { o.Shared = 300000 },
		"written for sm_90":            func(o *Options) { o.Arch = 80 },
		"out of device memory":         func(o *Options) { o.Args[0].Count = 1 << 40 },
		"unknown GPU":                  func(o *Options) { o.Card = "riva128" },
		"argument \"x\": open nothing": func(o *Options) { o.Args[0] = Arg{Text: "x", Type: "f32", Count: 1, Fill: fillFile, Path: "nothing"} },
	} {
		o := options(t, good...)
		change(&o)
		_, err := Run(context.Background(), o)
		require.Error(t, err, want)
		require.Contains(t, strings.Replace(err.Error(), "stat nothing: no", "open nothing: no", 1), want)
	}
}

func TestArguments(t *testing.T) {
	for text, want := range map[string][]byte{
		"i32=5": {5, 0, 0, 0}, "i32=-1": {255, 255, 255, 255}, "u8=255": {255}, "i64=0x10": {16, 0, 0, 0, 0, 0, 0, 0},
		"u64=18446744073709551615": {255, 255, 255, 255, 255, 255, 255, 255}, "f32=1": {0, 0, 0x80, 0x3f}, "f16=1": {0, 0x3c},
		"bf16=1": {0x80, 0x3f}, "f64=-2": {0, 0, 0, 0, 0, 0, 0, 0xc0}, "b32=0xff": {255, 0, 0, 0}, "hex=0102ff": {1, 2, 255}, "F32=1": {0, 0, 0x80, 0x3f},
	} {
		a, err := ParseArg(text)
		require.NoError(t, err, text)
		require.Equal(t, want, a.Value, text)
	}
	for text, want := range map[string]Arg{
		"i32:64": {Type: "i32", Count: 64, Fill: fillZeros}, "f32:256:random": {Type: "f32", Count: 256, Fill: fillRandom},
		"u8:0x10:unset": {Type: "u8", Count: 16, Fill: fillUnset}, "f16:4:a.bin": {Type: "f16", Count: 4, Fill: fillFile, Path: "a.bin"},
		"f16:a=b.bin": {Type: "f16", Fill: fillFile, Path: "a=b.bin"}, "f16:C:/a.bin": {Type: "f16", Fill: fillFile, Path: "C:/a.bin"},
	} {
		a, err := ParseArg(text)
		require.NoError(t, err, text)
		want.Text = text
		require.Equal(t, want, a)
	}
	for _, text := range []string{"", "i32", "i32:", "i32:0", "i32:-4", "i32:4:", "q32:4", "q32=4", "i32=", "i32=x", "i8=128", "u8=256", "u8=-1", "f32=one", "hex=", "hex=0", "hex=zz", "i32:99999999999999999999999:random:x"} {
		a, err := ParseArg(text)
		if err == nil && a.Fill == fillFile { // read when it runs
			_, _, err = a.content(nil, 1<<30)
		}
		require.Error(t, err, text)
	}
}

func TestDimensions(t *testing.T) {
	for text, want := range map[string]device.Dim3{"7": device.D1(7), "7,2": device.D2(7, 2), "7, 2,3": device.D3(7, 2, 3)} {
		d, err := ParseDim(text)
		require.NoError(t, err)
		require.Equal(t, want, d)
	}
	for _, text := range []string{"", "0", "1,0", "1,2,3,4", "x", "-1", "5000000000"} {
		_, err := ParseDim(text)
		require.Error(t, err, text)
	}
}

func FuzzParseArg(f *testing.F) {
	for _, s := range []string{"i32:64", "f32:8:random", "f32=1e3", "hex=00ff", "bf16=nan", "u64=-1", "i8:9:unset"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseArg(text)
		if err != nil || a.Fill == fillFile {
			return
		}
		if a.Value == nil && a.Count <= 0 {
			t.Fatalf("%q: a buffer without elements", text)
		}
	})
}

// The kernel copies a box of 16 by 8 floats by a tensor map of a buffer of its own.
func TestTensorMapsAreArguments(t *testing.T) {
	ptx := filepath.Join("..", "ptxsim", "testdata", "tensor.ptx")
	o := options(t, "tensormap:f32:40x20:16x8:random", "f32:256", "i32=4", "i32=3", "i32=0")
	o.File, o.Kernel, o.Grid, o.Block, o.Values = ptx, "box", device.D1(1), device.D1(32), 128
	r, err := Run(context.Background(), o)
	require.NoError(t, err)
	require.True(t, r.Clean, r.Findings)
	var tensor, box []string
	for _, b := range r.Buffers {
		if b.Arg == 0 {
			require.EqualValues(t, 800, b.Count)
			tensor = b.Values
		} else {
			box = b.Values
		}
	}
	require.Equal(t, "0", box[len(box)-1][:1], "-1 is overwritten: %v", box)
	require.Len(t, tensor, 128)
	require.Equal(t, tensor[124], box[0]) // row 3, column 4
	o.Args[2] = o.Args[4]                 // x = 0
	o.Args[4], err = ParseArg("i32=1")
	require.NoError(t, err)
	r, err = Run(context.Background(), o)
	require.NoError(t, err)
	require.False(t, r.Clean, "without a wait")

	for text, want := range map[string]string{
		"tensormap:f32:40x20":          "want tensormap",
		"tensormap:q:4x4:4x4":          "unknown type",
		"tensormap:f32:40x20:16":       "a box of 1 dimensions for 2",
		"tensormap:f32:40x20:3x1":      "multiple of 16",
		"tensormap:f32:40x20:16x8:a=b": "unknown option",
		"tensormap:f32:4x0:4x1":        "want sizes",
		"tensormap:f32:40x2:16x1:of=x": "no number",

		"tensormap:f32:4294967296x4294967296x4:4x4x4": "too large",
		"tensormap:f32:9x9:4x4:pitch=16":              "a pitch of 16",
	} {
		_, err := ParseArg(text)
		require.ErrorContains(t, err, want, text)
	}
	o.Args[0], err = ParseArg("tensormap:f32:40x20:16x8:of=1")
	require.NoError(t, err)
	_, err = Run(context.Background(), o)
	require.ErrorContains(t, err, "larger than the buffer")
}

func TestTexturesAndSurfacesAreArguments(t *testing.T) {
	o := options(t, "texture:f32:3x2:random", "texture:f32:2x3:unset")
	o.File, o.Kernel, o.Grid, o.Block, o.Values = filepath.Join("..", "ptxsim", "testdata", "texture.ptx"), "turn", device.D1(1), device.D2(3, 2), 6
	r, err := Run(context.Background(), o)
	require.NoError(t, err)
	require.True(t, r.Clean, r.Findings)
	x, y := r.Buffers[0].Values, r.Buffers[1].Values
	require.NotEqual(t, x[0], x[1])
	require.Equal(t, []string{x[0], x[3], x[1], x[4], x[2], x[5]}, y)
	o.Args[1], err = ParseArg("texture:f32:3x2:of=0")
	require.NoError(t, err)
	require.False(t, o.Args[1].HasBuffer())
	r, err = Run(context.Background(), o)
	require.NoError(t, err)
	require.False(t, r.Clean, "it reads what it writes, and a row of three texels is not of two")
	for text, want := range map[string]string{
		"texture:f32":                     "want texture",
		"texture:f64:4":                   "unknown type",
		"texture::4":                      "unknown type",
		"texture:f32xy:4":                 "unknown type",
		"texture:f32x3:4":                 "3 channels",
		"texture:f32:4x0":                 "want sizes",
		"texture:f32:4x4x4x4":             "more than three dimensions",
		"texture:f32:999999x2":            "999999 texels in dimension 0",
		"texture:u8:4:linear":             "integers cannot be interpolated",
		"texture:f32:4:layers=0":          "no number of layers",
		"texture:f32:4:of=-1":             "no number of an argument",
		"texture:f32:4:fast":              "unknown option",
		"texture:f32x4:16384x16384x16384": "too large",
	} {
		_, err := ParseArg(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestKernelsPrintAndLoopsEnd(t *testing.T) {
	o := options(t)
	o.File, o.Kernel = filepath.Join("..", "ptxsim", "testdata", "print.ptx"), ""
	_, err := Run(context.Background(), o)
	require.ErrorContains(t, err, "which kernel?")
	path := filepath.Join(t.TempDir(), "loop.ptx")
	require.NoError(t, os.WriteFile(path, []byte(".version 8.4\n.target sm_90\n.address_size 64\n.entry k(){L: bra L;}"), 0o600))
	o = Options{File: path, Grid: device.D1(1), Block: device.D1(32), MaxSteps: 100000}
	r, err := Run(context.Background(), o)
	require.NoError(t, err)
	require.Equal(t, ptxsim.StepLimit, r.Findings[0].Kind)
}

// A pipe that nobody writes to does not keep the command from being interrupted.
func TestReadingEndsWithTheContext(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("pipes have no names here")
	}
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer w.Close()
	defer r.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = Run(ctx, Options{File: fmt.Sprintf("/dev/fd/%d", r.Fd()), Grid: device.D1(1), Block: device.D1(1)})
	require.ErrorIs(t, err, context.Canceled)
}
