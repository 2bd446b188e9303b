package weights

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The files of a model folder.
const (
	configFile = "config.json"
	rangesFile = "ranges.json"
	indexFile  = "tensors.json"
	shardExt   = ".safetensors"
)

const (
	maxConfigBytes = 16 << 20
	maxIndexBytes  = 64 << 20
	maxShards      = 10_000
	indexVersion   = 1
)

// folderIndex is the content of tensors.json: the shards with their sizes and SHA-256 digests, and the names under
// which tensors that are stored once appear again. The CRC-32C of each stored tensor's bytes, checked when it is first read,
// is not in folders of earlier versions.
//
//	{
//	  "version": 1,
//	  "shards": [{"file": "model-00001-of-00002.safetensors", "bytes": 2147483648, "sha256": "…"}, …],
//	  "crc32c": {"l0_experts.0.output.weight": "e3069283", …},
//	  "aliases": {"l2_experts.3.output.conv.weight": "l0_experts.0.output.weight", …}
//	}
type folderIndex struct {
	Version int               `json:"version"`
	Shards  []indexShard      `json:"shards"`
	CRC32C  map[string]string `json:"crc32c,omitempty"`
	Aliases map[string]string `json:"aliases"`
}

type indexShard struct {
	File   string `json:"file"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

func (x *folderIndex) encode() ([]byte, error) {
	text, err := json.MarshalIndent(x, "", "  ")
	return append(text, '\n'), err
}

func parseFolderIndex(r io.Reader) (*folderIndex, error) {
	x := &folderIndex{Shards: []indexShard{}, Aliases: make(map[string]string)}
	err := readJSON(r, func(j *jsonReader) error {
		return j.object(func(key string) error {
			switch key {
			case "version":
				n, err := j.count()
				if err == nil && n != indexVersion {
					err = fmt.Errorf("version %d is not supported, only %d", n, indexVersion)
				}
				x.Version = int(n)
				return err
			case "shards":
				return j.array(func() error {
					if len(x.Shards) == maxShards {
						return fmt.Errorf("more than %d shards", maxShards)
					}
					s, err := parseIndexShard(j)
					x.Shards = append(x.Shards, s)
					return err
				})
			case "crc32c":
				x.CRC32C = make(map[string]string)
				return j.object(func(name string) error {
					sum, err := j.text()
					if raw, bad := hex.DecodeString(sum); err == nil && (bad != nil || len(raw) != 4) {
						err = fmt.Errorf("tensor %q: %q is not a CRC-32C", name, sum)
					}
					x.CRC32C[name] = sum
					return err
				})
			case "aliases":
				return j.object(func(name string) error {
					target, err := j.text()
					x.Aliases[name] = target
					return err
				})
			default:
				return fmt.Errorf("unknown field %q", key)
			}
		})
	})
	if err == nil && x.Version == 0 {
		err = errors.New("no version")
	}
	if err != nil {
		return nil, err
	}
	for i, s := range x.Shards {
		if slices.ContainsFunc(x.Shards[:i], func(o indexShard) bool { return o.File == s.File }) {
			return nil, fmt.Errorf("shard %q is listed twice", s.File)
		}
	}
	return x, nil
}

func parseIndexShard(j *jsonReader) (s indexShard, err error) {
	err = j.object(func(key string) (err error) {
		switch key {
		case "file":
			s.File, err = j.text()
		case "bytes":
			s.Bytes, err = j.count()
		case "sha256":
			s.SHA256, err = j.text()
		default:
			err = fmt.Errorf("unknown field %q", key)
		}
		return err
	})
	if err != nil {
		return s, err
	}
	if !isShardName(s.File) {
		return s, fmt.Errorf("%q is not the name of a shard", s.File)
	}
	if sum, err := hex.DecodeString(s.SHA256); err != nil || len(sum) != 32 {
		return s, fmt.Errorf("shard %q: %q is not a SHA-256 digest", s.File, s.SHA256)
	}
	return s, nil
}

// isShardName accepts plain file names only, so that an index can't point outside its folder.
func isShardName(name string) bool {
	return strings.HasSuffix(name, shardExt) && len(name) > len(shardExt) && !strings.HasPrefix(name, ".") &&
		!strings.ContainsAny(name, "/\\:\x00")
}
