package weights

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"unirestorer/weights/atomicfile"
	"unirestorer/weights/half"
)

// DTypePolicy says in which type a model folder stores floating-point tensors. Other tensors keep their type.
type DTypePolicy uint8

const (
	// KeepDType stores tensors in their own type.
	KeepDType DTypePolicy = iota
	// RoundToF16 stores F64, F32 and BF16 tensors as F16, rounded to nearest even, except those with finite values
	// that are too large for it, which keep their type.
	RoundToF16
	// F16IfExact stores such a tensor as F16 only if no value changes; a NaN counts as changed.
	F16IfExact
)

// defaultShardBytes is small enough for file systems and tools with a limit of 2 or 4 GiB.
const defaultShardBytes = 2<<30 - 1<<20

// FolderOptions say how a FolderWriter works.
type FolderOptions struct {
	// Overwrite replaces the model folder that is there. A folder with anything but a model in it is never replaced.
	Overwrite bool
	// ShardBytes is the size above which the values of a shard are not made to grow; a single larger tensor has a
	// shard of its own. 0 means just under 2 GiB.
	ShardBytes int64
	DType      DTypePolicy
	// Metadata goes into the header of every shard.
	Metadata map[string]string
}

// FolderSummary counts what a FolderWriter stored.
type FolderSummary struct {
	Tensors int   // stored
	Aliases int   // names whose tensor equals a stored one
	Shards  int   // safetensors files
	Bytes   int64 // of all shards
	Kept    int   // stored floating-point tensors that DTypePolicy would convert and could not without loss
}

// FolderWriter makes a model folder. Add decides the type of each tensor and finds equal ones by reading the values
// once; Finish reads them again, writes the folder beside its place and moves it there when it is complete. So the
// tensors' files must stay open until Finish returns, and memory does not grow with their sizes. A FolderWriter is
// not safe for use from several goroutines.
type FolderWriter struct {
	path string
	temp string // where the folder is made, empty once that is over
	opts FolderOptions

	tensors  []*Tensor         // to store
	names    map[string]bool   // stored and aliases
	aliases  map[string]string // to the stored name
	byKey    map[StorageKey]storedAs
	byDigest map[tensorDigest]string
	crcs     map[string]string // of the stored tensors
	kept     int
}

// tensorDigest identifies a tensor by its content. SHA-256 makes equal digests of different content impossible in
// practice, so the bytes need not be compared.
type tensorDigest struct {
	dtype  DType
	shape  string
	sha256 [sha256.Size]byte
}

// storedAs is the stored tensor that holds the values of a storage, and the shape it has there.
type storedAs struct{ name, shape string }

// CreateFolder starts a model folder at path. It fails if something is there already, other than an empty folder or,
// with Overwrite, a model folder.
func CreateFolder(path string, opts FolderOptions) (*FolderWriter, error) {
	if opts.ShardBytes <= 0 {
		opts.ShardBytes = defaultShardBytes
	}
	path, err := filepath.Abs(path)
	if err == nil {
		err = CheckFolderPath(path, opts.Overwrite)
	}
	temp := ""
	if err == nil {
		temp = atomicfile.Beside(path)
		err = os.Mkdir(temp, 0o777)
	}
	if err != nil {
		return nil, fmt.Errorf("create model folder: %w", err)
	}
	return &FolderWriter{
		path: path, temp: temp, opts: opts,
		names: make(map[string]bool), aliases: make(map[string]string),
		byKey: make(map[StorageKey]storedAs), byDigest: make(map[tensorDigest]string), crcs: make(map[string]string),
	}, nil
}

// CheckFolderPath says whether CreateFolder could make a model folder at path: it is free, an empty folder or, with
// overwrite, a model folder and nothing else.
func CheckFolderPath(path string, overwrite bool) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s exists and is not a folder", path)
	}
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) == 0 {
		return err
	}
	if !overwrite {
		return fmt.Errorf("%s exists and is not empty: %w", path, fs.ErrExist)
	}
	for _, e := range entries {
		name := e.Name()
		if !e.Type().IsRegular() || name != configFile && name != indexFile && name != rangesFile && !isShardName(name) {
			return fmt.Errorf("%s is not overwritten, as it holds %s, which is not part of a model", path, name)
		}
	}
	return nil
}

// Add adds a tensor under its name. Its values are read to choose the type and to find an equal tensor, unless the
// same stored values were added before.
func (w *FolderWriter) Add(ctx context.Context, t *Tensor) error {
	if err := w.add(ctx, t); err != nil {
		return fmt.Errorf("model folder %s: %w", w.path, err)
	}
	return nil
}

func (w *FolderWriter) add(ctx context.Context, t *Tensor) error {
	if w.temp == "" {
		return fs.ErrClosed
	}
	if w.names[t.Name] {
		return fmt.Errorf("two tensors are named %q", t.Name)
	}
	key, shape := t.StorageKey(), fmt.Sprint(t.Shape)
	if as, ok := w.byKey[key]; ok && as.shape == shape {
		w.names[t.Name] = true
		w.aliases[t.Name] = as.name
		return nil
	}
	stored, err := w.choose(ctx, t)
	if err != nil {
		return err
	}
	digest := tensorDigest{dtype: stored.DType, shape: shape}
	sum, crc := sha256.New(), crc32.New(castagnoli)
	if _, err := stored.writeTo(ctx, io.MultiWriter(sum, crc)); err != nil {
		return err
	}
	sum.Sum(digest.sha256[:0])
	w.names[t.Name] = true
	name, ok := w.byDigest[digest]
	if ok {
		w.aliases[t.Name] = name
	} else {
		name = t.Name
		w.byDigest[digest] = name
		w.crcs[name] = hex.EncodeToString(crc.Sum(nil))
		w.tensors = append(w.tensors, stored)
		if stored == t && w.converts(t.DType) {
			w.kept++
		}
	}
	w.byKey[key] = storedAs{name, shape}
	return nil
}

func (w *FolderWriter) converts(d DType) bool {
	return w.opts.DType != KeepDType && (d == F64 || d == F32 || d == BF16)
}

// choose returns t in the type it is stored in, under the DTypePolicy.
func (w *FolderWriter) choose(ctx context.Context, t *Tensor) (*Tensor, error) {
	if !w.converts(t.DType) {
		return t, nil
	}
	fits, exact, err := fitsF16(ctx, t)
	if err != nil {
		return nil, err
	}
	if !fits || w.opts.DType == F16IfExact && !exact {
		return t, nil
	}
	return t.As(F16)
}

// fitsF16 says whether no finite value of t becomes infinite in F16, and whether no value changes at all. F64 values
// come rounded to odd, which keeps them finite, and inexact ones different from every F16 value.
func fitsF16(ctx context.Context, t *Tensor) (fits, exact bool, err error) {
	fits, exact = true, true
	err = t.chunks(ctx, func(_ int64, data []byte) error {
		var narrow [blockLen]uint16
		var back [blockLen]float32
		return decodeBlocks(data, t.DType, func(at int, block []float32) {
			n := len(block)
			half.F32ToF16(narrow[:n], block)
			half.F16ToF32(back[:n], narrow[:n])
			for i, v := range block {
				// The bits tell -0 from 0. A NaN counts as changed, whatever its payload.
				if math.Float32bits(v) == math.Float32bits(back[i]) && v == v {
					continue
				}
				exact = false
				if !math.IsInf(float64(v), 0) && math.IsInf(float64(back[i]), 0) {
					fits = false
				}
			}
		})
	})
	return fits, exact, err
}

// Finish writes the folder with config as its config.json and puts it in place.
func (w *FolderWriter) Finish(ctx context.Context, config []byte) (FolderSummary, error) {
	summary, err := w.finish(ctx, config)
	if err != nil {
		return FolderSummary{}, fmt.Errorf("model folder %s: %w", w.path, errors.Join(err, w.Close()))
	}
	return summary, nil
}

func (w *FolderWriter) finish(ctx context.Context, config []byte) (FolderSummary, error) {
	if w.temp == "" {
		return FolderSummary{}, fs.ErrClosed
	}
	if len(config) > maxConfigBytes {
		return FolderSummary{}, fmt.Errorf("%s: longer than %d bytes", configFile, maxConfigBytes)
	}
	index := &folderIndex{Version: indexVersion, Shards: []indexShard{}, CRC32C: w.crcs, Aliases: w.aliases}
	summary := FolderSummary{Tensors: len(w.tensors), Aliases: len(w.aliases), Kept: w.kept}
	shards := w.split()
	for i, tensors := range shards {
		name := fmt.Sprintf("model-%05d-of-%05d%s", i+1, len(shards), shardExt)
		shard, err := w.writeShard(ctx, name, tensors)
		if err != nil {
			return FolderSummary{}, fmt.Errorf("shard %s: %w", name, err)
		}
		index.Shards = append(index.Shards, shard)
		summary.Shards++
		summary.Bytes += shard.Bytes
	}
	text, err := index.encode()
	if err != nil {
		return FolderSummary{}, err
	}
	for name, data := range map[string][]byte{indexFile: text, configFile: config} {
		err := writeSynced(filepath.Join(w.temp, name), func(f io.Writer) error {
			_, err := f.Write(data)
			return err
		})
		if err != nil {
			return FolderSummary{}, err
		}
	}
	atomicfile.SyncDir(w.temp)
	if err := ctx.Err(); err != nil {
		return FolderSummary{}, err
	}
	if err := w.moveIntoPlace(); err != nil {
		return FolderSummary{}, err
	}
	return summary, nil
}

// split divides the tensors, in their order, into runs of about ShardBytes. There is at least one, perhaps empty.
func (w *FolderWriter) split() [][]*Tensor {
	shards := [][]*Tensor{nil}
	var size int64
	for _, t := range w.tensors {
		last := len(shards) - 1
		if len(shards[last]) > 0 && t.NumBytes() > w.opts.ShardBytes-size {
			shards = append(shards, nil)
			last, size = last+1, 0
		}
		shards[last] = append(shards[last], t)
		size += t.NumBytes()
	}
	return shards
}

func (w *FolderWriter) writeShard(ctx context.Context, name string, tensors []*Tensor) (indexShard, error) {
	sum := sha256.New()
	counter := &countingWriter{}
	err := writeSynced(filepath.Join(w.temp, name), func(f io.Writer) error {
		return writeSafetensors(ctx, io.MultiWriter(f, sum, counter), tensors, w.opts.Metadata)
	})
	return indexShard{name, counter.n, hex.EncodeToString(sum.Sum(nil))}, err
}

// moveIntoPlace renames the finished folder. An old one is moved aside first and put back if that fails.
func (w *FolderWriter) moveIntoPlace() error {
	if err := CheckFolderPath(w.path, w.opts.Overwrite); err != nil {
		return err
	}
	old := atomicfile.Beside(w.path)
	err := os.Rename(w.path, old)
	hadOld := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(w.temp, w.path); err != nil {
		if hadOld {
			err = errors.Join(err, os.Rename(old, w.path))
		}
		return err
	}
	w.temp = ""
	atomicfile.SyncDir(filepath.Dir(w.path))
	if hadOld {
		return os.RemoveAll(old)
	}
	return nil
}

// Close gives up a folder that is not finished and removes what was written of it. After Finish it does nothing.
func (w *FolderWriter) Close() error {
	if w.temp == "" {
		return nil
	}
	temp := w.temp
	w.temp = ""
	return os.RemoveAll(temp)
}

// writeSynced creates a file and makes its content durable.
func writeSynced(path string, write func(f io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

type countingWriter struct{ n int64 }

func (c *countingWriter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
