package weights

import (
	"errors"
	"fmt"
	"slices"

	"unirestorer/weights/internal/blob"
	"unirestorer/weights/internal/pickle"
)

// maxExpanded is how many bytes a view that repeats stored elements (stride 0, or overlapping strides) may have in
// full. It keeps a file of a few bytes from asking its readers for terabytes.
const maxExpanded = 1 << 30

// torchStorages are the storage classes of the module torch that may appear, with their element types.
var torchStorages = map[string]DType{
	"DoubleStorage":       F64,
	"FloatStorage":        F32,
	"HalfStorage":         F16,
	"BFloat16Storage":     BF16,
	"LongStorage":         I64,
	"IntStorage":          I32,
	"ShortStorage":        I16,
	"CharStorage":         I8,
	"ByteStorage":         U8,
	"BoolStorage":         Bool,
	"ComplexFloatStorage": C64,
}

// The functions that may be called, if their arguments have the right form.
var (
	orderedDict      = pickle.Global{Module: "collections", Name: "OrderedDict"}
	rebuildTensor    = pickle.Global{Module: "torch._utils", Name: "_rebuild_tensor_v2"}
	rebuildParameter = pickle.Global{Module: "torch._utils", Name: "_rebuild_parameter"}
	torchSize        = pickle.Global{Module: "torch", Name: "Size"}
)

// torchStorage is a run of elements that tensors are views of. Its place in the file is known when it is first
// named (zip) or after the pickles (legacy).
type torchStorage struct {
	key   string
	dtype DType
	numel int

	placed bool
	offset int64 // in the file

	// A legacy storage can be a part of another one.
	root     *torchStorage
	rootSkip int // elements
}

// bytes is the size of the elements that the pickle claims.
func (s *torchStorage) bytes() (int64, error) { return countBytes(s.numel, s.dtype) }

// start is the place of the first element in the file.
func (s *torchStorage) start() (int64, error) {
	owner, skip := s, int64(0)
	if s.root != nil {
		owner, skip = s.root, int64(s.rootSkip)*int64(s.dtype.Size())
	}
	if !owner.placed {
		return 0, fmt.Errorf("the file has no values for storage %q", owner.key)
	}
	return owner.offset + skip, nil
}

// torchTensor is a view of a storage; offset and strides are in elements. Views are checked when they are made.
type torchTensor struct {
	storage *torchStorage
	offset  int
	shape   []int
	strides []int
}

// newTorchTensor checks that the view lies in the storage.
func newTorchTensor(s *torchStorage, offset int, shape, strides []int) (*torchTensor, error) {
	if len(shape) != len(strides) {
		return nil, fmt.Errorf("shape %v and strides %v have different lengths", shape, strides)
	}
	n, err := countElements(shape)
	if err != nil {
		return nil, err
	}
	size, err := countBytes(n, s.dtype)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return &torchTensor{s, 0, shape, strides}, nil
	}
	last, err := lastIndex(shape, strides)
	if err != nil {
		return nil, err
	}
	if offset >= s.numel || last >= s.numel-offset {
		return nil, fmt.Errorf("offset %d, shape %v and strides %v reach outside storage %q of %d elements",
			offset, shape, strides, s.key, s.numel)
	}
	if n > s.numel && size > maxExpanded {
		return nil, fmt.Errorf("shape %v repeats the %d elements of storage %q into %d bytes, at most %d are allowed",
			shape, s.numel, s.key, size, maxExpanded)
	}
	return &torchTensor{s, offset, shape, strides}, nil
}

func (t *torchTensor) tensor(name string, data *blob.Blob) (*Tensor, error) {
	start, err := t.storage.start()
	if err != nil {
		return nil, err
	}
	d := t.storage.dtype
	view := newView(data, start+int64(t.offset)*int64(d.Size()), d, t.shape, t.strides)
	return newTensor(name, d, t.shape, view)
}

// torchHandler is what a checkpoint's pickle may refer to.
type torchHandler struct {
	// storage returns the storage of a persistent id; view is the sixth field of a legacy one, else nil.
	storage func(key string, d DType, numel int, view pickle.Tuple) (*torchStorage, error)
	// passed collects the names of what is passed over.
	passed []string
}

// passOver notes a class or function of which nothing is read.
func (h *torchHandler) passOver(g pickle.Global) *pickle.Object {
	if name := g.String(); !slices.Contains(h.passed, name) && len(h.passed) < maxPassed {
		h.passed = append(h.passed, name)
	}
	return &pickle.Object{Class: g}
}

// maxPassed bounds the names that are kept of what is passed over.
const maxPassed = 100

// known tells the names that mean something to a checkpoint's reader.
func known(g pickle.Global) bool {
	switch g {
	case orderedDict, rebuildTensor, rebuildParameter, torchSize:
		return true
	}
	_, storage := torchStorages[g.Name]
	return storage && (g.Module == "torch" || g.Module == "torch.cuda")
}

// Global lets every name pass: names are never looked up. What is made with those
// that are not known is passed over.
func (h *torchHandler) Global(pickle.Global) error { return nil }

func (h *torchHandler) Call(fn pickle.Global, args pickle.Tuple) (any, error) {
	if !known(fn) {
		return h.passOver(fn), nil
	}
	switch fn {
	case orderedDict:
		if len(args) != 0 {
			return nil, errors.New("has arguments")
		}
		return &pickle.Dict{}, nil
	case rebuildTensor:
		return callRebuildTensor(args)
	case rebuildParameter: // tensor, requires_grad, hooks
		if len(args) != 3 {
			return nil, fmt.Errorf("%d arguments instead of 3", len(args))
		}
		t, ok := args[0].(*torchTensor)
		if !ok {
			return nil, errors.New("its first argument is not a tensor")
		}
		return t, nil
	case torchSize:
		if len(args) == 1 {
			if size, ok := args[0].(pickle.Tuple); ok {
				return size, nil
			}
		}
		return nil, errors.New("its argument is not one tuple")
	default:
		return nil, errors.New("can't be called")
	}
}

func (h *torchHandler) SetState(value, _ any) error {
	// PyTorch gives the OrderedDict of a state dict the attribute _metadata, which says nothing about tensors.
	switch value.(type) {
	case *pickle.Dict, *pickle.Object:
	default:
		return errors.New("only a dict may have a state")
	}
	return nil
}

// callRebuildTensor takes storage, offset, size, stride, requires_grad, hooks and possibly metadata.
func callRebuildTensor(args pickle.Tuple) (*torchTensor, error) {
	if len(args) != 6 && len(args) != 7 {
		return nil, fmt.Errorf("%d arguments instead of 6 or 7", len(args))
	}
	storage, ok := args[0].(*torchStorage)
	if !ok {
		return nil, errors.New("its first argument is not a storage")
	}
	offset, err := dimension(args[1])
	if err != nil {
		return nil, fmt.Errorf("offset: %w", err)
	}
	shape, err := dimensions(args[2])
	if err != nil {
		return nil, fmt.Errorf("size: %w", err)
	}
	strides, err := dimensions(args[3])
	if err != nil {
		return nil, fmt.Errorf("stride: %w", err)
	}
	return newTorchTensor(storage, offset, shape, strides)
}

// Persistent takes ("storage", class, key, location, numel) and, in legacy files, a sixth field: None, or the key,
// offset and length of a view of the storage. The location is where the tensor was when it was saved.
func (h *torchHandler) Persistent(id any) (any, error) {
	fields, ok := id.(pickle.Tuple)
	if !ok || len(fields) != 5 && len(fields) != 6 || fields[0] != any("storage") {
		return nil, errors.New("a persistent reference is not to a storage")
	}
	class, ok := fields[1].(pickle.Global)
	if !ok {
		return nil, errors.New("the class of a storage is not a name")
	}
	d, ok := torchStorages[class.Name]
	if !ok {
		return nil, fmt.Errorf("%s is not a storage", class)
	}
	key, ok := fields[2].(string)
	if !ok {
		return nil, errors.New("the key of a storage is not a text")
	}
	numel, err := dimension(fields[4])
	if err != nil {
		return nil, fmt.Errorf("length of storage %q: %w", key, err)
	}
	if _, err := countBytes(numel, d); err != nil {
		return nil, fmt.Errorf("storage %q: %w", key, err)
	}
	var view pickle.Tuple
	if len(fields) == 6 && fields[5] != nil {
		if view, ok = fields[5].(pickle.Tuple); !ok {
			return nil, fmt.Errorf("the view of storage %q is not a tuple", key)
		}
	}
	return h.storage(key, d, numel, view)
}

func dimensions(v any) ([]int, error) {
	values, ok := v.(pickle.Tuple)
	if !ok {
		return nil, errors.New("not a tuple")
	}
	if len(values) > maxRank {
		return nil, fmt.Errorf("%d dimensions, at most %d are supported", len(values), maxRank)
	}
	out := make([]int, len(values))
	for i, v := range values {
		var err error
		if out[i], err = dimension(v); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func dimension(v any) (int, error) {
	n, ok := v.(int64)
	if !ok || n < 0 || n > int64(maxInt) {
		return 0, errors.New("not a whole number of a possible size")
	}
	return int(n), nil
}
