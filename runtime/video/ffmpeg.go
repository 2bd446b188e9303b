package video

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// decoder is a clip that ffmpeg decodes. Beside the frames it prints their times, so that each has its own.
type decoder struct {
	format Format
	tick   Ratio
	cmd    *exec.Cmd
	out    io.ReadCloser
	buf    *bufio.Reader
	times  chan frameTime
	n      int64

	mu         sync.Mutex
	complaints []string
}

// frameTime is a line of ffmpeg's framecrc.
type frameTime struct{ pts, size int64 }

// decode starts to decode the stream s of a file.
func decode(ctx context.Context, path string, s *stream1, px pixels, filter string) (*decoder, error) {
	bin, err := tool("ffmpeg")
	if err != nil {
		return nil, err
	}
	tick := s.tick()
	output := []string{"-map", "0:" + strconv.Itoa(s.Index), "-fps_mode", "passthrough", "-enc_time_base", fmt.Sprintf("%d:%d", tick.Num, tick.Den)}
	if filter != "" {
		output = append(output, "-vf", filter)
	}
	output = append(output, "-c:v", "rawvideo", "-pix_fmt", px.name)
	args := slices.Concat([]string{"-v", "error", "-nostdin", "-copyts", "-i", local(path)},
		output, []string{"-flush_packets", "1", "-f", "framecrc", "pipe:2"}, output, []string{"-f", "rawvideo", "pipe:1"})
	d := &decoder{format: px.f, tick: tick, times: make(chan frameTime, 4096)}
	d.format.Width, d.format.Height = s.Width, s.Height
	if s.rotated() {
		d.format.Width, d.format.Height = s.Height, s.Width
		d.format.Aspect = Ratio{px.f.Aspect.Den, px.f.Aspect.Num}
	}
	if err := d.format.check(); err != nil {
		return nil, err
	}
	d.cmd = exec.CommandContext(ctx, bin, args...)
	detach(d.cmd)
	if d.out, err = d.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	lines, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	d.buf = bufio.NewReaderSize(d.out, 1<<20)
	go d.listen(lines)
	return d, nil
}

// tick is the unit of the stream's times.
func (s *stream1) tick() Ratio {
	if t := ratioOf(s.TimeBase); t.known() {
		return t
	}
	return Ratio{1, 90000}
}

// listen reads the times of frames, and complaints between them.
func (d *decoder) listen(r io.Reader) {
	defer close(d.times)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if t, ok := frameLine(line); ok {
			d.times <- t
		} else if line != "" && !strings.HasPrefix(line, "#") {
			d.mu.Lock()
			d.complaints = append(d.complaints[max(len(d.complaints)-4, 0):], line)
			d.mu.Unlock()
		}
	}
	_, _ = io.Copy(io.Discard, r)
}

// frameLine reads a line of framecrc: stream, decoding time, presentation time, duration, size, checksum.
func frameLine(line string) (t frameTime, ok bool) {
	f := strings.Split(line, ",")
	if len(f) < 6 || strings.TrimSpace(f[0]) != "0" || !strings.HasPrefix(strings.TrimSpace(f[5]), "0x") {
		return t, false
	}
	pts, err1 := strconv.ParseInt(strings.TrimSpace(f[2]), 10, 64)
	size, err2 := strconv.ParseInt(strings.TrimSpace(f[4]), 10, 64)
	return frameTime{pts, size}, err1 == nil && err2 == nil
}

// Format is that of all frames; ffmpeg scales those of another size.
func (d *decoder) Format() Format { return d.format }

// Next reads a frame and its time.
func (d *decoder) Next(f *Frame) error {
	if _, err := d.buf.Peek(1); err == io.EOF {
		return d.finish()
	}
	if err := readFull(d.buf, f, d.format.frameBytes()); err != nil {
		if err = d.finish(); err == io.EOF {
			err = fmt.Errorf("frame %d: ffmpeg ended in the middle of it", d.n)
		}
		return err
	}
	t, ok := <-d.times
	switch {
	case !ok:
		return fmt.Errorf("frame %d has no time: %s", d.n, d.said())
	case t.size != int64(d.format.frameBytes()):
		return fmt.Errorf("frame %d has %d bytes, want %d of %d×%d pixels", d.n, t.size, d.format.frameBytes(), d.format.Width, d.format.Height)
	}
	f.PTS = t.pts
	d.n++
	return nil
}

// finish waits for ffmpeg and tells whether it read everything.
func (d *decoder) finish() error {
	for range d.times { // to its end
	}
	if err := d.cmd.Wait(); err != nil {
		return fmt.Errorf("ffmpeg: %w: %s", err, d.said())
	}
	return io.EOF
}

func (d *decoder) said() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.complaints, "; ")
}

// close ends ffmpeg.
func (d *decoder) close() error {
	if d.cmd.ProcessState == nil {
		_ = d.cmd.Process.Kill()
		_ = d.out.Close()
		for range d.times {
		}
		_ = d.cmd.Wait()
	}
	return nil
}

// coding is how a clip is encoded: the encoder's options, and what is said of the frames.
type coding struct {
	encoder string
	args    []string
	pixels  string
	format  Format
	tick    Ratio
	tags    []string // of colour, for the encoder
	params  string   // the same for frames
}

// family is the encoder that is taken for a codec and the options that make its result hard to tell from the source.
var family = map[string]struct {
	encoders []string
	args     map[string][]string
}{
	"h264": {[]string{"libx264"}, map[string][]string{"libx264": {"-crf", "16", "-preset", "medium"}}},
	"hevc": {[]string{"libx265"}, map[string][]string{"libx265": {"-crf", "18", "-preset", "medium", "-x265-params", "log-level=error"}}},
	"vp9":  {[]string{"libvpx-vp9"}, map[string][]string{"libvpx-vp9": {"-crf", "22", "-b:v", "0", "-row-mt", "1"}}},
	"av1": {[]string{"libsvtav1", "libaom-av1"}, map[string][]string{
		"libsvtav1": {"-crf", "22", "-preset", "6"}, "libaom-av1": {"-crf", "20", "-b:v", "0", "-cpu-used", "4"},
	}},
	"ffv1":   {[]string{"ffv1"}, map[string][]string{"ffv1": {"-level", "3", "-slicecrc", "1"}}},
	"prores": {[]string{"prores_ks"}, map[string][]string{"prores_ks": nil}},
}

// containers are the kinds of files that are written through ffmpeg.
var containers = []string{".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts", ".nut"}

// codingOf chooses the encoder: the one named, or one of the source's family where the result's container holds it.
func codingOf(ctx context.Context, e Encoder, source, out string) (encoder string, args []string, err error) {
	if ext := strings.ToLower(filepath.Ext(out)); !slices.Contains(containers, ext) {
		return "", nil, fmt.Errorf("files of kind %s do not hold the times of frames, or are not known; there are %s", ext, strings.Join(containers, ", "))
	}
	encoder = e.Codec
	if encoder == "" {
		codec := source
		switch ext := strings.ToLower(filepath.Ext(out)); {
		case ext == ".webm" && codec != "av1":
			codec = "vp9"
		case family[codec].encoders == nil, (ext == ".mp4" || ext == ".m4v") && (codec == "ffv1" || codec == "prores"):
			codec = "h264"
		}
		if encoder, err = available(ctx, family[codec].encoders); err != nil {
			return "", nil, err
		}
	} else if encoder, err = available(ctx, append([]string{e.Codec}, family[e.Codec].encoders...)); err != nil {
		return "", nil, err
	}
	for _, f := range family {
		if a, ok := f.args[encoder]; ok {
			args = a
		}
	}
	args = slices.Clone(args)
	for name, value := range map[string]string{"-crf": e.CRF, "-preset": e.Preset} {
		if value == "" {
			continue
		}
		if i := slices.Index(args, name); i >= 0 {
			args[i+1] = value
		} else {
			args = append(args, name, value)
		}
	}
	for _, o := range e.Options {
		name, value, ok := strings.Cut(o, "=")
		if !ok || name == "" {
			return "", nil, fmt.Errorf("option %q of the encoder: want name=value", o)
		}
		args = append(args, "-"+strings.TrimPrefix(name, "-"), value)
	}
	return encoder, args, nil
}

// available gives the first of some encoders that this ffmpeg has.
func available(ctx context.Context, names []string) (string, error) {
	text, err := command(ctx, "ffmpeg", "-v", "error", "-nostdin", "-encoders")
	if err != nil {
		return "", err
	}
	for _, want := range names {
		for line := range strings.Lines(string(text)) {
			if w := strings.Fields(line); len(w) > 1 && w[1] == want && strings.HasPrefix(w[0], "V") {
				return want, nil
			}
		}
	}
	return "", fmt.Errorf("this ffmpeg has no video encoder %s; ffmpeg -encoders lists those it has, and --codec names one", strings.Join(names, " or "))
}

// segment encodes frames that lie in a file, with a time for each. The segment's own times begin at 0, because ffmpeg does
// not always find out where a short file begins.
func (c *coding) segment(ctx context.Context, raw string, pts []int64, out string) error {
	filters := fmt.Sprintf("settb=%d/%d,setpts='%s'", c.tick.Num, c.tick.Den, choose(since(pts), 0))
	if c.params != "" {
		filters += ",setparams=" + c.params
	}
	if c.format.Aspect.known() {
		filters += fmt.Sprintf(",setsar=%d/%d", c.format.Aspect.Num, c.format.Aspect.Den)
	}
	args := []string{"-v", "error", "-nostdin", "-y", "-f", "rawvideo", "-pix_fmt", c.pixels,
		"-video_size", fmt.Sprintf("%dx%d", c.format.Width, c.format.Height), "-framerate", c.format.Rate.String(), "-i", local(raw),
		"-frames:v", strconv.Itoa(len(pts)), "-vf", filters, "-fps_mode", "passthrough", "-enc_time_base", fmt.Sprintf("%d:%d", c.tick.Num, c.tick.Den), "-c:v", c.encoder}
	args = slices.Concat(args, c.args, c.tags, []string{"-flags", "+bitexact", "-fflags", "+bitexact", "-f", "nut", local(out)})
	if _, err := command(ctx, "ffmpeg", args...); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if info, err := os.Stat(out); err != nil || info.Size() == 0 {
		return errors.New("encode: ffmpeg wrote nothing")
	}
	return nil
}

// since gives times from the first on.
func since(pts []int64) []int64 {
	out := make([]int64, len(pts))
	for i, p := range pts {
		out[i] = p - pts[0]
	}
	return out
}

// choose is an expression that gives the time of frame N, by halving.
func choose(pts []int64, first int) string {
	if len(pts) == 1 {
		return strconv.FormatInt(pts[0], 10)
	}
	half := len(pts) / 2
	return fmt.Sprintf("if(lt(N,%d),%s,%s)", first+half, choose(pts[:half], first), choose(pts[half:], first+half))
}

// colour says of frames what the stream says.
func (s *stream1) colour(f *Format, encoder string, tonemapped bool) (tags []string, params string) {
	var p []string
	add := func(option, param, value string) {
		if value == "" || value == "unknown" || value == "unspecified" || value == "reserved" {
			return
		}
		tags = append(tags, option, value)
		if param != "" {
			p = append(p, param+"="+value)
		}
	}
	space, transfer, primaries := s.Space, s.Transfer, s.Primaries
	if tonemapped {
		space, transfer, primaries = "bt709", "bt709", "bt709"
	}
	switch {
	case f.Chroma != chromaRGB:
		add("-colorspace", "colorspace", space)
	case encoder == "ffv1": // others make luma and chroma of it
		tags = append(tags, "-colorspace", "rgb")
	}
	add("-color_trc", "color_trc", transfer)
	add("-color_primaries", "color_primaries", primaries)
	if s.Range != "" {
		add("-color_range", "range", s.Range)
	}
	add("-chroma_sample_location", "", s.Location)
	return tags, strings.Join(p, ":")
}
