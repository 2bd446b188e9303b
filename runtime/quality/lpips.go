package quality

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"

	"unirestorer/runtime/imaging"
	"unirestorer/weights"
)

// LPIPS is the learned perceptual distance of Zhang et al. (CVPR 2018), version
// 0.1 with AlexNet: 0 for equal pictures, larger for those that look different.
type LPIPS struct {
	layers [5]lpipsLayer
}

// lpipsLayer is a convolution with ReLU whose features are compared, and the
// weights of their squared differences.
type lpipsLayer struct {
	cin, cout, kernel, stride, pad int
	pool                           bool // 3×3 with stride 2 comes first
	weight, bias, lin              []float32
}

// alexNet are the layers' shapes and their numbers in AlexNet's features.
var alexNet = [5]struct {
	cin, cout, kernel, stride, pad, number int
	pool                                   bool
}{
	{3, 64, 11, 4, 2, 0, false}, {64, 192, 5, 1, 2, 3, true}, {192, 384, 3, 1, 1, 6, true}, {384, 256, 3, 1, 1, 8, false}, {256, 256, 3, 1, 1, 10, false},
}

// Inputs from -1 to 1 are moved and scaled by channel first.
var lpipsShift, lpipsScale = [3]float64{-0.030, -0.088, -0.188}, [3]float64{0.458, 0.448, 0.450}

// NewLPIPS takes the network from the state dict of lpips.LPIPS(net="alex"), in
// which AlexNet stands as net.slice1.0 to net.slice5.10 and what weighs features
// as lin0 to lin4.
func NewLPIPS(src weights.Source) (*LPIPS, error) {
	read := func(want int, names ...string) ([]float32, error) {
		var first error
		for _, name := range names {
			t, err := src.Tensor(name)
			if err == nil {
				if t.NumElements() != want {
					return nil, fmt.Errorf("LPIPS: tensor %q has shape %v, want %d values", name, t.Shape, want)
				}
				return t.Float32()
			}
			if first == nil {
				first = err
			}
		}
		return nil, fmt.Errorf("LPIPS with AlexNet: %w", first)
	}
	l := &LPIPS{}
	for i, a := range alexNet {
		x := lpipsLayer{cin: a.cin, cout: a.cout, kernel: a.kernel, stride: a.stride, pad: a.pad, pool: a.pool}
		var err error
		slice, feature := fmt.Sprintf("net.slice%d.%d.", i+1, a.number), fmt.Sprintf("features.%d.", a.number)
		if x.weight, err = read(a.cout*a.cin*a.kernel*a.kernel, slice+"weight", feature+"weight"); err != nil {
			return nil, err
		}
		if x.bias, err = read(a.cout, slice+"bias", feature+"bias"); err != nil {
			return nil, err
		}
		if x.lin, err = read(a.cout, fmt.Sprintf("lin%d.model.1.weight", i), fmt.Sprintf("lins.%d.model.1.weight", i)); err != nil {
			return nil, err
		}
		l.layers[i] = x
	}
	return l, nil
}

// planes are features, channel by channel.
type planes struct {
	c, h, w int
	v       []float32
}

// Distance compares two pictures of one size.
func (l *LPIPS) Distance(ctx context.Context, a, b *imaging.Image) (float64, error) {
	p, err := newPair(a, b)
	if err != nil {
		return 0, err
	}
	x, y := lpipsInput(p, p.a), lpipsInput(p, p.b)
	sum := 0.0
	for i := range l.layers {
		layer := &l.layers[i]
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if x, err = layer.run(x); err != nil {
			return 0, fmt.Errorf("LPIPS of %d×%d pixels: %w", p.w, p.h, err)
		}
		if y, err = layer.run(y); err != nil {
			return 0, err
		}
		sum += layer.compare(x, y)
	}
	return sum, nil
}

func lpipsInput(p *pair, rows rowReader) planes {
	x := planes{3, p.h, p.w, make([]float32, 3*p.h*p.w)}
	row := make([]float64, p.w)
	for c := range 3 {
		for y := range p.h {
			rows(row, y, c)
			for i, v := range row {
				x.v[(c*p.h+y)*p.w+i] = float32((2*v/p.peak - 1 - lpipsShift[c]) / lpipsScale[c])
			}
		}
	}
	return x
}

func (l *lpipsLayer) run(x planes) (planes, error) {
	if l.pool {
		if x.h < 3 || x.w < 3 {
			return planes{}, errors.New("too small for AlexNet")
		}
		x = x.pooled()
	}
	h, w := (x.h+2*l.pad-l.kernel)/l.stride+1, (x.w+2*l.pad-l.kernel)/l.stride+1
	if h < 1 || w < 1 || x.h+2*l.pad < l.kernel || x.w+2*l.pad < l.kernel {
		return planes{}, errors.New("too small for AlexNet")
	}
	y := planes{l.cout, h, w, make([]float32, l.cout*h*w)}
	side(l.cout, func(o int) { l.channel(x, y, o) })
	return y, nil
}

// side does n things on all cores.
func side(n int, do func(i int)) {
	var wait sync.WaitGroup
	workers := min(n, runtime.GOMAXPROCS(0))
	for k := range workers {
		wait.Go(func() {
			for i := k; i < n; i += workers {
				do(i)
			}
		})
	}
	wait.Wait()
}

// channel computes channel o of the convolution.
func (l *lpipsLayer) channel(x, y planes, o int) {
	out := y.v[o*y.h*y.w:][:y.h*y.w]
	for i := range out {
		out[i] = l.bias[o]
	}
	for c := range l.cin {
		in := x.v[c*x.h*x.w:][:x.h*x.w]
		for ky := range l.kernel {
			for kx := range l.kernel {
				weight := l.weight[((o*l.cin+c)*l.kernel+ky)*l.kernel+kx]
				for row := range y.h {
					at := row*l.stride + ky - l.pad
					if at < 0 || at >= x.h {
						continue
					}
					accumulate(out[row*y.w:][:y.w], in[at*x.w:][:x.w], weight, kx-l.pad, l.stride)
				}
			}
		}
	}
	for i, v := range out {
		out[i] = max(v, 0)
	}
}

// accumulate adds weight·in[i·stride+first] to out[i] where that is inside.
func accumulate(out, in []float32, weight float32, first, stride int) {
	from := 0
	if first < 0 {
		from = (-first + stride - 1) / stride
	}
	for i := from; i < len(out); i++ {
		at := i*stride + first
		if at >= len(in) {
			return
		}
		out[i] += weight * in[at]
	}
}

// pooled is the largest of 3×3 values, with stride 2.
func (x planes) pooled() planes {
	h, w := (x.h-3)/2+1, (x.w-3)/2+1
	y := planes{x.c, h, w, make([]float32, x.c*h*w)}
	for c := range x.c {
		for r := range h {
			for i := range w {
				most := float32(math.Inf(-1))
				for dy := range 3 {
					row := x.v[(c*x.h+2*r+dy)*x.w+2*i:]
					most = max(most, row[0], row[1], row[2])
				}
				y.v[(c*h+r)*w+i] = most
			}
		}
	}
	return y
}

// compare is the mean over pixels of the weighted squared differences of
// features whose length over channels is 1.
func (l *lpipsLayer) compare(x, y planes) float64 {
	const eps = 1e-10
	n := x.h * x.w
	sum := 0.0
	for i := range n {
		var a, b float64
		for c := range x.c {
			u, v := float64(x.v[c*n+i]), float64(y.v[c*n+i])
			a, b = a+u*u, b+v*v
		}
		a, b = math.Sqrt(a)+eps, math.Sqrt(b)+eps
		for c := range x.c {
			d := float64(x.v[c*n+i])/a - float64(y.v[c*n+i])/b
			sum += float64(l.lin[c]) * d * d
		}
	}
	return sum / float64(n)
}
