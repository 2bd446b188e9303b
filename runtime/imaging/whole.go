package imaging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// wholeDecodeBytes is the memory up to which a file is decoded to see whether it is whole.
const wholeDecodeBytes = 16 << 20

// CheckWhole reports a file that is no picture, or one that was cut short. The end of the file tells, so that it costs
// next to nothing; only TIFF, which may keep pixels anywhere, is decoded if it is small.
func CheckWhole(path string) error {
	p, err := ProbeFile(path, Limits{Strict: true, MaxPixels: 1 << 40})
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	head, tail := make([]byte, min(size, 16)), make([]byte, min(size, 64<<10))
	if _, err := io.ReadFull(f, head); err != nil {
		return err
	}
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	whole := true
	switch p.Format {
	case PNG:
		whole = bytes.Contains(tail, []byte("IEND\xae\x42\x60\x82"))
	case JPEG:
		whole = bytes.Contains(tail, []byte{0xff, 0xd9})
	case GIF:
		whole = bytes.Contains(tail, []byte{';'})
	case WebP:
		whole = 8+int64(binary.LittleEndian.Uint32(head[4:])) <= size
	case BMP:
		whole = int64(binary.LittleEndian.Uint32(head[2:])) <= size
	case TIFF:
		if p.DecodeBytes <= wholeDecodeBytes {
			_, err := DecodeFile(path, Limits{Strict: true})
			return err
		}
	}
	if !whole {
		return fmt.Errorf("%s: cut short", path)
	}
	return nil
}
