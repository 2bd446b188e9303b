package video

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"unirestorer/weights/atomicfile"
)

// stream writes frames to a writer as they come; nothing is kept for later.
type stream struct{ w *writer }

func (s *stream) done() (int64, measure) { return 0, measure{} }

func (s *stream) last() (*Frame, error) { return nil, nil }

func (s *stream) write(_ context.Context, f *Frame, _ measure) error { return s.w.write(f) }

// y4mFile collects a YUV4MPEG2 file in a journal.
type y4mFile struct {
	j      *journal
	frames *raw
	out    string
}

func openY4MFile(j *journal, f Format, out string) (*y4mFile, error) {
	header, err := f.header()
	if err != nil {
		return nil, err
	}
	frames, n, err := openRaw(j.path("frames.y4m"), []byte(header), int64(len(frameMagic)+1+f.frameBytes()), j.known)
	if err != nil {
		return nil, err
	}
	return &y4mFile{j, frames, out}, j.readLog(n)
}

func (s *y4mFile) done() (int64, measure) { return s.j.known, s.j.sum }

func (s *y4mFile) last() (*Frame, error) { return s.frames.last(int64(len(frameMagic) + 1)) }

func (s *y4mFile) write(_ context.Context, f *Frame, m measure) error {
	var b bytes.Buffer
	b.Grow(len(f.Data) + 8)
	b.WriteString(frameMagic + "\n")
	b.Write(f.Data)
	if _, err := s.frames.f.Write(b.Bytes()); err != nil {
		return err
	}
	return s.j.record(f.PTS, m)
}

// finish moves the file to its place.
func (s *y4mFile) finish(context.Context) error {
	if err := errors.Join(s.frames.f.Sync(), s.frames.f.Close()); err != nil {
		return err
	}
	if err := os.Rename(s.j.path("frames.y4m"), s.out); err != nil {
		return err
	}
	atomicfile.SyncDir(filepath.Dir(s.out))
	return s.j.remove()
}

func (s *y4mFile) close() error { return errors.Join(s.frames.f.Close(), s.j.close()) }

// segments encodes a clip in pieces of equal length, each by itself, so that a run that was interrupted gives the same file
// as one that was not. The frames of the piece at work lie in a file of their own.
type segments struct {
	j      *journal
	frames *raw
	format Format
	length int64 // frames of a segment
	encode func(ctx context.Context, raw string, pts []int64, out string) error
}

// segmentBytes is about how much the raw frames of a segment may take on disk.
const segmentBytes = 192 << 20

func segmentLength(f *Format) int64 {
	return min(max(segmentBytes/int64(f.frameBytes()), 24), 240)
}

func openSegments(j *journal, f Format, length int64) (*segments, error) {
	s := &segments{j: j, format: f, length: length}
	if length == 0 {
		s.length = segmentLength(&f)
	}
	whole, sealed := int64(len(j.state.Segments)), j.state.Sealed
	if j.known < sealed {
		return nil, fmt.Errorf("%s: %d frames are encoded, but %d accounted for; --restart begins anew", j.dir, sealed, j.known)
	}
	var n int64
	var err error
	s.frames, n, err = openRaw(s.rawPath(whole), nil, int64(f.frameBytes()), j.known-sealed)
	if err != nil {
		return nil, err
	}
	_ = os.Remove(s.rawPath(whole - 2)) // of a run that was killed before it did so itself
	return s, j.readLog(whole*s.length + n)
}

func (s *segments) rawPath(k int64) string     { return s.j.path(fmt.Sprintf("%06d.raw", k)) }
func (s *segments) encodedPath(k int64) string { return s.j.path(fmt.Sprintf("%06d.nut", k)) }

func (s *segments) done() (int64, measure) { return s.j.known, s.j.sum }

// last looks into the raw frames of the segment at work and of the one before, which stay until the next one is done.
func (s *segments) last() (*Frame, error) {
	f, err := s.frames.last(0)
	if f != nil || err != nil {
		return f, err
	}
	before, err := os.Open(s.rawPath(int64(len(s.j.state.Segments)) - 1))
	if err != nil {
		return nil, nil // gone: one pair of frames is not measured
	}
	defer before.Close()
	return (&raw{f: before, size: int64(s.format.frameBytes())}).last(0)
}

func (s *segments) write(ctx context.Context, f *Frame, m measure) error {
	if err := s.roll(ctx); err != nil { // a full one that an earlier run left
		return err
	}
	if _, err := s.frames.f.Write(f.Data); err != nil {
		return err
	}
	if err := s.j.record(f.PTS, m); err != nil {
		return err
	}
	return s.roll(ctx)
}

// roll encodes the segment at work if it is full, and begins the next.
func (s *segments) roll(ctx context.Context) error {
	if s.j.known-s.j.state.Sealed < s.length {
		return nil
	}
	return s.seal(ctx, s.length)
}

// seal encodes the n frames of the segment at work and begins the next.
func (s *segments) seal(ctx context.Context, n int64) error {
	k := int64(len(s.j.state.Segments))
	pts, err := s.j.times(s.j.state.Sealed, n)
	if err != nil {
		return err
	}
	part := s.j.path("encoding.nut")
	if err := s.encode(ctx, s.rawPath(k), pts, part); err != nil {
		return err
	}
	if err := os.Rename(part, s.encodedPath(k)); err != nil {
		return err
	}
	s.j.mu.Lock()
	s.j.state.Segments = append(s.j.state.Segments, pts[0])
	s.j.state.Sealed += n
	err = s.j.save(ctx)
	s.j.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.frames.f.Close(); err != nil {
		return err
	}
	_ = os.Remove(s.rawPath(k - 1))
	s.frames, _, err = openRaw(s.rawPath(k+1), nil, int64(s.format.frameBytes()), 0)
	return err
}

// finish encodes what is left.
func (s *segments) finish(ctx context.Context) error {
	if err := s.roll(ctx); err != nil {
		return err
	}
	if n := s.j.known - s.j.state.Sealed; n > 0 {
		return s.seal(ctx, n)
	}
	return nil
}

func (s *segments) close() error { return errors.Join(s.frames.f.Close(), s.j.close()) }

// list writes the list of segments for ffmpeg's concat demuxer. Lengths are in microseconds, taken from times of
// presentation rounded as ffmpeg rounds them, so that no error adds up.
func (s *segments) list(ctx context.Context, tick Ratio) (string, error) {
	path := s.j.path("segments.ffconcat")
	var b bytes.Buffer
	b.WriteString("ffconcat version 1.0\n")
	starts := s.j.state.Segments
	for k := range starts {
		fmt.Fprintf(&b, "file '%06d.nut'\n", k)
		if k+1 < len(starts) {
			fmt.Fprintf(&b, "duration %s\n", seconds(micro(starts[k+1], tick)-micro(starts[k], tick)))
		}
	}
	err := atomicfile.Write(ctx, path, func(w io.Writer) error { _, err := w.Write(b.Bytes()); return err })
	return path, err
}
