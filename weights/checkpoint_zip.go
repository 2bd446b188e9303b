package weights

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"strings"

	"unirestorer/weights/internal/blob"
	"unirestorer/weights/internal/pickle"
)

// zipRecord is the place of an uncompressed record in the file.
type zipRecord struct {
	name         string
	offset, size int64
	crc          uint32
}

// zipArchive finds the records of a checkpoint: <folder>/data.pkl, <folder>/data/<key> and others.
type zipArchive struct {
	data   *blob.Blob
	folder string // with the slash
	files  map[string]*zip.File
}

// readZip decodes the pickle of a zip checkpoint. It also returns the records that the tensors lie in.
func readZip(data *blob.Blob) (object any, records []zipRecord, passed []string, err error) {
	a, err := openArchive(data)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := a.checkByteOrder(); err != nil {
		return nil, nil, nil, err
	}
	pickled, err := a.record(a.folder + "data.pkl")
	if err != nil {
		return nil, nil, nil, err
	}
	placed := make(map[string]zipRecord)
	h := &torchHandler{storage: func(key string, d DType, numel int, view pickle.Tuple) (*torchStorage, error) {
		if view != nil {
			return nil, fmt.Errorf("storage %q is a view, as only legacy checkpoints have them", key)
		}
		r, again := placed[key]
		if !again {
			var err error
			if r, err = a.record(a.folder + "data/" + key); err != nil {
				return nil, err
			}
			placed[key] = r
			records = append(records, r)
		}
		s := &torchStorage{key: key, dtype: d, numel: numel, placed: true, offset: r.offset}
		size, err := s.bytes()
		if err != nil {
			return nil, err
		}
		if size > r.size {
			return nil, fmt.Errorf("%d elements of %s take %d bytes, record %q has %d", numel, d, size, r.name, r.size)
		}
		return s, nil
	}}
	in := io.NewSectionReader(data, pickled.offset, pickled.size)
	dec := pickle.NewDecoder(in, pickled.size, h, pickle.DefaultLimits)
	object, err = dec.Decode()
	if err == nil && dec.Offset() != pickled.size {
		err = fmt.Errorf("%d bytes after the end", pickled.size-dec.Offset())
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", pickled.name, err)
	}
	return object, records, h.passed, nil
}

func openArchive(data *blob.Blob) (*zipArchive, error) {
	r, err := zip.NewReader(data, data.Size())
	if err != nil {
		return nil, fmt.Errorf("zip directory: %w; the file may be cut short", err)
	}
	a := &zipArchive{data: data, files: make(map[string]*zip.File, len(r.File))}
	for _, f := range r.File {
		if _, again := a.files[f.Name]; again {
			return nil, fmt.Errorf("two records are named %q", f.Name)
		}
		a.files[f.Name] = f
		if folder, ok := strings.CutSuffix(f.Name, "/data.pkl"); ok && !strings.Contains(folder, "/") {
			if a.folder != "" {
				return nil, fmt.Errorf("two checkpoints, %q and %q", a.folder+"data.pkl", f.Name)
			}
			a.folder = folder + "/"
		}
	}
	if a.folder == "" {
		return nil, errors.New("a zip file without the record data.pkl of a checkpoint")
	}
	return a, nil
}

// record finds the bytes of a record through its local header, whose length differs from the directory's.
func (a *zipArchive) record(name string) (zipRecord, error) {
	f, ok := a.files[name]
	if !ok {
		return zipRecord{}, fmt.Errorf("no record %q", name)
	}
	const encrypted = 0x1
	if f.Method != zip.Store || f.Flags&encrypted != 0 || f.CompressedSize64 != f.UncompressedSize64 {
		return zipRecord{}, fmt.Errorf("record %q is compressed or encrypted, as torch.save never does", name)
	}
	offset, err := f.DataOffset()
	if err != nil {
		return zipRecord{}, fmt.Errorf("record %q: %w", name, err)
	}
	size := int64(f.UncompressedSize64)
	if size < 0 || offset < 0 || offset > a.data.Size() || size > a.data.Size()-offset {
		return zipRecord{}, fmt.Errorf("record %q: %d bytes from %d on are outside the file", name, uint64(size), offset)
	}
	return zipRecord{name, offset, size, f.CRC32}, nil
}

// checkByteOrder reads the record that PyTorch writes since 2.1.
func (a *zipArchive) checkByteOrder() error {
	name := a.folder + "byteorder"
	if _, ok := a.files[name]; !ok {
		return nil
	}
	r, err := a.record(name)
	if err != nil {
		return err
	}
	order := make([]byte, min(r.size, 16))
	if _, err := a.data.ReadAt(order, r.offset); err != nil {
		return fmt.Errorf("record %q: %w", name, err)
	}
	if string(order) != "little" {
		return fmt.Errorf("byte order %q is not supported, only little", order)
	}
	return nil
}
