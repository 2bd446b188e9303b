package weights

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"unirestorer/weights/internal/blob"
	"unirestorer/weights/internal/pickle"
)

const legacyProtocol = 1001

// legacyStorages collects the storages of a legacy checkpoint, whose places are known only after the pickles.
type legacyStorages map[string]*torchStorage

// get returns the storage of a persistent id. view is nil or (key, offset, length) of a part of the storage.
func (l legacyStorages) get(key string, d DType, numel int, view pickle.Tuple) (*torchStorage, error) {
	root, ok := l[key]
	if !ok {
		root = &torchStorage{key: key, dtype: d, numel: numel}
		l[key] = root
	}
	if root.dtype != d || root.numel != numel {
		return nil, fmt.Errorf("storage %q is %d elements of %s and also %d of %s", key, root.numel, root.dtype, numel, d)
	}
	if view == nil {
		return root, nil
	}
	if len(view) != 3 {
		return nil, fmt.Errorf("the view of storage %q has %d fields instead of 3", key, len(view))
	}
	name, ok := view[0].(string)
	skip, errSkip := dimension(view[1])
	length, errLength := dimension(view[2])
	if !ok || errSkip != nil || errLength != nil || skip > numel || length > numel-skip {
		return nil, fmt.Errorf("the view of storage %q is not a part of it", key)
	}
	return &torchStorage{key: name, dtype: d, numel: length, root: root, rootSkip: skip}, nil
}

// readLegacy decodes a legacy checkpoint: pickles of a magic number, the protocol version, a description of the
// machine, the object and the list of storage keys; then each storage as its length and its values.
func readLegacy(data *blob.Blob) (object any, passed []string, err error) {
	storages := make(legacyStorages)
	h := &torchHandler{storage: storages.get}
	dec := pickle.NewDecoder(io.NewSectionReader(data, 0, data.Size()), data.Size(), h, pickle.DefaultLimits)
	parts := make(map[string]any)
	for _, part := range []string{"magic number", "protocol version", "system information", "object", "storage keys"} {
		value, err := dec.Decode()
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", part, err)
		}
		parts[part] = value
	}
	// The magic number was recognised by sniff.
	if parts["protocol version"] != any(int64(legacyProtocol)) {
		return nil, nil, fmt.Errorf("the protocol version is not %d", legacyProtocol)
	}
	if err := checkLegacySystem(parts["system information"]); err != nil {
		return nil, nil, err
	}
	keys, ok := parts["storage keys"].(*pickle.List)
	if !ok {
		return nil, nil, errors.New("the storage keys are not a list")
	}
	if err := storages.place(data, dec.Offset(), keys.Items); err != nil {
		return nil, nil, err
	}
	return parts["object"], h.passed, nil
}

func checkLegacySystem(v any) error {
	info, ok := v.(*pickle.Dict)
	if !ok {
		return errors.New("the system information is not a dict")
	}
	if little, ok := info.Get("little_endian"); ok && little != any(true) {
		return errors.New("byte order big is not supported, only little")
	}
	return nil
}

// place walks over the storages, which follow each other from byte at on in the order of keys.
func (l legacyStorages) place(data *blob.Blob, at int64, keys []any) error {
	for _, k := range keys {
		key, ok := k.(string)
		if !ok {
			return errors.New("a storage key is not a text")
		}
		s, ok := l[key]
		if !ok {
			return fmt.Errorf("storage %q: no tensor says what its elements are", key)
		}
		if s.placed {
			return fmt.Errorf("storage %q is listed twice", key)
		}
		var length [8]byte
		if _, err := data.ReadAt(length[:], at); err != nil {
			return fmt.Errorf("storage %q: its length: %w", key, unexpectedEOF(err))
		}
		if n := binary.LittleEndian.Uint64(length[:]); n != uint64(s.numel) {
			return fmt.Errorf("storage %q has %d elements, its tensors expect %d", key, n, s.numel)
		}
		size, err := s.bytes()
		if err != nil {
			return err
		}
		at += int64(len(length))
		if size > data.Size()-at {
			return fmt.Errorf("storage %q: %d bytes from %d on are outside the file: %w", key, size, at, io.ErrUnexpectedEOF)
		}
		s.placed, s.offset = true, at
		at += size
	}
	return nil
}

func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
