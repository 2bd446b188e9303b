//go:build cuda && !cudasim && linux

package cuda

import "unirestorer/runtime/cuda/internal/lazy"

// driverStatus returns what starting the driver gave (a CUresult) and why its library could not be loaded.
func driverStatus() (code int, why string) { return lazy.Status() }

// simulated says whether times tell anything about a card.
const simulated = false
