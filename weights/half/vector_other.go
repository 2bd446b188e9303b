//go:build !amd64

package half

func f16ToF32Vector([]float32, []uint16) int { return 0 }
func f32ToF16Vector([]uint16, []float32) int { return 0 }
func decodeF16Vector([]float32, []byte) int  { return 0 }
func encodeF16Vector([]byte, []float32) int  { return 0 }
