//go:build cuda && cudasim && linux

package cuda

// The simulated driver defines the driver's functions in this binary.
import _ "unirestorer/runtime/cuda/simdriver"

// driverStatus returns what starting the driver gave (a CUresult) and why its library could not be loaded.
func driverStatus() (code int, why string) { return 0, "" }

// simulated says whether times tell anything about a card.
const simulated = true
