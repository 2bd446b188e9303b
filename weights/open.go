package weights

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"unirestorer/weights/internal/blob"
)

// Format is a kind of weight file.
type Format string

// The formats that Open knows.
const (
	FormatSafetensors Format = "safetensors"
	FormatZip         Format = "pytorch zip"    // torch.save since PyTorch 1.6
	FormatLegacy      Format = "pytorch legacy" // torch.save before, or with _use_new_zipfile_serialization=False
	FormatFolder      Format = "model folder"
)

// File is an open weight file.
type File interface {
	Source
	io.Closer
	// Path is the path that was opened.
	Path() string
	// Format is what the content turned out to be.
	Format() Format
	// Metadata returns texts that the file carries besides tensors; it may be nil.
	Metadata() map[string]string
}

// Open opens a safetensors file, a PyTorch checkpoint with default options, or a model folder. It goes by the
// content; names don't matter.
func Open(path string) (File, error) { return OpenRoots(path, nil) }

// OpenRoots is Open for checkpoints whose state dict lies under one of roots; see CheckpointOptions.RootKeys.
func OpenRoots(path string, roots []string) (File, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return asFile(OpenFolder(path))
	}
	data, err := blob.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open weights: %w", err)
	}
	format, err := sniff(data)
	if err != nil {
		data.Close()
		return nil, fmt.Errorf("open weights %s: %w", path, err)
	}
	if format == FormatSafetensors {
		return asFile(openSafetensors(data))
	}
	return asFile(openCheckpoint(data, CheckpointOptions{RootKeys: roots}))
}

// asFile keeps a nil pointer from becoming a File that is not nil.
func asFile[F File](f F, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// legacyMagic begins every legacy checkpoint: the pickle, in protocol 2, of PyTorch's magic number
// 0x1950a86a20f9469cfc6c.
var legacyMagic = []byte("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.")

// sniff tells the format from the first bytes.
func sniff(data *blob.Blob) (Format, error) {
	head := make([]byte, 32)
	n, err := data.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	head = head[:n]
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, []byte("PK\x05\x06")):
		return FormatZip, nil
	case bytes.HasPrefix(head, legacyMagic):
		return FormatLegacy, nil
	case len(head) > safetensorsLengthBytes && head[safetensorsLengthBytes] == '{':
		return FormatSafetensors, nil
	case bytes.HasPrefix(head, []byte("version https://git-lfs")):
		return "", errors.New("this is a Git LFS pointer; fetch the file it stands for")
	case len(head) == 0:
		return "", errors.New("the file is empty")
	default:
		return "", errors.New("neither a safetensors file nor a PyTorch checkpoint")
	}
}
