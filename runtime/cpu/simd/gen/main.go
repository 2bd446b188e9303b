// Command gen writes the assembly of package simd and the Go declarations that
// go with it, one file a family of kernels:
//
//	go run . -arch amd64 -family gemm -out ../gemm_amd64.s -stubs ../gemm_amd64.go -pkg simd
//
// Every kernel is an entry of one list and has a form for each processor: over
// a vector width for AVX2+FMA (8 floats) and AVX-512 (16 floats), which avo
// assembles, and one for the NEON of arm64 (4 floats). It is a module of its
// own, so that the assembler library is no dependency of the runtime.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/mmcloughlin/avo/build"
)

func main() {
	arch := flag.String("arch", "", "processor to write for: amd64 or arm64")
	name := flag.String("family", "", "family of kernels to write")
	flag.Parse() // avo's own flags say where to
	if err := generate(*arch, *name); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func generate(arch, name string) error {
	kernels := family(name)
	if len(kernels) == 0 {
		return fmt.Errorf("unknown family %q", name)
	}
	for _, k := range kernels {
		if k.amd64 == nil || k.arm64 == nil {
			return fmt.Errorf("kernel %s lacks the form for a processor", k.name)
		}
	}
	switch arch {
	case "amd64":
		build.ConstraintExpr("amd64")
		for _, v := range []isa{avx2, avx512} {
			for _, k := range kernels {
				v.begin(k)
				k.amd64(v)
			}
		}
		build.Generate()
		return nil
	case "arm64":
		return writeNeon(kernels, flag.Lookup("out").Value.String(), flag.Lookup("stubs").Value.String(), flag.Lookup("pkg").Value.String())
	}
	return fmt.Errorf("unknown processor %q", arch)
}
