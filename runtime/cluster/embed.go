package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"
)

// PCA projects the rows of x on their first two principal components, centred, and returns the coordinates (n × 2) and
// the share of the variance that each component explains. The component's largest loading is positive. Features of a
// single dimension, or one sample, get a second coordinate of 0.
func PCA(x *mat.Dense) (*mat.Dense, [2]float64, error) {
	var shares [2]float64
	if err := checkPoints(x); err != nil {
		return nil, shares, fmt.Errorf("principal components: %w", err)
	}
	n, d := x.Dims()
	out := mat.NewDense(n, 2, nil)
	if n == 1 {
		return out, shares, nil
	}
	var pc stat.PC
	if !pc.PrincipalComponents(x, nil) {
		return nil, shares, errors.New("principal components: the decomposition did not converge")
	}
	variances := pc.VarsTo(nil)
	var vectors mat.Dense
	pc.VectorsTo(&vectors)
	total := 0.0
	for _, v := range variances {
		total += v
	}
	mean := make([]float64, d)
	for i := range n {
		addTo(mean, x.RawRowView(i))
	}
	for c := range min(2, len(variances)) {
		if total > 0 {
			shares[c] = variances[c] / total
		}
		loading, sign := 0.0, 1.0
		for j := range d {
			if v := vectors.At(j, c); math.Abs(v) > loading {
				loading, sign = math.Abs(v), math.Copysign(1, v)
			}
		}
		for i := range n {
			sum := 0.0
			for j, v := range x.RawRowView(i) {
				sum += (v - mean[j]/float64(n)) * vectors.At(j, c)
			}
			out.Set(i, c, sign*sum)
		}
	}
	return out, shares, nil
}

// TSNEOptions tunes [TSNE]. The zero value is usable.
type TSNEOptions struct {
	Perplexity float64 // effective number of neighbours; 0 means 30, at most a third of the samples
	Iterations int     // 0 means 600
	Seed       uint64
}

// TSNE lays the rows of x out in two dimensions so that neighbours stay neighbours (van der Maaten and Hinton, JMLR 2008),
// starting from the principal components. Distances between far groups mean little. Time grows with the square of the
// samples: some thousands are practical. There must be at least four samples.
func TSNE(ctx context.Context, x *mat.Dense, opt TSNEOptions) (*mat.Dense, error) {
	if opt.Perplexity <= 0 {
		opt.Perplexity = 30
	}
	if opt.Iterations <= 0 {
		opt.Iterations = 600
	}
	y, _, err := PCA(x)
	if err != nil {
		return nil, fmt.Errorf("t-SNE: %w", err)
	}
	n, _ := x.Dims()
	if n < 4 {
		return nil, fmt.Errorf("t-SNE: %d samples are too few", n)
	}
	p, err := affinities(ctx, x, min(opt.Perplexity, float64(n-1)/3))
	if err != nil {
		return nil, fmt.Errorf("t-SNE: %w", err)
	}
	// A small start lets clusters pass through each other; the jitter parts samples that are equal.
	largest := mat.Max(mat.NewDense(1, 2*n, absolute(y.RawMatrix().Data)))
	random := rand.New(rand.NewPCG(opt.Seed, 0))
	points := make([][2]float64, n)
	for i := range points {
		for c := range 2 {
			points[i][c] = 1e-2*y.At(i, c)/max(largest, 1e-300) + 1e-5*random.NormFloat64()
		}
	}
	if err := descend(ctx, points, p, opt.Iterations); err != nil {
		return nil, fmt.Errorf("t-SNE: %w", err)
	}
	for i, point := range points {
		y.SetRow(i, point[:])
	}
	return y, nil
}

func absolute(values []float64) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = math.Abs(v)
	}
	return out
}

// affinities returns the symmetric matrix of joint probabilities, n × n row-major, each row's bandwidth found by bisection
// for the perplexity.
func affinities(ctx context.Context, x *mat.Dense, perplexity float64) ([]float32, error) {
	n, _ := x.Dims()
	conditional := make([]float32, n*n)
	target := math.Log(perplexity)
	if err := eachRow(ctx, n, func(i int) {
		distances := make([]float64, n)
		nearest := math.Inf(1)
		for j := range n {
			distances[j] = squaredDistance(x.RawRowView(i), x.RawRowView(j))
			if j != i {
				nearest = min(nearest, distances[j])
			}
		}
		row := make([]float64, n)
		precision, lo, hi := 1.0, 0.0, math.Inf(1)
		for range 80 {
			total, weighted := 0.0, 0.0
			for j, d := range distances {
				row[j] = 0
				if j != i {
					row[j] = math.Exp(-(d - nearest) * precision)
					total += row[j]
					weighted += row[j] * (d - nearest) * precision
				}
			}
			entropy := math.Log(total) + weighted/total
			for j := range row {
				row[j] /= total
			}
			if math.Abs(entropy-target) < 1e-5 {
				break
			}
			if entropy > target {
				lo = precision
				if math.IsInf(hi, 1) {
					precision *= 4
				} else {
					precision = (lo + hi) / 2
				}
			} else {
				hi = precision
				precision = (lo + hi) / 2
			}
			if precision > 1e300 { // all samples are equal
				break
			}
		}
		for j, v := range row {
			conditional[i*n+j] = float32(v)
		}
	}); err != nil {
		return nil, err
	}
	for i := range n {
		for j := range i {
			v := max((conditional[i*n+j]+conditional[j*n+i])/float32(2*n), 1e-12)
			conditional[i*n+j], conditional[j*n+i] = v, v
		}
	}
	return conditional, nil
}

// descend minimises the divergence from p by gradient descent with momentum and gains for each coordinate.
func descend(ctx context.Context, points [][2]float64, p []float32, iterations int) error {
	const exaggeration, minGain = 12, 0.01
	n := len(points)
	rate := max(float64(n)/exaggeration/4, 50)
	early := min(150, iterations/3)
	velocity, gains := make([][2]float64, n), make([][2]float64, n)
	for i := range gains {
		gains[i] = [2]float64{1, 1}
	}
	attract, repel := make([][2]float64, n), make([][2]float64, n)
	partition := make([]float64, n)
	for iteration := range iterations {
		factor, momentum := 1.0, 0.8
		if iteration < early {
			factor, momentum = exaggeration, 0.5
		}
		if err := eachRow(ctx, n, func(i int) {
			var a, r [2]float64
			sum := 0.0
			here := points[i]
			for j, affinity := range p[i*n : (i+1)*n] {
				if j == i {
					continue
				}
				dx, dy := here[0]-points[j][0], here[1]-points[j][1]
				q := 1 / (1 + dx*dx + dy*dy)
				sum += q
				w := float64(affinity) * q
				a[0], a[1] = a[0]+w*dx, a[1]+w*dy
				r[0], r[1] = r[0]+q*q*dx, r[1]+q*q*dy
			}
			attract[i], repel[i], partition[i] = a, r, sum
		}); err != nil {
			return err
		}
		total := 0.0
		for _, z := range partition {
			total += z
		}
		var centre [2]float64
		for i := range points {
			for c := range 2 {
				gradient := 4 * (factor*attract[i][c] - repel[i][c]/total)
				if (gradient > 0) == (velocity[i][c] > 0) {
					gains[i][c] = max(0.8*gains[i][c], minGain)
				} else {
					gains[i][c] += 0.2
				}
				velocity[i][c] = momentum*velocity[i][c] - rate*gains[i][c]*gradient
				points[i][c] += velocity[i][c]
				centre[c] += points[i][c] / float64(n)
			}
		}
		for i := range points {
			points[i][0] -= centre[0]
			points[i][1] -= centre[1]
		}
	}
	return nil
}
