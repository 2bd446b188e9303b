//go:build !linux

package main

// peakMemory reports errNoPeak.
func peakMemory(int) (int64, error) { return 0, errNoPeak }
