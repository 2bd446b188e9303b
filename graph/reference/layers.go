package reference

import (
	"math"

	"unirestorer/graph"
)

func (in *interpreter) fold(f *graph.Fold) ([]*value, error) {
	ps, err := allParams(f.Temperature, f.Proj)
	if err != nil {
		return nil, err
	}
	gram, temperature, proj := in.of(f.Gram), ps[0], ps[1]
	d := gram.C
	attention := newValue(gram.Shape)
	for n := range gram.N {
		for h := range gram.H {
			for i := range d {
				row := attention.pixel(n, h, i)
				for j := range row {
					row[j] = temperature[h] * gram.at(n, h, i, j)
				}
				softmax(row)
			}
		}
	}
	in.round(attention)
	in.roundAll(proj)
	c := gram.H * d
	m := newValue(graph.Shape{N: gram.N, H: 1, W: f.Proj.Dims[0], C: c})
	m.fill(func(n, _, o, hj int) float64 {
		h, j := hj/d, hj%d
		var sum float64
		for i := range d {
			sum += proj[o*c+h*d+i] * attention.at(n, h, i, j)
		}
		return sum
	})
	return one(m), nil
}

func (in *interpreter) windowAttention(a *graph.WindowAttention) ([]*value, error) {
	bias, err := paramValues(a.Bias)
	if err != nil {
		return nil, err
	}
	qkv := in.of(a.QKV)
	out := newValue(graph.Shape{N: qkv.N, H: qkv.H, W: qkv.W, C: qkv.C / 3})
	top, bottom := a.Padding(qkv.H)
	left, right := a.Padding(qkv.W)
	w := a.Window
	rows, cols := (qkv.H+top+bottom)/w, (qkv.W+left+right)/w
	parallel(qkv.N*rows*cols, func(i int) {
		n, wy, wx := i/(rows*cols), i/cols%rows, i%cols
		tokens := make([][]float64, w*w)
		for t := range tokens {
			y := graph.Reflect.Index(wy*w+t/w-top, qkv.H)
			x := graph.Reflect.Index(wx*w+t%w-left, qkv.W)
			tokens[t] = qkv.pixel(n, y, x)
		}
		result := in.attend(tokens, a.Heads, bias)
		for t, r := range result {
			y, x := wy*w+t/w-top, wx*w+t%w-left
			if y >= 0 && y < qkv.H && x >= 0 && x < qkv.W {
				copy(out.pixel(n, y, x), r)
			}
		}
	})
	return one(out), nil
}

func (in *interpreter) attention(a *graph.Attention) ([]*value, error) {
	qkv := in.of(a.QKV)
	out := newValue(graph.Shape{N: qkv.N, H: 1, W: qkv.W, C: qkv.C / 3})
	parallel(qkv.N, func(n int) {
		tokens := make([][]float64, qkv.W)
		for t := range tokens {
			tokens[t] = qkv.pixel(n, 0, t)
		}
		for t, r := range in.attend(tokens, a.Heads, nil) {
			copy(out.pixel(n, 0, t), r)
		}
	})
	return one(out), nil
}

// attend is multi-head attention among tokens that hold q, k and v. bias is
// [heads][tokens][tokens] or nil.
func (in *interpreter) attend(tokens [][]float64, heads int, bias []float64) [][]float64 {
	t := len(tokens)
	c := len(tokens[0]) / 3
	d := c / heads
	result := make([][]float64, t)
	for i := range result {
		result[i] = make([]float64, c)
		for h := range heads {
			q := tokens[i][h*d : (h+1)*d]
			logits := make([]float64, t)
			for j := range logits {
				logits[j] = dot(q, tokens[j][c+h*d:]) / math.Sqrt(float64(d))
				if bias != nil {
					logits[j] += bias[(h*t+i)*t+j]
				}
			}
			softmax(logits)
			in.roundAll(logits)
			for j, p := range logits {
				for e := range d {
					result[i][h*d+e] += p * tokens[j][2*c+h*d+e]
				}
			}
		}
	}
	return result
}

func softmax(v []float64) {
	most := math.Inf(-1)
	for _, x := range v {
		most = max(most, x)
	}
	var sum float64
	for i, x := range v {
		v[i] = math.Exp(x - most)
		sum += v[i]
	}
	for i := range v {
		v[i] /= sum
	}
}

func (in *interpreter) pool(p *graph.Pool) *value {
	kh, kw := p.Window()
	return boxMean(add(in.of(p.X), in.of(p.X2)), kh, kw)
}

// boxMean averages windows of kh×kw; each window sums its rows' sums.
func boxMean(x *value, kh, kw int) *value {
	rows := newValue(graph.Shape{N: x.N, H: x.H, W: x.W - kw + 1, C: x.C}).fill(func(n, y, xo, c int) float64 {
		var sum float64
		for j := range kw {
			sum += x.at(n, y, xo+j, c)
		}
		return sum
	})
	return newValue(graph.Shape{N: x.N, H: x.H - kh + 1, W: rows.W, C: x.C}).fill(func(n, y, xo, c int) float64 {
		var sum float64
		for i := range kh {
			sum += rows.at(n, y+i, xo, c)
		}
		return sum / float64(kh) / float64(kw)
	})
}

func normalise(x *value, norm *graph.Norm) (*value, error) {
	ps, err := allParams(norm.Weight, norm.Bias)
	if err != nil {
		return nil, err
	}
	y := newValue(x.Shape)
	y.eachPixel(func(n, row, col int, out []float64) {
		in := x.pixel(n, row, col)
		mean, variance := moments(in)
		deviation := math.Sqrt(variance + float64(norm.Eps))
		if norm.Kind == graph.BiasFree {
			mean = 0
		}
		for c, v := range in {
			out[c] = (v - mean) / deviation
			if ps[0] != nil {
				out[c] *= ps[0][c]
			}
			if ps[1] != nil {
				out[c] += ps[1][c]
			}
		}
	})
	return y, nil
}

// moments are the mean and the biased variance.
func moments(v []float64) (mean, variance float64) {
	for _, x := range v {
		mean += x
	}
	mean /= float64(len(v))
	for _, x := range v {
		variance += (x - mean) * (x - mean)
	}
	return mean, variance / float64(len(v))
}

func (in *interpreter) rescaleNorm(r *graph.RescaleNorm) ([]*value, error) {
	ps, err := allParams(r.Weight, r.Bias, r.ScaleWeight, r.ScaleBias, r.ShiftWeight, r.ShiftBias)
	if err != nil {
		return nil, err
	}
	x := in.of(r.X)
	before := newValue(graph.Shape{N: x.N, H: 1, W: 2, C: x.C})
	after := newValue(before.Shape)
	size := x.H * x.W * x.C
	for n := range x.N {
		mean, variance := moments(x.data[n*size : (n+1)*size])
		sigma := math.Sqrt(variance + float64(r.Eps))
		for c := range x.C {
			before.set(n, 0, 0, c, ps[0][c]/sigma)
			before.set(n, 0, 1, c, ps[1][c]-mean*ps[0][c]/sigma)
			after.set(n, 0, 0, c, ps[2][c]*sigma+ps[3][c])
			after.set(n, 0, 1, c, ps[4][c]*mean+ps[5][c])
		}
	}
	return []*value{before, after}, nil
}
