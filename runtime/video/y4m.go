package video

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxHeader bounds the lines of a YUV4MPEG2 stream.
const maxHeader = 4096

const (
	y4mMagic   = "YUV4MPEG2"
	frameMagic = "FRAME"
)

// reader reads a YUV4MPEG2 stream: 4:2:0 of every siting, 4:2:2, 4:4:4, 4:1:1 and mono, 8 to 16 bits.
type reader struct {
	r      *bufio.Reader
	format Format
	n      int64
}

// newReader reads the header of a stream.
func newReader(r io.Reader) (*reader, error) {
	d := &reader{r: bufio.NewReaderSize(r, 1<<20)}
	line, err := d.line()
	if err == io.EOF {
		return nil, errors.New("y4m: nothing in it")
	}
	if err != nil {
		return nil, fmt.Errorf("y4m header: %w", err)
	}
	if d.format, err = parseHeader(line); err != nil {
		return nil, fmt.Errorf("y4m header: %w", err)
	}
	return d, nil
}

// Format is that of the frames.
func (d *reader) Format() Format { return d.format }

// line reads up to a newline. It is io.EOF if nothing is there at all.
func (d *reader) line() (string, error) {
	var b []byte
	for {
		c, err := d.r.ReadByte()
		switch {
		case err == io.EOF && len(b) == 0:
			return "", io.EOF
		case err == io.EOF:
			return "", io.ErrUnexpectedEOF
		case err != nil:
			return "", err
		case c == '\n':
			return string(b), nil
		case len(b) == maxHeader:
			return "", fmt.Errorf("a line of more than %d bytes", maxHeader)
		}
		b = append(b, c)
	}
}

// Next reads a frame into f, whose Data is used again if it has room. It is io.EOF after the last one, and
// io.ErrUnexpectedEOF in the middle of one.
func (d *reader) Next(f *Frame) error {
	line, err := d.line()
	if err == io.EOF {
		return io.EOF
	}
	if err != nil {
		return fmt.Errorf("y4m frame %d: %w", d.n, err)
	}
	if line != frameMagic && !strings.HasPrefix(line, frameMagic+" ") {
		return fmt.Errorf("y4m frame %d: want %q, got %q", d.n, frameMagic, cut(line, 20))
	}
	f.Params = strings.TrimPrefix(line, frameMagic)
	f.PTS = d.n
	if err := readFull(d.r, f, d.format.frameBytes()); err != nil {
		return fmt.Errorf("y4m frame %d: %w", d.n, err)
	}
	d.n++
	return nil
}

// readFull reads n bytes into a frame, growing it as they come: a header may promise more than there is.
func readFull(r io.Reader, f *Frame, n int) error {
	if cap(f.Data) >= n {
		f.Data = f.Data[:n]
		_, err := io.ReadFull(r, f.Data)
		return noEOF(err)
	}
	const step = 16 << 20
	f.Data = f.Data[:0]
	for len(f.Data) < n {
		have := len(f.Data)
		f.Data = append(f.Data, make([]byte, min(step, n-have))...)
		if _, err := io.ReadFull(r, f.Data[have:]); err != nil {
			return noEOF(err)
		}
	}
	return nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

// parseHeader reads the first line of a stream.
func parseHeader(line string) (Format, error) {
	f := Format{Depth: 8, Siting: sitingCentre, Interlacing: '?', Rate: Ratio{25, 1}}
	words := strings.Split(line, " ")
	if words[0] != y4mMagic {
		return f, fmt.Errorf("want %s, got %q", y4mMagic, cut(line, 20))
	}
	var err error
	for _, w := range words[1:] {
		if w == "" {
			continue
		}
		value := w[1:]
		switch w[0] {
		case 'W':
			f.Width, err = strconv.Atoi(value)
		case 'H':
			f.Height, err = strconv.Atoi(value)
		case 'F':
			f.Rate, err = parseRatio(value)
		case 'A':
			f.Aspect, err = parseRatio(value)
		case 'I':
			if len(value) != 1 || !strings.Contains("ptbm?", value) {
				err = errors.New("unknown interlacing")
			} else {
				f.Interlacing = value[0]
			}
		case 'C':
			err = f.colourSpace(value)
		case 'X':
			switch strings.ToUpper(value) {
			case "COLORRANGE=FULL":
				f.FullRange = true
			case "COLORRANGE=LIMITED":
				f.FullRange = false
			}
		}
		if err != nil {
			return f, fmt.Errorf("%q: %w", cut(w, 40), err)
		}
	}
	if f.Interlacing == 'm' {
		return f, errors.New("frames of mixed interlacing (Im) are not read; make them progressive first")
	}
	if err := f.check(); err != nil {
		return f, err
	}
	f.Matrix, err = matrixOf("", f.Width, f.Height)
	return f, err
}

func parseRatio(s string) (Ratio, error) {
	a, b, ok := strings.Cut(s, ":")
	n, err1 := strconv.ParseInt(a, 10, 32)
	d, err2 := strconv.ParseInt(b, 10, 32)
	if !ok || err1 != nil || err2 != nil || n < 0 || d < 0 || (n > 0) != (d > 0) && n != 0 {
		return Ratio{}, errors.New("want a ratio like 25:1")
	}
	return Ratio{n, d}, nil
}

// The names of colour spaces; depths above 8 have "p10" and the like behind them.
var y4mSpaces = []struct {
	name   string
	chroma Chroma
	siting Siting
}{
	{"420jpeg", chroma420, sitingCentre}, {"420mpeg2", chroma420, sitingLeft}, {"420paldv", chroma420, sitingTopLeft}, {"420", chroma420, sitingCentre},
	{"422", chroma422, sitingLeft}, {"444", chroma444, sitingLeft}, {"411", chroma411, sitingLeft}, {"mono", chromaMono, sitingLeft},
}

func (f *Format) colourSpace(s string) error {
	for _, y := range y4mSpaces {
		rest, ok := strings.CutPrefix(s, y.name)
		if !ok {
			continue
		}
		if y.name != "mono" { // 420p10, but mono10
			if rest == "" {
				f.Chroma, f.Siting, f.Depth = y.chroma, y.siting, 8
				return nil
			}
			if rest, ok = strings.CutPrefix(rest, "p"); !ok {
				continue
			}
		}
		f.Chroma, f.Siting, f.Depth = y.chroma, y.siting, 8
		if y.chroma == chroma420 && y.name == "420" {
			f.Siting = sitingLeft // where there are more than 8 bits, names say nothing, and players take MPEG-2's
		}
		if rest == "" {
			return nil
		}
		n, err := strconv.Atoi(rest)
		if err != nil || n < 9 || n > 16 {
			return errors.New("unknown depth")
		}
		f.Depth = n
		return nil
	}
	if strings.Contains(s, "alpha") {
		return errors.New("transparency is not kept; take it off first, as ffmpeg -pix_fmt yuv444p does")
	}
	return errors.New("unknown colour space")
}

// header is the first line of a stream of a format.
func (f *Format) header() (string, error) {
	if f.Chroma == chromaRGB {
		return "", errors.New("y4m holds no RGB; convert to 4:4:4, or write another kind of file")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s W%d H%d F%d:%d I%c A%d:%d C", y4mMagic, f.Width, f.Height, f.Rate.Num, f.Rate.Den, f.Interlacing, f.Aspect.Num, f.Aspect.Den)
	for _, y := range y4mSpaces {
		if y.chroma != f.Chroma || f.Chroma == chroma420 && f.Depth == 8 && y.siting != f.Siting || f.Chroma == chroma420 && f.Depth > 8 && y.name != "420" {
			continue
		}
		b.WriteString(y.name)
		break
	}
	if f.Depth > 8 {
		if f.Chroma != chromaMono {
			b.WriteByte('p')
		}
		fmt.Fprintf(&b, "%d", f.Depth)
	}
	if f.FullRange {
		b.WriteString(" XCOLORRANGE=FULL")
	} else {
		b.WriteString(" XCOLORRANGE=LIMITED")
	}
	b.WriteByte('\n')
	return b.String(), nil
}

// writer writes a YUV4MPEG2 stream.
type writer struct {
	w      io.Writer
	format Format
	begun  bool
}

// newWriter makes a writer of frames of a format.
func newWriter(w io.Writer, f Format) *writer { return &writer{w: w, format: f} }

// begin writes the header, unless that is done.
func (e *writer) begin() error {
	if e.begun {
		return nil
	}
	h, err := e.format.header()
	if err != nil {
		return err
	}
	e.begun = true
	_, err = io.WriteString(e.w, h)
	return err
}

// write writes a frame, and the header before the first.
func (e *writer) write(f *Frame) error {
	if len(f.Data) != e.format.frameBytes() {
		return fmt.Errorf("y4m: frame of %d bytes, want %d", len(f.Data), e.format.frameBytes())
	}
	if err := e.begin(); err != nil {
		return err
	}
	if _, err := io.WriteString(e.w, frameMagic+f.Params+"\n"); err != nil {
		return err
	}
	_, err := e.w.Write(f.Data)
	return err
}
