package imaging

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Limits bound what a file may ask for and say what is done about damage. A zero field takes its default.
type Limits struct {
	MaxPixels int64 // width × height; default 200 million
	MaxBytes  int64 // file size; default 1 GiB
	// Strict refuses damaged files. By default what is there is decoded, and Metadata.Warnings says what is not.
	Strict bool
}

const (
	defaultMaxPixels = 200_000_000
	defaultMaxBytes  = 1 << 30
)

// ErrTooLarge reports a file beyond the limits. Use errors.Is.
var ErrTooLarge = errors.New("image too large")

func (l Limits) withDefaults() Limits {
	if l.MaxPixels <= 0 {
		l.MaxPixels = defaultMaxPixels
	}
	if l.MaxBytes <= 0 {
		l.MaxBytes = defaultMaxBytes
	}
	return l
}

func (l Limits) checkPixels(w, h int) error {
	if w <= 0 || h <= 0 {
		return fmt.Errorf("image of %d×%d pixels", w, h)
	}
	if int64(w) > l.MaxPixels/int64(h) {
		return fmt.Errorf("%w: %d×%d pixels, the limit (max-pixels) is %d", ErrTooLarge, w, h, l.MaxPixels)
	}
	return nil
}

// Config is what a file's header says. W and H are as stored, before orientation is applied.
type Config struct {
	Format   Format
	W, H     int
	Channels int // as [Image] will have, but for BMP, whose alpha is known only once decoded
	Depth    int // as [Image] will have
}

// codec reads one format from a whole file in memory.
type codec struct {
	config func(data []byte) (Config, error)
	decode func(data []byte, cfg Config) (*Image, error)
	// repair, unless nil, decodes what decode refuses: rarer kinds, and what is left of damaged files, with warnings. It
	// gets the reason, which is what it returns if it can do no better.
	repair func(data []byte, cfg Config, reason error) (*Image, error)
}

func codecOf(f Format) (codec, error) {
	switch f {
	case PNG:
		return codec{configPNG, decodePNG, repairPNG}, nil
	case JPEG:
		return codec{configJPEG, decodeJPEG, repairJPEG}, nil
	case WebP:
		return codec{configWebP, decodeWebP, repairWebP}, nil
	case TIFF:
		return codec{configTIFF, decodeTIFF, nil}, nil
	case GIF:
		return codec{configGIF, decodeGIF, nil}, nil
	case BMP:
		return codec{configBMP, decodeBMP, nil}, nil
	}
	return codec{}, fmt.Errorf("unknown image format %q", f)
}

// Decode reads an image of any known format, told by its first bytes. The size in the header is checked against the
// limits before pixels are allocated. Of a damaged file, what is there is decoded, and Metadata.Warnings says what is not;
// with Limits.Strict, and where nothing is there, that is an error. Of a file of several pictures it is the first; see
// [Open].
//
// Pixels come as stored; [Image.Oriented] applies the EXIF orientation.
func Decode(r io.Reader, limits Limits) (*Image, error) {
	data, err := readAll(r, limits)
	if err != nil {
		return nil, err
	}
	return decodeBytes(data, limits)
}

// DecodeFile is [Decode] for a named file; errors start with the path.
func DecodeFile(path string, limits Limits) (*Image, error) {
	data, err := readFile(path, limits)
	if err != nil {
		return nil, err
	}
	img, err := decodeBytes(data, limits)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return img, nil
}

// readFile reads a named file; errors start with the path.
func readFile(path string, limits Limits) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		return nil, fmt.Errorf("%s: is a directory, not an image file", path)
	}
	if limit := limits.withDefaults().MaxBytes; st.Mode().IsRegular() && st.Size() > limit {
		return nil, fmt.Errorf("%s: %w: file of %d bytes, the limit is %d", path, ErrTooLarge, st.Size(), limit)
	}
	data, err := readAll(f, limits)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// readAll reads a file that is no larger than the limits allow. What tells its size, as files do, is read into memory of
// that size.
func readAll(r io.Reader, limits Limits) ([]byte, error) {
	limit := limits.withDefaults().MaxBytes
	// What cannot be a picture is refused before it is read on, which may be for ever.
	start := make([]byte, 512)
	n, err := io.ReadFull(r, start)
	start = start[:n]
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read image: %w", err)
	}
	if _, err := sniff(start); err != nil {
		return nil, err
	}
	next := int64(1 << 20)
	if s, ok := r.(interface{ Stat() (os.FileInfo, error) }); ok {
		if info, err := s.Stat(); err == nil && info.Mode().IsRegular() && info.Size() <= limit {
			next = info.Size() + 1
		}
	}
	// One piece for a file whose size is known; several otherwise, so that twice the stream is held at most.
	var pieces [][]byte
	total := int64(0)
	for total <= limit {
		piece := make([]byte, max(min(next, limit+1-total), int64(len(start))+1))
		n, err := io.ReadFull(r, piece[copy(piece, start):])
		n += len(start)
		start = nil
		pieces, total = append(pieces, piece[:n]), total+int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read image: %w", err)
		}
		next = max(1<<20, total/4)
	}
	switch {
	case total > limit:
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	case len(pieces) == 1:
		return pieces[0], nil
	}
	return bytes.Join(pieces, nil), nil
}

func configBytes(data []byte, limits Limits) (cfg Config, c codec, err error) {
	f, err := sniff(data)
	if err != nil {
		return Config{}, codec{}, err
	}
	defer guard(&err, f)
	if c, err = codecOf(f); err != nil {
		return Config{}, codec{}, err
	}
	if cfg, err = c.config(data); err != nil {
		return Config{}, codec{}, fmt.Errorf("decode %s: %w", f, eofMeansTruncated(err))
	}
	cfg.Format = f
	if err = limits.withDefaults().checkPixels(cfg.W, cfg.H); err != nil {
		return Config{}, codec{}, fmt.Errorf("decode %s: %w", f, err)
	}
	return cfg, c, nil
}

func decodeBytes(data []byte, limits Limits) (*Image, error) {
	cfg, c, err := configBytes(data, limits)
	if err != nil {
		return nil, err
	}
	img, err := c.read(data, cfg)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", cfg.Format, eofMeansTruncated(err))
	}
	return img.decoded(cfg, limits)
}

// read decodes a file, by the repairing decoder if the usual one gives up.
func (c codec) read(data []byte, cfg Config) (img *Image, err error) {
	func() {
		defer guard(&err, cfg.Format)
		img, err = c.decode(data, cfg)
	}()
	if err == nil || c.repair == nil {
		return img, err
	}
	defer guard(&err, cfg.Format)
	return c.repair(data, cfg, eofMeansTruncated(err))
}

// decoded finishes what a decoder made: it is checked against the header, and its colours are understood.
func (img *Image) decoded(cfg Config, limits Limits) (*Image, error) {
	if img.W != cfg.W || img.H != cfg.H {
		return nil, fmt.Errorf("decode %s: header says %d×%d pixels, data is %d×%d", cfg.Format, cfg.W, cfg.H, img.W, img.H)
	}
	if err := img.Check(); err != nil {
		return nil, fmt.Errorf("decode %s: %w", cfg.Format, err)
	}
	if limits.Strict && len(img.Meta.Warnings) > 0 {
		return nil, fmt.Errorf("decode %s: %w: %s", cfg.Format, ErrDamaged, strings.Join(img.Meta.Warnings, "; "))
	}
	img.Meta.Format = cfg.Format
	if img.Meta.Orientation < 1 || img.Meta.Orientation > 8 {
		img.Meta.Orientation = 1
	}
	if err := img.manageColour(); err != nil {
		return nil, fmt.Errorf("decode %s: %w", cfg.Format, err)
	}
	return img, nil
}

// ErrDamaged reports a file that Limits.Strict refuses. Use errors.Is.
var ErrDamaged = errors.New("damaged file")

// warn notes what was wrong with the file.
func (m *Metadata) warn(format string, args ...any) {
	m.Warnings = append(m.Warnings, fmt.Sprintf(format, args...))
}

// guard turns a panic of a codec on malformed input into an error. Allocation is bounded by the header check before
// it; this catches index errors only, so that one bad file cannot end a batch.
func guard(err *error, f Format) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("decode %s: malformed file (%v)", f, p)
	}
}

// eofMeansTruncated words the bare EOF that codecs return for a short file.
func eofMeansTruncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("truncated file: %w", io.ErrUnexpectedEOF)
	}
	return err
}
