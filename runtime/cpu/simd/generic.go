package simd

import "math"

// genericWidth is the vector of the plain-Go kernels: as many neighbouring
// columns as the compiler keeps in registers beside two rows.
const genericWidth = 4

func generic() Kernels {
	return Kernels{
		isa:    Generic,
		width:  genericWidth,
		rows:   2,
		panels: []panelFunc{gemmPanelGeneric},
		widen:  widenGeneric,

		add: addGeneric, mul: mulGeneric, geluGate: geluGateGeneric,
		mulAdd: mulAddGeneric,
		scale:  scaleGeneric, leakyReLU: leakyReLUGeneric, addScaled: addScaledGeneric,
		relu: reluGeneric, gelu: geluGeneric, softmax: softmaxGeneric,
		layerNorm: layerNormGeneric, biasFreeNorm: biasFreeNormGeneric,
		depthwise3: depthwise3Generic, depthwise5: depthwise5Generic,
		box: boxGeneric, peak: peakGeneric,
	}
}

func addGeneric(dst []float32, ldst int, a []float32, lda int, b []float32, ldb int, rows, n int) {
	for r := range rows {
		y, a, b := dst[r*ldst:][:n], a[r*lda:][:n], b[r*ldb:][:n]
		for i := range y {
			y[i] = a[i] + b[i]
		}
	}
}

func mulGeneric(dst []float32, ldst int, a []float32, lda int, b []float32, ldb int, rows, n int) {
	for r := range rows {
		y, a, b := dst[r*ldst:][:n], a[r*lda:][:n], b[r*ldb:][:n]
		for i := range y {
			y[i] = a[i] * b[i]
		}
	}
}

func mulAddGeneric(dst []float32, ldst int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, rows, n int) {
	for r := range rows {
		y, a, b, c := dst[r*ldst:][:n], a[r*lda:][:n], b[r*ldb:][:n], c[r*ldc:][:n]
		for i := range y {
			y[i] = a[i]*b[i] + c[i]
		}
	}
}

func scaleGeneric(dst []float32, ldst int, a []float32, lda int, s float32, rows, n int) {
	for r := range rows {
		y, a := dst[r*ldst:][:n], a[r*lda:][:n]
		for i := range y {
			y[i] = s * a[i]
		}
	}
}

func addScaledGeneric(dst []float32, ldst int, a []float32, lda int, b []float32, ldb int, s float32, rows, n int) {
	for r := range rows {
		y, a, b := dst[r*ldst:][:n], a[r*lda:][:n], b[r*ldb:][:n]
		for i := range y {
			y[i] = a[i] + s*b[i]
		}
	}
}

func reluGeneric(dst []float32, ldst int, a []float32, lda int, rows, n int) {
	for r := range rows {
		y, a := dst[r*ldst:][:n], a[r*lda:][:n]
		for i := range y {
			y[i] = max(a[i], 0)
		}
	}
}

func leakyReLUGeneric(dst []float32, ldst int, a []float32, lda int, s float32, rows, n int) {
	for r := range rows {
		y, a := dst[r*ldst:][:n], a[r*lda:][:n]
		for i := range y {
			y[i] = max(a[i], s*a[i])
		}
	}
}

func geluGeneric(dst []float32, ldst int, a []float32, lda int, rows, n int) {
	for r := range rows {
		y, a := dst[r*ldst:][:n], a[r*lda:][:n]
		for i := range y {
			y[i] = gelu(a[i])
		}
	}
}

func geluGateGeneric(dst []float32, ldst int, a []float32, lda int, b []float32, ldb int, rows, n int) {
	for r := range rows {
		y, a, b := dst[r*ldst:][:n], a[r*lda:][:n], b[r*ldb:][:n]
		for i := range y {
			y[i] = gelu(a[i]) * b[i]
		}
	}
}

// gelu is x·(1+erf(x/√2))/2 by the fraction the vector kernels use: with
// t = x², the error function is x·P(t)/Q(t) for |x| ≤ 5.6 and ±1 beyond.
func gelu(x float32) float32 {
	z := min(max(x, -5.6), 5.6)
	t := z * z
	p := ((((4.4290644041211635e-08*t+1.2713074283965398e-05)*t+0.00034770191996358335)*t+0.009414521045982838)*t+0.06875225156545639)*t + 0.797884464263916
	q := ((((1.1802126209659036e-06*t+7.510201976401731e-05)*t+0.0019129794090986252)*t+0.028940098360180855)*t+0.25283387303352356)*t + 1
	e := min(max(z*p/q, -1), 1)
	h := 0.5 * x
	return h*e + h
}

func softmaxGeneric(dst []float32, ldst int, a []float32, lda int, rows, n int) {
	for r := range rows {
		y, a := dst[r*ldst:][:n], a[r*lda:][:n]
		top := float32(math.Inf(-1))
		for _, v := range a {
			top = max(top, v)
		}
		var sum float32
		for i, v := range a {
			y[i] = float32(math.Exp(float64(v - top)))
			sum += y[i]
		}
		inv := 1 / sum
		for i := range y {
			y[i] *= inv
		}
	}
}

func layerNormGeneric(dst []float32, ldst int, x []float32, ldx int, w, b []float32, eps float32, rows, n int) {
	w, b = w[:n], b[:n]
	for r := range rows {
		y, x := dst[r*ldst:][:n], x[r*ldx:][:n]
		mean, scale := rowStatistics(x, eps)
		for i := range y {
			y[i] = (x[i]-mean)*scale*w[i] + b[i]
		}
	}
}

func biasFreeNormGeneric(dst []float32, ldst int, x []float32, ldx int, w []float32, eps float32, rows, n int) {
	w = w[:n]
	for r := range rows {
		y, x := dst[r*ldst:][:n], x[r*ldx:][:n]
		_, scale := rowStatistics(x, eps)
		for i := range y {
			y[i] = x[i] * scale * w[i]
		}
	}
}

// rowStatistics returns μ and 1/√(σ²+eps). One long sum in single precision
// would be less exact than the vector kernels' many short ones.
func rowStatistics(x []float32, eps float32) (mean, scale float32) {
	var sum, squares float64
	for _, v := range x {
		sum += float64(v)
	}
	centre := sum / float64(len(x))
	for _, v := range x {
		squares += (float64(v) - centre) * (float64(v) - centre)
	}
	return float32(centre), float32(1 / math.Sqrt(squares/float64(len(x))+float64(eps)))
}

func depthwise3Generic(dst []float32, ldst int, r0, r1, r2 []float32, ldx int, w []float32, pixels, n int) {
	depthwiseGeneric(dst, ldst, [][]float32{r0, r1, r2}, ldx, w, pixels, n)
}

func depthwise5Generic(dst []float32, ldst int, r0, r1, r2, r3, r4 []float32, ldx int, w []float32, pixels, n int) {
	depthwiseGeneric(dst, ldst, [][]float32{r0, r1, r2, r3, r4}, ldx, w, pixels, n)
}

func depthwiseGeneric(dst []float32, ldst int, rows [][]float32, ldx int, w []float32, pixels, n int) {
	k := len(rows)
	for p := range pixels {
		for c0 := 0; c0 < n; c0 += genericWidth {
			m := min(genericWidth, n-c0)
			taps := w[c0*(k*k+1):]
			y := dst[p*ldst+c0:][:m]
			copy(y, taps[k*k*genericWidth:])
			for _, row := range rows {
				for j := range k {
					x := row[(p+j)*ldx+c0:][:m]
					for c := range y {
						y[c] += taps[c] * x[c]
					}
					taps = taps[genericWidth:]
				}
			}
		}
	}
}

func colSumGeneric(acc, a []float32, lda int, rows, n int) {
	acc = acc[:n]
	for r := range rows {
		for i, v := range a[r*lda:][:n] {
			acc[i] += v
		}
	}
}

func colSumSqGeneric(acc, a []float32, lda int, s float32, rows, n int) {
	acc = acc[:n]
	for r := range rows {
		for i, v := range a[r*lda:][:n] {
			acc[i] += (v - s) * (v - s)
		}
	}
}

func colDotGeneric(acc, a []float32, lda int, b []float32, ldb int, rows, n int) {
	acc = acc[:n]
	for r := range rows {
		b := b[r*ldb:][:n]
		for i, v := range a[r*lda:][:n] {
			acc[i] += v * b[i]
		}
	}
}

func boxGeneric(dst []float32, ldst int, a []float32, lda int, s float32, k, rows, n int) {
	for c := range n {
		var sum float32
		for r := range k {
			sum += a[r*lda+c]
		}
		dst[c] = s * sum
		for r := 1; r < rows; r++ {
			sum += a[(r+k-1)*lda+c] - a[(r-1)*lda+c]
			dst[r*ldst+c] = s * sum
		}
	}
}

func peakGeneric(x float32, n int) float32 {
	var s0, s1, s2, s3 float32
	for range n * 12 {
		s0 += x * x
		s1 += x * x
		s2 += x * x
		s3 += x * x
	}
	return s0 + s1 + s2 + s3
}

// gemmPanelGeneric computes a panel of up to four columns, two rows at a time.
func gemmPanelGeneric(c []float32, ldc int, init []float32, ldi int, bias []float32, a []float32, rs, ks int, b []float32, bs int, m, k, n int, _ uintptr, _ int) {
	var start [genericWidth]float32
	copy(start[:], bias[:min(n, len(bias))])
	for i := 0; i < m; i += 2 {
		i1 := min(i+1, m-1) // An odd last row is computed twice.
		s0, s1 := start, start
		if init != nil {
			for j := range n {
				s0[j] += init[i*ldi+j]
				s1[j] += init[i1*ldi+j]
			}
		}
		if n == genericWidth {
			s00, s01, s02, s03 := s0[0], s0[1], s0[2], s0[3]
			s10, s11, s12, s13 := s1[0], s1[1], s1[2], s1[3]
			for p := range k {
				bp := b[p*bs:][:4]
				a0, a1 := a[i*rs+p*ks], a[i1*rs+p*ks]
				s00 += a0 * bp[0]
				s01 += a0 * bp[1]
				s02 += a0 * bp[2]
				s03 += a0 * bp[3]
				s10 += a1 * bp[0]
				s11 += a1 * bp[1]
				s12 += a1 * bp[2]
				s13 += a1 * bp[3]
			}
			s0 = [4]float32{s00, s01, s02, s03}
			s1 = [4]float32{s10, s11, s12, s13}
		} else {
			for p := range k {
				a0, a1 := a[i*rs+p*ks], a[i1*rs+p*ks]
				for j, v := range b[p*bs:][:n] {
					s0[j] += a0 * v
					s1[j] += a1 * v
				}
			}
		}
		copy(c[i*ldc:][:n], s0[:])
		copy(c[i1*ldc:][:n], s1[:])
	}
}
