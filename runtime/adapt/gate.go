package adapt

import (
	"errors"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// example is a picture as the leaf gate sees it.
type example struct {
	inputs map[string][]float64 // what logits may be linear in
	x      []float64            // the one that they are
	other  []float64            // logits of the leaves there are
	fresh  bool                 // has the new degradation
	group  int                  // of the photo it is of, so that folds hold whole photos
}

// row gives the new leaf's logit: weight·x + bias.
type row struct {
	weight []float64
	bias   float64
}

func (r *row) logit(x []float64) float64 {
	sum := r.bias
	for i, v := range x {
		sum += r.weight[i] * v
	}
	return sum
}

// margin is how far the new leaf's logit lies above the best of the others; above 0 it is chosen.
func (r *row) margin(e *example) float64 { return r.logit(e.x) - slices.Max(e.other) }

// fitRow makes pictures of the new degradation likely under the softmax over the leaves there are and the new one, and the
// others not, both sides with the same weight in all: a logistic regression with an offset for each picture, penalised by
// the square of the weights over standardised inputs (Newton's method).
func fitRow(examples []example, penalty float64) (*row, error) {
	n := len(examples[0].x)
	mean, scale := moments(examples, n)
	standard := make([][]float64, len(examples))
	weight := classWeights(examples)
	for i := range examples {
		standard[i] = make([]float64, n+1)
		for j, v := range examples[i].x {
			standard[i][j] = (v - mean[j]) / scale[j]
		}
		standard[i][n] = 1
	}
	theta := mat.NewVecDense(n+1, nil)
	for range 30 {
		gradient, hessian := mat.NewVecDense(n+1, nil), mat.NewSymDense(n+1, nil)
		for i := range examples {
			x := mat.NewVecDense(n+1, standard[i])
			p := 1 / (1 + math.Exp(floats.LogSumExp(examples[i].other)-mat.Dot(theta, x)))
			target := 0.0
			if examples[i].fresh {
				target = 1
			}
			gradient.AddScaledVec(gradient, weight[i]*(p-target), x)
			hessian.SymRankOne(hessian, weight[i]*max(p*(1-p), 1e-6), x)
		}
		for j := range n {
			gradient.SetVec(j, gradient.AtVec(j)+penalty*theta.AtVec(j))
			hessian.SetSym(j, j, hessian.At(j, j)+penalty)
		}
		var factor mat.Cholesky
		if !factor.Factorize(hessian) {
			return nil, errors.New("the pictures cannot be told apart: their statistics are degenerate")
		}
		step := mat.NewVecDense(n+1, nil)
		if err := factor.SolveVecTo(step, gradient); err != nil {
			return nil, err
		}
		// A bounded step keeps Newton's method from leaving where the loss is flat.
		size := mat.Norm(step, 2)
		theta.AddScaledVec(theta, -min(1, 10/max(size, 1e-12)), step)
		if size < 1e-6 {
			break
		}
	}
	r := &row{weight: make([]float64, n), bias: theta.AtVec(n)}
	for j := range n {
		r.weight[j] = theta.AtVec(j) / scale[j]
		r.bias -= r.weight[j] * mean[j]
	}
	return r, nil
}

func moments(examples []example, n int) (mean, scale []float64) {
	mean, scale = make([]float64, n), make([]float64, n)
	count := float64(len(examples))
	for i := range examples {
		for j, v := range examples[i].x {
			mean[j] += v / count
		}
	}
	for i := range examples {
		for j, v := range examples[i].x {
			scale[j] += (v - mean[j]) * (v - mean[j]) / count
		}
	}
	for j := range scale {
		scale[j] = math.Sqrt(scale[j]) + 1e-6
	}
	return mean, scale
}

// classWeights gives both sides half of the whole weight, which is 1.
func classWeights(examples []example) []float64 {
	fresh := 0
	for i := range examples {
		if examples[i].fresh {
			fresh++
		}
	}
	weight := make([]float64, len(examples))
	for i := range examples {
		if examples[i].fresh {
			weight[i] = 0.5 / float64(fresh)
		} else {
			weight[i] = 0.5 / float64(len(examples)-fresh)
		}
	}
	return weight
}

// Told is how well the new degradation is told from the others, on pictures that the gate was not fitted to.
type Told struct {
	// Input is what it is told by.
	Input string `json:"input"`
	// Found is the share of pictures with it that are recognised, Taken that of others which are taken for it.
	Found float64 `json:"found"`
	Taken float64 `json:"taken"`
	Fresh int     `json:"pictures"`
	Other int     `json:"others"`
}

// mostTaken is the share of other pictures that may be taken for the new degradation, on pictures left out.
const mostTaken = 0.005

// folds of the cross-validation, by photo.
const folds = 5

// bestInput is bestRow over the input that tells the degradation best.
func bestInput(examples []example, inputs []string) (best *row, told Told, margins []float64, err error) {
	for _, input := range inputs {
		for i := range examples {
			examples[i].x = examples[i].inputs[input]
		}
		r, t, m, err := bestRow(examples)
		if err != nil {
			return nil, told, nil, err
		}
		if t.Input = input; best == nil || t.Found > told.Found {
			best, told, margins = r, t, m
		}
	}
	return best, told, margins, nil
}

// bestRow chooses the penalty by cross-validation over photos, and a threshold that takes at most mostTaken of the others.
// margins are those on pictures left out, the threshold included.
func bestRow(examples []example) (best *row, told Told, margins []float64, err error) {
	groups := 0
	for i := range examples {
		groups = max(groups, examples[i].group+1)
	}
	k := min(folds, groups)
	if k < 2 {
		return nil, told, nil, errors.New("want pictures of two photos at least")
	}
	penalty, shift := 0.0, 0.0
	for _, p := range []float64{1e-3, 1e-2, 1e-1, 1} {
		out := make([]float64, len(examples))
		for f := range k {
			var seen []example
			for i := range examples {
				if examples[i].group%k != f {
					seen = append(seen, examples[i])
				}
			}
			r, err := fitRow(seen, p)
			if err != nil {
				return nil, told, nil, err
			}
			for i := range examples {
				if examples[i].group%k == f {
					out[i] = r.margin(&examples[i])
				}
			}
		}
		s := threshold(examples, out)
		t := count(examples, out, s)
		if margins == nil || t.Found >= told.Found {
			penalty, shift, told, margins = p, s, t, out
		}
	}
	for i := range margins {
		margins[i] -= shift
	}
	if best, err = fitRow(examples, penalty); err != nil {
		return nil, told, nil, err
	}
	best.bias -= shift
	return best, told, margins, nil
}

// threshold is what margins must exceed, at least 0, for at most mostTaken of the others to be taken.
func threshold(examples []example, margins []float64) float64 {
	var others []float64
	for i := range examples {
		if !examples[i].fresh {
			others = append(others, margins[i])
		}
	}
	slices.Sort(others)
	return max(0, others[len(others)-1-int(mostTaken*float64(len(others)))])
}

func count(examples []example, margins []float64, shift float64) Told {
	var t Told
	for i := range examples {
		chosen := margins[i] > shift
		if examples[i].fresh {
			t.Fresh++
			if chosen {
				t.Found++
			}
			continue
		}
		t.Other++
		if chosen {
			t.Taken++
		}
	}
	t.Found /= float64(max(t.Fresh, 1))
	t.Taken /= float64(max(t.Other, 1))
	return t
}
