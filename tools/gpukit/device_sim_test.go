//go:build !cudasim

package main

// simulated is a device that needs no GPU.
const simulated = "sim"
