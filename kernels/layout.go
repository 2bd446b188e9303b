package kernels

// Layout is where the channels of a row lie. The channels are split into equal parts and each part is padded to a
// multiple of 8 values. The zero value of Parts means one part.
type Layout struct {
	Channels int
	Parts    int
}

// Plain is the layout of c channels in one part.
func Plain(c int) Layout { return Layout{c, 1} }

func (l Layout) parts() int { return max(l.Parts, 1) }

func (l Layout) valid() bool { return l.Channels > 0 && l.Channels%l.parts() == 0 }

// partPitch is the number of values from one part to the next.
func (l Layout) partPitch() int { return roundUp(l.Channels/l.parts(), 8) }

// Pitch is the number of values of a row.
func (l Layout) Pitch() int { return l.parts() * l.partPitch() }

// At is the position of a channel in the row.
func (l Layout) At(channel int) int {
	size := l.Channels / l.parts()
	return channel/size*l.partPitch() + channel%size
}

// Channel is the channel at a position, or -1 for padding.
func (l Layout) Channel(position int) int {
	size := l.Channels / l.parts()
	part, c := position/l.partPitch(), position%l.partPitch()
	if part >= l.parts() || c >= size {
		return -1
	}
	return part*size + c
}

// Spread puts one value a channel at its position in a row, zeros elsewhere.
func (l Layout) Spread(values []float32) []float32 {
	row := make([]float32, l.Pitch())
	for c, v := range values {
		row[l.At(c)] = v
	}
	return row
}

func roundUp(n, multiple int) int { return (n + multiple - 1) / multiple * multiple }

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// PadC is the pitch of c channels in one part.
func PadC(c int) int { return roundUp(c, 8) }
