package imaging

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Format names an image file format.
type Format string

// The formats that can be read and written.
const (
	PNG  Format = "png"
	JPEG Format = "jpeg"
	WebP Format = "webp"
	TIFF Format = "tiff"
	BMP  Format = "bmp"
)

// ErrFormat reports a file whose first bytes belong to no known format. Use errors.Is.
var ErrFormat = errors.New("not a PNG, JPEG, WebP, TIFF or BMP file")

// FormatFromPath returns the format that the extension of path names, in any case.
func FormatFromPath(path string) (Format, error) {
	ext := strings.ToLower(filepath.Ext(path))
	switch ext {
	case ".png":
		return PNG, nil
	case ".jpg", ".jpeg", ".jpe", ".jfif":
		return JPEG, nil
	case ".webp":
		return WebP, nil
	case ".tif", ".tiff":
		return TIFF, nil
	case ".bmp", ".dib":
		return BMP, nil
	case "":
		return "", fmt.Errorf("%s: no file extension to take the image format from", path)
	}
	return "", fmt.Errorf("%s: unknown image file extension %q (want .png, .jpg, .webp, .tif or .bmp)", path, ext)
}

// sniff names the format by the first bytes of a file.
func sniff(data []byte) (Format, error) {
	switch {
	case bytes.HasPrefix(data, []byte(pngSignature)):
		return PNG, nil
	case bytes.HasPrefix(data, []byte{0xff, 0xd8}):
		return JPEG, nil
	case len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP":
		return WebP, nil
	case bytes.HasPrefix(data, []byte("II*\x00")), bytes.HasPrefix(data, []byte("MM\x00*")),
		bytes.HasPrefix(data, []byte("II+\x00")), bytes.HasPrefix(data, []byte("MM\x00+")):
		return TIFF, nil
	case bytes.HasPrefix(data, []byte("BM")):
		return BMP, nil
	}
	return "", ErrFormat
}
