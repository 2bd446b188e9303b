package video

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"unirestorer"
)

// source gives the frames of a clip.
type source interface {
	// Format is that of all frames.
	Format() Format
	// Next reads a frame into f, or is io.EOF.
	Next(f *Frame) error
}

// sink takes restored frames, and knows those of earlier runs.
type sink interface {
	// done is what earlier runs left: the number of frames, and what was measured on them.
	done() (frames int64, m measure)
	// last is the last frame of those, nil if there is none.
	last() (*Frame, error)
	// write keeps a frame.
	write(ctx context.Context, f *Frame, m measure) error
}

// lookahead is how many frames are read before one is restored: those that a scene's route is found from, and those that
// tell a flash from a cut.
const lookahead = 12

// measureEvery is the number of pairs of frames of which one is measured: the others tell the same.
const measureEvery = 16

// samples is how many of them the route is found from.
const samples = 4

// read is a frame with what was learnt when it was read.
type read struct {
	n     int64
	frame *Frame
	thumb thumb
	clean *plane
}

// planned is a frame that knows its scene.
type planned struct {
	read
	picture *unirestorer.Picture // nil where the frame is done already
	route   *unirestorer.Route
	first   bool // of its scene
}

// restored is a frame after the expert.
type restored struct {
	planned
	after *unirestorer.Picture // nil where the frame was done already
}

// run is one pass over a clip.
type run struct {
	r    *unirestorer.Restorer
	o    *Options
	src  source
	ref  source // the clean clip; may be nil
	dst  sink
	base Format

	report   *Report
	scenes   []Scene // in order; those of earlier runs first
	keep     func([]Scene) error
	started  time.Time
	skipped  int64
	measured measure
	cutOff   error // why the clip ends in the middle of a frame
}

// frames restores the whole clip.
func (v *run) frames(ctx context.Context) error {
	v.base = v.src.Format()
	v.skipped, v.measured = v.dst.done()
	v.report.Frames = v.skipped
	v.started = time.Now()
	group, ctx := errgroup.WithContext(ctx)
	in, between, out := make(chan read, 1), make(chan planned), make(chan restored, 1)
	group.Go(func() error { defer close(in); return v.reading(ctx, in) })
	group.Go(func() error { defer close(between); return v.planning(ctx, in, between) })
	group.Go(func() error { defer close(out); return v.restoring(ctx, between, out) })
	group.Go(func() error { return v.writing(ctx, out) })
	if err := group.Wait(); err != nil {
		return err
	}
	if v.report.Frames == 0 {
		return errors.Join(errNoFrames, v.cutOff)
	}
	if v.cutOff != nil {
		v.report.remark(v.o.Say, "cut", fmt.Sprintf("the clip is cut off: %v; what is there is restored", v.cutOff))
	}
	return nil
}

// held is about how many bytes a run holds beside what the restorer accounts for.
func held(f *Format) int64 {
	pixels := int64(f.Width) * int64(f.Height)
	picture := 3 * pixels * int64(f.sampleBytes())
	return (lookahead+6)*int64(f.frameBytes()) + 5*picture + 10*4*pixels
}

// send hands a value on unless the run ends before.
func send[T any](ctx context.Context, to chan<- T, v T) error {
	select {
	case to <- v:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reading reads frames.
func (v *run) reading(ctx context.Context, in chan<- read) error {
	for n := int64(0); ; n++ {
		f := &Frame{}
		err := v.src.Next(f)
		switch {
		case err == io.EOF:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.ErrUnexpectedEOF):
			v.cutOff = err
			return nil
		case err != nil:
			return err
		}
		x := read{n: n, frame: f, thumb: v.base.thumbOf(f)}
		if v.ref != nil {
			var c Frame
			if err := v.ref.Next(&c); err != nil {
				return fmt.Errorf("the clean clip: frame %d: %w", n, noEOF(err))
			}
			cf := v.ref.Format()
			if v.compares(n) || v.compares(n+1) {
				x.clean = cf.lumaOf(&c)
			}
		}
		if err := send(ctx, in, x); err != nil {
			return err
		}
	}
}

// planning cuts the clip into scenes, finds their routes, and makes pictures of the frames that are not done.
func (v *run) planning(ctx context.Context, in <-chan read, out chan<- planned) error {
	c := &cuts{threshold: v.o.Cut}
	var ahead []read
	more := true
	for {
		for more && len(ahead) < lookahead {
			var x read
			if x, more = <-in; more {
				ahead = append(ahead, x)
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(ahead) == 0 {
			return nil
		}
		p := planned{read: ahead[0], first: c.begins(thumbs(ahead))}
		if p.first && (len(v.scenes) == 0 || p.n > v.scenes[len(v.scenes)-1].First) {
			if err := v.scene(ctx, *c, ahead); err != nil {
				return err
			}
		}
		p.route = v.at(p.n).route
		if p.n >= v.skipped {
			p.picture = v.base.picture(p.frame)
		}
		ahead = append(ahead[:0], ahead[1:]...)
		if err := send(ctx, out, p); err != nil {
			return err
		}
	}
}

func thumbs(all []read) []thumb {
	t := make([]thumb, len(all))
	for i, x := range all {
		t[i] = x.thumb
	}
	return t
}

// at is the scene of a frame.
func (v *run) at(n int64) *Scene {
	i := len(v.scenes) - 1
	for i > 0 && v.scenes[i].First > n {
		i--
	}
	return &v.scenes[i]
}

// scene finds the route of the scene that begins with the first of the frames ahead.
func (v *run) scene(ctx context.Context, c cuts, ahead []read) error {
	n := 1
	for n < len(ahead) && !c.begins(thumbs(ahead[n:])) {
		n++
	}
	var pictures []image.Image
	count := min(samples, n)
	for k := range count {
		pictures = append(pictures, v.base.picture(ahead[k*(n-1)/max(count-1, 1)].frame))
	}
	route, err := v.r.RouteTogether(ctx, pictures, v.o.Route...)
	if err != nil {
		return fmt.Errorf("route of the scene from frame %d: %w", ahead[0].n, err)
	}
	s := Scene{First: ahead[0].n, route: route}
	if k := len(v.scenes) - 1; k >= 0 && keeps(v.scenes[k].route, route, v.o.Hysteresis) {
		s.Kept = s.change(v.scenes[k].route)
	}
	s.describe()
	v.scenes = append(v.scenes, s)
	if v.o.Say != nil {
		v.o.Say(s.String())
	}
	return v.keep(v.scenes)
}

// restoring has frames restored.
func (v *run) restoring(ctx context.Context, in <-chan planned, out chan<- restored) error {
	for p := range in {
		x := restored{planned: p}
		if p.picture != nil {
			res, err := v.r.Restore(ctx, p.picture, append(slices.Clone(v.o.Picture), unirestorer.WithRoute(p.route))...)
			if err != nil {
				return fmt.Errorf("frame %d: %w", p.n, err)
			}
			v.report.note(v.o.Say, p.n, res)
			x.after = res.Image.(*unirestorer.Picture)
		}
		out <- x // writing takes whatever is restored
	}
	return nil
}

// writing turns pictures back into frames, measures them and hands them on. After an error it only empties the channel.
func (v *run) writing(ctx context.Context, out <-chan restored) (err error) {
	var before *moment
	for x := range out {
		if err != nil {
			continue
		}
		before, err = v.write(ctx, x, before)
	}
	return err
}

// compares tells whether frame n is compared with the one before.
func (v *run) compares(n int64) bool {
	return !v.o.NoMeasure && n >= v.skipped && n%v.o.every == v.o.every/2
}

// write keeps a frame, unless it was done, and gives what the next one is compared with.
func (v *run) write(ctx context.Context, x restored, before *moment) (*moment, error) {
	frame := (*Frame)(nil)
	switch {
	case x.after != nil:
		frame = v.base.changed(x.frame, x.picture, x.after)
	case x.n == v.skipped-1 && v.compares(x.n+1):
		var err error
		if frame, err = v.dst.last(); err != nil || frame == nil {
			return nil, err
		}
	default:
		return nil, nil
	}
	var now *moment
	if v.compares(x.n) || v.compares(x.n+1) {
		now = &moment{in: v.base.lumaOf(x.frame), out: v.base.lumaOf(frame), clean: x.clean}
	}
	if x.after == nil {
		return now, nil
	}
	var m measure
	if v.compares(x.n) && before != nil && !x.first {
		m = compare(before, now)
	}
	// What is restored is kept, also when the run is to end.
	if err := v.dst.write(context.WithoutCancel(ctx), frame, m); err != nil {
		return nil, err
	}
	v.measured.add(m)
	v.report.Frames = x.n + 1
	if v.o.Progress != nil {
		v.o.Progress(v.progress(x.n + 1))
	}
	return now, nil
}

// Progress is how far a clip is.
type Progress struct {
	// Done frames of Total, 0 if that is not known.
	Done, Total int64
	// Rate is in frames a second of this run; Left is the time to go, 0 if it is not known.
	Rate float64
	Left time.Duration
}

// String is a line for people.
func (p Progress) String() string {
	s := fmt.Sprintf("%d frames", p.Done)
	if p.Total > 0 {
		s = fmt.Sprintf("%d of %d frames", p.Done, p.Total)
	}
	s += fmt.Sprintf(", %.3g frames/s", p.Rate)
	if p.Left > 0 {
		s += fmt.Sprintf(", %s left", p.Left.Round(time.Second))
	}
	return s
}

func (v *run) progress(done int64) Progress {
	p := Progress{Done: done, Total: v.o.total}
	spent := time.Since(v.started)
	if spent > 0 {
		p.Rate = float64(done-v.skipped) / spent.Seconds()
	}
	if p.Total > done && p.Rate > 0 {
		p.Left = time.Duration(float64(p.Total-done) / p.Rate * float64(time.Second))
	}
	return p
}

var errNoFrames = errors.New("no frames in it")
