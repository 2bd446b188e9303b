// Package include is the folder of cuda.h, the part of the CUDA driver's interface that this project and
// gorgonia.org/cu compile against. With it a build with the tag cuda needs Go and a C compiler, and nothing of CUDA:
//
//	CGO_CFLAGS="-O2 -g -I$PWD/runtime/cuda/include" go build -tags cuda ./...
//
// CGO_CFLAGS stands in front of the flags of gorgonia.org/cu, which name the usual places of a toolkit, so this header
// is the one that is found whatever is installed: gorgonia.org/cu v0.9.6 does not compile with the headers of CUDA 13.
// A program that embeds this module names the folder in the module cache or in its vendor tree:
//
//	export CGO_CFLAGS="-O2 -g -I$(go list -f '{{.Dir}}' unirestorer/runtime/cuda/include)"
//
// The package has no code. It is imported so that the folder is vendored.
package include
