package codecs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero/api"
)

// EncodeWebP writes straight-alpha RGBA as a lossy WebP of quality 0 to 100 with libwebp (method 4, sharp chroma). The
// result is a whole file without metadata.
func EncodeWebP(ctx context.Context, rgba []byte, w, h int, alpha bool, quality int) ([]byte, error) {
	if w <= 0 || h <= 0 || len(rgba) != 4*w*h {
		return nil, fmt.Errorf("%d bytes for %d×%d pixels", len(rgba), w, h)
	}
	pixels := int64(w) * int64(h)
	in, err := webp.start(ctx, baseMemory+16<<20+28*pixels)
	if err != nil {
		return nil, err
	}
	defer in.close()
	buf, err := in.put(rgba)
	if err != nil {
		return nil, err
	}
	hasAlpha := uint64(0)
	if alpha {
		hasAlpha = 1
	}
	p, err := in.call("webp_encode", uint64(buf), uint64(w), uint64(h), hasAlpha, 0, api.EncodeF32(float32(quality)), 4)
	if err != nil {
		return nil, err
	}
	if p == 0 {
		return nil, errors.New(in.message("error_message"))
	}
	out, err := in.view(uint32(p), int64(uint32(in.int("webp_size"))))
	return bytes.Clone(out), err
}

// Animation plays an animated WebP as full canvases. It serves one goroutine and must be closed.
type Animation struct {
	Width, Height, Frames int
	Loops                 int // 0 plays for ever

	in    *instance
	shown int // ms from the start
}

// OpenAnimation opens an animated WebP. check is called with the canvas size before it is allocated.
func OpenAnimation(ctx context.Context, data []byte, w, h int) (*Animation, error) {
	in, err := webp.start(ctx, baseMemory+16<<20+int64(len(data))*2+20*int64(w)*int64(h))
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*Animation, error) { return nil, errors.Join(err, in.close()) }
	file, err := in.put(data)
	if err != nil {
		return fail(err)
	}
	p, err := in.call("anim_open", uint64(file), uint64(len(data)))
	if err != nil {
		return fail(err)
	}
	if p == 0 {
		return fail(errors.New(in.message("error_message")))
	}
	v, err := in.words(uint32(p), 5)
	if err != nil {
		return fail(err)
	}
	if v[0] != w || v[1] != h {
		return fail(fmt.Errorf("canvas of %d×%d pixels, the header says %d×%d", v[0], v[1], w, h))
	}
	return &Animation{Width: v[0], Height: v[1], Frames: v[2], Loops: v[3], in: in}, nil
}

// Next decodes the next frame to a full canvas of straight-alpha RGBA, and says how long it is shown.
func (a *Animation) Next() ([]byte, time.Duration, error) {
	p, err := a.in.call("anim_next")
	if err != nil {
		return nil, 0, err
	}
	if p == 0 {
		return nil, 0, errors.New("frame cannot be decoded")
	}
	end := a.in.int("anim_end")
	canvas, err := a.in.view(uint32(p), 4*int64(a.Width)*int64(a.Height))
	if err != nil {
		return nil, 0, err
	}
	shown := time.Duration(end-a.shown) * time.Millisecond
	a.shown = end
	return bytes.Clone(canvas), shown, nil
}

// Close frees the decoder's memory.
func (a *Animation) Close() error { return a.in.close() }

// DecodePartialWebP decodes as many rows of a damaged still picture as there are to straight-alpha RGBA of w×h pixels; the
// others are zero.
func DecodePartialWebP(ctx context.Context, data []byte, w, h int) (pix []byte, rows int, err error) {
	size := 4 * int64(w) * int64(h)
	in, err := webp.start(ctx, baseMemory+16<<20+2*int64(len(data))+3*size)
	if err != nil {
		return nil, 0, err
	}
	defer in.close()
	file, err := in.put(data)
	if err != nil {
		return nil, 0, err
	}
	out, err := in.alloc(size)
	if err != nil {
		return nil, 0, err
	}
	n, err := in.call("webp_partial", uint64(file), uint64(len(data)), uint64(out), uint64(w), uint64(h))
	if err != nil {
		return nil, 0, err
	}
	view, err := in.view(out, size)
	return bytes.Clone(view), int(int32(n)), err
}
