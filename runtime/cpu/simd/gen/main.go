// Command gen writes the amd64 assembly of package simd and the Go
// declarations that go with it, one file a family of kernels:
//
//	go run . -family gemm -out ../gemm_amd64.s -stubs ../gemm_amd64.go -pkg simd
//
// Every kernel is described once, over a vector width, and emitted for
// AVX2+FMA (8 floats) and for AVX-512 (16 floats). It is a module of its own,
// so that the assembler library is no dependency of the runtime.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/mmcloughlin/avo/build"
)

var families = map[string]func(v isa){
	"gemm":      gemm,
	"half":      half,
	"pointwise": pointwise,
	"norm":      norm,
	"depthwise": depthwise,
	"reduce":    reduce,
}

func main() {
	name := flag.String("family", "", "family of kernels to write")
	flag.Parse()
	family, ok := families[*name]
	if !ok {
		fmt.Fprintf(os.Stderr, "gen: unknown family %q\n", *name)
		os.Exit(2)
	}
	build.ConstraintExpr("amd64")
	for _, v := range []isa{avx2, avx512} {
		family(v)
	}
	build.Generate()
}
