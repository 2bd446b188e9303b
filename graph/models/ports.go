package models

import (
	"encoding/json"
	"fmt"
	"slices"

	"unirestorer/graph"
)

// Ports say how pictures meet a network: what no tensor tells. They are
// arguments of every image to image network. The zero value is RGB in 0..1 and
// whatever sides the network itself takes.
type Ports struct {
	// Range holds the values of black and white, of pictures in and out.
	Range []float64 `json:"range,omitempty"`
	// Order is "rgb", which empty means, or "bgr".
	Order string `json:"channel_order,omitempty"`
	// Multiple, if not 0, has pictures padded at the right and bottom to sides
	// that are multiples of it, and cropped afterwards.
	Multiple int `json:"size_multiple,omitempty"`
	// Padding is how: "reflect", which empty means, "replicate" or "zero".
	Padding string `json:"size_padding,omitempty"`
}

// ported is a network with ports.
type ported interface{ ports() *Ports }

func (p *Ports) ports() *Ports { return p }

var padModes = map[string]graph.PadMode{"": graph.Reflect, "reflect": graph.Reflect, "replicate": graph.Replicate, "zero": graph.Zero}

func (p *Ports) check() error {
	if p.Range != nil && (len(p.Range) != 2 || !(p.Range[1] > p.Range[0]) || !(p.Range[0] >= -1e4 && p.Range[1] <= 1e4)) {
		return fmt.Errorf("range %v: want the values of black and white, like [0,1] or [-1,1]", p.Range)
	}
	if p.Order != "" && p.Order != "rgb" && p.Order != "bgr" {
		return fmt.Errorf("channel_order %q: want rgb or bgr", p.Order)
	}
	if p.Multiple < 0 || p.Multiple > 1<<12 {
		return fmt.Errorf("size_multiple %d: want 0 to %d", p.Multiple, 1<<12)
	}
	if _, ok := padModes[p.Padding]; !ok {
		return fmt.Errorf("size_padding %q: want reflect, replicate or zero", p.Padding)
	}
	return nil
}

// side is what the network sees of an image side of n pixels.
func (p *Ports) side(n int) (int, error) {
	if n <= 0 {
		return 0, fmt.Errorf("%d pixels", n)
	}
	if p.Multiple <= 1 {
		return n, nil
	}
	m := missing(n, p.Multiple)
	if padModes[p.Padding] == graph.Reflect && m >= n {
		return 0, fmt.Errorf("%d pixels cannot be padded to a multiple of %d by reflection", n, p.Multiple)
	}
	return n + m, nil
}

// grid is the network's own grid together with the padding's.
// unpadded checks a side for networks that do not pad to their multiple
// themselves.
func (p *Ports) unpadded(n, multiple int) error {
	n, err := p.side(n)
	if err == nil && n%multiple != 0 {
		err = fmt.Errorf("%d pixels are no multiple of %d", n, multiple)
	}
	return err
}

// reflected checks a side for networks that pad to their multiple by
// reflection, and gives the padded one.
func (p *Ports) reflected(n, multiple int) (int, error) {
	n, err := p.side(n)
	if err != nil {
		return 0, err
	}
	m := missing(n, multiple)
	if n <= 0 || m >= n {
		return 0, fmt.Errorf("%d pixels cannot be padded to a multiple of %d by reflection", n, multiple)
	}
	return n + m, nil
}

func (p *Ports) grid(own int) int {
	g := own
	for p.Multiple > 1 && g%p.Multiple != 0 {
		g += own
	}
	return g
}

func (p *Ports) scale() (low, span float64) {
	if p.Range == nil {
		return 0, 1
	}
	return p.Range[0], p.Range[1] - p.Range[0]
}

// PadToGrid is the network with its sides padded by reflection to multiples of
// its grid, for networks that refuse other sides.
func PadToGrid(n Network) (Network, error) {
	args, err := json.Marshal(n)
	if err != nil {
		return nil, err
	}
	args, err = overridden(json.RawMessage(args), fmt.Appendf(nil, `{"size_multiple":%d}`, n.Grid()))
	if err != nil {
		return nil, err
	}
	return New(n.Architecture(), args)
}

// luma are the weights of red, green and blue in a grey value, those of
// ITU-R BT.601 that Pillow and OpenCV convert colours by.
var luma = [3]float64{0.299, 0.587, 0.114}

// Channels are the channels of a network's own input and output: 3 and 3 for
// RGB, 1 for grey, 6 for two pictures.
func Channels(n Network) (in, out int) {
	if c, ok := n.(interface{ channels() (in, out int) }); ok {
		return c.channels()
	}
	return 3, 3
}

// PortChannels are the channels of a network's ports "image" and "restored": a
// grey network takes and gives RGB.
func PortChannels(n Network) (in, out int) {
	in, out = Channels(n)
	if in == 1 {
		in = 3
	}
	if out == 1 {
		out = 3
	}
	return in, out
}

// Pictures is how many RGB pictures the network takes at a time.
func Pictures(n Network) int {
	in, _ := PortChannels(n)
	return max(1, in/3)
}

// enter turns RGB in 0..1 into what the network takes.
func (l *loader) enter(p *Ports, x *graph.Tensor, channels int) *graph.Tensor {
	low, span := p.scale()
	if channels == x.Shape.C && span == 1 && low == 0 && p.Order != "bgr" {
		return x
	}
	return l.mapChannels("ports.in", x, channels, low, func(o, i int) float64 {
		switch {
		case channels == 1:
			return span * luma[i]
		case o/3 == i/3 && o%3 == p.source(i%3):
			return span
		default:
			return 0
		}
	})
}

// leave turns what the network gives into RGB in 0..1.
func (l *loader) leave(p *Ports, x *graph.Tensor) *graph.Tensor {
	low, span := p.scale()
	channels := x.Shape.C
	out := channels
	if channels == 1 {
		out = 3
	}
	if out == channels && span == 1 && low == 0 && p.Order != "bgr" {
		return x
	}
	return l.mapChannels("ports.out", x, out, -low/span, func(o, i int) float64 {
		if channels == 1 || o/3 == i/3 && o%3 == p.source(i%3) {
			return 1 / span
		}
		return 0
	})
}

// source is the place of colour c in the network's order, and the other way
// round.
func (p *Ports) source(c int) int {
	if p.Order == "bgr" {
		return 2 - c
	}
	return c
}

// mapChannels is a linear map of the channels of every pixel.
func (l *loader) mapChannels(name string, x *graph.Tensor, out int, shift float64, weight func(o, i int) float64) *graph.Tensor {
	in := x.Shape.C
	values := make([]float32, 0, out*in)
	for o := range out {
		for i := range in {
			values = append(values, float32(weight(o, i)))
		}
	}
	c := graph.Conv{X: x, Weight: constant(name+".weight", []int{out, in}, values)}
	if shift != 0 {
		c.Bias = constant(name+".bias", []int{out}, slices.Repeat([]float32{float32(shift)}, out))
	}
	return l.Conv(name, c)
}

// constant is a parameter that no file holds.
func constant(name string, dims []int, values []float32) *graph.Param {
	key := derivedKey{how: fmt.Sprint("constant ", dims, values)}
	return graph.NewParam(name, dims, key, func(dst []float32) error {
		copy(dst, values)
		return nil
	})
}
