//go:build cuda && cudasim && linux

// unsupported.c: CUDA_ERROR_NOT_SUPPORTED from every driver function that no file of this package exports from Go.
// The definitions are weak, so that the exported ones take precedence.

#define X(name) __attribute__((weak)) int name(void) { return 801; }
#include "../internal/lazy/symbols.h"
