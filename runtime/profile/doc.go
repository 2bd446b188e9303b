// Package profile measures what networks cost: size, work, memory, latency
// against the hardware's limits, and what a pool costs as images are routed to
// it.
//
// Figures have three sources, which are kept apart. Counted figures follow from
// the graph and its lowering alone: multiply-adds, bytes, launches, the memory
// plan. Measured ones are times, memory and energy of runs on this machine,
// stored with their samples so that two profiles can be compared with noise in
// mind. Predicted ones are times on a named GPU that need not be at hand, see
// package predict.
package profile
