// Package graphtest holds what the tests of every backend share: a list of cases that reaches every operation with all its
// options, random inputs, and a comparison of results.
package graphtest
