package weights

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"unirestorer/weights/internal/blob"
)

// Folder is an open model folder: config.json, one or more safetensors files (the shards), and tensors.json, which
// lists the shards and the aliases, names of tensors whose equal is stored under another name. Each shard is an
// ordinary safetensors file. A folder without tensors.json has no aliases, and all its *.safetensors are shards.
type Folder struct {
	*table
	path     string
	config   []byte
	metadata map[string]string
	aliases  map[string]string
	index    *folderIndex // nil without tensors.json
	digest   string       // of tensors.json
	ranges   []byte       // ranges.json
	shards   []*Safetensors
}

// OpenFolder opens the model folder at path. Names, aliases included, are listed in byte-wise order; the tensor of an
// alias has its own name and the StorageKey of the stored one.
func OpenFolder(path string) (*Folder, error) {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("%s is a file, not a model folder", path)
	}
	open := func(name string) (*blob.Blob, error) { return blob.Open(filepath.Join(path, name)) }
	return openFolder(path, os.DirFS(path), open)
}

// OpenFolderFS opens a model folder that is the root of a file system, such as one embedded in the program; errors
// call it name. Files are read on demand if they can (io.ReaderAt), else at once.
func OpenFolderFS(name string, fsys fs.FS) (*Folder, error) {
	open := func(file string) (*blob.Blob, error) { return openFS(name+"/"+file, fsys, file) }
	return openFolder(name, fsys, open)
}

// openFS makes a blob of a file in a file system.
func openFS(name string, fsys fs.FS, file string) (*blob.Blob, error) {
	f, err := fsys.Open(file)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if r, ok := f.(io.ReaderAt); ok {
		return blob.New(name, r, info.Size(), f.Close), nil
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	return blob.FromBytes(name, data), nil
}

func openFolder(path string, fsys fs.FS, open func(name string) (*blob.Blob, error)) (*Folder, error) {
	f := &Folder{path: path, table: newTable(path, 0), metadata: make(map[string]string)}
	if err := f.read(fsys, open); err != nil {
		f.Close()
		return nil, fmt.Errorf("model folder %s: %w", path, err)
	}
	return f, nil
}

func (f *Folder) read(fsys fs.FS, open func(name string) (*blob.Blob, error)) error {
	var err error
	if f.config, err = readLimited(fsys, configFile, maxConfigBytes); err != nil {
		return err
	}
	if f.ranges, err = readLimited(fsys, rangesFile, maxConfigBytes); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	names, err := f.readIndex(fsys)
	if err != nil {
		return err
	}
	for i, name := range names {
		data, err := open(name)
		if err != nil {
			return fmt.Errorf("shard %s: %w", name, err)
		}
		if f.index != nil && data.Size() != f.index.Shards[i].Bytes {
			data.Close()
			return fmt.Errorf("shard %s has %d bytes, %s says %d", name, data.Size(), indexFile, f.index.Shards[i].Bytes)
		}
		shard, err := openSafetensors(data)
		if err != nil {
			return err
		}
		f.shards = append(f.shards, shard)
		if f.index != nil {
			f.index.checkTensors(shard, f.index.Shards[i])
		}
		maps.Copy(f.metadata, shard.metadata)
		for _, name := range shard.names {
			if err := f.add(shard.byName[name]); err != nil {
				return fmt.Errorf("shard %s: %w", shard.Path(), err)
			}
		}
	}
	if err := f.addAliases(); err != nil {
		return fmt.Errorf("%s: %w", indexFile, err)
	}
	slices.Sort(f.names)
	return nil
}

// readIndex reads tensors.json if there is one, and returns the names of the shards.
func (f *Folder) readIndex(fsys fs.FS) ([]string, error) {
	data, err := readLimited(fsys, indexFile, maxIndexBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return listShards(fsys)
	}
	if err != nil {
		return nil, err
	}
	f.index, err = parseFolderIndex(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	digest := sha256.Sum256(data)
	f.digest = hex.EncodeToString(digest[:])
	var names []string
	for _, s := range f.index.Shards {
		names = append(names, s.File)
	}
	return names, nil
}

func listShards(fsys fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if isShardName(e.Name()) && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return nil, errors.New("no " + indexFile + " and no *" + shardExt)
	}
	return names, nil
}

// addAliases resolves aliases in byte-wise order, so that errors are always the same ones.
func (f *Folder) addAliases() error {
	if f.index == nil {
		return nil
	}
	f.aliases = f.index.Aliases
	stored := maps.Clone(f.byName)
	for _, name := range slices.Sorted(maps.Keys(f.aliases)) {
		target, ok := stored[f.aliases[name]]
		if !ok {
			return fmt.Errorf("alias %q: there is no stored tensor %q", name, f.aliases[name])
		}
		if err := f.add(target.WithName(name)); err != nil {
			return fmt.Errorf("alias %q: %w", name, err)
		}
	}
	return nil
}

func readLimited(fsys fs.FS, name string, limit int64) ([]byte, error) {
	file, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: longer than %d bytes", name, limit)
	}
	return data, nil
}

// Path is the folder's path.
func (f *Folder) Path() string { return f.path }

// Format is FormatFolder.
func (f *Folder) Format() Format { return FormatFolder }

// Config returns a copy of config.json as it is.
func (f *Folder) Config() []byte { return slices.Clone(f.config) }

// Ranges returns the content of ranges.json, nil if there is none.
func (f *Folder) Ranges() []byte { return slices.Clone(f.ranges) }

// Digest identifies the folder's tensors: the SHA-256 of what tensors.json says of them, "" without that file.
func (f *Folder) Digest() string { return f.digest }

// Metadata returns the texts in the headers of all shards.
func (f *Folder) Metadata() map[string]string { return maps.Clone(f.metadata) }

// Close ends reading; see the package comment.
func (f *Folder) Close() error {
	var err error
	for _, s := range f.shards {
		err = errors.Join(err, s.Close())
	}
	return err
}

// Verify reads all shards and compares them with the digests in tensors.json. It finds damage to values, which
// opening the folder can't see, and names the damaged tensors where their own digests are known. A folder without tensors.json has no digests, which is an error.
func (f *Folder) Verify(ctx context.Context) error {
	if f.index == nil {
		return fmt.Errorf("verify %s: there are no digests, as it has no %s", f.path, indexFile)
	}
	for i, s := range f.shards {
		sum := sha256.New()
		scratch := make([]byte, chunkBytes)
		for at := int64(0); at < s.data.Size(); at += chunkBytes {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("verify %s: %w", f.path, err)
			}
			err := s.data.Do(at, min(chunkBytes, s.data.Size()-at), scratch, func(data []byte) error {
				_, err := sum.Write(data)
				return err
			})
			if err != nil {
				return fmt.Errorf("verify %s: %w", f.path, err)
			}
		}
		if got, want := hex.EncodeToString(sum.Sum(nil)), f.index.Shards[i].SHA256; !strings.EqualFold(got, want) {
			return fmt.Errorf("verify %s: SHA-256 of shard %s is %s instead of %s, the file is damaged%s",
				f.path, f.index.Shards[i].File, got, want, f.damaged(s))
		}
	}
	return nil
}

// damaged names the tensors of a shard whose values are not what they were.
func (f *Folder) damaged(s *Safetensors) string {
	var names []string
	for _, name := range s.names {
		want, known := f.index.CRC32C[name]
		if c, ok := s.byName[name].content.(*checked); known && ok && checkTensor(c.content.(*contiguous), want) != nil {
			names = append(names, strconv.Quote(name))
		}
	}
	if len(names) == 0 {
		return ""
	}
	const few = 5
	if n := len(names); n > few {
		names = append(names[:few], fmt.Sprintf("and %d more", n-few))
	}
	return " in " + strings.Join(names, ", ")
}
