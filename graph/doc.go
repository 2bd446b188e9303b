// Package graph describes networks as lists of typed, fused nodes over NHWC
// tensors, infers their shapes, counts their work and plans their memory.
//
// A [Builder] offers the verbs image restoration networks are made of, each
// with its optional parts: a convolution may normalise or scale its input and
// may end in a bias, an activation or gate, a per-channel scale, a pixel
// shuffle and a residual. Graphs are fused by construction; every backend sees
// the same nodes and splits what it has no kernel for.
//
// # Fusions
//
// A convolution normalises or scales its input while it reads it and ends in
// its parts, so that none of these is a pass over memory of its own.
//
// Transposed attention (Restormer, RetinexFormer) needs only the Gram matrix of
// q and k. A depthwise or pointwise convolution ends in it, so q and k are
// never written. The projection after attention is linear, so a fold turns
// attention and projection into one C×C matrix an image, and attention·v,
// projection and residual are one 1×1 convolution.
//
// NAFNetLocal's window means are kept at the size of the sliding window's
// result; the convolution behind them runs there, and the reader replicates the
// border by clamping an index ([Conv.InScale]).
//
// What depends on parameters alone is computed once when weights are read:
// merged LoRA weights, DehazeFormer's attention bias, folded batch
// normalisation, transposed convolutions as 1×1 ones with a pixel shuffle.
//
// # Order and plan
//
// [NewPlan] gives every intermediate tensor an offset in one arena from its
// lifetime, with residuals added in place where nothing reads them later.
// [Execute] runs nodes in order, looks at its context between them and reports
// progress.
//
// Nodes stand in execution order. A graph is built for one batch and one size
// and does not change after [Builder.Build]; it may then be shared between
// goroutines.
//
// The package knows no device, no file format and no network by name.
package graph
