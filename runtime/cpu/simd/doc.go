// Package simd is the vector arithmetic under the CPU backend: matrix products,
// depthwise convolutions, normalisations, activations and reductions in single
// precision over channels-last rows, on one goroutine.
//
// Kernels come in plain Go, in AVX2+FMA and in AVX-512 assembly, chosen when
// the program runs; results differ only in rounding. The assembly is generated:
// each kernel is described once in gen, over a vector width, and `go generate`
// writes the *_amd64.s files.
//
// No call allocates except those that pack weights. Matrices are slices with a
// stride, so that a kernel works on some channels of a wider tensor or on a
// strip of its pixels. Callers validate shapes: an operand too short for what is
// asked is a programming error and panics, before anything is written.
package simd
