package video

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"

	"unirestorer/weights/atomicfile"
)

// journal is a hidden folder beside a result that keeps what is done of it until it is whole.
type journal struct {
	dir string

	mu    sync.Mutex
	state state
	log   *os.File
	known int64 // frames of the log that are whole
	sum   measure
}

// state is what a journal says of a run.
type state struct {
	Version  int      `json:"version"`
	Settings string   `json:"settings"` // a digest of clip, model and options
	Scenes   []stored `json:"scenes"`
	Segments []int64  `json:"segments,omitempty"` // PTS of the first frame of each segment that is encoded
	Sealed   int64    `json:"sealed,omitempty"`   // frames in those
}

const journalVersion = 2

// errOther is a journal of other settings.
var errOther = errors.New("an unfinished run with another clip, model or other options is there")

// folderOf is where the journal of a result lies.
func folderOf(out string) string {
	return filepath.Join(filepath.Dir(out), "."+filepath.Base(out)+".unfinished")
}

// openJournal opens the journal of out, or makes one.
func openJournal(ctx context.Context, out, settings string, restart bool) (*journal, error) {
	j := &journal{dir: folderOf(out)}
	if restart {
		if err := os.RemoveAll(j.dir); err != nil {
			return nil, err
		}
	}
	text, err := os.ReadFile(j.path("journal.json"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		j.state = state{Version: journalVersion, Settings: settings}
		if err := os.MkdirAll(j.dir, 0o777); err != nil {
			return nil, err
		}
		if err := j.save(ctx); err != nil {
			_ = os.Remove(j.dir) // unless something is in it
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(text, &j.state); err != nil {
			return nil, fmt.Errorf("%s is damaged, --restart throws it away: %w", j.path("journal.json"), err)
		}
		if j.state.Version != journalVersion || j.state.Settings != settings {
			return nil, fmt.Errorf("%s: %w", j.dir, errOther)
		}
	}
	if j.log, err = os.OpenFile(j.path("frames.log"), os.O_RDWR|os.O_CREATE, 0o666); err != nil {
		return nil, err
	}
	if err := j.readLog(math.MaxInt64); err != nil {
		return nil, errors.Join(err, j.log.Close())
	}
	return j, nil
}

func (j *journal) path(name string) string { return filepath.Join(j.dir, name) }

func (j *journal) close() error { return j.log.Close() }

// remove throws the journal away.
func (j *journal) remove() error { return errors.Join(j.log.Close(), os.RemoveAll(j.dir)) }

// save writes the state; the caller holds the lock, or is alone.
func (j *journal) save(ctx context.Context) error {
	return atomicfile.Write(ctx, j.path("journal.json"), func(w io.Writer) error { return json.NewEncoder(w).Encode(j.state) })
}

// scenes keeps the scenes found so far.
func (j *journal) scenes(all []Scene) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state.Scenes = toStored(all)
	return j.save(context.Background())
}

// A record of the log: time of presentation, then what was measured, then a checksum.
const recordBytes = 8 + 5*8 + 4

func encodeRecord(pts int64, m measure) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(pts))
	for _, v := range []float64{m.before, m.after, m.clean, m.stretched, m.pairs} {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func decodeRecord(b []byte) (pts int64, m measure, ok bool) {
	if len(b) < recordBytes || crc32.ChecksumIEEE(b[:recordBytes-4]) != binary.LittleEndian.Uint32(b[recordBytes-4:]) {
		return 0, m, false
	}
	for i, v := range []*float64{&m.before, &m.after, &m.clean, &m.stretched, &m.pairs} {
		*v = math.Float64frombits(binary.LittleEndian.Uint64(b[8+8*i:]))
	}
	return int64(binary.LittleEndian.Uint64(b)), m, true
}

// readLog counts the records that are whole, most at most, and cuts off the rest.
func (j *journal) readLog(most int64) error {
	text, err := os.ReadFile(j.path("frames.log"))
	if err != nil {
		return err
	}
	j.known, j.sum = 0, measure{}
	for j.known < most {
		_, m, ok := decodeRecord(text[min(j.known*recordBytes, int64(len(text))):])
		if !ok {
			break
		}
		j.known++
		j.sum.add(m)
	}
	if err := j.log.Truncate(j.known * recordBytes); err != nil {
		return err
	}
	_, err = j.log.Seek(0, io.SeekEnd)
	return err
}

// record notes that a frame is kept.
func (j *journal) record(pts int64, m measure) error {
	if _, err := j.log.Write(encodeRecord(pts, m)); err != nil {
		return err
	}
	j.known++
	return nil
}

// times gives the times of presentation of n frames from the first on.
func (j *journal) times(first, n int64) ([]int64, error) {
	b := make([]byte, n*recordBytes)
	if _, err := j.log.ReadAt(b, first*recordBytes); err != nil {
		return nil, err
	}
	out := make([]int64, n)
	for i := range out {
		pts, _, ok := decodeRecord(b[int64(i)*recordBytes:])
		if !ok {
			return nil, fmt.Errorf("%s: record %d is damaged", j.path("frames.log"), first+int64(i))
		}
		out[i] = pts
	}
	return out, nil
}

// raw is a file of frames of one size, one after the other behind a header.
type raw struct {
	f      *os.File
	header int64
	size   int64 // of a frame with what stands before it
}

// openRaw opens a file of frames, cut to n of them; fewer may be there.
func openRaw(path string, header []byte, size int64, n int64) (*raw, int64, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, 0, err
	}
	r := &raw{f, int64(len(header)), size}
	info, err := f.Stat()
	if err == nil {
		have := int64(0)
		if info.Size() >= r.header {
			have = (info.Size() - r.header) / size
		}
		n = min(n, have)
		err = f.Truncate(min(info.Size(), r.header+n*size))
	}
	if err == nil && n == 0 {
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt(header, 0)
		}
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return r, n, nil
}

// last reads the data of the last frame, before bytes behind the start of its record; nil if there is none.
func (r *raw) last(before int64) (*Frame, error) {
	end, err := r.f.Seek(0, io.SeekEnd)
	if err != nil || end < r.header+r.size {
		return nil, err
	}
	f := &Frame{Data: make([]byte, r.size-before)}
	_, err = r.f.ReadAt(f.Data, end-r.size+before)
	return f, err
}
