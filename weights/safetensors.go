package weights

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"unirestorer/weights/internal/blob"
)

// The safetensors format: the length of the header as 8 bytes, little-endian; the header, a JSON object that gives
// each tensor's dtype, shape and place; the values of all tensors without gaps.
const (
	safetensorsLengthBytes = 8
	safetensorsMaxHeader   = 100_000_000 // the limit of the reference implementation
	safetensorsMetadataKey = "__metadata__"
)

// Safetensors is an open safetensors file.
type Safetensors struct {
	*table
	data     *blob.Blob
	metadata map[string]string
}

// OpenSafetensors opens a safetensors file and checks its whole header: its length, that it is valid JSON without
// repeated keys, every dtype and shape, and that the tensors fill the rest of the file without gaps or overlaps. The
// values themselves are not read. Tensors are listed in the order they are stored in.
func OpenSafetensors(path string) (*Safetensors, error) {
	data, err := blob.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open safetensors: %w", err)
	}
	return openSafetensors(data)
}

// NewSafetensors is OpenSafetensors for size bytes of r, which errors call name.
func NewSafetensors(name string, r io.ReaderAt, size int64) (*Safetensors, error) {
	return openSafetensors(blob.New(name, r, size, nil))
}

// openSafetensors takes over data and closes it on errors.
func openSafetensors(data *blob.Blob) (*Safetensors, error) {
	s, err := readSafetensors(data)
	if err != nil {
		data.Close()
		return nil, fmt.Errorf("safetensors file %s: %w", data.Name(), err)
	}
	return s, nil
}

// Path is the file's path.
func (s *Safetensors) Path() string { return s.data.Name() }

// Format is FormatSafetensors.
func (s *Safetensors) Format() Format { return FormatSafetensors }

// Metadata returns the texts under "__metadata__" in the header.
func (s *Safetensors) Metadata() map[string]string { return maps.Clone(s.metadata) }

// Close ends reading; see the package comment.
func (s *Safetensors) Close() error { return s.data.Close() }

// safetensorsEntry is what the header says of a tensor; begin and end count from the end of the header.
type safetensorsEntry struct {
	name       string
	dtype      DType
	shape      []int
	begin, end int64
}

func readSafetensors(data *blob.Blob) (*Safetensors, error) {
	var prefix [safetensorsLengthBytes]byte
	if _, err := data.ReadAt(prefix[:], 0); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%d bytes are too few", data.Size())
		}
		return nil, err
	}
	length := binary.LittleEndian.Uint64(prefix[:])
	if length > safetensorsMaxHeader {
		return nil, fmt.Errorf("header of %d bytes, at most %d are allowed", length, safetensorsMaxHeader)
	}
	values := safetensorsLengthBytes + int64(length)
	if values > data.Size() {
		return nil, fmt.Errorf("header of %d bytes in a file of %d", length, data.Size())
	}
	entries, metadata, err := parseSafetensorsHeader(io.NewSectionReader(data, safetensorsLengthBytes, int64(length)))
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if err := checkLayout(entries, data.Size()-values); err != nil {
		return nil, err
	}
	s := &Safetensors{newTable(data.Name(), len(entries)), data, metadata}
	for _, e := range entries {
		t, err := newTensor(e.name, e.dtype, e.shape, &contiguous{data, values + e.begin, e.end - e.begin, e.dtype})
		if err == nil {
			err = s.add(t)
		}
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", e.name, err)
		}
	}
	return s, nil
}

func parseSafetensorsHeader(r io.Reader) (entries []safetensorsEntry, metadata map[string]string, err error) {
	err = readJSON(r, func(j *jsonReader) error {
		return j.object(func(key string) error {
			if key == safetensorsMetadataKey {
				metadata = make(map[string]string)
				return j.object(func(key string) error {
					text, err := j.text()
					metadata[key] = text
					return err
				})
			}
			e, err := parseSafetensorsEntry(j)
			if err != nil {
				return fmt.Errorf("tensor %q: %w", key, err)
			}
			e.name = key
			entries = append(entries, e)
			return nil
		})
	})
	return entries, metadata, err
}

func parseSafetensorsEntry(j *jsonReader) (e safetensorsEntry, err error) {
	fields := 0
	var offsets []int64
	err = j.object(func(key string) error {
		fields++
		switch key {
		case "dtype":
			name, err := j.text()
			if err != nil {
				return err
			}
			e.dtype, err = parseDType(name)
			return err
		case "shape":
			e.shape = []int{}
			return j.array(func() error {
				n, err := j.count()
				if err != nil {
					return err
				}
				if len(e.shape) == maxRank {
					return fmt.Errorf("more than %d dimensions", maxRank)
				}
				if n > int64(maxInt) {
					return fmt.Errorf("dimension %d is too large", n)
				}
				e.shape = append(e.shape, int(n))
				return nil
			})
		case "data_offsets":
			return j.array(func() error {
				n, err := j.count()
				if err != nil {
					return err
				}
				if len(offsets) == 2 {
					return errors.New("more than two data_offsets")
				}
				offsets = append(offsets, n)
				return nil
			})
		default:
			return fmt.Errorf("unknown field %q", key)
		}
	})
	if err != nil {
		return e, err
	}
	if fields != 3 || len(offsets) != 2 {
		return e, errors.New("dtype, shape and two data_offsets are needed")
	}
	e.begin, e.end = offsets[0], offsets[1]
	n, err := countElements(e.shape)
	if err != nil {
		return e, err
	}
	size, err := countBytes(n, e.dtype)
	if err != nil {
		return e, err
	}
	if e.end-e.begin != size {
		return e, fmt.Errorf("%s of shape %v takes %d bytes, data_offsets [%d, %d] give %d",
			e.dtype, e.shape, size, e.begin, e.end, e.end-e.begin)
	}
	return e, nil
}

// checkLayout sorts the entries by place and checks that they fill size bytes one after the other.
func checkLayout(entries []safetensorsEntry, size int64) error {
	slices.SortStableFunc(entries, func(a, b safetensorsEntry) int {
		if a.begin != b.begin {
			return cmp.Compare(a.begin, b.begin)
		}
		return cmp.Compare(a.end, b.end)
	})
	var at int64
	for _, e := range entries {
		switch {
		case e.begin < at:
			return fmt.Errorf("tensor %q: starts at byte %d inside the one before, which ends at %d", e.name, e.begin, at)
		case e.begin > at:
			return fmt.Errorf("tensor %q: starts at byte %d, which leaves a gap after byte %d", e.name, e.begin, at)
		case e.end > size:
			return fmt.Errorf("tensor %q: ends at byte %d, the file has %d", e.name, e.end, size)
		}
		at = e.end
	}
	if at != size {
		return fmt.Errorf("tensors end at byte %d, the file has %d", at, size)
	}
	return nil
}
