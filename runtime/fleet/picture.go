package fleet

import (
	"encoding/binary"
	"errors"

	"unirestorer/runtime/imaging"
)

// shape is what a plain picture is beside its samples.
type shape struct{ W, H, Channels, Depth int }

func shapeOf(p *imaging.Image) *shape { return &shape{p.W, p.H, p.Channels, p.Depth} }

// samplesOf are a picture's samples in bytes, those of 16 bits little-endian.
func samplesOf(p *imaging.Image) []byte {
	if p.Depth == 8 {
		return p.Pix
	}
	data := make([]byte, 0, 2*len(p.Pix16))
	for _, v := range p.Pix16 {
		data = binary.LittleEndian.AppendUint16(data, v)
	}
	return data
}

// image is the picture of a shape and samples.
func (s *shape) image(data []byte) (*imaging.Image, error) {
	if s == nil {
		return nil, errors.New("a picture without a shape")
	}
	p := &imaging.Image{W: s.W, H: s.H, Channels: s.Channels, Depth: s.Depth}
	if s.Depth == 16 {
		p.Pix16 = make([]uint16, len(data)/2)
		for i := range p.Pix16 {
			p.Pix16[i] = binary.LittleEndian.Uint16(data[2*i:])
		}
	} else {
		p.Pix = data
	}
	return p, p.Check()
}
