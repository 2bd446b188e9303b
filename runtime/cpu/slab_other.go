//go:build !linux

package cpu

func newSlab(bytes int) *slab { return heapSlab(bytes) }
