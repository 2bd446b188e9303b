package weights

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"
	"strings"
	"sync"

	"unirestorer/weights/internal/blob"
)

// castagnoli is the CRC that processors compute at the speed of memory. It finds damage, not malice; SHA-256 is for that.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checked is the content of a tensor in a file whose digest is known. It is compared once, before the first value is read.
type checked struct {
	content
	check func() error
}

func (c *checked) span(first, n int, scratch *[]byte, fn func([]byte) error) error {
	if err := c.check(); err != nil {
		return err
	}
	return c.content.span(first, n, scratch, fn)
}

func (c *checked) view() ([]byte, func(), bool, error) {
	if err := c.check(); err != nil {
		return nil, nil, false, err
	}
	return c.content.view()
}

// checkTensors has the tensors of a shard compared with their digests when they are first read, or with the shard's where
// they have none of their own, as in folders of earlier versions.
func (x *folderIndex) checkTensors(s *Safetensors, shard indexShard) {
	whole := sync.OnceValue(func() error { return checkShard(s.data, shard) })
	for _, t := range s.byName {
		check := whole
		if want, ok := x.CRC32C[t.Name]; ok {
			at := t.content.(*contiguous)
			check = sync.OnceValue(func() error { return checkTensor(at, want) })
		}
		t.content = &checked{t.content, check}
	}
}

func checkTensor(c *contiguous, want string) error {
	sum := crc32.New(castagnoli)
	if err := digestOf(sum, c.file, c.offset, c.bytes); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); !strings.EqualFold(got, want) {
		return fmt.Errorf("%s: the file is damaged: CRC-32C of the values is %s instead of %s", c.file.Name(), got, want)
	}
	return nil
}

func checkShard(file *blob.Blob, shard indexShard) error {
	sum := sha256.New()
	if err := digestOf(sum, file, 0, file.Size()); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); !strings.EqualFold(got, shard.SHA256) {
		return fmt.Errorf("%s: the file is damaged: its SHA-256 is %s instead of %s", file.Name(), got, shard.SHA256)
	}
	return nil
}

// digestOf writes bytes of a file to a hash, a piece at a time.
func digestOf(sum hash.Hash, file *blob.Blob, off, n int64) error {
	var scratch []byte
	if !file.Addressable() {
		scratch = make([]byte, min(n, chunkBytes))
	}
	for end := off + n; off < end; off += chunkBytes {
		err := file.Do(off, min(chunkBytes, end-off), scratch, func(data []byte) error {
			_, err := sum.Write(data)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
