// Package simd is the vector arithmetic under the CPU backend: matrix products,
// depthwise convolutions, normalisations, activations and reductions in single
// precision over channels-last rows, on one goroutine.
//
// Kernels come in plain Go, in assembly for AVX2+FMA and AVX-512, and in that for
// NEON on arm64, chosen when the program runs; results differ only in rounding.
// The assembly is generated from the list of kernels in gen, whose entries have
// a form for each processor; `go generate` writes the *_amd64 and *_arm64 files.
//
// No call allocates except those that pack weights. Matrices are slices with a
// stride, so that a kernel works on some channels of a wider tensor or on a
// strip of its pixels. Callers validate shapes: an operand too short for what is
// asked is a programming error and panics, before anything is written.
package simd

//go:generate go run -C gen . -arch amd64 -family gemm -out ../gemm_amd64.s -stubs ../gemm_amd64.go -pkg simd
//go:generate go run -C gen . -arch amd64 -family half -out ../half_amd64.s -stubs ../half_amd64.go -pkg simd
//go:generate go run -C gen . -arch amd64 -family elementwise -out ../elementwise_amd64.s -stubs ../elementwise_amd64.go -pkg simd
//go:generate go run -C gen . -arch amd64 -family norm -out ../norm_amd64.s -stubs ../norm_amd64.go -pkg simd
//go:generate go run -C gen . -arch amd64 -family depthwise -out ../depthwise_amd64.s -stubs ../depthwise_amd64.go -pkg simd
//go:generate go run -C gen . -arch amd64 -family reduce -out ../reduce_amd64.s -stubs ../reduce_amd64.go -pkg simd
//go:generate go run -C gen . -arch arm64 -family gemm -out ../gemm_arm64.s -stubs ../gemm_arm64.go -pkg simd
//go:generate go run -C gen . -arch arm64 -family half -out ../half_arm64.s -stubs ../half_arm64.go -pkg simd
//go:generate go run -C gen . -arch arm64 -family elementwise -out ../elementwise_arm64.s -stubs ../elementwise_arm64.go -pkg simd
//go:generate go run -C gen . -arch arm64 -family norm -out ../norm_arm64.s -stubs ../norm_arm64.go -pkg simd
//go:generate go run -C gen . -arch arm64 -family depthwise -out ../depthwise_arm64.s -stubs ../depthwise_arm64.go -pkg simd
//go:generate go run -C gen . -arch arm64 -family reduce -out ../reduce_arm64.s -stubs ../reduce_arm64.go -pkg simd
