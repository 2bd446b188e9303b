package video

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var headers = []struct {
	line string
	want Format
}{
	{"W6 H4 F25:1 Ip A1:1 C420jpeg", Format{Chroma: chroma420, Depth: 8, Siting: sitingCentre}},
	{"W6 H4 F25:1 Ip A1:1 C420mpeg2", Format{Chroma: chroma420, Depth: 8, Siting: sitingLeft}},
	{"W6 H4 F25:1 Ip A1:1 C420paldv", Format{Chroma: chroma420, Depth: 8, Siting: sitingTopLeft}},
	{"W6 H4", Format{Chroma: chroma420, Depth: 8, Siting: sitingCentre}},
	{"W7 H5 F30000:1001 Ip A0:0 C422 XCOLORRANGE=FULL", Format{Chroma: chroma422, Depth: 8, FullRange: true}},
	{"W7 H5 F25:1 Ip A1:1 C444", Format{Chroma: chroma444, Depth: 8}},
	{"W7 H5 F25:1 Ip A1:1 C411", Format{Chroma: chroma411, Depth: 8}},
	{"W7 H5 F25:1 Ip A1:1 Cmono", Format{Chroma: chromaMono, Depth: 8}},
	{"W7 H5 F25:1 Ip A1:1 Cmono12", Format{Chroma: chromaMono, Depth: 12}},
	{"W7 H5 F25:1 Ip A1:1 C420p10 XYSCSS=420P10", Format{Chroma: chroma420, Depth: 10}},
	{"W7 H5 F25:1 Ip A1:1 C422p12", Format{Chroma: chroma422, Depth: 12}},
	{"W7 H5 F25:1 Ip A1:1 C444p16", Format{Chroma: chroma444, Depth: 16}},
}

func noiseFrame(f *Format, seed uint64) *Frame {
	r := rand.New(rand.NewPCG(seed, 1))
	out := &Frame{Data: make([]byte, f.frameBytes()), PTS: int64(seed)}
	for i := range f.planes()[len(f.planes())-1] {
		f.add(out.Data, i, float32(r.IntN(1<<f.Depth)))
	}
	return out
}

func TestStreamsComeBackAsTheyWere(t *testing.T) {
	for _, h := range headers {
		t.Run(h.line, func(t *testing.T) {
			r, err := newReader(strings.NewReader(y4mMagic + " " + h.line + "\n"))
			require.NoError(t, err)
			f := r.Format()
			require.Equal(t, h.want, Format{Chroma: f.Chroma, Depth: f.Depth, Siting: f.Siting, FullRange: f.FullRange})
			var b bytes.Buffer
			w := newWriter(&b, f)
			for n := range uint64(3) {
				frame := noiseFrame(&f, n)
				if n == 1 {
					frame.Params = " Ip"
				}
				require.NoError(t, w.write(frame))
			}
			again, err := newReader(bytes.NewReader(b.Bytes()))
			require.NoError(t, err)
			require.Equal(t, f, again.Format())
			var frame Frame
			for n := range uint64(3) {
				require.NoError(t, again.Next(&frame))
				require.Equal(t, noiseFrame(&f, n).Data, frame.Data)
				require.Equal(t, int64(n), frame.PTS)
			}
			require.Equal(t, io.EOF, again.Next(&frame))
			cut, err := newReader(bytes.NewReader(b.Bytes()[:b.Len()-1]))
			require.NoError(t, err)
			require.NoError(t, errors.Join(cut.Next(&frame), cut.Next(&frame)))
			require.ErrorIs(t, cut.Next(&frame), io.ErrUnexpectedEOF)
		})
	}
}

func TestStreamsThatAreNoneAreRefused(t *testing.T) {
	for line, want := range map[string]string{
		"":                                       "nothing in it",
		"RIFF":                                   "unexpected EOF",
		"RIFF W3 H3\n":                           "want YUV4MPEG2",
		"YUV4MPEG2 W0 H4\n":                      "0×4",
		"YUV4MPEG2 H4\n":                         "0×4",
		"YUV4MPEG2 W999999 H4\n":                 "999999×4",
		"YUV4MPEG2 W65536 H65536\n":              "too large",
		"YUV4MPEG2 W4 H4 C999\n":                 "unknown colour space",
		"YUV4MPEG2 W4 H4 C420p99\n":              "unknown depth",
		"YUV4MPEG2 W4 H4 C444alpha\n":            "transparency",
		"YUV4MPEG2 W4 H4 F25\n":                  "want a ratio",
		"YUV4MPEG2 W4 H4 Im\n":                   "mixed interlacing",
		"YUV4MPEG2 W4 H4 Ix\n":                   "unknown interlacing",
		"YUV4MPEG2 " + strings.Repeat("X", 5000): "more than 4096",
	} {
		_, err := newReader(strings.NewReader(line))
		require.ErrorContains(t, err, want, line)
	}
	r, err := newReader(strings.NewReader("YUV4MPEG2 W2 H2\nFRAMES\n"))
	require.NoError(t, err)
	require.ErrorContains(t, r.Next(&Frame{}), `want "FRAME"`)
	rgb := Format{Width: 2, Height: 2, Depth: 8, Chroma: chromaRGB}
	require.ErrorContains(t, newWriter(io.Discard, rgb).begin(), "no RGB")
}

func FuzzReader(f *testing.F) {
	for _, h := range headers {
		f.Add([]byte(y4mMagic + " " + h.line + "\nFRAME\n" + strings.Repeat("abcdefg", 60)))
	}
	f.Add([]byte("YUV4MPEG2 W60000 H30000 C444p16\nFRAME\nxyz"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := newReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		format := r.Format()
		var out bytes.Buffer
		w := newWriter(&out, format)
		require.NoError(t, w.begin())
		var frame Frame
		for r.Next(&frame) == nil {
			require.Len(t, frame.Data, format.frameBytes())
			if format.Width*format.Height < 1<<16 {
				p := format.picture(&frame)
				require.NoError(t, p.Check())
				require.Equal(t, frame.Data, format.changed(&frame, p, p).Data)
			}
			require.NoError(t, w.write(&frame))
		}
		again, err := newReader(&out)
		require.NoError(t, err, "%q", b)
		require.Equal(t, format, again.Format())
	})
}
