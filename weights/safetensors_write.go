package weights

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"unirestorer/weights/atomicfile"
)

// WriteSafetensors writes tensors to a safetensors file, a chunk at a time, so that memory does not grow with their
// sizes. metadata may be nil. The file appears under path only once it is complete; on errors and when ctx is
// cancelled, whatever was there stays.
//
// Tensors with larger elements come first and otherwise keep their order, so that each is aligned to its elements.
func WriteSafetensors(ctx context.Context, path string, tensors []*Tensor, metadata map[string]string) error {
	return atomicfile.Write(ctx, path, func(w io.Writer) error { return writeSafetensors(ctx, w, tensors, metadata) })
}

// EncodeSafetensors writes tensors in the form of a safetensors file to w; see WriteSafetensors.
func EncodeSafetensors(ctx context.Context, w io.Writer, tensors []*Tensor, metadata map[string]string) error {
	return writeSafetensors(ctx, w, tensors, metadata)
}

func writeSafetensors(ctx context.Context, w io.Writer, tensors []*Tensor, metadata map[string]string) error {
	tensors = alignedOrder(tensors)
	header, err := safetensorsHeader(tensors, metadata)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(w, chunkBytes)
	if _, err := buffered.Write(header); err != nil {
		return err
	}
	for _, t := range tensors {
		n, err := t.writeTo(ctx, buffered)
		if err != nil {
			return err
		}
		if n != t.NumBytes() {
			return t.wrap(fmt.Errorf("gave %d of %d bytes", n, t.NumBytes()))
		}
	}
	return buffered.Flush()
}

// alignedOrder sorts by size of element, the largest first.
func alignedOrder(tensors []*Tensor) []*Tensor {
	tensors = slices.Clone(tensors)
	slices.SortStableFunc(tensors, func(a, b *Tensor) int { return b.DType.bits() - a.DType.bits() })
	return tensors
}

// safetensorsHeader returns the length field and the header, padded with spaces so that the values start at a
// multiple of 8 bytes, as the reference implementation does.
func safetensorsHeader(tensors []*Tensor, metadata map[string]string) ([]byte, error) {
	out := make([]byte, safetensorsLengthBytes, 1024+128*len(tensors))
	out = append(out, '{')
	if len(metadata) > 0 {
		for key, text := range metadata {
			if !utf8.ValidString(key) || !utf8.ValidString(text) {
				return nil, fmt.Errorf("metadata %q is not valid UTF-8", key)
			}
		}
		encoded, err := json.Marshal(metadata)
		if err != nil {
			return nil, err
		}
		out = append(out, `"`+safetensorsMetadataKey+`":`...)
		out = append(out, encoded...)
		out = append(out, ',')
	}
	seen := make(map[string]struct{}, len(tensors))
	var at int64
	for _, t := range tensors {
		if _, again := seen[t.Name]; again || t.Name == safetensorsMetadataKey || !utf8.ValidString(t.Name) {
			return nil, fmt.Errorf("tensor %q: the name is used twice, reserved or not valid UTF-8", t.Name)
		}
		seen[t.Name] = struct{}{}
		name, err := json.Marshal(t.Name)
		if err != nil {
			return nil, err
		}
		end := at + t.NumBytes()
		if end < at {
			return nil, t.wrap(fmt.Errorf("the file would be larger than can be counted"))
		}
		out = append(out, name...)
		out = fmt.Appendf(out, `:{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]},`, t.DType, joinInts(t.Shape), at, end)
		at = end
	}
	if out[len(out)-1] == ',' {
		out = out[:len(out)-1]
	}
	out = append(out, '}')
	for len(out)%8 != 0 {
		out = append(out, ' ')
	}
	length := len(out) - safetensorsLengthBytes
	if length > safetensorsMaxHeader {
		return nil, fmt.Errorf("the header of %d tensors takes %d bytes, at most %d are allowed",
			len(tensors), length, safetensorsMaxHeader)
	}
	binary.LittleEndian.PutUint64(out, uint64(length))
	return out, nil
}

func joinInts(values []int) string {
	return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(values)), ","), "[]")
}
