package video

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// errNoFFmpeg is wrapped by errors of clips that need ffmpeg where there is none.
var errNoFFmpeg = errors.New("ffmpeg and ffprobe are needed for files other than .y4m and are not installed; " +
	"install them, or pipe frames: … | unirestorer video - -o - | …, YUV4MPEG2 (y4m) both ways")

// probed is what ffprobe says of a file.
type probed struct {
	Streams []stream1 `json:"streams"`
	Format  struct {
		Duration string `json:"duration"`
		Name     string `json:"format_name"`
	} `json:"format"`
}

type stream1 struct {
	Index       int            `json:"index"`
	Type        string         `json:"codec_type"`
	Codec       string         `json:"codec_name"`
	PixFmt      string         `json:"pix_fmt"`
	Width       int            `json:"width"`
	Height      int            `json:"height"`
	Range       string         `json:"color_range"`
	Space       string         `json:"color_space"`
	Transfer    string         `json:"color_transfer"`
	Primaries   string         `json:"color_primaries"`
	Location    string         `json:"chroma_location"`
	FieldOrder  string         `json:"field_order"`
	AspectRatio string         `json:"sample_aspect_ratio"`
	RealRate    string         `json:"r_frame_rate"`
	AvgRate     string         `json:"avg_frame_rate"`
	TimeBase    string         `json:"time_base"`
	Frames      string         `json:"nb_frames"`
	Duration    string         `json:"duration"`
	Disposition map[string]int `json:"disposition"`
	SideData    []struct {
		Type     string  `json:"side_data_type"`
		Rotation float64 `json:"rotation"`
	} `json:"side_data_list"`
}

// local names a file so that ffmpeg takes it for nothing else.
func local(path string) string { return "file:" + path }

// tool finds ffmpeg or ffprobe.
func tool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", errNoFFmpeg
	}
	return path, nil
}

// command runs a tool and returns what it printed; an error has what it complained of.
func command(ctx context.Context, name string, args ...string) ([]byte, error) {
	path, err := tool(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	detach(cmd)
	out, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, complaint(name, err)
	}
	return out, nil
}

// complaint makes an error of what a tool printed.
func complaint(name string, err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if text := lastLines(string(exit.Stderr), 3); text != "" {
			return fmt.Errorf("%s: %s", name, text)
		}
	}
	return fmt.Errorf("%s: %w", name, err)
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(len(lines)-n, 0):], "; ")
}

// probe asks ffprobe what is in a file.
func probe(ctx context.Context, path string) (*probed, error) {
	out, err := command(ctx, "ffprobe", "-v", "error", "-print_format", "json", "-show_streams", "-show_format", local(path))
	if err != nil {
		return nil, err
	}
	p := &probed{}
	if err := json.Unmarshal(out, p); err != nil {
		return nil, fmt.Errorf("ffprobe: %w", err)
	}
	return p, nil
}

// main is the video stream to restore: the first that is no cover picture.
func (p *probed) main() (*stream1, error) {
	for i := range p.Streams {
		s := &p.Streams[i]
		if s.Type == "video" && s.Disposition["attached_pic"] == 0 && s.Disposition["timed_thumbnails"] == 0 {
			return s, nil
		}
	}
	return nil, errors.New("no video in it")
}

// rotated tells whether the picture stands on its side.
func (s *stream1) rotated() bool {
	for _, d := range s.SideData {
		if r := int(d.Rotation); r%180 != 0 {
			return true
		}
	}
	return false
}

// hdr names the transfer of a stream that is not meant for screens of standard range; empty for others.
func (s *stream1) hdr() string {
	switch s.Transfer {
	case "smpte2084":
		return "PQ"
	case "arib-std-b67":
		return "HLG"
	}
	return ""
}

func ratioOf(s string) Ratio {
	s = strings.Replace(s, ":", "/", 1)
	a, b, _ := strings.Cut(s, "/")
	n, err1 := strconv.ParseInt(a, 10, 64)
	d, err2 := strconv.ParseInt(b, 10, 64)
	if err1 != nil || err2 != nil || n <= 0 || d <= 0 {
		return Ratio{}
	}
	return Ratio{n, d}
}

// total is how many frames the stream has, as far as its file says; 0 if it does not.
func (p *probed) total(s *stream1) int64 {
	if n, err := strconv.ParseInt(s.Frames, 10, 64); err == nil && n > 0 {
		return n
	}
	length, err := strconv.ParseFloat(s.Duration, 64)
	if err != nil {
		length, err = strconv.ParseFloat(p.Format.Duration, 64)
	}
	if err != nil {
		return 0
	}
	return int64(length*ratioOf(s.AvgRate).float() + 0.5)
}

// pixels are a pixel format of ffmpeg and what it is here.
type pixels struct {
	name string
	f    Format
}

// planar are the pixel formats whose samples are taken as they are, and likeness what others are taken as without loss.
var (
	planar   = map[string]Chroma{"gray": chromaMono, "yuv420p": chroma420, "yuv422p": chroma422, "yuv444p": chroma444, "yuv411p": chroma411, "gbrp": chromaRGB}
	likeness = map[string]string{
		"yuvj420p": "yuv420p", "yuvj422p": "yuv422p", "yuvj444p": "yuv444p", "yuvj411p": "yuv411p", "nv12": "yuv420p", "nv21": "yuv420p", "p0": "yuv420p",
		"yuyv422": "yuv422p", "uyvy422": "yuv422p", "nv16": "yuv422p", "nv24": "yuv444p", "yuva420p": "yuv420p", "yuva422p": "yuv422p", "yuva444p": "yuv444p",
		"rgb24": "gbrp", "bgr24": "gbrp", "0rgb": "gbrp", "rgb0": "gbrp", "0bgr": "gbrp", "bgr0": "gbrp", "rgba": "gbrp", "argb": "gbrp", "bgra": "gbrp", "abgr": "gbrp",
		"gbrap": "gbrp", "pal8": "gbrp", "rgb8": "gbrp", "bgr8": "gbrp", "monob": "gray", "monow": "gray", "ya8": "gray",
	}
)

// pixelsOf chooses in which format frames are taken from ffmpeg: the stream's own wherever its samples are planes.
func pixelsOf(s *stream1) (p pixels, notes []string, err error) {
	base, depth := baseFormat(s.PixFmt)
	p.f.FullRange = s.Range == "pc" || strings.HasPrefix(base, "yuvj")
	if strings.HasPrefix(base, "yuva") || base == "gbrap" || slices.Contains([]string{"rgba", "argb", "bgra", "abgr", "ya8", "rgba64"}, base) {
		notes = append(notes, "transparency is not kept")
	}
	if b, ok := likeness[base]; ok {
		base = b
	}
	if strings.HasPrefix(base, "rgb48") || strings.HasPrefix(base, "bgr48") || strings.HasPrefix(base, "rgba64") {
		base, depth = "gbrp", 16
	}
	chroma, ok := planar[base]
	if !ok {
		base, chroma, depth = "yuv444p", chroma444, 8
		notes = append(notes, fmt.Sprintf("pixel format %s is taken as %s", s.PixFmt, base))
	}
	p.f.Chroma, p.f.Depth, p.name = chroma, depth, base
	if depth > 8 {
		p.name += strconv.Itoa(depth) + "le"
	} else if p.f.FullRange && strings.HasPrefix(base, "yuv") {
		p.name = "yuvj" + strings.TrimPrefix(base, "yuv")
	}
	if note := p.f.timing(s); note != "" {
		notes = append(notes, note)
	}
	if chroma == chromaRGB || chroma == chromaMono {
		return p, notes, nil
	}
	p.f.Matrix, err = matrixOf(s.Space, s.Width, s.Height)
	return p, notes, err
}

// baseFormat takes byte order and depth off the name of a pixel format.
func baseFormat(name string) (base string, depth int) {
	name = strings.TrimSuffix(strings.TrimSuffix(name, "le"), "be")
	for _, depth := range []int{9, 10, 12, 14, 16} {
		if b, ok := strings.CutSuffix(name, strconv.Itoa(depth)); ok && (strings.HasSuffix(b, "p") || b == "gray" || b == "p0") {
			return b, depth
		}
	}
	return name, 8
}

// timing fills in siting, rates and the order of fields; what is to be said of that is returned.
func (f *Format) timing(s *stream1) string {
	switch s.Location {
	case "center":
		f.Siting = sitingCentre
	case "topleft":
		f.Siting = sitingTopLeft
	}
	f.Rate, f.Aspect = ratioOf(s.AvgRate), ratioOf(s.AspectRatio)
	if !f.Rate.known() {
		f.Rate = ratioOf(s.RealRate)
	}
	if !f.Rate.known() {
		f.Rate = Ratio{25, 1}
	}
	f.Interlacing = 'p'
	if o := s.FieldOrder; o != "" && o != "progressive" && o != "unknown" {
		f.Interlacing = map[byte]byte{'t': 't', 'b': 'b'}[o[0]]
		return "the clip is interlaced: frames are restored as they are; deinterlace first for a better result (ffmpeg -vf bwdif)"
	}
	return ""
}

// micro is a time in ticks in microseconds, rounded to the nearest, halves away from zero, as ffmpeg does.
func micro(pts int64, tick Ratio) int64 {
	n := new(big.Int).Mul(big.NewInt(pts), big.NewInt(tick.Num*1_000_000))
	d := big.NewInt(tick.Den)
	half := new(big.Int).Rsh(d, 1)
	if n.Sign() < 0 {
		n.Sub(n, half)
	} else {
		n.Add(n, half)
	}
	return n.Quo(n, d).Int64()
}

// seconds writes microseconds as seconds.
func seconds(us int64) string {
	sign := ""
	if us < 0 {
		sign, us = "-", -us
	}
	return fmt.Sprintf("%s%d.%06d", sign, us/1_000_000, us%1_000_000)
}
