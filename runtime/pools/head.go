package pools

import (
	"errors"
	"math"

	"gonum.org/v1/gonum/mat"
)

// head gives a logit for every kind: weight·x + bias.
type head struct {
	width  int
	weight []float32 // [kinds, width]
	bias   []float32
}

func newHead(kinds, width int) *head {
	return &head{width: width, weight: make([]float32, kinds*width), bias: make([]float32, kinds)}
}

func (h *head) logits(x []float64) []float64 {
	out := make([]float64, len(h.bias))
	for k := range out {
		sum := float64(h.bias[k])
		for i, v := range x {
			sum += float64(h.weight[k*h.width+i]) * v
		}
		out[k] = sum
	}
	return out
}

// cool divides logits by a temperature.
func (h *head) cool(t float64) {
	for i := range h.weight {
		h.weight[i] /= float32(t)
	}
	for i := range h.bias {
		h.bias[i] /= float32(t)
	}
}

// prototypes assigns a picture to the kind whose mean is nearest, distances
// measured by the scatter of pictures around the means of their kinds
// (Mahalanobis): -½(x-m)ᵀS⁻¹(x-m), which is linear in x but for a term that all
// kinds share. The scatter of few pictures is shrunk towards a multiple of the
// identity: S = (1-s)·scatter + s·(trace/n)·1.
func prototypes(x [][]float64, kind []int, kinds int, s float64) (*head, error) {
	n := len(x[0])
	means := make([][]float64, kinds)
	count := make([]float64, kinds)
	for k := range means {
		means[k] = make([]float64, n)
	}
	for i, v := range x {
		count[kind[i]]++
		for j, f := range v {
			means[kind[i]][j] += f
		}
	}
	for k := range means {
		for j := range means[k] {
			means[k][j] /= math.Max(1, count[k])
		}
	}
	scatter := mat.NewSymDense(n, nil)
	away := mat.NewVecDense(n, nil)
	for i, v := range x {
		for j, f := range v {
			away.SetVec(j, f-means[kind[i]][j])
		}
		scatter.SymRankOne(scatter, 1/float64(len(x)), away)
	}
	trace := 0.0
	for j := range n {
		trace += scatter.At(j, j)
	}
	if !(trace > 0) {
		return nil, errors.New("all pictures of each kind look alike to the encoder")
	}
	scatter.ScaleSym(1-s, scatter)
	for j := range n {
		scatter.SetSym(j, j, scatter.At(j, j)+s*trace/float64(n))
	}
	var chol mat.Cholesky
	if !chol.Factorize(scatter) {
		return nil, errors.New("the scatter of the pictures is not positive definite")
	}
	h := newHead(kinds, n)
	w := mat.NewVecDense(n, nil)
	for k, m := range means {
		if err := chol.SolveVecTo(w, mat.NewVecDense(n, m)); err != nil {
			return nil, err
		}
		half := 0.0
		for j := range n {
			h.weight[k*n+j] = float32(w.AtVec(j))
			half += w.AtVec(j) * m[j]
		}
		h.bias[k] = float32(-half / 2)
	}
	return h, nil
}

// linear is multinomial logistic regression on standardised inputs, its weights
// kept small by penalty·Σw²/2.
func linear(x [][]float64, kind []int, kinds int, penalty float64) (*head, error) {
	n := len(x[0])
	mean, dev := standard(x)
	rows := make([][]float64, len(x))
	for i, v := range x {
		rows[i] = make([]float64, n)
		for j, f := range v {
			rows[i][j] = (f - mean[j]) / dev[j]
		}
	}
	w := descend(kinds*(n+1), lipschitz(rows)+penalty, func(w, grad []float64) {
		for i := range grad {
			grad[i] = 0
		}
		logits := make([]float64, kinds)
		for i, v := range rows {
			for k := range logits {
				line := w[k*(n+1):][:n+1]
				sum := line[n]
				for j, f := range v {
					sum += line[j] * f
				}
				logits[k] = sum
			}
			all := logSum(logits, 1)
			for k := range logits {
				d := math.Exp(logits[k] - all)
				if k == kind[i] {
					d--
				}
				d /= float64(len(rows))
				line := grad[k*(n+1):][:n+1]
				for j, f := range v {
					line[j] += d * f
				}
				line[n] += d
			}
		}
		for k := range kinds {
			for j := range n {
				grad[k*(n+1)+j] += penalty * w[k*(n+1)+j]
			}
		}
	})
	h := newHead(kinds, n)
	for k := range kinds {
		bias := w[k*(n+1)+n]
		for j := range n {
			v := w[k*(n+1)+j] / dev[j]
			h.weight[k*n+j] = float32(v)
			bias -= v * mean[j]
		}
		h.bias[k] = float32(bias)
	}
	return h, nil
}

// descend minimises a convex function by its gradient, which is lipschitz·|Δw|
// apart at most, with Nesterov's steps.
func descend(size int, lipschitz float64, gradient func(w, grad []float64)) []float64 {
	const steps = 150
	w, ahead, grad := make([]float64, size), make([]float64, size), make([]float64, size)
	momentum := 1.0
	for range steps {
		gradient(ahead, grad)
		next := (1 + math.Sqrt(1+4*momentum*momentum)) / 2
		for i, v := range ahead {
			to := v - grad[i]/lipschitz
			ahead[i] = to + (momentum-1)/next*(to-w[i])
			w[i] = to
		}
		momentum = next
	}
	return w
}

// lipschitz bounds the curvature of the logistic loss: half of the largest
// eigenvalue of the rows' second moments, found by power iteration.
func lipschitz(rows [][]float64) float64 {
	n := len(rows[0]) + 1
	v := make([]float64, n)
	for i := range v {
		v[i] = 1 / math.Sqrt(float64(n))
	}
	size := 0.0
	for range 30 {
		next := make([]float64, n)
		for _, r := range rows {
			dot := v[n-1]
			for j, f := range r {
				dot += f * v[j]
			}
			dot /= float64(len(rows))
			for j, f := range r {
				next[j] += dot * f
			}
			next[n-1] += dot
		}
		size = 0
		for _, f := range next {
			size += f * f
		}
		size = math.Sqrt(size)
		for i := range next {
			v[i] = next[i] / math.Max(size, 1e-300)
		}
	}
	return math.Max(size/2*1.05, 1e-6)
}

// standard gives the mean and deviation of each input; a constant one has
// deviation 1.
func standard(x [][]float64) (mean, dev []float64) {
	n := len(x[0])
	mean, dev = make([]float64, n), make([]float64, n)
	for _, v := range x {
		for j, f := range v {
			mean[j] += f / float64(len(x))
		}
	}
	for _, v := range x {
		for j, f := range v {
			dev[j] += (f - mean[j]) * (f - mean[j]) / float64(len(x))
		}
	}
	for j := range dev {
		if dev[j] = math.Sqrt(dev[j]); dev[j] < 1e-12 {
			dev[j] = 1
		}
	}
	return mean, dev
}
