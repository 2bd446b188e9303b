package imaging

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/kovidgoyal/imaging/prism/meta"
	"github.com/kovidgoyal/imaging/prism/meta/icc"
)

// Networks want sRGB. An image whose file says that its samples are something else keeps them as they are; RGBFloat,
// SetRGBFloat and the estimator convert on the way. Conversion is relative colorimetric, clipped to sRGB, without black
// point compensation.
//
// On the way back, with A the conversion to sRGB and B from it, a sample p whose restored sRGB is o becomes
// p + B(o) - B(A(p)): what A clipped is carried round the network, and a network that changes nothing returns the picture
// exactly, whatever the profile.

// colourMap relates the samples of an image to sRGB; all values are 0 to 1.
type colourMap struct {
	name string // for reports
	grey bool   // maps one channel
	// chunks says that PNG's colour chunks are the source, which no other format holds.
	chunks bool

	toSRGB, fromSRGB func(v [3]float32) [3]float32
}

// manageColour finds out what the samples mean: cICP before iCCP before sRGB before gAMA and cHRM, as PNG has it. Profiles
// that make no sense are passed over with a warning.
func (img *Image) manageColour() error {
	m := &img.Meta
	chunk := func(kind string) []byte {
		for _, c := range m.pngColour {
			if c.kind == kind {
				return c.data
			}
		}
		return nil
	}
	if c := chunk("cICP"); len(c) == 4 && m.Format == PNG {
		cm, err := cicpMap(c)
		if err != nil {
			return err
		}
		if img.colour = cm; cm == nil || cm.grey == img.Grey() {
			return nil
		}
		img.colour = nil // a grey picture of some primaries: only its curve would count, which is sRGB's in practice
		return nil
	}
	if p := iccFor(m.ICC, img.Grey()); p != nil {
		cm, err := iccMap(p)
		if err != nil {
			m.warn("the colour profile cannot be used (%v): colours are taken for sRGB", err)
			return nil
		}
		if img.colour = cm; cm != nil && cm.fromSRGB == nil {
			*img = *img.asSRGB()
			m.Dropped = append(m.Dropped, fmt.Sprintf("the profile %q (it leads to sRGB and not back: converted)", cm.name))
		}
		return nil
	}
	if g := chunk("gAMA"); len(g) == 4 && chunk("sRGB") == nil {
		img.colour = gammaMap(binary.BigEndian.Uint32(g), chunk("cHRM"), img.Grey())
	}
	return nil
}

// colourSpace names what the samples are if that is not sRGB; empty if it is.
func (img *Image) colourSpace() string {
	if img.colour == nil {
		return ""
	}
	return img.colour.name
}

// asSRGB returns the image with its samples converted to sRGB and without the old description; an image in sRGB is returned
// itself.
func (img *Image) asSRGB() *Image {
	if img.colour == nil {
		return img
	}
	out := img.Clone()
	out.colour, out.Meta.ICC, out.Meta.pngColour = nil, nil, nil
	out.eachPixel(func(v [3]float32) [3]float32 { return img.colour.toSRGB(v) })
	return out
}

// eachPixel replaces the colour of every pixel. Grey pixels have three equal values, of which the first is kept.
func (img *Image) eachPixel(fn func(v [3]float32) [3]float32) {
	n, one := img.Channels, float32(255)
	if img.Depth == 16 {
		one = 65535
	}
	parallelRows(img.H, func(y0, y1 int) {
		for i := y0 * img.W * n; i < y1*img.W*n; i += n {
			v := fn(img.unit3(i, one))
			for c := range min(n, 3) {
				if c == 1 && n == 2 {
					break
				}
				img.setUnit(i+c, v[c], one)
			}
		}
	})
}

// unit3 reads the colour at sample i as 0 to 1.
func (img *Image) unit3(i int, one float32) (v [3]float32) {
	for c := range v {
		j := i + c
		if img.Channels <= 2 {
			j = i
		}
		if img.Depth == 8 {
			v[c] = float32(img.Pix[j]) / one
		} else {
			v[c] = float32(img.Pix16[j]) / one
		}
	}
	return v
}

func (img *Image) setUnit(i int, v, one float32) {
	if q := quantise(v, one); img.Depth == 8 {
		img.Pix[i] = uint8(q)
	} else {
		img.Pix16[i] = uint16(q)
	}
}

// restored gives the samples for a pixel p whose sRGB the network made o.
func (m *colourMap) restored(p, o [3]float32) [3]float32 {
	was, is := m.fromSRGB(m.toSRGB(p)), m.fromSRGB([3]float32{clamp01(o[0]), clamp01(o[1]), clamp01(o[2])})
	for c := range p {
		p[c] += is[c] - was[c]
	}
	return p
}

// profiles holds the maps made lately: a folder of photos has few profiles.
var profiles struct {
	sync.Mutex
	maps map[string]*colourMap
	errs map[string]error
}

// iccMap understands a profile. A profile that is sRGB is no map at all.
func iccMap(profile []byte) (*colourMap, error) {
	const most = 32
	key := string(profile)
	profiles.Lock()
	defer profiles.Unlock()
	if cm, ok := profiles.maps[key]; ok {
		return cm, profiles.errs[key]
	}
	cm, err := newICCMap(profile)
	if profiles.maps == nil || len(profiles.maps) >= most {
		profiles.maps, profiles.errs = map[string]*colourMap{}, map[string]error{}
	}
	profiles.maps[key], profiles.errs[key] = cm, err
	return cm, err
}

const intent = icc.RelativeColorimetricRenderingIntent

func newICCMap(data []byte) (cm *colourMap, err error) {
	defer func() {
		if p := recover(); p != nil { // of a library that trusts profiles more than it should
			cm, err = nil, fmt.Errorf("malformed profile (%v)", p)
		}
	}()
	p, err := decodeProfile(data)
	if err != nil {
		return nil, err
	}
	name := "profile"
	if d, err := p.Description(); err == nil && d != "" {
		name = d
	}
	if p.Header.DataColorSpace == icc.ColorSpaceGray {
		to, err := p.CreateTransformerToSRGB(intent, false, 1, true, false, true)
		if err != nil {
			return nil, err
		}
		return greyMap(name, func(v float64) float64 {
			var out [3]float64
			to.TransformGeneral(out[:], []float64{v, 0, 0})
			return out[1]
		}), nil
	}
	if p.IsMatrixShaper() {
		to, err := p.CreateTransformerToPCS(intent, 3, true)
		if err != nil {
			return nil, err
		}
		cm, err := matrixMap(name, func(v [3]float64) [3]float64 {
			x, y, z := to.Transform(v[0], v[1], v[2])
			return [3]float64{x, y, z}
		})
		if err == nil {
			return cm, nil
		}
	}
	// Tables are steep where they bend, so every pixel goes through the profile itself, at about a microsecond each way.
	to, err := p.CreateTransformerToSRGB(intent, false, 3, true, false, true)
	if err != nil {
		return nil, err
	}
	m := &colourMap{name: name, toSRGB: func(v [3]float32) [3]float32 {
		r, g, b := to.Transform(float64(v[0]), float64(v[1]), float64(v[2]))
		return [3]float32{clamp01(float32(r)), clamp01(float32(g)), clamp01(float32(b))}
	}}
	if from, err := p.CreateTransformerToDevice(intent, false, true); err == nil { // scanners' profiles have no way back
		lab := p.Header.ProfileConnectionSpace == icc.ColorSpaceLab
		toLab := icc.NewXYZtoLAB(p.PCSIlluminant)
		m.fromSRGB = func(v [3]float32) [3]float32 {
			x := xyzOfSRGB([3]float64{float64(v[0]), float64(v[1]), float64(v[2])})
			if lab {
				x[0], x[1], x[2] = toLab.Transform(x[0], x[1], x[2])
			}
			r, g, b := from.Transform(x[0], x[1], x[2])
			return [3]float32{clamp01(float32(r)), clamp01(float32(g)), clamp01(float32(b))}
		}
	}
	return noneIfSRGB(m), nil
}

// decodeProfile holds a profile's lengths against its size before the library, which allocates what they say, sees it.
func decodeProfile(data []byte) (*icc.Profile, error) {
	size := uint64(len(data))
	if size < 132 {
		return nil, errors.New("profile cut short")
	}
	tags := uint64(binary.BigEndian.Uint32(data[128:]))
	if tags > (size-132)/12 {
		return nil, fmt.Errorf("profile of %d tags in %d bytes", tags, size)
	}
	table := 132 + 12*tags
	for i := range tags {
		e := data[132+12*i:]
		if start, n := uint64(binary.BigEndian.Uint32(e[4:])), uint64(binary.BigEndian.Uint32(e[8:])); start < table || start+n > size {
			return nil, fmt.Errorf("profile tag %q outside the profile", e[:4])
		}
	}
	for rest := data; ; { // curves may lie anywhere
		at := bytes.Index(rest, []byte("curv"))
		if at < 0 {
			break
		}
		if rest = rest[at+4:]; len(rest) >= 8 && uint64(binary.BigEndian.Uint32(rest[4:]))*2 > size {
			return nil, errors.New("profile with a curve longer than itself")
		}
	}
	return icc.DecodeProfile(bytes.NewReader(data))
}

// Matrices between linear sRGB and XYZ under D50, as ICC profiles have it (IEC 61966-2-1, adapted by Bradford's transform).
var (
	xyzFromLinear = [3][3]float64{
		{0.4360747, 0.3850649, 0.1430804}, {0.2225045, 0.7168786, 0.0606169}, {0.0139322, 0.0971045, 0.7141733}}
	linearFromXYZ = inverse3(xyzFromLinear)
)

func xyzOfSRGB(v [3]float64) [3]float64 {
	return mul3(xyzFromLinear, [3]float64{srgbToLinear(v[0]), srgbToLinear(v[1]), srgbToLinear(v[2])})
}

func mul3(m [3][3]float64, v [3]float64) (out [3]float64) {
	for i := range out {
		out[i] = m[i][0]*v[0] + m[i][1]*v[1] + m[i][2]*v[2]
	}
	return out
}

func inverse3(m [3][3]float64) (out [3][3]float64) {
	det := 0.0
	for i := range 3 {
		det += m[0][i] * (m[1][(i+1)%3]*m[2][(i+2)%3] - m[1][(i+2)%3]*m[2][(i+1)%3])
	}
	for i := range 3 {
		for j := range 3 {
			out[j][i] = (m[(i+1)%3][(j+1)%3]*m[(i+2)%3][(j+2)%3] - m[(i+1)%3][(j+2)%3]*m[(i+2)%3][(j+1)%3]) / det
		}
	}
	return out
}

func srgbToLinear(v float64) float64 {
	if v <= 0.04045 {
		return v / 12.92
	}
	return math.Pow((v+0.055)/1.055, 2.4)
}

func linearToSRGB(v float64) float64 {
	if v <= 0.0031308 {
		return 12.92 * v
	}
	return 1.055*math.Pow(v, 1/2.4) - 0.055
}

// curve is a function on 0 to 1 as a table with straight lines between, over the square root of its argument where root
// says so: curves that undo a gamma are steep at 0.
type curve struct {
	v    []float32
	root bool
}

const curvePoints = 4096

func newCurve(root bool, fn func(x float64) float64) curve {
	c := curve{make([]float32, curvePoints+2), root}
	for i := range c.v {
		x := min(float64(i)/curvePoints, 1)
		if root {
			x *= x
		}
		c.v[i] = float32(fn(x))
	}
	return c
}

func (c curve) at(x float32) float32 {
	x = clamp01(x)
	if c.root {
		x = float32(math.Sqrt(float64(x)))
	}
	x *= curvePoints
	i := int(x)
	return c.v[i] + (x-float32(i))*(c.v[i+1]-c.v[i])
}

var (
	encodeSRGB = sync.OnceValue(func() curve { return newCurve(true, linearToSRGB) })
	decodeSRGB = sync.OnceValue(func() curve { return newCurve(false, srgbToLinear) })
)

// inverse is the inverse of a curve that rises from 0 to 1; where it falls, it counts as level.
func (c curve) inverse() curve {
	k, low := 0, float64(c.v[0])
	return newCurve(true, func(y float64) float64 { // asked in rising order
		for k < curvePoints && float64(c.v[k+1]) < y {
			k++
			low = max(low, float64(c.v[k]))
		}
		if k == curvePoints {
			return 1
		}
		share := 0.0
		if high := float64(c.v[k+1]); high > low {
			share = max(0, (y-low)/(high-low))
		}
		return (float64(k) + share) / curvePoints
	})
}

// matrixMap takes apart a conversion to XYZ that is a curve on each channel and then a matrix.
func matrixMap(name string, toXYZ func([3]float64) [3]float64) (*colourMap, error) {
	var matrix [3][3]float64 // linear samples to XYZ
	var to, from [3]curve
	for c := range 3 {
		var one [3]float64
		one[c] = 1
		column := toXYZ(one)
		top := 0
		for i := range 3 {
			matrix[i][c] = column[i]
			if math.Abs(column[i]) > math.Abs(column[top]) {
				top = i
			}
		}
		if column[top] == 0 {
			return nil, fmt.Errorf("channel %d has no colour", c)
		}
		trc := func(x float64) float64 {
			var v [3]float64
			v[c] = x
			return toXYZ(v)[top] / column[top]
		}
		to[c] = newCurve(false, trc)
		from[c] = to[c].inverse()
	}
	var linear [3][3]float64 // linear samples to linear sRGB
	for c := range 3 {
		column := mul3(linearFromXYZ, [3]float64{matrix[0][c], matrix[1][c], matrix[2][c]})
		for i := range 3 {
			linear[i][c] = column[i]
		}
	}
	back := inverse3(linear)
	for i := range back {
		for _, v := range back[i] {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("its primaries lie on a line")
			}
		}
	}
	forward32, back32 := single(linear), single(back)
	encode, decode := encodeSRGB(), decodeSRGB()
	return noneIfSRGB(&colourMap{
		name: name,
		toSRGB: func(v [3]float32) [3]float32 {
			l := mul32(&forward32, to[0].at(v[0]), to[1].at(v[1]), to[2].at(v[2]))
			return [3]float32{encode.at(l[0]), encode.at(l[1]), encode.at(l[2])}
		},
		fromSRGB: func(v [3]float32) [3]float32 {
			l := mul32(&back32, decode.at(v[0]), decode.at(v[1]), decode.at(v[2]))
			return [3]float32{from[0].at(l[0]), from[1].at(l[1]), from[2].at(l[2])}
		},
	}), nil
}

func single(m [3][3]float64) (out [3][3]float32) {
	for i := range m {
		for j := range m[i] {
			out[i][j] = float32(m[i][j])
		}
	}
	return out
}

func mul32(m *[3][3]float32, x, y, z float32) (out [3]float32) {
	for i := range out {
		out[i] = m[i][0]*x + m[i][1]*y + m[i][2]*z
	}
	return out
}

// greyMap maps one channel by a curve to sRGB.
func greyMap(name string, toSRGB func(float64) float64) *colourMap {
	to := newCurve(false, toSRGB)
	from := to.inverse()
	each := func(c curve) func(v [3]float32) [3]float32 {
		return func(v [3]float32) [3]float32 { return [3]float32{c.at(v[0]), c.at(v[1]), c.at(v[2])} }
	}
	return noneIfSRGB(&colourMap{name: name, grey: true, toSRGB: each(to), fromSRGB: each(from)})
}

// noneIfSRGB drops a map that moves no colour by two steps of 8 bits: there are that many ways to write sRGB's profile.
func noneIfSRGB(m *colourMap) *colourMap {
	const steps, tolerance = 8, 2.0 / 255
	for i := range (steps + 1) * (steps + 1) * (steps + 1) {
		v := [3]float32{
			float32(i%(steps+1)) / steps, float32(i/(steps+1)%(steps+1)) / steps, float32(i/(steps+1)/(steps+1)) / steps}
		if m.grey {
			v[1], v[2] = v[0], v[0]
		}
		for c, s := range m.toSRGB(v) {
			if math.Abs(float64(s-v[c])) > tolerance {
				return m
			}
		}
	}
	return nil
}

// grid is a function of three variables on 0 to 1, sampled and interpolated trilinearly.
type grid struct{ v [][3]float32 }

const gridSide = 49

func newGrid(fn func([3]float64) [3]float64) *grid {
	g := &grid{make([][3]float32, gridSide*gridSide*gridSide)}
	for i := range g.v {
		out := fn([3]float64{
			float64(i%gridSide) / (gridSide - 1), float64(i/gridSide%gridSide) / (gridSide - 1),
			float64(i/gridSide/gridSide) / (gridSide - 1)})
		for c, v := range out {
			g.v[i][c] = float32(min(max(v, -1), 2))
		}
	}
	return g
}

func (g *grid) at(v [3]float32) (out [3]float32) {
	var at [3]int
	var f [3]float32
	for c, x := range v {
		x = clamp01(x) * (gridSide - 1)
		at[c] = min(int(x), gridSide-2)
		f[c] = x - float32(at[c])
	}
	base := (at[2]*gridSide+at[1])*gridSide + at[0]
	for corner := range 8 {
		w := float32(1)
		i := base
		for c, step := range [3]int{1, gridSide, gridSide * gridSide} {
			if corner>>c&1 == 1 {
				w *= f[c]
				i += step
			} else {
				w *= 1 - f[c]
			}
		}
		for c := range out {
			out[c] += w * g.v[i][c]
		}
	}
	return [3]float32{clamp01(out[0]), clamp01(out[1]), clamp01(out[2])}
}

// cicpMap understands a cICP chunk (ITU-T H.273): primaries, transfer, matrix, full range.
func cicpMap(c []byte) (*colourMap, error) {
	switch c[1] {
	case 16:
		return nil, fmt.Errorf("high dynamic range (PQ, cICP %d) is not restored; convert it to sRGB first", c[1])
	case 18:
		return nil, fmt.Errorf("high dynamic range (HLG, cICP %d) is not restored; convert it to sRGB first", c[1])
	}
	in := meta.CodingIndependentCodePoints{ColorPrimaries: c[0], TransferCharacteristics: c[1], MatrixCoefficients: c[2],
		VideoFullRange: c[3], IsSet: true}
	if in == meta.SRGB {
		return nil, nil
	}
	if c[2] != 0 || c[3] != 1 {
		return nil, fmt.Errorf("cICP with matrix %d and range %d is not read", c[2], c[3])
	}
	// Linear light of the same primaries is not among the code points that the library leaves unclipped, so the whole
	// conversion goes through grids, fine enough for its smooth curves.
	to, from := in.PipelineTo(meta.SRGB), meta.SRGB.PipelineTo(in)
	if to == nil || from == nil {
		return nil, fmt.Errorf("cICP primaries %d with transfer %d are not read", c[0], c[1])
	}
	of := func(p *icc.Pipeline) func([3]float64) [3]float64 {
		return func(v [3]float64) [3]float64 {
			r, g, b := p.Transform(v[0], v[1], v[2])
			return [3]float64{r, g, b}
		}
	}
	m := noneIfSRGB(&colourMap{name: in.String(), chunks: true, toSRGB: newGrid(of(to)).at, fromSRGB: newGrid(of(from)).at})
	return m, nil
}

// gammaMap understands gAMA and cHRM: samples are light to the power of gamma/100000 with the given primaries.
func gammaMap(gamma uint32, chrm []byte, grey bool) *colourMap {
	if gamma == 0 {
		return nil
	}
	exponent := 100000 / float64(gamma)
	name := fmt.Sprintf("gamma %.4g", exponent)
	sRGBGamma := math.Abs(float64(gamma)-45455) < 500
	primaries := xyzFromLinear
	if !grey && len(chrm) == 32 {
		if m, ok := primariesToXYZ(chrm); ok {
			primaries = m
		}
	}
	trc := func(x float64) float64 { return math.Pow(x, exponent) }
	if sRGBGamma { // what writers of sRGB say
		trc = srgbToLinear
	}
	var m *colourMap
	if grey {
		m = greyMap(name, func(x float64) float64 { return linearToSRGB(trc(x)) })
	} else {
		var err error
		m, err = matrixMap(name, func(v [3]float64) [3]float64 {
			return mul3(primaries, [3]float64{trc(v[0]), trc(v[1]), trc(v[2])})
		})
		if err != nil {
			return nil
		}
	}
	if m != nil {
		m.chunks = true
	}
	return m
}

// primariesToXYZ makes the matrix of a cHRM chunk, adapted to D50 by Bradford's transform.
func primariesToXYZ(chrm []byte) (m [3][3]float64, ok bool) {
	var v [8]float64
	for i := range v {
		v[i] = float64(binary.BigEndian.Uint32(chrm[4*i:])) / 100000
	}
	xyz := func(x, y float64) [3]float64 { return [3]float64{x / y, 1, (1 - x - y) / y} }
	for i := 1; i < 8; i += 2 {
		if v[i] < 0.001 || v[i] > 1 || v[i-1] > 1 {
			return m, false
		}
	}
	white := xyz(v[0], v[1])
	for c := range 3 {
		p := xyz(v[2+2*c], v[3+2*c])
		for i := range 3 {
			m[i][c] = p[i]
		}
	}
	scale := mul3(inverse3(m), white)
	for i := range 3 {
		for c := range 3 {
			m[i][c] *= scale[c]
		}
	}
	bradford := [3][3]float64{{0.8951, 0.2664, -0.1614}, {-0.7502, 1.7135, 0.0367}, {0.0389, -0.0685, 1.0296}}
	cone, d50 := mul3(bradford, white), mul3(bradford, [3]float64{0.9642, 1, 0.8249})
	for c := range 3 {
		column := mul3(bradford, [3]float64{m[0][c], m[1][c], m[2][c]})
		for i := range 3 {
			column[i] *= d50[i] / cone[i]
		}
		column = mul3(inverse3(bradford), column)
		for i := range 3 {
			m[i][c] = column[i]
			if math.IsNaN(column[i]) || math.IsInf(column[i], 0) {
				return m, false
			}
		}
	}
	return m, true
}

// cmykProfile is what CMYK without a profile is taken for: the "Chemical proof" profile by Graeme Gill (public domain), which
// libvips assumes too, without all but its relative colorimetric table to Lab.
//
//go:embed cmyk.icc
var cmykProfile []byte

var usualInks = sync.OnceValues(func() (*icc.Pipeline, error) { return cmykPipeline(cmykProfile) })

// rgbOfCMYK converts rows of CMYK (255 is full ink) to sRGB, by their profile if they have one.
func rgbOfCMYK(pix []uint8, stride, w, h int, profile []byte) (*Image, error) {
	img, err := New(w, h, 3, 8)
	if err != nil {
		return nil, err
	}
	var p *icc.Pipeline
	if len(profile) >= 132 && string(profile[16:20]) == "CMYK" {
		if p, err = cmykPipeline(profile); err != nil {
			img.Meta.warn("the CMYK profile cannot be used (%v): inks are taken for those of a usual press", err)
		}
	}
	if p == nil {
		if p, err = usualInks(); err != nil {
			return nil, err
		}
	}
	convert := func(c, m, y, k uint8) (uint8, uint8, uint8) {
		var out [4]float64 // as long as the input: steps in between may have four values
		p.TransformGeneral(out[:], []float64{float64(c) / 255, float64(m) / 255, float64(y) / 255, float64(k) / 255})
		return unit8(out[0]), unit8(out[1]), unit8(out[2])
	}
	parallelRows(h, func(y0, y1 int) {
		var last [4]uint8
		r, g, b := convert(0, 0, 0, 0)
		for y := y0; y < y1; y++ {
			row, out := pix[y*stride:][:4*w], img.Pix[3*y*w:][:3*w]
			for x := range w {
				if ink := [4]uint8(row[4*x:]); ink != last {
					last = ink
					r, g, b = convert(ink[0], ink[1], ink[2], ink[3])
				}
				out[3*x], out[3*x+1], out[3*x+2] = r, g, b
			}
		}
	})
	return img, nil
}

func unit8(v float64) uint8 { return uint8(min(max(v, 0), 1)*255 + 0.5) }

func cmykPipeline(profile []byte) (p *icc.Pipeline, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("malformed profile (%v)", r)
		}
	}()
	decoded, err := decodeProfile(profile)
	if err != nil {
		return nil, err
	}
	return decoded.CreateTransformerToSRGB(intent, false, 4, true, false, true)
}

// wasCMYK notes that the inks became RGB.
func (m *Metadata) wasCMYK() {
	m.ICC = nil // it described the inks, not the RGB they became
	m.Dropped = append(m.Dropped, "CMYK inks (converted to RGB)")
}
