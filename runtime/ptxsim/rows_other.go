//go:build !amd64

package ptxsim

func opAddF32(d, a, b, c *row32) { opAddF32Go(d, a, b, c) }
func opSubF32(d, a, b, c *row32) { opSubF32Go(d, a, b, c) }
func opMulF32(d, a, b, c *row32) { opMulF32Go(d, a, b, c) }
func opFmaF32(d, a, b, c *row32) { opFmaF32Go(d, a, b, c) }

func expandF16(t *tile8, r *row32)                    { expandF16Go(t, r) }
func interleave(t *tile8, even, odd *row32)           { interleaveGo(t, even, odd) }
func deinterleave(even, odd *row32, t *tile8)         { deinterleaveGo(even, odd, t) }
func mmaTiles(acc, a *[2]tile8, b *tile8, exact bool) { mmaTilesGo(acc, a, b, exact) }

func opCvtF32F16(d, a, b, c *row32)   { opCvtF32F16Go(d, a, b, c) }
func opCvtF16F32(d, a, b, c *row32)   { opCvtF16F32Go(d, a, b, c) }
func opCvtF16x2F32(d, a, b, c *row32) { opCvtF16x2F32Go(d, a, b, c) }
