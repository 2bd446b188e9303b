package weights

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"unirestorer/weights/internal/blob"
	"unirestorer/weights/internal/pickle"
)

// CheckpointOptions choose what to read from a PyTorch checkpoint.
type CheckpointOptions struct {
	// RootKeys are the keys under which the state dict may lie, the first one present wins; "" is the top level.
	// Without any it is "params", "params_ema" (both BasicSR), "state_dict" (open_clip and others), "".
	RootKeys []string
	// KeepModulePrefix leaves "module." in front of names. By default it is removed from all of them if the first
	// one has it, as open_clip does: it is a trace of training with DistributedDataParallel.
	KeepModulePrefix bool
}

var defaultRootKeys = []string{"params", "params_ema", "state_dict", ""}

const modulePrefix = "module."

// Checkpoint is an open PyTorch checkpoint.
type Checkpoint struct {
	*table
	data    *blob.Blob
	format  Format
	root    string
	records []zipRecord
	passed  []string
}

// OpenCheckpoint opens a file that torch.save wrote, in the zip form or the legacy one. Of the pickle inside only
// plain data and tensors are understood; values of any other class are passed over, and nothing is executed. Values next to
// the state dict, and those in it that are not tensors, are passed over, see PassedOver. Every tensor is checked to lie in its
// storage and the storage in the file. Tensors are listed in the order of the state dict.
func OpenCheckpoint(path string, opts CheckpointOptions) (*Checkpoint, error) {
	data, err := blob.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open checkpoint: %w", err)
	}
	return openCheckpoint(data, opts)
}

// openCheckpoint takes over data and closes it on errors.
func openCheckpoint(data *blob.Blob, opts CheckpointOptions) (*Checkpoint, error) {
	c, err := readCheckpoint(data, opts)
	if err != nil {
		data.Close()
		return nil, fmt.Errorf("checkpoint %s: %w", data.Name(), err)
	}
	return c, nil
}

func readCheckpoint(data *blob.Blob, opts CheckpointOptions) (*Checkpoint, error) {
	format, err := sniff(data)
	if err != nil {
		return nil, err
	}
	var object any
	var records []zipRecord
	var passed []string
	switch format {
	case FormatZip:
		object, records, passed, err = readZip(data)
	case FormatLegacy:
		object, passed, err = readLegacy(data)
	default:
		err = fmt.Errorf("this is a %s file", format)
	}
	if err != nil {
		return nil, err
	}
	root, state, err := findStateDict(object, opts.RootKeys)
	if err != nil && len(passed) > 0 {
		err = fmt.Errorf("%w; passed over: %s", err, strings.Join(passed, ", "))
	}
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{newTable(data.Name(), len(state.Entries)), data, format, root, records, passed}
	if err := c.addTensors(state, opts.KeepModulePrefix); err != nil {
		return nil, err
	}
	return c, nil
}

// findStateDict returns the dict of tensors under the first of keys that object has.
func findStateDict(object any, keys []string) (string, *pickle.Dict, error) {
	if len(keys) == 0 {
		keys = defaultRootKeys
	}
	top, ok := object.(*pickle.Dict)
	if made, is := object.(*pickle.Object); is {
		return "", nil, fmt.Errorf("holds an object of class %s, not a state dict: save its state_dict()", made.Class)
	}
	if !ok {
		return "", nil, errors.New("does not hold a dict")
	}
	for _, key := range keys {
		state := top
		if key != "" {
			value, ok := top.Get(key)
			if !ok {
				continue
			}
			if state, ok = value.(*pickle.Dict); !ok {
				// A network may have a parameter called "params" itself.
				continue
			}
		}
		for _, e := range state.Entries {
			if _, ok := e.Value.(*torchTensor); ok {
				return key, state, nil
			}
		}
	}
	var present []string
	for _, e := range top.Entries {
		if key, ok := e.Key.(string); ok && len(present) < 10 {
			present = append(present, key)
		}
	}
	return "", nil, fmt.Errorf("no tensors under %q; the keys are %q", keys, present)
}

func (c *Checkpoint) addTensors(state *pickle.Dict, keepPrefix bool) error {
	strip := false
	first := true
	for _, e := range state.Entries {
		name, ok := e.Key.(string)
		if !ok {
			continue
		}
		if first {
			first = false
			strip = !keepPrefix && strings.HasPrefix(name, modulePrefix)
		}
		value, ok := e.Value.(*torchTensor)
		if !ok {
			continue
		}
		if strip {
			name = strings.TrimPrefix(name, modulePrefix)
		}
		t, err := value.tensor(name, c.data)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		if err := c.add(t); err != nil {
			return err
		}
	}
	return nil
}

// Path is the file's path.
func (c *Checkpoint) Path() string { return c.data.Name() }

// Format is FormatZip or FormatLegacy.
func (c *Checkpoint) Format() Format { return c.format }

// RootKey is the key the state dict was found under, "" for the top level.
func (c *Checkpoint) RootKey() string { return c.root }

// PassedOver names the classes and functions of values that were passed over: those of training programs, options,
// optimizers. Tensors made by them, if any, are not listed.
func (c *Checkpoint) PassedOver() []string { return slices.Clone(c.passed) }

// Metadata returns nil: checkpoints carry no texts of their own.
func (c *Checkpoint) Metadata() map[string]string { return nil }

// Close ends reading; see the package comment.
func (c *Checkpoint) Close() error { return c.data.Close() }

// Verify reads the values of all tensors and compares them with the CRC-32 checksums of the zip file. It finds
// damage that opening can't see. A legacy checkpoint has no checksums, so there Verify only finds unreadable values.
// Files written with PyTorch's checksums switched off do not pass.
func (c *Checkpoint) Verify(ctx context.Context) error {
	scratch := make([]byte, chunkBytes)
	for _, r := range c.records {
		sum := crc32.NewIEEE()
		for at := int64(0); at < r.size; {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("verify %s: %w", c.Path(), err)
			}
			n := min(r.size-at, chunkBytes)
			err := c.data.Do(r.offset+at, n, scratch, func(data []byte) error {
				_, err := sum.Write(data)
				return err
			})
			if err != nil {
				return fmt.Errorf("verify %s: record %q: %w", c.Path(), r.name, err)
			}
			at += n
		}
		if sum.Sum32() != r.crc {
			return fmt.Errorf("verify %s: record %q: CRC-32 is %08x instead of %08x, the file is damaged",
				c.Path(), r.name, sum.Sum32(), r.crc)
		}
	}
	if c.format == FormatLegacy {
		for _, name := range c.names {
			if err := c.byName[name].chunks(ctx, func(int64, []byte) error { return nil }); err != nil {
				return fmt.Errorf("verify %s: %w", c.Path(), err)
			}
		}
	}
	return nil
}
