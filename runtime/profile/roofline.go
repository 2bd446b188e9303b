package profile

// Peaks are what a device cannot exceed.
type Peaks struct {
	// Operations a second, a multiply-add counted as two; Bytes a second to and
	// from memory.
	Operations float64 `json:"operations_per_second"`
	Bytes      float64 `json:"bytes_per_second"`
	// Source says where the figures come from.
	Source string `json:"source"`
	// Warning says why they are not just as measured; empty where they are.
	Warning string `json:"warning,omitempty"`
}

// Given is the source of peaks that the user names; they stand whatever happens.
const Given = "given"

// floor is the least time in seconds that the work can take on the device, by
// the roofline model (Williams, Waterman and Patterson, 2009): the time for the
// arithmetic or the time for the bytes, whichever is longer.
func (p Peaks) floor(operations, bytes int64) float64 {
	return max(float64(operations)/p.Operations, float64(bytes)/p.Bytes)
}

// Ridge is the intensity, in operations a byte, from which on arithmetic is the
// limit.
func (p Peaks) Ridge() float64 { return p.Operations / p.Bytes }

// Attainable is the rate in operations a second that the roofline allows at an
// intensity in operations a byte.
func (p Peaks) Attainable(intensity float64) float64 {
	return min(p.Operations, intensity*p.Bytes)
}

// achieved is what a run achieves.
type achieved struct {
	// Images and Pixels a second, operations and bytes a second.
	Images, Pixels, Operations, Bytes float64
	// Roofline is the share of the rate the roofline allows; 0 without peaks.
	Roofline float64
	// Cached tells that what counts as moved would have come from memory faster
	// than memory gives it: caches served it, Bytes is no rate of memory, and
	// Roofline is the share of the arithmetic alone.
	Cached bool
}

// ratesAt are the rates of a run that takes so many seconds.
func (n *Network) ratesAt(seconds float64, peaks *Peaks) achieved {
	r := rates(n.Operations, n.Bytes, seconds, peaks)
	if seconds > 0 {
		r.Images, r.Pixels = float64(n.Batch)/seconds, n.pixels()/seconds
	}
	return r
}

func rates(operations, bytes int64, seconds float64, peaks *Peaks) achieved {
	if !(seconds > 0) {
		return achieved{}
	}
	r := achieved{Operations: float64(operations) / seconds, Bytes: float64(bytes) / seconds}
	if peaks != nil {
		if r.Cached = r.Bytes > peaks.Bytes; r.Cached {
			bytes = 0
		}
		r.Roofline = peaks.floor(operations, bytes) / seconds
	}
	return r
}
