package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/imaging"
)

const goldens = "../../testdata/goldens"

// runAsCommand makes the test binary behave as the command, for tests that
// look at it from outside.
const runAsCommand = "UNIRESTORER_TEST_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(runAsCommand) != "" {
		main()
		return
	}
	dir, err := os.MkdirTemp("", "unirestorer")
	if err != nil {
		panic(err)
	}
	tiny.path = filepath.Join(dir, "tiny")
	if err := os.Setenv("XDG_CACHE_HOME", dir); err != nil { // the record of peaks
		panic(err)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// tiny is the small pool, converted once.
var tiny struct {
	once sync.Once
	path string
}

// tinyModel gives the folder of the small pool.
func tinyModel(t testing.TB) string {
	t.Helper()
	tiny.once.Do(func() {
		code, _, stderr := command("convert", pth(), "-o", tiny.path, "--hints", tinyHints())
		require.Zero(t, code, stderr)
	})
	return tiny.path
}

func pth() string       { return filepath.Join(goldens, "unirestorer_tiny", "model.pth") }
func tinyHints() string { return filepath.Join(goldens, "unirestorer_tiny", "config.json") }

// photo is image i of the small pool's case.
func photo(i int) string {
	return filepath.Join(goldens, "unirestorer_tiny", fmt.Sprintf("img%d.png", i))
}

// command runs one command line.
func command(args ...string) (code int, stdout, stderr string) {
	return commandIn(context.Background(), strings.NewReader(""), args...)
}

func commandIn(ctx context.Context, stdin io.Reader, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(ctx, append([]string{"unirestorer"}, args...), stdin, &out, &errs)
	return code, out.String(), errs.String()
}

// ok runs a command line that must succeed.
func ok(t testing.TB, args ...string) (stdout, stderr string) {
	t.Helper()
	code, stdout, stderr := command(args...)
	require.Zero(t, code, "%q: %s", args, stderr)
	return stdout, stderr
}

func decodeJSON(t testing.TB, text string, v any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), v), text)
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o777))
	require.NoError(t, os.WriteFile(to, data, 0o666))
}

// names lists a folder and what is below it.
func names(t testing.TB, dir string) []string {
	t.Helper()
	found := []string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var rel string
			rel, err = filepath.Rel(dir, path)
			found = append(found, filepath.ToSlash(rel))
		}
		return err
	}))
	return found
}

// writePhoto makes a PNG of smooth shades with a little noise.
func writePhoto(t testing.TB, path string, w, h int) {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range w * h {
		shade := 40 + 150*(i%w)/w + 40*(i/w)/h
		grain := rng.IntN(8)
		copy(img.Pix[4*i:], []uint8{uint8(shade + grain), uint8(shade), uint8(shade / 2), 255})
	}
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(f, img))
	require.NoError(t, f.Close())
}

// pixels decodes an image file.
func pixels(t testing.TB, path string) *imaging.Image {
	t.Helper()
	img, err := imaging.DecodeFile(path, imaging.Limits{})
	require.NoError(t, err)
	return img
}

func TestEveryCommandExplainsItselfWithExamples(t *testing.T) {
	stdout, _ := ok(t, "--help")
	require.Contains(t, stdout, "Exit codes: 0 done, 1 something failed, 2 wrong usage, 130 interrupted")
	for _, c := range commands() {
		if c.Hidden {
			continue
		}
		require.Contains(t, stdout, c.Name)
		for _, args := range [][]string{{c.Name, "--help"}, {c.Name, "-h"}, {"help", c.Name}} {
			help, _ := ok(t, args...)
			require.Contains(t, help, "Examples:", "%q", args)
			require.Contains(t, help, "   unirestorer "+c.Name, "%q", args)
			if len(c.Subcommands) == 0 && !slices.Contains([]string{"completion", "serve", "work"}, c.Name) { // a script, services
				require.Contains(t, help, "--json", "%q", args)
			}
		}
		for _, sub := range c.Subcommands {
			help, _ := ok(t, c.Name, sub.Name, "--help")
			require.Contains(t, help, "unirestorer "+c.Name+" "+sub.Name)
		}
	}
	bare, _ := ok(t)
	require.Equal(t, stdout, bare)
}

func TestWrongUsageExitsWith2AndSaysHow(t *testing.T) {
	t.Setenv("UNIRESTORER_MODEL", "")
	model, in := tinyModel(t), photo(0)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"restorer"}, `no command "restorer"; unirestorer --help lists the commands`},
		{[]string{"jobs", "frob"}, `no command "jobs frob"; unirestorer jobs --help lists them`},
		{[]string{"pool", "frob"}, `no command "pool frob"; unirestorer pool --help lists them`},
		{[]string{"--nonsense"}, "flag provided but not defined: -nonsense"},
		{[]string{"restore", "--nonsense", in}, "flag provided but not defined: -nonsense"},
		{[]string{"restore"}, "no input given; see unirestorer restore --help"},
		{[]string{"restore", in}, "no output given: use -o OUT"},
		{[]string{"restore", in, "-o"}, "flag needs an argument"},
		{[]string{"restore", in, "-o", "x.xyz"}, `unknown image file extension ".xyz"`},
		{[]string{"restore", in, "-o", in}, "would replace the input"},
		{[]string{"restore", in, "-o", "x.png", "--format", "gif"}, `--format "gif": want png, jpeg, webp, tiff or bmp`},
		{[]string{"restore", in, "-o", "x.png", "--quality", "101"}, "--quality 101: want 1 to 100"},
		{[]string{"restore", in, "-o", "x.png", "--tile", "0"}, `--tile "0": want a number of pixels, auto or off`},
		{[]string{"restore", in, "-o", "x.png", "--tile", "big"}, `--tile "big"`},
		{[]string{"restore", in, "-o", "x.png", "--overlap", "-1"}, "--overlap -1"},
		{[]string{"restore", in, "-o", "x.png", "--memory", "much"}, `--memory "much": want a size like 1GiB, auto or off`},
		{[]string{"restore", in, "-o", "x.png", "--memory", "0"}, `--memory "0"`},
		{[]string{"restore", in, "-o", "-", "--compare"}, "--compare needs an output file"},
		{[]string{"restore", in, "-o", "-", "--json"}, "--json and -o - both want standard output"},
		{[]string{"restore", in, "-o", "x.png", "--expert", "many"}, `no expert is called "many"`},
		{[]string{"restore", in, "-o", "x.png", "-m", "TINY", "--expert", "30"}, "expert 30: the pool has 0 to 29"},
		{[]string{"restore", in, "-o", "x.png", "-m", "TINY", "--expert", "-1"}, "expert -1: the pool has 0 to 29"},
		{[]string{"restore", in, "-o", "x.png", "-m", "TINY", "--level", "finest"}, `--level "finest": want 0 to 2 or one of coarse, middle, fine`},
		{[]string{"restore", in, "-o", "x.png", "-m", "TINY", "--level", "3"}, "level 3: the tree has 0 to 2"},
		{[]string{"restore", in, "-o", "x.png", "-m", "TINY", "-k", "snow"}, `--degradation: no leaf is called "snow"`},
		{[]string{"restore", in, "-o", "x.png", "-m", "TINY", "--device", "tpu"}, `unknown device "tpu": the devices command lists those there are`},
		{[]string{"restore", in, "-o", "x.png", "-m", "TINY", "--device", "cpu:1"}, `unknown device "cpu:1"`},
		{[]string{"restore", in, "-o", "x.png", "-m", "TINY", "--threads", "-1"}, "--threads -1: want 0 or more"},
		{[]string{"restore", in, "-o", "x.png", "-m", "TINY", "--adapters", "fused"}, `--adapters: adapters "fused": want merged, switched or unmerged`},
		{[]string{"route"}, "no input given; see unirestorer route --help"},
		{[]string{"route", in, "-m", "TINY", "-e", "99"}, "expert 99"},
		{[]string{"inspect"}, "want one model or file"},
		{[]string{"inspect", "a", "b"}, "want one model or file"},
		{[]string{"inspect", "TINY", "--size", "256"}, `--size "256": want WxH like 256x256`},
		{[]string{"inspect", "TINY", "--size", "0x5"}, "--size"},
		{[]string{"inspect", "TINY", "--size", "5x5x5"}, "--size"},
		{[]string{"convert"}, "want MODEL.pth [DACLIP.pt] -o FOLDER"},
		{[]string{"convert", pth()}, "want MODEL.pth [DACLIP.pt] -o FOLDER"},
		{[]string{"convert", pth(), "-o", "x", "--dtype", "f64"}, `--dtype "f64": want keep, f16 or exact`},
		{[]string{"convert", pth(), "-o", "x", "--lora-scale", "NaN"}, "--lora-scale NaN: want a number that is not 0"},
		{[]string{"verify"}, "no case given; see unirestorer verify --help"},
		{[]string{"verify", "x", "--psnr", "-1"}, "--max-abs and --psnr cannot be negative"},
		{[]string{"devices", "cpu"}, "devices takes no arguments"},
		{[]string{"completion", "tcsh"}, `no completion for "tcsh"`},
		{[]string{"completion"}, "completion takes the name of one shell"},
		{[]string{"doctor", "cpu"}, "doctor takes no arguments"},
		{[]string{"doctor", "--device", "tpu"}, `unknown device "tpu"`},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Chdir(t.TempDir())
			args := append([]string(nil), c.args...)
			for i := range args {
				switch args[i] {
				case "TINY":
					args[i] = model
				case in, pth():
					args[i] = filepath.Join(repository, "cmd", "unirestorer", args[i])
				}
			}
			code, stdout, stderr := command(args...)
			require.Equal(t, exitUsage, code, stderr)
			require.Contains(t, stdout+stderr, c.want)
			require.Contains(t, stderr, "unirestorer: ")
			require.Empty(t, names(t, "."), "nothing is written")
		})
	}
}

// repository is the root of the checkout.
var repository = func() string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return dir
}()

func TestFailuresExitWith1(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.png")
	require.NoError(t, os.WriteFile(text, []byte("no image"), 0o666))
	model := tinyModel(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"restore", photo(0), "-o", filepath.Join(dir, "x.png"), "-m", filepath.Join(dir, "gone")}, "gone"},
		{[]string{"restore", photo(0), "-o", filepath.Join(dir, "x.png"), "-m", dir}, "config.json"},
		{[]string{"restore", filepath.Join(dir, "gone.png"), "-o", filepath.Join(dir, "x.png"), "-m", model}, "no such file"},
		{[]string{"restore", text, "-o", filepath.Join(dir, "x.png"), "-m", model}, "restore: " + text + ": "},
		{[]string{"restore", filepath.Join(dir, "empty"), "-o", filepath.Join(dir, "y"), "-m", model}, "no images found"},
		{[]string{"restore", photo(0), "-o", filepath.Join(dir, "x.png"), "-m", model, "--memory", "1kB"}, "over the memory budget"},
		{[]string{"restore", photo(0), "-o", filepath.Join(dir, "x.png"), "-m", model, "--tile", "16", "--overlap", "100"}, "tiles of 16 pixels are too small for an overlap of 100: want 200 at least"},
		{[]string{"degrade", text, "-o", filepath.Join(dir, "x.png"), "--spec", "noise:0.1"}, "unirestorer: degrade: " + text + ": not a PNG"},
		{[]string{"route", text, "-m", model}, "route: " + text},
		{[]string{"inspect", text}, text},
		{[]string{"inspect", filepath.Join(dir, "gone")}, "gone"},
		{[]string{"convert", text, "-o", filepath.Join(dir, "m")}, text},
		{[]string{"convert", pth(), "-o", filepath.Join(dir, "m"), "--root", "weights"}, "weights"},
		{[]string{"convert", pth(), "-o", filepath.Join(dir, "m"), "--hints", text}, text},
		{[]string{"convert", pth(), "-o", model, "--hints", tinyHints()}, "exists and is not empty"},
		{[]string{"verify", dir}, "config.json"},
	} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "empty"), 0o777))
		code, stdout, stderr := command(c.args...)
		require.Equal(t, exitFailed, code, "%q: %s", c.args, stderr)
		require.Contains(t, stdout+stderr, c.want, "%q", c.args)
		require.Equal(t, []string{"text.png"}, names(t, dir), "%q", c.args)
	}
}

func TestInterruptedCommandsExitWith130AndLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	model := tinyModel(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, args := range [][]string{
		{"restore", photo(0), photo(1), "-o", filepath.Join(dir, "out"), "-m", model},
		{"restore", photo(0), "-o", filepath.Join(dir, "x.png"), "-m", model, "--expert", "3"},
		{"route", photo(0), "-m", model},
		{"convert", pth(), "-o", filepath.Join(dir, "m"), "--hints", tinyHints()},
		{"verify", filepath.Join(goldens, "nafnet")},
	} {
		code, stdout, stderr := commandIn(ctx, nil, args...)
		require.Equal(t, exitInterrupted, code, "%q", args)
		require.Equal(t, "unirestorer: interrupted\n", stderr[max(0, strings.LastIndex(stderr, "unirestorer: ")):])
		require.Empty(t, stdout)
		require.Empty(t, names(t, dir))
	}
}

func TestCompletionsAndManualPage(t *testing.T) {
	for shell, want := range map[string]string{"bash": "complete -o", "zsh": "#compdef unirestorer", "fish": "complete -c unirestorer"} {
		stdout, _ := ok(t, "completion", shell)
		require.Contains(t, stdout, want)
	}
	stdout, _ := ok(t, "man")
	require.Contains(t, stdout, `.TH unirestorer 1`)
	defer func(args []string) { os.Args = args }(os.Args)
	for _, c := range []struct {
		words []string
		want  string
	}{{nil, "doctor\n"}, {[]string{"restore", "--dev"}, "--device\n"}, {[]string{"lora"}, "extract\n"}} {
		words := append(c.words, completeFlag)
		os.Args = append([]string{"unirestorer"}, words...) // which urfave/cli looks at
		stdout, _ = ok(t, words...)
		require.Contains(t, stdout, c.want)
	}
}

func TestDevicesAreListed(t *testing.T) {
	stdout, stderr := ok(t, "doctor", "--device", "cpu")
	require.Regexp(t, `(?m)^ok +cpu +self test +restormer is right`, stdout)
	require.Empty(t, stderr)
	stdout, _ = ok(t, "doctor", "--json", "--no-test")
	require.Contains(t, stdout, `"check": "instructions"`)

	stdout, stderr = ok(t, "devices")
	require.Empty(t, stderr)
	require.Regexp(t, `(?m)^DEVICE +USABLE +DESCRIPTION$`, stdout)
	require.Regexp(t, `(?m)^cpu +yes +.*threads$`, stdout)
	stdout, _ = ok(t, "devices", "--json")
	var all []struct {
		Name      string
		Available bool
	}
	decodeJSON(t, stdout, &all)
	require.Equal(t, "cpu", all[0].Name)
	require.True(t, all[0].Available)
}

func TestOptionsMayFollowArguments(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"u restore a.png -o x.png b.png --json", "u restore -o x.png --json -- a.png b.png"},
		{"u restore - -o -", "u restore -o - -- -"},
		{"u restore a --output=x -m m --tile auto", "u restore --output=x -m m --tile auto -- a"},
		{"u restore -- -o -m", "u restore -- -o -m"},
		{"u restore a --expert -1", "u restore --expert -1 -- a"},
		{"u restore a -o", "u restore -o"},
		{"u devices --json", "u devices --json"},
		{"u --help", "u --help"},
		{"u", "u"},
		{"u help restore", "u help restore"},
	} {
		require.Equal(t, c.want, strings.Join(interleave(strings.Fields(c.in)), " "))
	}
}
