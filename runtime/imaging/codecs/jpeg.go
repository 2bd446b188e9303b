package codecs

import (
	"context"
	"errors"
	"fmt"
)

// JPEGHeader is what libjpeg says of a file.
type JPEGHeader struct {
	Width, Height int
	Components    int // in the file
	Channels      int // of the pixels: 1 grey, 3 RGB, 4 CMYK, or Components where the colour space is unknown
	Bits          int
	Progressive   bool
	Arithmetic    bool
	Adobe         bool // an Adobe marker was seen: CMYK is stored inverted
	MaxH, MaxV    int  // largest sampling factors
}

// JPEGPicture is a decoded JPEG and what was wrong with it.
type JPEGPicture struct {
	JPEGHeader
	Pix      []uint8 // rows of interleaved samples without padding
	Rows     int     // that were decoded; those below are zero
	Warning  string  // the first fault found, empty if none
	FaultRow int     // the first row that may be damaged; Height where every row was decoded before the fault
}

// jpegMemory is what libjpeg may take for a picture: the file, coefficients of a progressive picture (2 bytes a sample) and
// rows at work.
func jpegMemory(file int, h JPEGHeader) int64 {
	samples := int64(h.Width) * int64(h.Height) * int64(max(h.Components, 1))
	return baseMemory + 4<<20 + int64(file) + 3*samples + 512*int64(h.Width)
}

// DecodeJPEG reads a JPEG with libjpeg-turbo. check is called with the header before anything large is allocated. What a
// damaged file still holds is returned with a Warning; an error means that no row could be had.
func DecodeJPEG(ctx context.Context, data []byte, check func(JPEGHeader) error) (*JPEGPicture, error) {
	h, err := readJPEGHeader(ctx, data)
	if err != nil {
		return nil, err
	}
	if err := check(h); err != nil {
		return nil, err
	}
	in, err := jpeg.start(ctx, jpegMemory(len(data), h))
	if err != nil {
		return nil, err
	}
	defer in.close()
	if _, err := openJPEG(in, data); err != nil {
		return nil, err
	}
	p := &JPEGPicture{JPEGHeader: h, Pix: make([]uint8, h.Width*h.Height*h.Channels), FaultRow: h.Height}
	err = p.rows(in)
	if err != nil && p.Rows == 0 {
		return nil, err
	}
	if err == nil {
		_, err = in.call("jpeg_finish")
	}
	if p.Warning = in.message("warning_message"); p.Warning != "" {
		if row := in.int("jpeg_fault_row"); row >= 0 { // negative: not in the pixels
			p.FaultRow = min(row, h.Height)
		}
	}
	if err != nil && p.Rows < h.Height {
		if p.FaultRow = min(p.FaultRow, p.Rows); p.Warning == "" {
			p.Warning = err.Error()
		}
	}
	return p, nil
}

// readJPEGHeader reads the header alone.
func readJPEGHeader(ctx context.Context, data []byte) (JPEGHeader, error) {
	in, err := jpeg.start(ctx, baseMemory+1<<20+int64(len(data)))
	if err != nil {
		return JPEGHeader{}, err
	}
	defer in.close()
	return openJPEG(in, data)
}

func openJPEG(in *instance, data []byte) (JPEGHeader, error) {
	file, err := in.put(data)
	if err != nil {
		return JPEGHeader{}, err
	}
	p, err := in.call("jpeg_open", uint64(file), uint64(len(data)))
	if err != nil {
		return JPEGHeader{}, err
	}
	v, err := in.words(uint32(p), 11)
	if err != nil {
		return JPEGHeader{}, err
	}
	h := JPEGHeader{
		Width: v[0], Height: v[1], Components: v[2], Channels: v[4], Bits: v[5],
		Progressive: v[6] != 0, Arithmetic: v[7] != 0, Adobe: v[8] != 0, MaxH: v[9], MaxV: v[10],
	}
	if h.Width <= 0 || h.Height <= 0 || h.Channels < 1 || h.Channels > 10 {
		return JPEGHeader{}, fmt.Errorf("JPEG of %d×%d pixels with %d channels", h.Width, h.Height, h.Channels)
	}
	return h, nil
}

// rows decodes in bands of about a megabyte, and copies what a band holds even if libjpeg gives up inside it.
func (p *JPEGPicture) rows(in *instance) error {
	if _, err := in.call("jpeg_start"); err != nil {
		return err
	}
	stride := p.Width * p.Channels
	band := max(1, min(p.Height, 1<<20/stride))
	buf, err := in.alloc(int64(band) * int64(stride))
	if err != nil {
		return err
	}
	for p.Rows < p.Height {
		n, err := in.call("jpeg_rows", uint64(buf), uint64(min(band, p.Height-p.Rows)))
		done := int(n)
		if err != nil {
			done = min(in.int("jpeg_done")-p.Rows, band)
		}
		rows, viewErr := in.view(buf, int64(done)*int64(stride))
		if viewErr != nil {
			return errors.Join(err, viewErr)
		}
		copy(p.Pix[p.Rows*stride:], rows)
		p.Rows += done
		if err != nil {
			return err
		}
		if done <= 0 {
			return errors.New("no more rows")
		}
	}
	return nil
}
