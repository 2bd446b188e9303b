//go:build cuda && linux

package cuext

// #include <cuda.h>
import "C"

import (
	"unsafe"

	"gorgonia.org/cu"
)

// cu's handles are structs of one pointer each.
var (
	_ [unsafe.Sizeof(C.CUcontext(nil))]byte   = [unsafe.Sizeof(cu.CUContext{})]byte{}
	_ [unsafe.Sizeof(C.CUmodule(nil))]byte    = [unsafe.Sizeof(cu.Module{})]byte{}
	_ [unsafe.Sizeof(C.CUfunction(nil))]byte  = [unsafe.Sizeof(cu.Function{})]byte{}
	_ [unsafe.Sizeof(C.CUgraph(nil))]byte     = [unsafe.Sizeof(cu.Graph{})]byte{}
	_ [unsafe.Sizeof(C.CUgraphNode(nil))]byte = [unsafe.Sizeof(cu.Node{})]byte{}
	_ [unsafe.Sizeof(C.CUgraphExec(nil))]byte = [unsafe.Sizeof(cu.ExecGraph{})]byte{}
)

func context(c cu.CUContext) C.CUcontext  { return *(*C.CUcontext)(unsafe.Pointer(&c)) }
func function(f cu.Function) C.CUfunction { return *(*C.CUfunction)(unsafe.Pointer(&f)) }
func stream(s cu.Stream) C.CUstream       { return C.CUstream(unsafe.Pointer(s.C())) }
func graph(g cu.Graph) C.CUgraph          { return *(*C.CUgraph)(unsafe.Pointer(&g)) }
func exec(e cu.ExecGraph) C.CUgraphExec   { return *(*C.CUgraphExec)(unsafe.Pointer(&e)) }

func fromGraph(g C.CUgraph) cu.Graph        { return *(*cu.Graph)(unsafe.Pointer(&g)) }
func fromExec(e C.CUgraphExec) cu.ExecGraph { return *(*cu.ExecGraph)(unsafe.Pointer(&e)) }
