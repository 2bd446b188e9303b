package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"unirestorer"
	"unirestorer/runtime/video"
)

func videoCommand() *cli.Command {
	return &cli.Command{
		Name:      "video",
		Usage:     "restore a clip",
		ArgsUsage: "IN -o OUT",
		Description: "IN and OUT are video files, read and written through ffmpeg, which must be installed; or YUV4MPEG2 (.y4m, and\n" +
			"- for standard input and output), which needs nothing. Sound, subtitles, chapters, metadata, colour tags and\n" +
			"the time of every frame are carried over. One expert restores each scene. A run that was interrupted goes on\n" +
			"where it was when it is started again, and gives the same file.\n\n" +
			"Examples:\n" +
			"   unirestorer video rainy.mp4 -o clear.mp4\n" +
			"   unirestorer video tape.mkv -o tape-restored.mkv --codec ffv1\n" +
			"   unirestorer video dark.mov -o lit.mov --degradation lowlight --strength 0.8\n" +
			"   ffmpeg -i in.mp4 -f yuv4mpegpipe - | unirestorer video - -o - | ffmpeg -i - out.mp4",
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`OUT` file, or - for standard output"},
			modelFlag(), netArgsFlag(),
			&cli.StringFlag{Name: "codec", Usage: "encode with `ENCODER` of ffmpeg (libx264, libx265, libsvtav1, libvpx-vp9, ffv1 and others); by default one of the kind of IN"},
			&cli.StringFlag{Name: "crf", Usage: "quality of the encoder, `N`: less is better and larger (default 16 for H.264, 18 for HEVC, 22 for VP9 and AV1)"},
			&cli.StringFlag{Name: "preset", Usage: "`PRESET` of the encoder, slower is smaller"},
			&cli.StringSliceFlag{Name: "encoder-option", Usage: "`NAME=VALUE` for the encoder as ffmpeg knows it; may be repeated"},
			&cli.StringFlag{Name: "audio-codec", Value: "copy", Usage: "copy the sound, or encode it with `ENCODER`, where OUT's kind of file asks for it"},
			&cli.StringFlag{Name: "tonemap", Usage: "make SDR of HDR by `CURVE` (hable, mobius, reinhard, …); without it HDR is refused"},
			&cli.Float64Flag{Name: "scene-cut", Value: video.DefaultCut, Usage: "`CHANGE` from frame to frame that makes a scene; less finds more"},
			&cli.Float64Flag{Name: "hysteresis", Value: video.DefaultHysteresis, Usage: "by how much more `PROBABLE` another degradation must be in a new scene for the expert to change"},
			&cli.StringFlag{Name: "reference", Usage: "`CLIP` without degradation, to compare the consistency from frame to frame with"},
			&cli.BoolFlag{Name: "no-measure", Usage: "do not measure the consistency from frame to frame"},
		}, tileFlags("frame"), []cli.Flag{
			&cli.BoolFlag{Name: "restart", Usage: "throw away what an interrupted run left, and begin anew"},
			&cli.BoolFlag{Name: "quiet", Usage: "print errors only"},
			jsonFlag(),
		}, memoryFlags(), []cli.Flag{precisionFlag()}, overrideFlags(), poolFlags(), deviceFlags()),
		Action: videoAction,
	}
}

func videoAction(c *cli.Context) (err error) {
	if err := checkVideo(c); err != nil {
		return err
	}
	picture, err := pictureOptions(c)
	if err != nil {
		return err
	}
	bound, err := memoryOptions(c)
	if err != nil {
		return err
	}
	r, err := openRestorer(c, bound)
	if err != nil {
		return err
	}
	defer closing(&err, r.Close)
	if err := r.Check(picture...); err != nil {
		return usageOf(err)
	}
	return restoreClip(c, r)
}

// checkVideo reports a command line that makes no sense.
func checkVideo(c *cli.Context) error {
	out := c.String("output")
	switch {
	case c.NArg() != 1:
		return usagef("video takes one clip, got %d arguments", c.NArg())
	case out == "":
		return usagef("no output given: use -o OUT")
	case out == unirestorer.Stream && c.Bool("json"):
		return usagef("--json and -o - both want standard output")
	case !(c.Float64("scene-cut") > 0), !(c.Float64("hysteresis") >= 0):
		return usagef("--scene-cut wants a number above 0, --hysteresis one of 0 or more")
	}
	if crf := c.String("crf"); crf != "" {
		if n, err := strconv.ParseFloat(crf, 64); err != nil || !(n >= 0 && n <= 63) {
			return usagef("--crf %q: want a number from 0 to 63, for H.264 and HEVC to 51", crf)
		}
	}
	return nil
}

// restoreClip restores the clip that the command line names.
func restoreClip(c *cli.Context, r *unirestorer.Restorer) error {
	in, out := c.Args().First(), c.String("output")
	o := video.Options{
		Route: routeOptions(c), Picture: frameOptions(c), Settings: settingsOf(c, r.ModelDigest()),
		Cut: c.Float64("scene-cut"), Hysteresis: c.Float64("hysteresis"), Reference: c.String("reference"), NoMeasure: c.Bool("no-measure"),
		Restart: c.Bool("restart"), Tonemap: c.String("tonemap"),
		Encoder: video.Encoder{Codec: c.String("codec"), CRF: c.String("crf"), Preset: c.String("preset"), Options: c.StringSlice("encoder-option"), Audio: c.String("audio-codec")},
	}
	show := newFrameBar(c.App.ErrWriter, c.Bool("quiet"))
	o.Progress, o.Say = show.progress, show.say
	rep, err := video.File(c.Context, r, in, out, c.App.Reader, c.App.Writer, o)
	show.close()
	if err != nil {
		if rep != nil && rep.Frames > 0 && c.Context.Err() != nil && out != unirestorer.Stream && in != unirestorer.Stream {
			show.say(fmt.Sprintf("%d frames are kept; the same command goes on from there", rep.Frames))
		}
		return err
	}
	show.say(rep.String())
	if c.Bool("json") {
		return writeJSON(c.App.Writer, rep)
	}
	return nil
}

// frameOptions are those of every frame once its route is known.
func frameOptions(c *cli.Context) []unirestorer.CallOption {
	opts := blendOptions(c)
	switch n, err := strconv.Atoi(c.String("tile")); {
	case c.String("tile") == "off":
		opts = append(opts, unirestorer.WithoutTiles())
	case err == nil:
		opts = append(opts, unirestorer.WithTile(n))
	}
	return opts
}

// frameBar shows how far a clip is: a bar on a terminal, elsewhere a line now and then.
type frameBar struct {
	w     io.Writer
	quiet bool
	term  bool

	mu   sync.Mutex
	bar  *progressbar.ProgressBar
	next time.Time
}

const lineEvery = 30 * time.Second

func newFrameBar(w io.Writer, quiet bool) *frameBar {
	f, ok := w.(*os.File)
	return &frameBar{w: w, quiet: quiet, term: ok && term.IsTerminal(int(f.Fd())), next: time.Now().Add(lineEvery)}
}

func (b *frameBar) progress(p video.Progress) {
	if b.quiet {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.term {
		if now := time.Now(); now.After(b.next) {
			b.next = now.Add(lineEvery)
			fmt.Fprintln(b.w, p)
		}
		return
	}
	if b.bar == nil {
		total := p.Total
		if total < p.Done {
			total = -1
		}
		b.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(b.w), progressbar.OptionSetDescription("frames"),
			progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30), progressbar.OptionSetPredictTime(false))
	}
	b.bar.Describe(p.String())
	_ = b.bar.Set64(min(p.Done, max(p.Total, p.Done))) // a bar that cannot be drawn is no reason to stop
}

func (b *frameBar) say(line string) {
	if b.quiet {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Clear()
	}
	fmt.Fprintln(b.w, printable(line))
}

func (b *frameBar) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}
