// Package graph describes networks as lists of typed, fused nodes over NHWC
// tensors, infers their shapes, counts their work and plans their memory.
//
// A [Builder] offers the verbs image restoration networks are made of, each
// with its optional parts: a convolution may normalise or scale its input and
// may end in a bias, an activation or gate, a per-channel scale, a pixel
// shuffle and a residual. Graphs are fused by construction; every backend sees
// the same nodes and splits what it has no kernel for.
//
// Nodes stand in execution order. A graph is built for one batch and one size
// and does not change after [Builder.Build]; it may then be shared between
// goroutines.
//
// The package knows no device, no file format and no network by name.
package graph
