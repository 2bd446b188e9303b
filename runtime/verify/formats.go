package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"unirestorer/weights"
)

// formatsArchitecture is what reports call a folder of checkpoint files.
const formatsArchitecture = "checkpoint formats"

// formatsIndex lists the files of a folder of checkpoints; beside each lies a
// JSON file with what must be read from it.
const formatsIndex = "index.json"

// formatEntry says what must come of a checkpoint file.
type formatEntry struct {
	File    string `json:"file"`
	RootKey string `json:"root_key"`
	Expect  string `json:"expect"` // "ok" or "error"
}

// storedDigest is a tensor as PyTorch read it.
type storedDigest struct {
	Name   string `json:"name"`
	DType  string `json:"dtype"`
	Shape  []int  `json:"shape"`
	SHA256 string `json:"sha256_contiguous_le"`
}

// torchTypes are PyTorch's names of the element types.
var torchTypes = map[string]weights.DType{
	"float64": weights.F64, "float32": weights.F32, "float16": weights.F16, "bfloat16": weights.BF16,
	"int64": weights.I64, "int32": weights.I32, "int16": weights.I16, "int8": weights.I8,
	"uint8": weights.U8, "bool": weights.Bool,
}

// isFormats tells a folder of checkpoint files from a network's case.
func isFormats(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "config.json"))
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, err = os.Stat(filepath.Join(dir, formatsIndex))
	return err == nil
}

// runFormats reads every checkpoint file of a folder; those marked so must be
// refused.
func (c *testCase) runFormats() error {
	var entries []formatEntry
	if err := c.readJSON(formatsIndex, &entries); err != nil {
		return err
	}
	for _, e := range entries {
		got, err := c.readCheckpoint(e)
		if e.Expect == "error" {
			c.exact(e.File+" is refused", err != nil, "it was read")
			continue
		}
		if err != nil {
			c.exact(e.File, false, err.Error())
			continue
		}
		var want struct {
			Tensors []storedDigest `json:"tensors"`
		}
		if err := c.readJSON(strings.TrimSuffix(e.File, filepath.Ext(e.File))+".json", &want); err != nil {
			return err
		}
		c.exact(e.File, len(got) == len(want.Tensors), fmt.Sprintf("%d tensors, want %d", len(got), len(want.Tensors)))
		for _, w := range want.Tensors {
			note := differs(got[w.Name], w)
			c.exact(e.File+" "+w.Name, note == "", note)
		}
	}
	return nil
}

func (c *testCase) readJSON(name string, v any) error {
	files := c.fsys
	if files == nil {
		files = os.DirFS(c.dir)
	}
	data, err := fs.ReadFile(files, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// readCheckpoint reads all tensors of a file.
func (c *testCase) readCheckpoint(e formatEntry) (map[string]*weights.Tensor, error) {
	f, err := weights.OpenCheckpoint(filepath.Join(c.dir, e.File), weights.CheckpointOptions{RootKeys: []string{e.RootKey}})
	if err != nil {
		return nil, err
	}
	c.files = append(c.files, f)
	all := map[string]*weights.Tensor{}
	for _, name := range f.Names() {
		t, err := f.Tensor(name)
		if err != nil {
			return nil, err
		}
		_, release, err := t.Raw()
		if err != nil {
			return nil, err
		}
		release()
		all[name] = t
	}
	return all, nil
}

// differs compares a tensor's type, shape and bytes.
func differs(t *weights.Tensor, want storedDigest) string {
	if t == nil {
		return "missing"
	}
	if t.DType != torchTypes[want.DType] || !slices.Equal(t.Shape, want.Shape) {
		return fmt.Sprintf("%v, want %s %v", t, want.DType, want.Shape)
	}
	raw, release, err := t.Raw()
	if err != nil {
		return err.Error()
	}
	defer release()
	if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != want.SHA256 {
		return "the values differ"
	}
	return ""
}
