// Package results keeps results in a folder, the ones used last within a bound on bytes.
//
// A result is a file that appears whole or not at all and ends with a digest of itself: what is damaged is taken for missing.
// Everything is found again by the next process. A folder is one process' at a time.
package results

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"unirestorer/runtime/folders"
	"unirestorer/weights/atomicfile"
)

// magic starts every file; the number is the form's version.
const magic = "UNIRES01"

// tag marks the folder for programs that make backups (bford.info/cachedir).
const tag = "Signature: 8a477f597d28d172789f06886806bc55\n# Results of unirestorer serve; may be deleted at any time.\n"

var (
	keyPattern   = regexp.MustCompile(`^[0-9a-f]{32}$`)
	shardPattern = regexp.MustCompile(`^[0-9a-f]{2}$`)
	tempPattern  = regexp.MustCompile(`^\.[0-9a-f]{32}\.[0-9a-f]+\.tmp$`)
)

// Stats counts what happened since Open.
type Stats struct {
	Entries              int
	Bytes                int64
	Hits, Misses, Drops  uint64 // drops: for want of room, or because of damage
	FailedWrites, Damage uint64
}

// Cache is a folder of results. Its methods may be called from several goroutines.
type Cache struct {
	folder string
	bound  int64
	claim  *folders.Claim

	mu    sync.Mutex
	order *simplelru.LRU[string, int64] // bytes by key
	stats Stats
}

// Open opens a folder, which is made if it is not there, for at most bound bytes of results. It returns
// [folders.ErrClaimed], wrapped, where another process has it.
func Open(folder string, bound int64) (*Cache, error) {
	if bound <= 0 {
		return nil, fmt.Errorf("results in %s: a bound of %d bytes", folder, bound)
	}
	if err := ours(folder); err != nil {
		return nil, fmt.Errorf("results in %s: %w", folder, err)
	}
	claim, err := folders.TakeClaim(filepath.Join(folder, "results"))
	if err != nil {
		return nil, fmt.Errorf("results in %s: %w", folder, err)
	}
	c := &Cache{folder: folder, bound: bound, claim: claim}
	if c.order, err = simplelru.NewLRU[string, int64](math.MaxInt, nil); err == nil {
		err = c.find()
	}
	if err != nil {
		claim.Release()
		return nil, fmt.Errorf("results in %s: %w", folder, err)
	}
	return c, nil
}

// ours refuses a folder that holds anything else: programs that make backups would leave all of it out.
func ours(folder string) error {
	text, err := os.ReadFile(filepath.Join(folder, "CACHEDIR.TAG"))
	if err == nil && (len(text) == 0 || strings.Contains(string(text), "unirestorer serve")) { // a crash may leave it empty
		return nil
	}
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		// A mounted file system has a folder or hidden files of its own.
		if name := e.Name(); !strings.HasPrefix(name, ".") && name != "lost+found" && !shardPattern.MatchString(name) {
			return fmt.Errorf("there is %s: it wants a folder of its own", name)
		}
	}
	return nil
}

// Close lets another process have the folder.
func (c *Cache) Close() { c.claim.Release() }

// find takes account of the files that are there, and removes what a process left unfinished.
func (c *Cache) find() error {
	if err := os.WriteFile(filepath.Join(c.folder, "CACHEDIR.TAG"), []byte(tag), 0o666); err != nil {
		return err
	}
	type file struct {
		key  string
		size int64
		used time.Time
	}
	var all []file
	shards, err := os.ReadDir(c.folder)
	if err != nil {
		return err
	}
	for _, shard := range shards {
		if !shard.IsDir() || len(shard.Name()) != 2 {
			continue
		}
		entries, err := os.ReadDir(filepath.Join(c.folder, shard.Name()))
		if err != nil {
			return err
		}
		for _, e := range entries {
			info, err := e.Info()
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				return err
			case !info.Mode().IsRegular():
			case tempPattern.MatchString(e.Name()):
				if err := os.Remove(filepath.Join(c.folder, shard.Name(), e.Name())); err != nil {
					return err
				}
			case keyPattern.MatchString(e.Name()) && e.Name()[:2] == shard.Name():
				all = append(all, file{e.Name(), info.Size(), info.ModTime()})
			}
		}
	}
	slices.SortFunc(all, func(a, b file) int { return a.used.Compare(b.used) })
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range all {
		c.order.Add(f.key, f.size)
		c.stats.Bytes += f.size
	}
	c.makeRoom(0)
	return nil
}

func (c *Cache) path(key string) string { return filepath.Join(c.folder, key[:2], key) }

// Size tells how many bytes Get of a key would take, without reading them.
func (c *Cache) Size(key string) (bytes int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order.Peek(key)
}

// Get reads a result: what was said of it, and its bytes. A result that is missing or damaged is no error.
func (c *Cache) Get(key string) (about, data []byte, ok bool) {
	c.mu.Lock()
	_, ok = c.order.Get(key)
	c.mu.Unlock()
	if ok {
		var err error
		if about, data, err = read(c.path(key)); err == nil {
			now := time.Now()
			_ = os.Chtimes(c.path(key), now, now) // only the order after the next start hangs on it
			c.count(func(s *Stats) { s.Hits++ })
			return about, data, true
		}
		c.drop(key, !errors.Is(err, fs.ErrNotExist))
	}
	c.count(func(s *Stats) { s.Misses++ })
	return nil, nil, false
}

// Put keeps a result, unless it takes more than a quarter of the bound. key has 32 hexadecimal digits.
func (c *Cache) Put(ctx context.Context, key string, about, data []byte) error {
	if !keyPattern.MatchString(key) {
		return fmt.Errorf("results in %s: the key %q has not 32 hexadecimal digits", c.folder, key)
	}
	size := int64(len(magic) + 4 + len(about) + len(data) + sha256.Size)
	if size > c.bound/4 {
		return nil
	}
	c.mu.Lock()
	c.forget(key)
	c.makeRoom(size)
	c.order.Add(key, size) // its room is taken before it is written
	c.stats.Bytes += size
	c.mu.Unlock()
	err := os.MkdirAll(filepath.Dir(c.path(key)), 0o777)
	if err == nil {
		err = atomicfile.Write(ctx, c.path(key), func(w io.Writer) error { return write(w, about, data) })
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.forget(key)
		c.stats.FailedWrites++
	} else if !c.order.Contains(key) { // others took its room meanwhile
		_ = os.Remove(c.path(key))
	}
	return err
}

// Stats tells what happened so far.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Entries = c.order.Len()
	return s
}

func (c *Cache) count(f func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.stats)
}

// forget takes a key off the account. c.mu is held.
func (c *Cache) forget(key string) {
	if size, ok := c.order.Peek(key); ok {
		c.order.Remove(key)
		c.stats.Bytes -= size
	}
}

// makeRoom drops the results that were not used for longest until there is room for bytes more. c.mu is held.
func (c *Cache) makeRoom(bytes int64) {
	for c.stats.Bytes+bytes > c.bound {
		key, size, ok := c.order.RemoveOldest()
		if !ok {
			return
		}
		c.stats.Bytes -= size
		c.stats.Drops++
		_ = os.Remove(c.path(key)) // what cannot be removed is found at the next start
	}
}

func (c *Cache) drop(key string, damaged bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(key)
	c.stats.Drops++
	if damaged {
		c.stats.Damage++
	}
	_ = os.Remove(c.path(key))
}

func write(w io.Writer, about, data []byte) error {
	h := sha256.New()
	out := io.MultiWriter(w, h)
	head := binary.LittleEndian.AppendUint32([]byte(magic), uint32(len(about)))
	for _, part := range [][]byte{head, about, data} {
		if _, err := out.Write(part); err != nil {
			return err
		}
	}
	_, err := w.Write(h.Sum(nil))
	return err
}

var errDamaged = errors.New("the file is damaged")

func read(path string) (about, data []byte, err error) {
	all, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	return parse(all)
}

// parse takes a file apart; the parts lie in all.
func parse(all []byte) (about, data []byte, err error) {
	head := len(magic) + 4
	if len(all) < head+sha256.Size || string(all[:len(magic)]) != magic {
		return nil, nil, errDamaged
	}
	body, digest := all[:len(all)-sha256.Size], all[len(all)-sha256.Size:]
	n := int64(binary.LittleEndian.Uint32(body[len(magic):]))
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], digest) || n > int64(len(body)-head) {
		return nil, nil, errDamaged
	}
	return body[head : head+int(n)], body[head+int(n):], nil
}
