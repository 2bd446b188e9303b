// Package weightstest makes weight files for tests.
package weightstest

import (
	"archive/zip"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"

	"unirestorer/weights"
)

// Spec describes a tensor of a checkpoint.
type Spec struct {
	Name  string
	DType weights.DType
	Shape []int
	// SameAs names an earlier tensor, of the same type and number of elements, whose storage this one shares.
	SameAs string
	// Data holds the values as little-endian bytes. Without it they are zeros, which take no room on the disk.
	Data []byte
}

var storageClasses = map[weights.DType]string{
	weights.F64: "DoubleStorage", weights.F32: "FloatStorage", weights.F16: "HalfStorage",
	weights.BF16: "BFloat16Storage", weights.I64: "LongStorage", weights.I32: "IntStorage", weights.I16: "ShortStorage",
	weights.I8: "CharStorage", weights.U8: "ByteStorage", weights.Bool: "BoolStorage",
}

// storage is a record to write.
type storage struct {
	key   string
	dtype weights.DType
	numel int
	bytes int64
	data  []byte
}

// WriteSparseCheckpoint writes a PyTorch checkpoint in the zip format at path, with the state dict under rootKey, or
// as the top level if that is empty. Tensors without Data are holes in the file, so on most file systems a checkpoint
// of any size takes little more room than its table of contents. Beyond 4 GiB the file is zip64, as torch.save makes
// it.
func WriteSparseCheckpoint(path, rootKey string, specs []Spec) error {
	pickled, storages, err := pickleState(rootKey, specs)
	if err != nil {
		return fmt.Errorf("write checkpoint %s: %w", path, err)
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	err = writeArchive(f, pickled, storages)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write checkpoint %s: %w", path, err)
	}
	return nil
}

func pickleState(rootKey string, specs []Spec) (pickled []byte, storages []*storage, err error) {
	byName := make(map[string]*storage, len(specs))
	p := &pickler{}
	p.begin()
	if rootKey != "" {
		p.op('}')
		p.text(rootKey)
	}
	p.orderedDict()
	p.op('(')
	for _, s := range specs {
		st, err := s.storage(byName)
		if err != nil {
			return nil, nil, err
		}
		if s.SameAs == "" {
			st.key = strconv.Itoa(len(storages))
			storages = append(storages, st)
		}
		byName[s.Name] = st
		p.text(s.Name)
		p.tensor(storageClasses[s.DType], st.key, st.numel, s.Shape)
	}
	p.op('u')
	if rootKey != "" {
		p.op('s')
	}
	p.op('.')
	return p.out, storages, nil
}

// storage returns the storage of a tensor: a new one or that of the tensor it is the same as.
func (s Spec) storage(byName map[string]*storage) (*storage, error) {
	if _, ok := storageClasses[s.DType]; !ok {
		return nil, fmt.Errorf("tensor %q: no storage class for %s", s.Name, s.DType)
	}
	if byName[s.Name] != nil {
		return nil, fmt.Errorf("two tensors are named %q", s.Name)
	}
	numel := 1
	for _, d := range s.Shape {
		numel *= d
	}
	if s.SameAs != "" {
		shared := byName[s.SameAs]
		if shared == nil || shared.dtype != s.DType || shared.numel != numel {
			return nil, fmt.Errorf("tensor %q: can't share the storage of %q", s.Name, s.SameAs)
		}
		return shared, nil
	}
	bytes := int64(numel) * int64(s.DType.Size())
	if s.Data != nil && int64(len(s.Data)) != bytes {
		return nil, fmt.Errorf("tensor %q: %d bytes of data instead of %d", s.Name, len(s.Data), bytes)
	}
	return &storage{dtype: s.DType, numel: numel, bytes: bytes, data: s.Data}, nil
}

const folder = "archive"

func writeArchive(f *os.File, pickled []byte, storages []*storage) error {
	sparse := &sparseWriter{f: f}
	archive := zip.NewWriter(sparse)
	records := []*storage{{key: "data.pkl", bytes: int64(len(pickled)), data: pickled}}
	for _, s := range storages {
		record := *s
		record.key = "data/" + s.key
		records = append(records, &record)
	}
	version := []byte("3\n")
	records = append(records, &storage{key: "version", bytes: int64(len(version)), data: version})
	for _, r := range records {
		if err := r.write(archive); err != nil {
			return fmt.Errorf("record %s: %w", r.key, err)
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return sparse.finish()
}

var zeros [1 << 20]byte

// pieces calls fn with the record's bytes a piece at a time.
func (s *storage) pieces(fn func(p []byte) error) error {
	if s.data != nil {
		return fn(s.data)
	}
	for left := s.bytes; left > 0; {
		n := min(left, int64(len(zeros)))
		if err := fn(zeros[:n]); err != nil {
			return err
		}
		left -= n
	}
	return nil
}

func (s *storage) write(archive *zip.Writer) error {
	sum := crc32.NewIEEE()
	if err := s.pieces(func(p []byte) error { _, err := sum.Write(p); return err }); err != nil {
		return err
	}
	w, err := archive.CreateRaw(&zip.FileHeader{
		Name:               folder + "/" + s.key,
		Method:             zip.Store,
		CRC32:              sum.Sum32(),
		CompressedSize64:   uint64(s.bytes),
		UncompressedSize64: uint64(s.bytes),
	})
	if err != nil {
		return err
	}
	return s.pieces(func(p []byte) error { _, err := w.Write(p); return err })
}

// sparseWriter leaves holes in place of long runs of zeros.
type sparseWriter struct {
	f  *os.File
	at int64
}

const shortestHole = 64 << 10

func (w *sparseWriter) Write(p []byte) (int, error) {
	if len(p) < shortestHole || !allZero(p) {
		n, err := w.f.WriteAt(p, w.at)
		w.at += int64(n)
		return n, err
	}
	w.at += int64(len(p))
	return len(p), nil
}

// finish gives a file that ends in a hole its length.
func (w *sparseWriter) finish() error { return w.f.Truncate(w.at) }

func allZero(p []byte) bool {
	for len(p) > 0 {
		n := min(len(p), len(zeros))
		if string(p[:n]) != string(zeros[:n]) {
			return false
		}
		p = p[n:]
	}
	return true
}
