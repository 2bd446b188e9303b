package restore

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/models"
	"unirestorer/runtime/experts/expertstest"
	"unirestorer/runtime/imaging"
)

// files makes empty files under a new folder.
func files(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range names {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
		require.NoError(t, os.WriteFile(path, nil, 0o666))
	}
	return root
}

func TestJobsFindImagesAndPlaces(t *testing.T) {
	root := files(t, "a.png", "b.JPG", "notes.txt", "deep/c.webp", "deep/er/d.tif", "out/old.png", "other/a.png", "same/a.jpg", "same/a.png")
	require.NoError(t, os.Symlink(filepath.Join(root, "deep"), filepath.Join(root, "link")))
	in := func(parts ...string) string { return filepath.Join(append([]string{root}, parts...)...) }
	for _, c := range []struct {
		name   string
		inputs []string
		out    string
		opt    FileOptions
		want   []Job
	}{
		{"file to file", []string{in("a.png")}, in("x.jpg"), FileOptions{}, []Job{{In: in("a.png"), Out: in("x.jpg")}}},
		{"file into a folder", []string{in("a.png")}, in("out"), FileOptions{}, []Job{{In: in("a.png"), Out: in("out", "a.png"), Folder: in("out")}}},
		{"file into a folder to come", []string{in("a.png")}, in("new") + "/", FileOptions{}, []Job{{In: in("a.png"), Out: in("new", "a.png"), Folder: in("new") + "/"}}},
		{"files into a folder to come", []string{in("a.png"), in("b.JPG")}, in("new"), FileOptions{},
			[]Job{{In: in("a.png"), Out: in("new", "a.png"), Folder: in("new")}, {In: in("b.JPG"), Out: in("new", "b.JPG"), Folder: in("new")}}},
		{"another format", []string{in("a.png"), in("b.JPG")}, in("new"), FileOptions{Format: imaging.JPEG},
			[]Job{{In: in("a.png"), Out: in("new", "a.jpg"), Folder: in("new")}, {In: in("b.JPG"), Out: in("new", "b.JPG"), Folder: in("new")}}},
		{"folder, without what is no image", []string{in("deep")}, in("new"), FileOptions{Format: imaging.TIFF}, []Job{
			{In: in("deep", "c.webp"), Out: in("new", "c.tiff"), Folder: in("new"), FromFolder: true},
			{In: in("deep", "er", "d.tif"), Out: in("new", "er", "d.tif"), Folder: in("new"), FromFolder: true}}},
		{"folder behind a link", []string{in("link")}, in("new"), FileOptions{}, []Job{
			{In: in("link", "c.webp"), Out: in("new", "c.webp"), Folder: in("new"), FromFolder: true},
			{In: in("link", "er", "d.tif"), Out: in("new", "er", "d.tif"), Folder: in("new"), FromFolder: true}}},
		{"output folder inside the input", []string{root}, in("out"), FileOptions{}, []Job{
			{In: in("a.png"), Out: in("out", "a.png"), Folder: in("out"), FromFolder: true},
			{In: in("b.JPG"), Out: in("out", "b.JPG"), Folder: in("out"), FromFolder: true},
			{In: in("deep", "c.webp"), Out: in("out", "deep", "c.webp"), Folder: in("out"), FromFolder: true},
			{In: in("deep", "er", "d.tif"), Out: in("out", "deep", "er", "d.tif"), Folder: in("out"), FromFolder: true},
			{In: in("other", "a.png"), Out: in("out", "other", "a.png"), Folder: in("out"), FromFolder: true},
			{In: in("same", "a.jpg"), Out: in("out", "same", "a.jpg"), Folder: in("out"), FromFolder: true},
			{In: in("same", "a.png"), Out: in("out", "same", "a.png"), Folder: in("out"), FromFolder: true}}},
		{"missing files fail in their turn", []string{in("gone.png"), in("a.png")}, in("new"), FileOptions{},
			[]Job{{In: in("gone.png"), Out: in("new", "gone.png"), Folder: in("new")}, {In: in("a.png"), Out: in("new", "a.png"), Folder: in("new")}}},
		{"several folders", []string{in("deep"), in("other"), in("out")}, in("new"), FileOptions{}, []Job{
			{In: in("deep", "c.webp"), Out: in("new", "c.webp"), Folder: in("new"), FromFolder: true},
			{In: in("deep", "er", "d.tif"), Out: in("new", "er", "d.tif"), Folder: in("new"), FromFolder: true},
			{In: in("other", "a.png"), Out: in("new", "a.png"), Folder: in("new"), FromFolder: true},
			{In: in("out", "old.png"), Out: in("new", "old.png"), Folder: in("new"), FromFolder: true}}},
		{"folders that would meet", []string{in("a.png"), in("other")}, in("new"), FileOptions{}, []Job{
			{In: in("a.png"), Out: in("new", filepath.Base(root), "a.png"), Folder: in("new")},
			{In: in("other", "a.png"), Out: in("new", "other", "a.png"), Folder: in("new"), FromFolder: true}}},
		{"camera files fail in their turn", []string{in("a.png"), in("x.heic")}, in("new"), FileOptions{}, []Job{
			{In: in("a.png"), Out: in("new", "a.png"), Folder: in("new")}, {In: in("x.heic"), Out: in("new", "x.png"), Folder: in("new")}}},
		{"formats that would meet", []string{in("same")}, in("new"), FileOptions{Format: imaging.PNG}, []Job{
			{In: in("same", "a.jpg"), Out: in("new", "a.jpg.png"), Folder: in("new"), FromFolder: true},
			{In: in("same", "a.png"), Out: in("new", "a.png"), Folder: in("new"), FromFolder: true}}},
		{"streams", []string{"-"}, "-", FileOptions{}, []Job{{In: "-", Out: "-"}}},
		{"stream to file", []string{"-"}, in("x.png"), FileOptions{}, []Job{{In: "-", Out: in("x.png")}}},
		{"file to stream", []string{in("a.png")}, "-", FileOptions{}, []Job{{In: in("a.png"), Out: "-"}}},
		{"unknown extension with a format", []string{in("a.png")}, in("x.raw"), FileOptions{Format: imaging.PNG}, []Job{{In: in("a.png"), Out: in("x.raw")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Jobs(c.inputs, c.out, c.opt)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestJobsThatWouldLoseFilesAreRefused(t *testing.T) {
	root := files(t, "a.png", "a.jpg", "other/a.png", "other/b.png", "a.compare.png", "plain")
	require.NoError(t, os.Link(filepath.Join(root, "a.png"), filepath.Join(root, "hard.png")))
	in := func(parts ...string) string { return filepath.Join(append([]string{root}, parts...)...) }
	for _, c := range []struct {
		name   string
		inputs []string
		out    string
		opt    FileOptions
		want   string
	}{
		{"no input", nil, "x.png", FileOptions{}, "no input given"},
		{"no output", []string{"x.png"}, "", FileOptions{}, "no output given"},
		{"unnamed input", []string{""}, "x.png", FileOptions{}, "an input without a name"},
		{"itself", []string{in("a.png")}, in("a.png"), FileOptions{}, "would replace the input"},
		{"itself by another way", []string{in("a.png")}, in("other", "..", "a.png"), FileOptions{}, "would replace the input"},
		{"itself by a link", []string{in("a.png")}, in("hard.png"), FileOptions{}, "would replace the input"},
		{"its own folder", []string{in("other")}, in("other"), FileOptions{}, "would replace the input"},
		{"another input", []string{in("a.jpg"), in("other")}, root, FileOptions{}, "would replace the input"},
		{"each other", []string{in("a.png"), in("a.png")}, in("new"), FileOptions{}, "would both be written to " + in("new", filepath.Base(root), "a.png")},
		{"a folder that is not there", []string{in("nowhere") + "/"}, in("new"), FileOptions{}, "no such folder"},
		{"a file that is not there", []string{in("nowhere")}, in("new"), FileOptions{}, in("nowhere") + ": no such file"},
		{"comparisons of both", []string{in("a.png"), in("a.jpg")}, in("new"), FileOptions{Compare: true}, "would both be written to " + in("new", "a.compare.png")},
		{"comparison and result", []string{in("a.png"), in("a.compare.png")}, in("new"), FileOptions{Compare: true}, "would both be written"},
		{"comparison over an input", []string{in("a.compare.png"), in("a.jpg")}, root, FileOptions{Format: imaging.TIFF, Compare: true}, "would replace the input"},
		{"file for a folder", []string{in("other")}, in("plain"), FileOptions{}, "is not a folder, which several results need"},
		{"file for several", []string{in("a.png"), in("a.jpg")}, in("plain"), FileOptions{}, "is not a folder"},
		{"folder to stream", []string{in("other")}, "-", FileOptions{}, "is a folder; standard output takes one image"},
		{"several to stream", []string{in("a.png"), in("a.jpg")}, "-", FileOptions{}, "standard output takes one image"},
		{"stream into a folder", []string{"-"}, in("other"), FileOptions{}, "standard input needs an output file"},
		{"unknown format", []string{in("a.png")}, in("x.raw"), FileOptions{}, `unknown image file extension ".raw"`},
		{"no format", []string{in("a.png")}, in("x"), FileOptions{}, "no file extension to take the image format from"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Jobs(c.inputs, c.out, c.opt)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// identity is a Restorer that restores nothing.
func identity(t *testing.T) *Restorer {
	m := oneExpert(t, models.NAFNetName, `{"width":2}`)
	f := &fake{compute: func(_ int, in, out []float32, _ graph.Shape) error { copy(out, in); return nil }}
	return restorer(t, m, f, Config{Lazy: true})
}

func encoded(t *testing.T, img *imaging.Image, f imaging.Format) []byte {
	var b bytes.Buffer
	require.NoError(t, imaging.Encode(&b, img, imaging.EncodeOptions{Format: f}))
	return b.Bytes()
}

func names(t *testing.T, dir string) (found []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		found = append(found, e.Name())
	}
	return found
}

func TestFilesAndStreamsCarryTheImage(t *testing.T) {
	r := identity(t)
	img := noise(t, 20, 10, 4, 16)
	dir := t.TempDir()
	path := filepath.Join(dir, "in.png")
	require.NoError(t, os.WriteFile(path, encoded(t, img, imaging.PNG), 0o666))
	opt := FileOptions{Options: Options{Override: only(0)}}
	ctx := context.Background()

	rep, err := r.File(ctx, Job{In: path, Out: filepath.Join(dir, "new", "deep", "out.tif")}, opt, nil, nil)
	require.NoError(t, err)
	require.Empty(t, rep.Losses)
	require.Positive(t, rep.Times.Decode)
	require.Positive(t, rep.Times.Run)
	out, err := imaging.DecodeFile(filepath.Join(dir, "new", "deep", "out.tif"), imaging.Limits{})
	require.NoError(t, err)
	require.Equal(t, imaging.TIFF, out.Meta.Format)
	require.Equal(t, img.Pix16, out.Pix16)

	var stdout bytes.Buffer
	rep, err = r.File(ctx, Job{In: Stream, Out: Stream}, opt, bytes.NewReader(encoded(t, img, imaging.TIFF)), &stdout)
	require.NoError(t, err)
	require.Empty(t, rep.Losses)
	out, err = imaging.Decode(&stdout, imaging.Limits{})
	require.NoError(t, err)
	require.Equal(t, imaging.TIFF, out.Meta.Format, "the format of the input")
	require.Equal(t, img.Pix16, out.Pix16)

	opt.Compare = true
	rep, err = r.File(ctx, Job{In: path, Out: filepath.Join(dir, "out.jpg")}, opt, nil, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"transparency (flattened on white)", "16-bit depth (rounded to 8)"}, rep.Losses)
	require.Equal(t, []string{"in.png", "new", "out.compare.png", "out.jpg"}, names(t, dir))
	both, err := imaging.DecodeFile(filepath.Join(dir, "out.compare.png"), imaging.Limits{})
	require.NoError(t, err)
	require.Greater(t, both.W, 2*img.W)
}

func TestFailedAndCancelledJobsLeaveNoFile(t *testing.T) {
	r := identity(t)
	dir := t.TempDir()
	whole := encoded(t, noise(t, 20, 10, 3, 8), imaging.PNG)
	good, short := filepath.Join(dir, "good.png"), filepath.Join(dir, "short.png")
	require.NoError(t, os.WriteFile(good, whole, 0o666))
	require.NoError(t, os.WriteFile(short, whole[:len(whole)/2], 0o666))
	opt := FileOptions{Options: Options{Override: only(0)}}
	out := filepath.Join(dir, "out", "x.png")
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		ctx  context.Context
		in   string
		opt  FileOptions
		want string
	}{
		{context.Background(), short, FileOptions{Options: opt.Options, Limits: imaging.Limits{Strict: true}}, "restore: " + short},
		{context.Background(), filepath.Join(dir, "gone.png"), opt, "no such file"},
		{context.Background(), good, FileOptions{Options: Options{Override: only(9)}}, "expert 9: the pool has 0 to 0"},
		{context.Background(), good, FileOptions{Options: opt.Options, Limits: imaging.Limits{MaxPixels: 10}}, "too large"},
		{cancelled, good, opt, "context canceled"},
	} {
		_, err := r.File(c.ctx, Job{In: c.in, Out: out}, c.opt, strings.NewReader(""), nil)
		require.ErrorContains(t, err, c.want)
		require.ErrorContains(t, err, c.in+": ")
		require.Equal(t, 1, strings.Count(err.Error(), c.in), "the file is named once")
		require.Equal(t, []string{"good.png", "short.png"}, names(t, dir))
	}
}

// TestFilesOfSeveralPictures restores pages, chooses one, and says what a format does not hold.
func TestFilesOfSeveralPictures(t *testing.T) {
	m := tinyModel(t)
	r := restorer(t, m, expertstest.CPU(t), Config{})
	dir := t.TempDir()
	pages := filepath.Join(dir, "pages.tif")
	seq := imaging.NewSequence(imaging.EncodeOptions{Format: imaging.TIFF}, 0)
	for n := range 3 {
		require.NoError(t, seq.Add(noise(t, 24+8*n, 16, 3, 8), imaging.Timing{}))
	}
	var b bytes.Buffer
	_, err := seq.WriteTo(&b)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(pages, b.Bytes(), 0o666))
	run := func(out string, page int) (Report, []byte, error) {
		out = filepath.Join(dir, out)
		rep, err := r.File(t.Context(), Job{In: pages, Out: out}, FileOptions{Options: Options{Override: only(7)}, Page: page}, nil, nil)
		data, _ := os.ReadFile(out)
		return rep, data, err
	}
	rep, data, err := run("all.tif", PageAuto)
	require.NoError(t, err)
	require.Equal(t, 3, rep.Pictures)
	p, err := imaging.Open(data, imaging.Limits{})
	require.NoError(t, err)
	require.Equal(t, 3, p.Count)
	for n := range 3 {
		img, _, err := p.Next()
		require.NoError(t, err)
		require.Equal(t, 24+8*n, img.W)
	}

	rep, _, err = run("first.png", PageAuto)
	require.NoError(t, err)
	require.Contains(t, rep.Notes[len(rep.Notes)-1], "picture 1 of 3, since png holds one")
	rep, data, err = run("second.png", 2)
	require.NoError(t, err)
	img, err := imaging.Decode(bytes.NewReader(data), imaging.Limits{})
	require.NoError(t, err)
	require.Equal(t, 32, img.W)
	require.Equal(t, 32, rep.Width)
	_, _, err = run("x.png", AllPages)
	require.ErrorContains(t, err, "3 pictures do not go into one png file")
	_, _, err = run("y.png", 4)
	require.ErrorContains(t, err, "page 4 was asked for, but there are 3")
}

// TestDamageAndSizeAreSaid covers what is known before the network runs, and what it runs on all the same.
func TestDamageAndSizeAreSaid(t *testing.T) {
	m := tinyModel(t)
	r := restorer(t, m, expertstest.CPU(t), Config{})
	dir := t.TempDir()
	wide := filepath.Join(dir, "wide.png")
	require.NoError(t, imaging.EncodeFile(t.Context(), wide, noise(t, 17000, 1, 3, 8), imaging.EncodeOptions{}))
	opt := FileOptions{Options: Options{Override: only(7)}}
	opt.Progress = func(float64) { t.Error("the network ran") }
	_, err := r.File(t.Context(), Job{In: wide, Out: filepath.Join(dir, "wide.webp")}, opt, nil, nil)
	require.ErrorContains(t, err, "16383 a side")
	opt.Progress = nil

	whole := filepath.Join(dir, "whole.jpg")
	require.NoError(t, imaging.EncodeFile(t.Context(), whole, noise(t, 40, 40, 3, 8), imaging.EncodeOptions{}))
	data, err := os.ReadFile(whole)
	require.NoError(t, err)
	cut := filepath.Join(dir, "cut.jpg")
	require.NoError(t, os.WriteFile(cut, data[:len(data)*2/3], 0o666))
	rep, err := r.File(t.Context(), Job{In: cut, Out: filepath.Join(dir, "out.png")}, opt, nil, nil)
	require.NoError(t, err)
	require.Len(t, rep.Warnings, 1)
	require.Contains(t, rep.Warnings[0], "truncated or damaged: rows from ")
	opt.Limits.Strict = true
	_, err = r.File(t.Context(), Job{In: cut, Out: filepath.Join(dir, "strict.png")}, opt, nil, nil)
	require.ErrorIs(t, err, imaging.ErrDamaged)
}
