package pairs

import (
	"encoding/json"
	"slices"

	"unirestorer/runtime/degrade"
)

// Field describes one member of a record in the terms of a NumPy structured type. In JSON it is the triple
// [name, type, shape].
type Field struct {
	Name  string
	Type  string
	Shape []int
}

// MarshalJSON writes [name, type, shape].
func (f Field) MarshalJSON() ([]byte, error) {
	shape := f.Shape
	if shape == nil {
		shape = []int{}
	}
	return json.Marshal([]any{f.Name, f.Type, shape})
}

// Format describes a stream: records of equal size, one after the other, without anything before, between or behind
// them. In Python:
//
//	fields = [(name, kind, tuple(shape)) for name, kind, shape in format["fields"]]
//	records = np.frombuffer(data, dtype=np.dtype(fields))
//	records["degraded"]     # uint8 [n, size, size, 3], RGB
//	records["severity"]     # float32 [n, 16], 0 where a kind was not applied; columns are named by format["kinds"]
type Format struct {
	RecordBytes int      `json:"record_bytes"`
	Size        int      `json:"size"`
	Fields      []Field  `json:"fields"`
	Kinds       []string `json:"kinds"`
	Photos      []Listed `json:"photos"`
}

// Listed is a photo in a [Format]; records name it by its position.
type Listed struct {
	Name   string `json:"name"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
	Levels int    `json:"levels"`
}

// Format describes the stream that Write makes.
func (s *Source) Format() Format {
	size := s.config.Size
	f := Format{
		RecordBytes: s.recordBytes(),
		Size:        size,
		Fields: []Field{
			{"index", "<u8", nil},
			{"seed", "<u8", nil},
			{"photo", "<u4", nil},
			{"x", "<u4", nil},
			{"y", "<u4", nil},
			{"level", "<u2", nil},
			{"flip", "<u2", nil},
			{"severity", "<f4", []int{kindSlots}},
			{"clean", "|u1", []int{size, size, 3}},
			{"degraded", "|u1", []int{size, size, 3}},
		},
	}
	for k := degrade.Kind(0); k.Valid(); k++ {
		f.Kinds = append(f.Kinds, k.String())
	}
	for _, p := range slices.Concat(s.photos, s.negatives) {
		w, h := p.size(0)
		f.Photos = append(f.Photos, Listed{p.Name, w, h, p.resolutions()})
	}
	return f
}
