// Package pairs makes training data: endless, numbered records of a clean patch of a photo and the same patch degraded.
// A record depends on the photos, the configuration and its number only, so that a stream can be resumed anywhere and
// is the same on every machine.
package pairs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"unirestorer/runtime/degrade"
)

// kindSlots is the number of severities in a record, one for each kind that exists or may come to exist.
const kindSlots = 16

// headerBytes is the size of a record before its pixels.
const headerBytes = 8 + 8 + 4 + 4 + 4 + 2 + 2 + 4*kindSlots

// Config says what records hold.
type Config struct {
	Size      int             // side of the square patches, in pixels
	Seed      uint64          // of everything random
	Sampler   degrade.Sampler // draws the degradation of a record, unless Specs is set
	Specs     []degrade.Spec  // drawn with equal probability; their own seeds are not used
	Others    float64         // share of records that any trained kind of degradation is drawn for instead, as DefaultSampler draws
	Tones     float64         // share of records whose photo is given another tone before it is degraded
	Backdrops float64         // share of records in which part of the photo is put before another background first
	Saved     float64         // share of records that are made smaller, sharpened and compressed afterwards, as people save pictures
	Negatives float64         // share of records that show a negative, three in four of them not degraded
}

// Source makes records from photos. It may be used by several goroutines.
type Source struct {
	photos    []*Photo
	negatives []*Photo
	config    Config
}

// maxSize bounds the side of a patch.
const maxSize = 8192

// NewSource checks the configuration against the photos, which must come from [LoadPhotos] with a minSide of at least the
// size of the patches. Negatives are pictures that are no photos, such as screenshots and scanned pages, of the same sizes;
// they are shown as often as the configuration says.
func NewSource(photos, negatives []*Photo, config Config) (*Source, error) {
	if config.Size < 1 || config.Size > maxSize {
		return nil, fmt.Errorf("patch size %d is not between 1 and %d", config.Size, maxSize)
	}
	if len(photos) == 0 {
		return nil, errors.New("no photos")
	}
	if config.Negatives > 0 && len(negatives) == 0 {
		return nil, errors.New("no negatives")
	}
	for _, photo := range slices.Concat(photos, negatives) {
		for level := range photo.levels {
			if w, h := photo.size(level); min(w, h) < config.Size {
				return nil, fmt.Errorf("photo %s: %d×%d pixels are too few for patches of %d", photo.Name, w, h, config.Size)
			}
		}
		if photo.resolutions() == 0 {
			return nil, fmt.Errorf("photo %s: no resolution fits patches of %d", photo.Name, config.Size)
		}
	}
	for _, spec := range config.Specs {
		if err := spec.Check(); err != nil {
			return nil, fmt.Errorf("degradation %s: %w", spec, err)
		}
	}
	if len(config.Specs) == 0 {
		if err := config.Sampler.Check(); err != nil {
			return nil, err
		}
	}
	for name, share := range map[string]float64{"other degradations": config.Others, "other tones": config.Tones, "backdrops": config.Backdrops,
		"saving": config.Saved, "negatives": config.Negatives} {
		if !(share >= 0 && share <= 1) {
			return nil, fmt.Errorf("share of records with %s %g is not between 0 and 1", name, share)
		}
	}
	return &Source{photos: photos, negatives: negatives, config: config}, nil
}

// record is a training example.
type record struct {
	Index    uint64
	Spec     degrade.Spec // what was applied, seed included
	Photo    int          // index into the photos, and after them the negatives
	Level    int          // resolution of the photo, 0 the finest
	X, Y     int          // upper left corner of the patch in the photo at that level
	Saving   degrade.Saving
	Flip     bool    // mirrored left to right after cropping
	Clean    []uint8 // Size × Size × 3, HWC
	Degraded []uint8 // the same patch
}

// record returns record number index.
func (s *Source) record(ctx context.Context, index uint64) (*record, error) {
	random := rand.New(rand.NewPCG(s.config.Seed, index))
	for range 4 { // neighbouring states of the generator need a few steps to part
		random.Uint64()
	}
	r := &record{Index: index}
	photo, negative := s.choose(random, r)
	r.Level = random.IntN(photo.resolutions())
	from := photo.levels[r.Level]
	if s.config.Saved > 0 && random.Float64() < s.config.Saved {
		r.Saving = degrade.DrawSaving(random, float64(s.config.Size)/float64(min(from.w, from.h)))
	}
	size := min(int(math.Ceil(float64(s.config.Size)/r.Saving.Scale())), from.w, from.h)
	r.X, r.Y = random.IntN(from.w-size+1), random.IntN(from.h-size+1)
	r.Flip = random.IntN(2) == 1
	r.Spec = s.spec(random)
	if negative && random.Float64() < 0.75 {
		r.Spec = degrade.Spec{}
	}

	// The margin lets blur bring in what the photo shows beside the patch, and puts JPEG blocks anywhere.
	reach := r.Spec.Reach()
	left, top := margin(r.X, reach, random), margin(r.Y, reach, random)
	w := min(left+size+reach, from.w-r.X+left)
	h := min(top+size+reach, from.h-r.Y+top)
	wide, err := from.crop(r.X-left, r.Y-top, w, h, r.Flip)
	if err != nil {
		return nil, err
	}
	if s.config.Tones > 0 && random.Float64() < s.config.Tones {
		newTone(random).apply(wide)
	}
	if s.config.Backdrops > 0 && random.Float64() < s.config.Backdrops {
		if err := newBackdrop(random).apply(ctx, wide); err != nil {
			return nil, fmt.Errorf("record %d: backdrop: %w", index, err)
		}
	}
	patchX := left
	if r.Flip { // what lies to the left in the photo comes to lie to the right
		patchX = w - left - size
	}
	clean, err := wide.Crop(patchX, top, size, size)
	if err != nil {
		return nil, err
	}
	spec := r.Spec.Crop(float64(r.Y-top)/float64(from.h), float64(r.Y-top+h)/float64(from.h))
	spoilt, err := degrade.Apply(ctx, wide, spec)
	if err != nil {
		return nil, fmt.Errorf("record %d: %w", index, err)
	}
	degraded, err := spoilt.Crop(patchX, top, size, size)
	if err != nil {
		return nil, err
	}
	if len(r.Saving) > 0 {
		if clean, degraded, err = s.save(ctx, r, clean, degraded); err != nil {
			return nil, fmt.Errorf("record %d: %w", index, err)
		}
	}
	r.Clean, r.Degraded = clean.Bytes(), degraded.Bytes()
	return r, nil
}

// choose draws the picture of a record.
func (s *Source) choose(random *rand.Rand, r *record) (photo *Photo, negative bool) {
	if s.config.Negatives > 0 && random.Float64() < s.config.Negatives {
		n := random.IntN(len(s.negatives))
		r.Photo = len(s.photos) + n
		return s.negatives[n], true
	}
	r.Photo = random.IntN(len(s.photos))
	return s.photos[r.Photo], false
}

// save does to both pictures of a record what the record's saving says, compression to the degraded one alone: what is
// asked for is the picture without its traces. A picture that nothing was done to but saving it is to be left as it is.
func (s *Source) save(ctx context.Context, r *record, clean, degraded *degrade.Image) (_, _ *degrade.Image, err error) {
	if degraded, err = r.Saving.Apply(ctx, degraded); err != nil {
		return nil, nil, err
	}
	if clean, err = r.Saving.Without().Apply(ctx, clean); err != nil {
		return nil, nil, err
	}
	// Rounding of the sides may leave a pixel too many.
	if clean, err = clean.Crop(0, 0, s.config.Size, s.config.Size); err != nil {
		return nil, nil, err
	}
	if degraded, err = degraded.Crop(0, 0, s.config.Size, s.config.Size); err != nil {
		return nil, nil, err
	}
	if len(r.Spec.Terms) == 0 {
		clean = degraded
	}
	return clean, degraded, nil
}

// spec draws what is done to a record.
func (s *Source) spec(random *rand.Rand) degrade.Spec {
	seed := random.Uint64()
	if s.config.Others > 0 && random.Float64() < s.config.Others {
		sampler := degrade.DefaultSampler()
		sampler.Clean, sampler.Photographed, sampler.Visible = 0, s.config.Sampler.Photographed, s.config.Sampler.Visible
		return sampler.Sample(seed)
	}
	if n := len(s.config.Specs); n > 0 {
		spec := s.config.Specs[random.IntN(n)]
		spec.Seed = seed
		return spec
	}
	return s.config.Sampler.Sample(seed)
}

// margin returns how many pixels to keep in front of a patch at the given position: the reach, and a few more where
// there is one so that the patch lies anywhere on the grid of JPEG blocks.
func margin(position, reach int, random *rand.Rand) int {
	extra := random.IntN(16)
	if reach == 0 {
		return 0
	}
	return min(position, reach+extra)
}

// recordBytes is the size of a record in a stream.
func (s *Source) recordBytes() int { return headerBytes + 2*3*s.config.Size*s.config.Size }

// append adds the stream form of a record to buf.
func (r *record) append(buf []byte) []byte {
	le := binary.LittleEndian
	buf = le.AppendUint64(buf, r.Index)
	buf = le.AppendUint64(buf, r.Spec.Seed)
	buf = le.AppendUint32(buf, uint32(r.Photo))
	buf = le.AppendUint32(buf, uint32(r.X))
	buf = le.AppendUint32(buf, uint32(r.Y))
	buf = le.AppendUint16(buf, uint16(r.Level))
	var flip uint16
	if r.Flip {
		flip = 1
	}
	buf = le.AppendUint16(buf, flip)
	var severity [kindSlots]float32
	for _, t := range r.Spec.Terms {
		severity[t.Kind] = float32(t.Severity)
	}
	for _, v := range severity {
		buf = le.AppendUint32(buf, math.Float32bits(v))
	}
	buf = append(buf, r.Clean...)
	return append(buf, r.Degraded...)
}

// chunkRecords is the number of records that a goroutine makes and that are written at a time.
const chunkRecords = 32

// Write writes the records start, start+1, … as a stream: count of them, or until the context ends if count is 0.
// Records are made on all cores and written in order.
func (s *Source) Write(ctx context.Context, w io.Writer, start, count uint64) error {
	if count > math.MaxUint64-start {
		return fmt.Errorf("%d records from number %d on run past the largest number", count, start)
	}
	if count == 0 {
		count = math.MaxUint64 - start
	}
	workers := runtime.GOMAXPROCS(0)
	group, ctx := errgroup.WithContext(ctx)
	// Each chunk is made by a goroutine of its own and waits in a channel of its own; the queue of these channels keeps
	// the order and bounds how far production runs ahead.
	queue := make(chan chan []byte, 2*workers)
	free := make(chan []byte, 4*workers)
	slots := make(chan struct{}, workers)
	group.Go(func() error {
		defer close(queue)
		for done := uint64(0); done < count; {
			first, n := start+done, min(count-done, chunkRecords)
			done += n
			ready := make(chan []byte, 1)
			select {
			case queue <- ready:
			case <-ctx.Done():
				return ctx.Err()
			}
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			group.Go(func() error {
				defer func() { <-slots }()
				var buf []byte
				select {
				case buf = <-free:
				default:
				}
				buf = buf[:0]
				for i := range n {
					record, err := s.record(ctx, first+i)
					if err != nil {
						return err
					}
					buf = record.append(buf)
				}
				ready <- buf
				return nil
			})
		}
		return nil
	})
	group.Go(func() error {
		for ready := range queue {
			select {
			case buf := <-ready:
				if _, err := w.Write(buf); err != nil {
					return fmt.Errorf("write records: %w", err)
				}
				select {
				case free <- buf:
				default:
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return group.Wait()
}
