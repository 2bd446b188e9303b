package video

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"unirestorer"
	"unirestorer/runtime/folders"
	"unirestorer/weights/atomicfile"
)

// standard in the place of a name means standard input or output.
const standard = unirestorer.Stream

// pipe restores the YUV4MPEG2 stream that in holds and writes one to out, frame by frame.
func pipe(ctx context.Context, r *unirestorer.Restorer, in io.Reader, out io.Writer, o Options) (*Report, error) {
	src, err := newReader(in)
	if err != nil {
		return nil, fmt.Errorf("restore standard input: %w", err)
	}
	f := src.Format()
	w := newWriter(out, f)
	rep := &Report{In: standard, Out: standard}
	v := &run{r: r, o: o.defaults(), src: src, dst: &stream{w}, report: rep, keep: func([]Scene) error { return nil }}
	if err := w.begin(); err != nil { // those behind the pipe learn the format before the first frame
		return nil, err
	}
	return rep, v.whole(ctx, nil)
}

func (o Options) defaults() *Options {
	if o.Cut == 0 {
		o.Cut = DefaultCut
	}
	if o.Hysteresis < 0 {
		o.Hysteresis = DefaultHysteresis
	}
	if o.every == 0 {
		o.every = measureEvery
	}
	return &o
}

// whole runs over the clip, opening the clean one first, and fills the report.
func (v *run) whole(ctx context.Context, finish func(context.Context) error) (err error) {
	f := v.src.Format()
	v.report.Width, v.report.Height, v.report.Device = f.Width, f.Height, v.r.Device()
	v.r.SetAside(held(&f))
	if v.o.Reference != "" && !v.o.NoMeasure {
		ref, err := open(ctx, v.o.Reference, "")
		if err != nil {
			return fmt.Errorf("--reference %s: %w", v.o.Reference, err)
		}
		defer ref.close()
		v.ref = ref
		if g := ref.Format(); g.Width != f.Width || g.Height != f.Height {
			return fmt.Errorf("--reference %s: frames of %d×%d, the clip's have %d×%d", v.o.Reference, g.Width, g.Height, f.Width, f.Height)
		}
	}
	if err := v.frames(ctx); err != nil {
		return fmt.Errorf("restore %s: %w", v.report.In, err)
	}
	v.report.finish(v)
	if finish == nil {
		return nil
	}
	if err := finish(ctx); err != nil {
		return fmt.Errorf("write %s: %w", v.report.Out, err)
	}
	return nil
}

// clip is a source that is closed.
type clip interface {
	source
	close() error
}

type y4mClip struct {
	*reader
	f *os.File
}

func (c *y4mClip) close() error { return c.f.Close() }

func isY4M(path string) bool { return strings.EqualFold(filepath.Ext(path), ".y4m") }

// open opens a clip: YUV4MPEG2 by itself, others through ffmpeg.
func open(ctx context.Context, path, tonemap string) (clip, error) {
	if isY4M(path) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		r, err := newReader(f)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return &y4mClip{r, f}, nil
	}
	_, s, err := look(ctx, path)
	if err != nil {
		return nil, err
	}
	px, _, filter, err := taken(s, tonemap)
	if err != nil {
		return nil, err
	}
	return decode(ctx, path, s, px, filter)
}

// look finds the stream to restore.
func look(ctx context.Context, path string) (*probed, *stream1, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, nil, err
	} else if info.IsDir() {
		return nil, nil, errors.New("is a folder; clips are restored one by one")
	}
	p, err := probe(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	s, err := p.main()
	return p, s, err
}

// tonemaps are the curves that ffmpeg's tonemap filter knows.
var tonemaps = []string{"hable", "mobius", "reinhard", "clip", "gamma", "linear"}

// taken is how the frames of a stream are taken from ffmpeg.
func taken(s *stream1, tonemap string) (px pixels, notes []string, filter string, err error) {
	if kind := s.hdr(); kind != "" {
		if tonemap == "" {
			return px, nil, "", fmt.Errorf("it is HDR (%s), which the experts do not know; --tonemap hable makes it SDR (%s)", kind, strings.Join(tonemaps, ", "))
		}
		if !slices.Contains(tonemaps, tonemap) {
			return px, nil, "", fmt.Errorf("--tonemap %q: want one of %s", tonemap, strings.Join(tonemaps, ", "))
		}
		c := *s
		c.PixFmt, c.Space, c.Transfer, c.Primaries, c.Range = "yuv420p10le", "bt709", "bt709", "bt709", "tv"
		if s.Range == "pc" {
			c.Range = "tv"
		}
		px, notes, err = pixelsOf(&c)
		filter = "zscale=transfer=linear:npl=100,format=gbrpf32le,zscale=primaries=bt709,tonemap=" + tonemap + ":desat=0,zscale=transfer=bt709:matrix=bt709:range=limited,format=" + px.name
		return px, append(notes, fmt.Sprintf("HDR (%s) became SDR by the curve %s", kind, tonemap)), filter, err
	}
	px, notes, err = pixelsOf(s)
	if err != nil {
		err = fmt.Errorf("%w; convert the clip first, as by ffmpeg -vf zscale=matrix=709", err)
	}
	return px, notes, "", err
}

// File restores the clip in and writes the result to out. A name that ends in .y4m means YUV4MPEG2; all else goes through
// ffmpeg, with sound, subtitles, chapters, metadata and times of presentation carried over. out appears when it is whole. A
// run that was interrupted is continued by the next one with the same options, and gives the same file.
//
// in or out may be standard, which is YUV4MPEG2; what stdin gives cannot be continued.
func File(ctx context.Context, r *unirestorer.Restorer, in, out string, stdin io.Reader, stdout io.Writer, o Options) (rep *Report, err error) {
	switch {
	case in == standard && out == standard:
		return pipe(ctx, r, stdin, stdout, o)
	case out == "":
		return nil, errors.New("no output given")
	}
	if out != standard {
		if err := apart(in, out); err != nil {
			return nil, err
		}
		claim, err := folders.TakeClaim(out)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", out, err)
		}
		defer claim.Release()
	}
	f := &file{in: in, out: out, o: o.defaults(), rep: &Report{In: in, Out: out}}
	if err := f.openSource(ctx, stdin); err != nil {
		return nil, fmt.Errorf("restore %s: %w", in, err)
	}
	defer func() { err = errors.Join(err, f.src.close()) }()
	if out == standard {
		format := f.src.Format()
		f.singleRate()
		v := &run{r: r, o: f.o, src: f.src, dst: &stream{newWriter(stdout, format)}, report: f.rep, keep: func([]Scene) error { return nil }}
		return f.rep, v.whole(ctx, nil)
	}
	return f.rep, f.keptRun(ctx, r)
}

// apart refuses a result in the place of its clip.
func apart(in, out string) error {
	if filepath.Ext(out) == "" {
		return fmt.Errorf("%s: no file extension to take the kind of file from, as .mp4, .mkv or .y4m", out)
	}
	a, errA := os.Stat(in)
	b, errB := os.Stat(out)
	if errA == nil && errB == nil && os.SameFile(a, b) {
		return fmt.Errorf("%s would replace the clip it is made of", out)
	}
	if errB == nil && b.IsDir() {
		return fmt.Errorf("%s is a folder; name a file", out)
	}
	return nil
}

// file is a clip on its way to a result.
type file struct {
	in, out string
	o       *Options
	rep     *Report
	src     clip
	probed  *probed  // nil for YUV4MPEG2
	stream  *stream1 // the stream that is restored
	pixels  pixels
}

type stdinClip struct{ *reader }

func (stdinClip) close() error { return nil }

func (f *file) openSource(ctx context.Context, stdin io.Reader) (err error) {
	if f.in == standard {
		d, err := newReader(stdin)
		if err != nil {
			return err
		}
		f.src = stdinClip{d}
		return nil
	}
	if isY4M(f.in) {
		f.src, err = open(ctx, f.in, "")
		if info, e := os.Stat(f.in); err == nil && e == nil {
			format := f.src.Format()
			f.o.total = info.Size() / int64(format.frameBytes()+len(frameMagic)+1)
		}
		return err
	}
	if f.probed, f.stream, err = look(ctx, f.in); err != nil {
		return err
	}
	var notes []string
	var filter string
	if f.pixels, notes, filter, err = taken(f.stream, f.o.Tonemap); err != nil {
		return err
	}
	for _, n := range notes {
		f.rep.remark(f.o.Say, n, n)
	}
	f.o.total = f.probed.total(f.stream)
	f.src, err = decode(ctx, f.in, f.stream, f.pixels, filter)
	return err
}

// singleRate says what a stream of YUV4MPEG2 does not hold of a file.
func (f *file) singleRate() {
	if f.stream == nil {
		return
	}
	if r, a := ratioOf(f.stream.RealRate), ratioOf(f.stream.AvgRate); r != a {
		f.rep.remark(f.o.Say, "rate", "y4m holds one frame rate: frames that came at times of their own come evenly")
	}
	if len(f.probed.Streams) > 1 {
		f.rep.remark(f.o.Say, "sound", "y4m holds no sound and no subtitles")
	}
}

// keptRun restores into a journal and makes the result of it.
func (f *file) keptRun(ctx context.Context, r *unirestorer.Restorer) (err error) {
	// What the encoder cannot do is found out before the first frame.
	var code *coding
	if !isY4M(f.out) {
		if code, err = f.coding(ctx); err != nil {
			return fmt.Errorf("write %s: %w", f.out, err)
		}
		if err := f.soundFits(ctx); err != nil {
			return fmt.Errorf("write %s: %w", f.out, err)
		}
	} else {
		f.singleRate()
	}
	settings, err := f.settings(r, code)
	if err != nil {
		return err
	}
	j, err := openJournal(ctx, f.out, settings, f.o.Restart || f.in == standard)
	if errors.Is(err, errOther) {
		return fmt.Errorf("write %s: %w; go on with those, or throw it away with --restart", f.out, err)
	}
	if err != nil {
		return fmt.Errorf("write %s: keep account of the run: %w", f.out, err)
	}
	var dst interface {
		sink
		finish(context.Context) error
		close() error
	}
	if code == nil {
		dst, err = openY4MFile(j, f.src.Format(), f.out)
	} else {
		s, e := openSegments(j, f.src.Format(), f.o.segment)
		if e == nil {
			s.encode = code.segment
		}
		dst, err = &muxed{s, f, code}, e
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", f.out, err), j.close())
	}
	defer func() {
		_ = dst.close()
		if err != nil && j.known == 0 {
			_ = j.remove() // there is nothing to go on with
		}
	}()
	if n, _ := dst.done(); n > 0 && f.o.Say != nil {
		f.o.Say(fmt.Sprintf("%s: %d frames are there from before, going on", f.out, n))
	}
	v := &run{r: r, o: f.o, src: f.src, dst: dst, report: f.rep, scenes: scenesOf(j.state.Scenes), keep: j.scenes}
	return v.whole(ctx, dst.finish)
}

// coding chooses how the result is encoded.
func (f *file) coding(ctx context.Context) (*coding, error) {
	format := f.src.Format()
	c := &coding{format: format, pixels: f.pixels.name, tick: Ratio{format.Rate.Den, format.Rate.Num}}
	source := ""
	if f.stream == nil {
		c.pixels = pixelName(&format)
		c.tags = []string{"-color_range", "tv"}
		c.params = "range=tv"
		if format.FullRange {
			c.tags, c.params = []string{"-color_range", "pc"}, "range=pc"
		}
	} else {
		source = f.stream.Codec
		c.tick = f.stream.tick()
	}
	if !c.format.Rate.known() {
		c.format.Rate = Ratio{25, 1}
		if f.stream == nil {
			c.tick = Ratio{1, 25}
		}
	}
	var err error
	c.encoder, c.args, err = codingOf(ctx, f.o.Encoder, source, f.out)
	if f.stream != nil {
		c.tags, c.params = f.stream.colour(&format, c.encoder, f.stream.hdr() != "")
	}
	return c, err
}

// pixelName is what ffmpeg calls a format of YUV4MPEG2.
func pixelName(f *Format) string {
	name := map[Chroma]string{chroma420: "yuv420p", chroma422: "yuv422p", chroma444: "yuv444p", chroma411: "yuv411p", chromaMono: "gray"}[f.Chroma]
	if f.Depth > 8 {
		return fmt.Sprintf("%s%dle", name, f.Depth)
	}
	if f.FullRange && f.Chroma != chromaMono && f.Chroma != chroma411 {
		name = "yuvj" + strings.TrimPrefix(name, "yuv")
	}
	return name
}

// settings is a digest of everything that what is kept of a run depends on. Sound is put beside it at the end, so that
// another encoder for it throws no frame away.
func (f *file) settings(r *unirestorer.Restorer, code *coding) (string, error) {
	h := sha256.New()
	e := json.NewEncoder(h)
	_ = e.Encode([]any{unirestorer.Version(), r.ModelDigest(), r.Device(), f.o.Settings, f.o.Cut, f.o.Hysteresis, f.o.Tonemap, f.o.NoMeasure, f.o.Reference, strings.ToLower(filepath.Ext(f.out))})
	if code != nil {
		_ = e.Encode([]any{code.encoder, code.args, code.pixels, code.tags, code.params})
	}
	if f.in == standard {
		return hex.EncodeToString(h.Sum(nil)), nil
	}
	if err := fingerprint(h, f.in); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// fingerprint writes the size of a file and both its ends.
func fingerprint(w io.Writer, path string) error {
	const end = 1 << 20
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	fmt.Fprintln(w, info.Size())
	if _, err := io.Copy(w, io.NewSectionReader(f, 0, end)); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if _, err := io.Copy(w, io.NewSectionReader(f, max(info.Size()-end, 0), end)); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// muxed is segments that become a file with everything that the clip holds beside frames.
type muxed struct {
	*segments
	f *file
	c *coding
}

func (m *muxed) finish(ctx context.Context) error {
	if err := m.segments.finish(ctx); err != nil {
		return err
	}
	list, err := m.list(ctx, m.c.tick)
	if err != nil {
		return err
	}
	part := m.j.path("result" + strings.ToLower(filepath.Ext(m.f.out)))
	args := []string{"-v", "error", "-nostdin", "-y", "-itsoffset", seconds(micro(m.j.state.Segments[0], m.c.tick)), "-f", "concat", "-i", local(list)}
	args = append(args, m.f.carried(m.c)...)
	if _, err := command(ctx, "ffmpeg", append(args, local(part))...); err != nil {
		return fmt.Errorf("put together: %w; what is restored is kept, the next run tries again", err)
	}
	if err := m.count(ctx, part); err != nil {
		return err
	}
	if err := os.Rename(part, m.f.out); err != nil {
		return err
	}
	atomicfile.SyncDir(filepath.Dir(m.f.out))
	_ = m.frames.f.Close()
	return m.j.remove()
}

// count makes sure that every frame arrived.
func (m *muxed) count(ctx context.Context, path string) error {
	text, err := command(ctx, "ffprobe", "-v", "error", "-select_streams", "V:0", "-count_packets", "-show_entries", "stream=nb_read_packets", "-of", "csv=p=0", local(path))
	if err != nil {
		return err
	}
	// ffprobe tells of a stream in a program twice, as in MPEG-TS, and of one with side data with a comma behind.
	got := strings.FieldsFunc(string(text), func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	if len(got) == 0 || got[0] != fmt.Sprint(m.j.known) {
		return fmt.Errorf("put together: %s frames of %d arrived", strings.Join(got, " or "), m.j.known)
	}
	return nil
}

// carried are the options that take everything but the frames from the clip, its streams in their order.
func (f *file) carried(c *coding) []string {
	ext := strings.ToLower(filepath.Ext(f.out))
	tail := []string{"-c", "copy", "-copyts", "-avoid_negative_ts", "disabled", "-max_interleave_delta", "0"}
	if slices.Contains([]string{".mp4", ".m4v", ".mov"}, ext) {
		if c.tick.Num == 1 {
			tail = append(tail, "-video_track_timescale", fmt.Sprint(c.tick.Den))
		}
		tail = append(tail, "-movflags", "+faststart+use_metadata_tags")
		if strings.Contains(c.encoder, "265") || strings.Contains(c.encoder, "hevc") {
			tail = append(tail, "-tag:v", "hvc1") // which players of Apple ask for
		}
	}
	for i := 0; i < len(c.tags); i += 2 {
		tail = append(tail, c.tags[i]+":v", c.tags[i+1])
	}
	if f.probed == nil {
		return append([]string{"-map", "0:v:0"}, tail...)
	}
	args := []string{"-i", local(f.in)}
	var codecs []string
	n := 0
	for i := range f.probed.Streams {
		s := &f.probed.Streams[i]
		switch {
		case s.Index == f.stream.Index:
			args = append(args, "-map", "0:v:0")
			codecs = append(codecs, fmt.Sprintf("-disposition:%d", n), disposition(s))
		case s.Type == "audio" || s.Type == "video" || s.Type == "attachment":
			args = append(args, "-map", fmt.Sprintf("1:%d", s.Index))
			if a := f.o.Encoder.Audio; s.Type == "audio" && a != "" && a != "copy" {
				codecs = append(codecs, fmt.Sprintf("-c:%d", n), a)
			}
		case s.Type == "subtitle":
			codec, ok := subtitles(s.Codec, ext)
			if !ok {
				f.rep.remark(f.o.Say, s.Codec, fmt.Sprintf("subtitles of kind %s do not fit into %s and are left out", s.Codec, ext))
				continue
			}
			args = append(args, "-map", fmt.Sprintf("1:%d", s.Index))
			codecs = append(codecs, fmt.Sprintf("-c:%d", n), codec)
		default:
			f.rep.remark(f.o.Say, s.Type, fmt.Sprintf("a stream of %s is left out", s.Type))
			continue
		}
		codecs = append(codecs, fmt.Sprintf("-map_metadata:s:%d", n), fmt.Sprintf("1:s:%d", s.Index))
		n++
	}
	args = append(args, "-map_metadata", "1", "-map_chapters", "1")
	return slices.Concat(args, tail, codecs)
}

// disposition names what a stream is for.
func disposition(s *stream1) string {
	var on []string
	for name, v := range s.Disposition {
		if v != 0 {
			on = append(on, name)
		}
	}
	if len(on) == 0 {
		return "0"
	}
	slices.Sort(on)
	return strings.Join(on, "+")
}

// subtitles tells what becomes of subtitles in a kind of file.
func subtitles(codec, ext string) (string, bool) {
	text := slices.Contains([]string{"subrip", "ass", "ssa", "webvtt", "mov_text", "text"}, codec)
	switch ext {
	case ".mp4", ".m4v", ".mov":
		if codec == "mov_text" {
			return "copy", true
		}
		return "mov_text", text
	case ".webm":
		if codec == "webvtt" {
			return "copy", true
		}
		return "webvtt", text
	case ".mkv":
		if codec == "mov_text" {
			return "subrip", true
		}
		return "copy", true
	}
	return "copy", ext != ".avi"
}
