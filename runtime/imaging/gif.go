package imaging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"io"
	"math"
)

func configGIF(data []byte) (Config, error) {
	if len(data) < 13 {
		return Config{}, io.ErrUnexpectedEOF
	}
	// Alpha is known only once decoded, and so every GIF is RGBA.
	return Config{W: int(binary.LittleEndian.Uint16(data[6:])), H: int(binary.LittleEndian.Uint16(data[8:])), Channels: 4, Depth: 8}, nil
}

// mostWidened is how much larger than the screen what frames cover may be, in pixels.
const mostWidened = 4

// gifReader reads a file whose frames may lie partly outside of its screen, which image/gif refuses: they get a screen that
// holds them, and only what lies on the real one is drawn.
func gifReader(data []byte, cfg Config) io.Reader {
	all := image.Rect(0, 0, cfg.W, cfg.H)
	gifBlocks(data, func(r image.Rectangle) { all = all.Union(r) })
	if all.Dx() > math.MaxUint16 || all.Dy() > math.MaxUint16 || all.Dx()*all.Dy() > mostWidened*cfg.W*cfg.H {
		return bytes.NewReader(data) // whose error says it
	}
	head := bytes.Clone(data[:10])
	binary.LittleEndian.PutUint16(head[6:], uint16(all.Dx()))
	binary.LittleEndian.PutUint16(head[8:], uint16(all.Dy()))
	return io.MultiReader(bytes.NewReader(head), bytes.NewReader(data[10:]))
}

// decodeGIF reads the first frame.
func decodeGIF(data []byte, cfg Config) (*Image, error) {
	src, err := gif.Decode(gifReader(data, cfg))
	if err != nil {
		return nil, err
	}
	canvas := image.NewNRGBA(image.Rect(0, 0, cfg.W, cfg.H))
	draw.Draw(canvas, canvas.Rect, src, image.Point{}, draw.Src)
	return &Image{W: cfg.W, H: cfg.H, Channels: 4, Depth: 8, Pix: canvas.Pix, Palette: true}, nil
}

// gifFrames are the frames of a GIF as full canvases.
func gifFrames(data []byte, cfg Config) (*frameList, error) {
	g, err := gif.DecodeAll(gifReader(data, cfg))
	if err != nil {
		return nil, err
	}
	if len(g.Image) == 0 {
		return nil, errors.New("no frames")
	}
	canvas := image.NewNRGBA(image.Rect(0, 0, cfg.W, cfg.H))
	i := 0
	f := &frameList{n: len(g.Image), loops: gifLoops(g.LoopCount)}
	f.next = func() (*Image, Timing, error) {
		frame := g.Image[i]
		before := bytes.Clone(canvas.Pix)
		draw.Draw(canvas, frame.Rect, frame, frame.Rect.Min, draw.Over)
		img := &Image{W: cfg.W, H: cfg.H, Channels: 4, Depth: 8, Pix: bytes.Clone(canvas.Pix), Palette: true}
		switch g.Disposal[i] {
		case gif.DisposalBackground:
			draw.Draw(canvas, frame.Rect, image.NewUniform(color.Transparent), image.Point{}, draw.Src)
		case gif.DisposalPrevious:
			copy(canvas.Pix, before)
		}
		t := Timing{Delay: centiseconds(g.Delay[i])}
		i++
		return img, t, nil
	}
	return f, nil
}

// gifLoops turns image/gif's count (-1 is once, 0 for ever, n is n+1 times) to plays, 0 for ever.
func gifLoops(n int) int {
	if n == 0 {
		return 0
	}
	return max(n, 0) + 1
}
