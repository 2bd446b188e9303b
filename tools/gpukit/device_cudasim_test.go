//go:build cudasim

package main

// simulated is the first GPU of the simulated driver.
const simulated = "cuda"
