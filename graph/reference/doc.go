// Package reference computes graphs with plain loops in double precision: the definition that backends are measured by. It
// favours being obviously right: each option of a fused node is a pass of its own over the whole tensor.
//
// [RunHalf] rounds, in the same loops, what kernels keep in fp16: what a faithful fp16 device makes of a network, however
// well it is written.
package reference
