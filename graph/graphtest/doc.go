// Package graphtest holds what the tests of every backend share: an
// interpreter that computes a graph with plain loops in double precision, a
// list of cases that reaches every operation with all its options, and a
// comparison of results.
//
// The interpreter is the definition the backends are measured by. It favours
// being obviously right: each option of a fused node is a pass of its own over
// the whole tensor.
package graphtest
