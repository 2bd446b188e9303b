// Package lazy lets a binary that links gorgonia.org/cu start on machines without an NVIDIA driver: it defines
// the driver's functions itself and loads libcuda.so.1 when they are first needed.
//
// lib/libcuda.a is an archive without members; it satisfies the -lcuda that gorgonia.org/cu asks for. symbols.h
// lists the functions; gensymbols.sh writes it from the compiled packages that call them, and the linker says so
// when one is missing.
package lazy

//go:generate ./gensymbols.sh
