package kernels

import (
	"fmt"

	"unirestorer/kernels/abi"
)

// Tensor is an activation in device memory: N×H×W pixels, each a row of channels as Layout says.
type Tensor struct {
	Buffer  abi.Buffer
	N, H, W int
	Layout  Layout
}

// Pixels is the number of rows.
func (t Tensor) Pixels() int { return t.N * t.H * t.W }

// Values is the number of values, padding included.
func (t Tensor) Values() int { return t.Pixels() * t.Layout.Pitch() }

// octets is the number of 16-byte pieces.
func (t Tensor) octets() int { return t.Values() / 8 }

// tensor checks that t's sizes are positive, that the kernels' 32-bit indices reach all of it and that its buffer holds
// it with elem bytes a value.
func (p *problems) tensor(name string, t Tensor, elem int) {
	p.positive(name, t.N, t.H, t.W, t.Layout.Channels)
	p.layout(name, t.Layout)
	if p.err != nil {
		return
	}
	if t.octets() > maxCount {
		p.addf("%s: %d values are too many for one launch", name, t.Values())
		return
	}
	p.fits(name, t.Buffer, t.Values(), elem)
}

// same checks that operands have the sizes and the layout of y, and fp16 values.
func (p *problems) same(y Tensor, name string, t Tensor) {
	p.tensor(name, t, 2)
	if t.N != y.N || t.H != y.H || t.W != y.W || !t.Layout.equal(y.Layout) {
		p.addf("%s is %s, the result %s", name, t.describe(), y.describe())
	}
}

func (l Layout) equal(m Layout) bool { return l.Channels == m.Channels && l.parts() == m.parts() }

func (t Tensor) describe() string {
	return fmt.Sprintf("%dx%dx%dx%d", t.N, t.H, t.W, t.Layout.Channels)
}

// record appends the fields as one struct parameter passed by value.
func record(a, fields *abi.Args, align int) {
	content := fields.Bytes()
	for len(content)%align != 0 {
		content = append(content, 0)
	}
	a.Struct(align, content)
}
