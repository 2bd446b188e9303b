package imaging

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Format names an image file format.
type Format string

// The formats that can be read; all but GIF can be written.
const (
	PNG  Format = "png"
	JPEG Format = "jpeg"
	WebP Format = "webp"
	TIFF Format = "tiff"
	BMP  Format = "bmp"
	GIF  Format = "gif"
)

// ErrFormat reports a file whose first bytes belong to no known format. Use errors.Is.
var ErrFormat = errors.New("not a PNG, JPEG, WebP, TIFF, BMP or GIF file")

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
	case ".gif":
		return GIF, nil
	case "":
		return "", fmt.Errorf("%s: no file extension to take the image format from", path)
	}
	return "", fmt.Errorf("%s: unknown image file extension %q (want .png, .jpg, .webp, .tif or .bmp)", path, ext)
}

// WritableFormat is [FormatFromPath] for a result: GIF is read but not written.
func WritableFormat(path string) (Format, error) {
	f, err := FormatFromPath(path)
	if err == nil && f == GIF {
		err = fmt.Errorf("%s: GIF is read but not written; PNG and WebP hold the same", path)
	}
	return f, err
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
	case bytes.HasPrefix(data, []byte("GIF8")):
		return GIF, nil
	}
	if name, way := foreignFormat(data); name != "" {
		return "", &foreignError{name, way}
	}
	return "", ErrFormat
}

// foreignError reports a picture of a known format that is not read here. It is an [ErrFormat].
type foreignError struct {
	Name string // of the format
	Way  string // a command that converts it
}

func (e *foreignError) Error() string {
	return fmt.Sprintf("%s is not read; convert it first, for example: %s", e.Name, e.Way)
}

// Is makes a foreignError an ErrFormat.
func (e *foreignError) Is(target error) bool { return target == ErrFormat }

// foreign are formats that are known but not read, by the brand in an ISO base media file or by extension.
var foreign = []struct {
	name, way  string
	brands     []string
	extensions []string
}{
	{"AVIF", "avifdec FILE out.png", []string{"avif", "avis"}, []string{".avif"}},
	{"HEIC", "heif-convert FILE out.png", []string{"heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"},
		[]string{".heic", ".heif", ".hif"}},
	{"JPEG XL", "djxl FILE out.png", nil, []string{".jxl"}},
	{"JPEG 2000", "opj_decompress -i FILE -o out.png", []string{"jp2 ", "jpx "}, []string{".jp2", ".j2k", ".jpx"}},
	{cameraRaw, rawWay, []string{"crx "}, []string{
		".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2", ".pef", ".x3f", ".3fr",
		".iiq", ".erf", ".kdc", ".mrw", ".rwl", ".srw"}},
}

const (
	cameraRaw = "camera raw"
	rawWay    = "dcraw_emu -T -w FILE, or a raw developer's export to TIFF"
)

// ForeignExtension names the format that an extension stands for if it is one that is known but not read.
func ForeignExtension(path string) (name string, ok bool) {
	ext := strings.ToLower(filepath.Ext(path))
	for _, f := range foreign {
		if slices.Contains(f.extensions, ext) {
			return f.name, true
		}
	}
	return "", false
}

func foreignFormat(data []byte) (name, way string) {
	switch {
	case len(data) >= 12 && string(data[4:8]) == "ftyp":
		for _, f := range foreign {
			if slices.Contains(f.brands, string(data[8:12])) {
				return f.name, f.way
			}
		}
	case bytes.HasPrefix(data, []byte("\xff\x0a")), bytes.HasPrefix(data, []byte("\x00\x00\x00\x0cJXL ")):
		return foreign[2].name, foreign[2].way
	case bytes.HasPrefix(data, []byte("\x00\x00\x00\x0cjP  ")), bytes.HasPrefix(data, []byte("\xff\x4f\xff\x51")):
		return foreign[3].name, foreign[3].way
	case bytes.HasPrefix(data, []byte("FUJIFILMCCD-RAW")), bytes.HasPrefix(data, []byte("IIRO")), bytes.HasPrefix(data, []byte("IIRS")),
		bytes.HasPrefix(data, []byte("IIU\x00")), bytes.HasPrefix(data, []byte("\x00MRM")), bytes.HasPrefix(data, []byte("FOVb")):
		return cameraRaw, rawWay
	}
	return "", ""
}
