package cpu

import "unirestorer/runtime/cpu/simd"

// transpose writes src, rows × cols, as cols × rows.
func transpose(dst, src simd.Mat, rows, cols int) {
	const block = 8 // rows whose cache lines stay at hand while columns pass
	for r0 := 0; r0 < rows; r0 += block {
		if r0+block > rows {
			for c := range cols {
				for r := r0; r < rows; r++ {
					dst.Data[c*dst.Stride+r] = src.Data[r*src.Stride+c]
				}
			}
			return
		}
		var in [block][]float32
		for i := range in {
			in[i] = src.Data[(r0+i)*src.Stride:][:cols]
		}
		for c := range cols {
			out := (*[block]float32)(dst.Data[c*dst.Stride+r0:])
			out[0], out[1], out[2], out[3] = in[0][c], in[1][c], in[2][c], in[3][c]
			out[4], out[5], out[6], out[7] = in[4][c], in[5][c], in[6][c], in[7][c]
		}
	}
}
