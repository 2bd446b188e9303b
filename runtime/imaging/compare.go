package imaging

// Compare returns before and after side by side with a thin white line between them, upright, at the larger depth and
// number of channels of the two. The shorter picture, if they differ, sits at the top over black. The ICC profile is
// that of after; EXIF, which describes one photo, is left out.
func Compare(before, after *Image) (*Image, error) {
	for _, img := range []*Image{before, after} {
		if err := img.Check(); err != nil {
			return nil, err
		}
	}
	before, after = before.Oriented(), after.Oriented()
	channels := mergedChannels(before.Channels, after.Channels)
	line := max(2, min(before.W, after.W)/200)
	out, err := New(before.W+line+after.W, max(before.H, after.H), channels, max(before.Depth, after.Depth))
	if err != nil {
		return nil, err
	}
	out.Meta.Format, out.Meta.ICC, out.Meta.Orientation = after.Meta.Format, after.Meta.clone().ICC, 1
	paste(out, before, 0)
	paste(out, after, before.W+line)
	for y := range out.H {
		lo := (y*out.W + before.W) * channels
		for i := lo; i < lo+line*channels; i++ {
			out.setSample16(i, 0xffff)
		}
	}
	return out, nil
}

// mergedChannels is the least number of channels that holds both: colour if either has it, alpha if either has it.
func mergedChannels(a, b int) int {
	channels := 1
	if a >= 3 || b >= 3 {
		channels = 3
	}
	if a%2 == 0 || b%2 == 0 {
		channels++
	}
	return channels
}

// paste copies src to the columns of dst from x0 on; dst has at least its channels and depth.
func paste(dst, src *Image, x0 int) {
	parallelRows(src.H, func(y0, y1 int) {
		for y := y0; y < y1; y++ {
			i := y * src.W * src.Channels
			o := (y*dst.W + x0) * dst.Channels
			for range src.W {
				for c := range min(dst.Channels, 3) {
					if dst.Grey() && c == 1 {
						break
					}
					from := c
					if src.Grey() {
						from = 0
					}
					dst.setSample16(o+c, src.sample16(i+from))
				}
				if dst.HasAlpha() {
					a := uint16(0xffff)
					if src.HasAlpha() {
						a = src.sample16(i + src.Channels - 1)
					}
					dst.setSample16(o+dst.Channels-1, a)
				}
				i += src.Channels
				o += dst.Channels
			}
		}
	})
}

// setSample16 stores a 16-bit value at the image's depth.
func (img *Image) setSample16(i int, v uint16) {
	if img.Depth == 8 {
		img.Pix[i] = round16(v)
	} else {
		img.Pix16[i] = v
	}
}
