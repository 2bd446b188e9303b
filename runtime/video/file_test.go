package video

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer"
)

func restorer(t *testing.T) *unirestorer.Restorer {
	t.Helper()
	r, err := unirestorer.Open(context.Background(), unirestorer.WithLazyEstimator())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// clipOf is a YUV4MPEG2 stream of two scenes: a pan over one world, and after half of the frames over another.
func clipOf(t *testing.T, f Format, frames int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := newWriter(&b, f)
	one, two := scenery(1, 128, 50), scenery(2, 90, 60)
	for n := range frames {
		frame := &Frame{Data: make([]byte, f.frameBytes())}
		for k, p := range f.planes()[:len(f.planes())-1] {
			cw, _ := f.chromaSize()
			width := map[bool]int{true: f.Width, false: cw}[k == 0]
			for i := p; i < f.planes()[k+1]; i++ {
				world := one
				if n >= (frames+1)/2 {
					world = two
				}
				v := world(float64((i-p)%width+n), float64((i-p)/width+40*k))
				f.add(frame.Data, i, float32(v*float64(int(1)<<(f.Depth-8))))
			}
		}
		require.NoError(t, w.write(frame))
	}
	return b.Bytes()
}

func small(c Chroma, depth int) Format {
	f := Format{Width: 40, Height: 24, Chroma: c, Depth: depth, Rate: Ratio{25, 1}, Aspect: Ratio{1, 1}, Interlacing: 'p'}
	f.Matrix, _ = matrixOf("", f.Width, f.Height)
	return f
}

func TestPixelsAreThoseOfRestore(t *testing.T) {
	r := restorer(t)
	ctx := context.Background()
	half := unirestorer.WithStrength(0.5)
	for _, f := range []Format{small(chroma444, 8), small(chromaMono, 8), small(chroma420, 10)} {
		in := clipOf(t, f, 3)
		var out bytes.Buffer
		rep, err := pipe(ctx, r, bytes.NewReader(in), &out, Options{
			Route: []unirestorer.CallOption{unirestorer.WithExpert(9)}, Picture: []unirestorer.CallOption{half}, Hysteresis: -1,
		})
		require.NoError(t, err)
		require.EqualValues(t, 3, rep.Frames)
		a, err := newReader(bytes.NewReader(in))
		require.NoError(t, err)
		b, err := newReader(&out)
		require.NoError(t, err)
		var before, after Frame
		for range 3 {
			require.NoError(t, a.Next(&before))
			require.NoError(t, b.Next(&after))
			p := f.picture(&before)
			want, err := r.Restore(ctx, p, unirestorer.WithExpert(9), half)
			require.NoError(t, err)
			require.Equal(t, f.changed(&before, p, want.Image.(*unirestorer.Picture)).Data, after.Data)
			require.NotEqual(t, before.Data, after.Data)
		}
		require.Equal(t, io.EOF, b.Next(&after))
	}
}

func TestOneRouteHoldsForAScene(t *testing.T) {
	r := restorer(t)
	in := clipOf(t, small(chroma420, 8), 14)
	var out bytes.Buffer
	rep, err := pipe(context.Background(), r, bytes.NewReader(in), &out, Options{Hysteresis: -1, every: 2})
	require.NoError(t, err)
	require.Equal(t, []int64{0, 7}, []int64{rep.Scenes[0].First, rep.Scenes[1].First})
	require.NotNil(t, rep.Consistency)
	require.Equal(t, 6, rep.Consistency.Pairs, "every one of them, and across a cut nothing is compared")
	// Each frame is what restore makes of it with the scene's expert.
	d, err := newReader(bytes.NewReader(in))
	require.NoError(t, err)
	e, err := newReader(&out)
	require.NoError(t, err)
	f := d.Format()
	var before, after Frame
	for n := range 14 {
		require.NoError(t, d.Next(&before))
		require.NoError(t, e.Next(&after))
		if n%5 != 1 {
			continue
		}
		p := f.picture(&before)
		want, err := r.Restore(context.Background(), p, unirestorer.WithExpert(rep.Scenes[n/7].Expert))
		require.NoError(t, err)
		require.Equal(t, f.changed(&before, p, want.Image.(*unirestorer.Picture)).Data, after.Data)
	}
}

// interrupted restores a clip with a run that ends after some frames, until one runs through.
func interrupted(t *testing.T, r *unirestorer.Restorer, in, out string, after int64, o Options) (runs int, rep *Report) {
	t.Helper()
	for {
		runs++
		ctx, cancel := context.WithCancel(context.Background())
		start := int64(-1)
		o.Progress = func(p Progress) {
			if start < 0 {
				start = p.Done
			}
			if p.Done-start+1 >= after {
				cancel()
			}
		}
		rep, err := File(ctx, r, in, out, nil, nil, o)
		cancel()
		if err == nil {
			return runs, rep
		}
		require.ErrorIs(t, err, context.Canceled)
		require.NoFileExists(t, out)
		require.Less(t, runs, 20)
	}
}

func TestInterruptedRunsGiveTheSameFile(t *testing.T) {
	r := restorer(t)
	dir := t.TempDir()
	in := filepath.Join(dir, "in.y4m")
	require.NoError(t, os.WriteFile(in, clipOf(t, small(chroma420, 8), 16), 0o666))
	o := Options{Route: []unirestorer.CallOption{unirestorer.WithExpert(7)}, Settings: "x", Hysteresis: -1, every: 2}
	whole, pieces := filepath.Join(dir, "whole.y4m"), filepath.Join(dir, "pieces.y4m")
	first, err := File(context.Background(), r, in, whole, nil, nil, o)
	require.NoError(t, err)
	runs, rep := interrupted(t, r, in, pieces, 4, o)
	require.GreaterOrEqual(t, runs, 2)
	a, err := os.ReadFile(whole)
	require.NoError(t, err)
	b, err := os.ReadFile(pieces)
	require.NoError(t, err)
	require.True(t, bytes.Equal(a, b))
	require.Positive(t, rep.Resumed)
	require.Equal(t, len(first.Scenes), len(rep.Scenes))
	require.Equal(t, first.Consistency, rep.Consistency, "what was measured is kept too")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 3, "nothing else is left")
}

func TestAnUnfinishedRunIsNotTakenForAnother(t *testing.T) {
	r := restorer(t)
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.y4m"), filepath.Join(dir, "out.y4m")
	require.NoError(t, os.WriteFile(in, clipOf(t, small(chroma420, 8), 12), 0o666))
	o := Options{Route: []unirestorer.CallOption{unirestorer.WithExpert(7)}, Settings: "one", Hysteresis: -1}
	ctx, cancel := context.WithCancel(context.Background())
	o.Progress = func(p Progress) { cancel() }
	_, err := File(ctx, r, in, out, nil, nil, o)
	require.ErrorIs(t, err, context.Canceled)
	o.Progress = nil
	other := o
	other.Settings = "two"
	_, err = File(context.Background(), r, in, out, nil, nil, other)
	require.ErrorIs(t, err, errOther)
	require.ErrorContains(t, err, "--restart")
	// What a killed run left half written is dropped: of the frames, and of the account.
	for _, name := range []string{"frames.y4m", "frames.log"} {
		f, err := os.OpenFile(filepath.Join(folderOf(out), name), os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteString("FRAME\nhalf a")
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	rep, err := File(context.Background(), r, in, out, nil, nil, o)
	require.NoError(t, err)
	require.EqualValues(t, 12, rep.Frames)
	again := filepath.Join(dir, "again.y4m")
	_, err = File(context.Background(), r, in, again, nil, nil, o)
	require.NoError(t, err)
	a, _ := os.ReadFile(out)
	b, _ := os.ReadFile(again)
	require.True(t, bytes.Equal(a, b))
}

func TestAnAccountThatCannotBeKeptLeavesNothing(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.y4m")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := openJournal(ctx, out, "one", false)
	require.ErrorIs(t, err, context.Canceled)
	require.NoDirExists(t, folderOf(out))

	require.NoError(t, os.MkdirAll(folderOf(out), 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(folderOf(out), "journal.json"), []byte(`{"Version"`), 0o666))
	_, err = openJournal(t.Context(), out, "one", false)
	require.ErrorContains(t, err, "--restart")
}

func TestClipsThatCannotBeRestoredAreNamed(t *testing.T) {
	r := restorer(t)
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o666))
		return path
	}
	ok := write("ok.y4m", string(clipOf(t, small(chromaMono, 8), 2)))
	for _, c := range []struct{ in, out, want string }{
		{filepath.Join(dir, "gone.y4m"), "x.y4m", "no such file"},
		{write("empty.y4m", ""), "x.y4m", "nothing in it"},
		{write("header.y4m", "YUV4MPEG2 W4 H4\n"), "x.y4m", "no frames"},
		{write("noise.y4m", "hello\n"), "x.y4m", "want YUV4MPEG2"},
		{ok, "ok.y4m", "would replace the clip"},
		{ok, "x", "no file extension"},
	} {
		_, err := File(context.Background(), r, c.in, filepath.Join(dir, c.out), nil, nil, Options{})
		require.ErrorContains(t, err, c.want, c.in)
		require.NoFileExists(t, filepath.Join(dir, "x.y4m"))
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*unfinished"))
	require.NoError(t, err)
	require.Empty(t, left, "where no frame was done, nothing is kept")
	whole := clipOf(t, small(chromaMono, 8), 3)
	cut := write("cut.y4m", string(whole[:len(whole)-5]))
	rep, err := File(context.Background(), r, cut, filepath.Join(dir, "y.y4m"), nil, nil, Options{NoMeasure: true})
	require.NoError(t, err)
	require.EqualValues(t, 2, rep.Frames)
	require.Contains(t, strings.Join(rep.Notes, " "), "cut off")
	t.Setenv("PATH", dir)
	_, err = File(context.Background(), r, ok, filepath.Join(dir, "x.mp4"), nil, nil, Options{})
	require.ErrorIs(t, err, errNoFFmpeg)
	require.ErrorContains(t, err, "y4m")
}

// needFFmpeg skips where there is none.
func needFFmpeg(t *testing.T) {
	t.Helper()
	for _, name := range []string{"ffmpeg", "ffprobe"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip("needs ffmpeg and ffprobe, which are not installed")
		}
	}
}

func ffmpeg(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.Command("ffmpeg", append([]string{"-v", "error", "-nostdin", "-y"}, args...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// facts are what ffprobe says of a file that must not change.
func facts(t *testing.T, path string) (all map[string]any) {
	t.Helper()
	text, err := exec.Command("ffprobe", "-v", "error", "-of", "json", "-show_chapters", "-show_entries",
		"stream=index,codec_type,width,height,pix_fmt,color_range,color_space,color_transfer,color_primaries,start_pts,time_base,nb_frames,sample_aspect_ratio:stream_tags=language:"+
			"stream_disposition=default:format_tags=title:frame=media_type,pts,best_effort_timestamp", path).Output()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &all))
	video := []any{}
	for _, f := range all["frames"].([]any) {
		if m := f.(map[string]any); m["media_type"] == "video" {
			video = append(video, m["best_effort_timestamp"])
		}
	}
	all["frames"] = video
	for _, s := range all["streams"].([]any) {
		if m := s.(map[string]any); m["codec_type"] == "subtitle" {
			delete(m, "nb_frames") // empty ones between texts come and go
		}
	}
	return all
}

func TestFilesKeepAllButThePixels(t *testing.T) {
	needFFmpeg(t)
	if testing.Short() {
		t.Skip("encodes a clip")
	}
	r := restorer(t)
	dir := t.TempDir()
	in, subs := filepath.Join(dir, "in.mp4"), filepath.Join(dir, "subs.srt")
	meta := filepath.Join(dir, "meta.txt")
	require.NoError(t, os.WriteFile(subs, []byte("1\n00:00:00,200 --> 00:00:01,000\nhello\n"), 0o666))
	require.NoError(t, os.WriteFile(meta, []byte(";FFMETADATA1\ntitle=Clip\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=one\n"), 0o666))
	// Frames come at times of their own, with a hole; 26 frames are more than two segments.
	ffmpeg(t, "-f", "lavfi", "-i", "testsrc2=s=34x26:r=30:d=1.2", "-f", "lavfi", "-i", "sine=440:d=1.2", "-i", subs, "-i", meta,
		"-map", "0", "-map", "1", "-map", "2", "-map_metadata", "3", "-map_chapters", "3",
		"-vf", "select='not(eq(mod(n,7),3))*not(between(n,12,16))',settb=1/90000", "-frames:v", "26", "-fps_mode", "passthrough", "-enc_time_base", "1:90000", "-video_track_timescale", "90000",
		"-c:v", "libx264", "-c:a", "aac", "-c:s", "mov_text", "-metadata:s:a:0", "language=deu", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv", in)
	o := Options{Route: []unirestorer.CallOption{unirestorer.WithExpert(7)}, Hysteresis: -1, NoMeasure: true, segment: 10, Encoder: Encoder{Preset: "ultrafast"}}
	whole, pieces := filepath.Join(dir, "whole.mp4"), filepath.Join(dir, "pieces.mp4")
	rep, err := File(context.Background(), r, in, whole, nil, nil, o)
	require.NoError(t, err)
	require.EqualValues(t, 26, rep.Frames)
	before, after := facts(t, in), facts(t, whole)
	require.Len(t, before["frames"], 26)
	require.Equal(t, before, after)

	runs, _ := interrupted(t, r, in, pieces, 7, o)
	require.GreaterOrEqual(t, runs, 3)
	a, _ := os.ReadFile(whole)
	b, _ := os.ReadFile(pieces)
	require.True(t, bytes.Equal(a, b), "interrupted %d times", runs-1)
}

func TestEveryKindOfFileIsWrittenWithItsSound(t *testing.T) {
	needFFmpeg(t)
	if testing.Short() {
		t.Skip("encodes clips")
	}
	r := restorer(t)
	dir := t.TempDir()
	in := filepath.Join(dir, "in.mkv")
	ffmpeg(t, "-f", "lavfi", "-i", "testsrc2=s=34x26:r=25:d=0.2", "-f", "lavfi", "-i", "sine=440:d=0.2", "-c:v", "ffv1", "-c:a", "aac", in)
	for ext, want := range map[string]string{"mp4": "h264,aac", "m4v": "h264,aac", "mov": "h264,aac", "mkv": "ffv1,aac", "webm": "vp9,opus", "ts": "h264,aac", "nut": "ffv1,aac"} {
		video, audio, _ := strings.Cut(want, ",")
		o := Options{Route: []unirestorer.CallOption{unirestorer.WithExpert(7)}, NoMeasure: true, Encoder: Encoder{
			Codec: map[string]string{"h264": "libx264", "vp9": "libvpx-vp9", "ffv1": ""}[video], Audio: map[string]string{"opus": "libopus"}[audio]}}
		out := filepath.Join(dir, "out."+ext)
		rep, err := File(context.Background(), r, in, out, nil, nil, o)
		require.NoError(t, err, ext)
		require.EqualValues(t, 5, rep.Frames, ext)
		text, err := exec.Command("ffprobe", "-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", out).Output()
		require.NoError(t, err)
		require.Contains(t, strings.Join(strings.Fields(string(text)), ","), want, ext)
	}
}

func TestSoundThatDoesNotFitIsFoundBeforeTheFirstFrame(t *testing.T) {
	needFFmpeg(t)
	if testing.Short() {
		t.Skip("encodes clips")
	}
	r := restorer(t)
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.mkv"), filepath.Join(dir, "out.webm")
	ffmpeg(t, "-f", "lavfi", "-i", "testsrc2=s=34x26:r=25:d=0.2", "-f", "lavfi", "-i", "sine=440:d=0.2", "-c:v", "ffv1", "-c:a", "aac", in)
	frames := 0
	o := Options{Route: []unirestorer.CallOption{unirestorer.WithExpert(7)}, NoMeasure: true, Progress: func(Progress) { frames++ }}
	for _, audio := range []string{"", "copy", "nosuchencoder"} {
		o.Encoder.Audio = audio
		_, err := File(context.Background(), r, in, out, nil, nil, o)
		require.ErrorContains(t, err, "--audio-codec")
		require.Zero(t, frames)
		require.NoDirExists(t, folderOf(out))
	}

	// Frames that are there are kept where the sound is to be encoded in another way.
	ctx, cancel := context.WithCancel(context.Background())
	o.Encoder.Audio = "libvorbis"
	o.Progress = func(Progress) { cancel() }
	_, err := File(ctx, r, in, out, nil, nil, o)
	require.ErrorIs(t, err, context.Canceled)
	o.Encoder.Audio, o.Progress = "libopus", nil
	rep, err := File(context.Background(), r, in, out, nil, nil, o)
	require.NoError(t, err)
	require.Positive(t, rep.Resumed)
	require.EqualValues(t, 5, rep.Frames)
}

func TestHDRIsRefusedOrMappedByName(t *testing.T) {
	for _, c := range []struct{ transfer, tonemap, want string }{
		{"smpte2084", "", "HDR (PQ)"}, {"arib-std-b67", "", "HDR (HLG)"}, {"smpte2084", "magic", "want one of hable"}, {"smpte2084", "hable", ""}, {"bt709", "", ""},
	} {
		_, _, filter, err := taken(&stream1{PixFmt: "yuv420p10le", Transfer: c.transfer, Space: "bt2020nc", Width: 64, Height: 64}, c.tonemap)
		if c.want != "" {
			require.ErrorContains(t, err, c.want)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.tonemap != "", strings.Contains(filter, "tonemap="+c.tonemap))
	}
	_, _, _, err := taken(&stream1{PixFmt: "yuv420p", Space: "ictcp", Width: 64, Height: 64}, "")
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

func TestFormatsOfFFmpegAreTakenAsTheyAre(t *testing.T) {
	for name, want := range map[string]struct {
		as     string
		chroma Chroma
		depth  int
		full   bool
		notes  int
	}{
		"yuv420p": {"yuv420p", chroma420, 8, false, 0}, "yuvj420p": {"yuvj420p", chroma420, 8, true, 0}, "nv12": {"yuv420p", chroma420, 8, false, 0},
		"p010le": {"yuv420p10le", chroma420, 10, false, 0}, "yuv422p10le": {"yuv422p10le", chroma422, 10, false, 0}, "yuv444p12le": {"yuv444p12le", chroma444, 12, false, 0},
		"yuva444p10le": {"yuv444p10le", chroma444, 10, false, 1}, "gray": {"gray", chromaMono, 8, false, 0}, "gray12le": {"gray12le", chromaMono, 12, false, 0}, "rgb24": {"gbrp", chromaRGB, 8, false, 0},
		"bgra": {"gbrp", chromaRGB, 8, false, 1}, "gbrp10le": {"gbrp10le", chromaRGB, 10, false, 0}, "rgb48le": {"gbrp16le", chromaRGB, 16, false, 0}, "xyz12le": {"yuv444p", chroma444, 8, false, 1}, "yuv411p": {"yuv411p", chroma411, 8, false, 0},
	} {
		p, notes, err := pixelsOf(&stream1{PixFmt: name, Width: 64, Height: 64})
		require.NoError(t, err, name)
		require.Equal(t, []any{want.as, want.chroma, want.depth, want.full, want.notes}, []any{p.name, p.f.Chroma, p.f.Depth, p.f.FullRange, len(notes)}, name)
	}
}

func TestTimesAreCarriedExactly(t *testing.T) {
	pts := []int64{-5, 0, 1001, 90000, 123456789012345}
	text := choose(pts, 0)
	for n, want := range pts {
		require.Equal(t, fmt.Sprint(want), chosen(text, n))
	}
	require.EqualValues(t, 33367, micro(1001, Ratio{1, 30000}))
	require.EqualValues(t, -33367, micro(-1001, Ratio{1, 30000}))
	require.EqualValues(t, 1_000_000_000_000_000, micro(9e13, Ratio{1, 90000}))
	require.Equal(t, "-0.033367", seconds(-33367))
	require.Equal(t, "12.000001", seconds(12_000_001))
	line, ok := frameLine("0,          1,       1024,        1,    75000, 0x4f1a7f9b")
	require.True(t, ok)
	require.Equal(t, frameTime{1024, 75000}, line)
	for _, bad := range []string{"", "#tb 0: 1/25", "[h264 @ 0x55] error, at, 0x1, 2, 3, 4", "0, 1, x, 1, 5, 0x0"} {
		_, ok := frameLine(bad)
		require.False(t, ok, bad)
	}
}

// chosen evaluates an expression as ffmpeg does.
func chosen(text string, n int) string {
	rest, ok := strings.CutPrefix(text, "if(lt(N,")
	if !ok {
		return text
	}
	number, rest, _ := strings.Cut(rest, "),")
	var limit int
	fmt.Sscan(number, &limit)
	rest = strings.TrimSuffix(rest, ")")
	depth := 0
	i := slices.IndexFunc([]rune(rest), func(r rune) bool {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		}
		return r == ',' && depth == 0
	})
	if n < limit {
		return chosen(rest[:i], n)
	}
	return chosen(rest[i+1:], n)
}

func FuzzJournal(f *testing.F) {
	f.Add(encodeRecord(5, measure{1, 2, 3, 4, 5}))
	f.Add([]byte("nothing"))
	f.Fuzz(func(t *testing.T, b []byte) {
		pts, m, ok := decodeRecord(b)
		if ok {
			require.Equal(t, b[:recordBytes], encodeRecord(pts, m))
		}
	})
}
