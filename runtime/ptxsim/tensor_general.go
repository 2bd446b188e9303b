package ptxsim

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Matrix products on tensor cores of every shape and type that has no faster path of its own (tensor_ops.go): integers of
// 8, 4 and 1 bits, fp8, tf32, doubles, and the products of wmma.

// matrixShape is m×n×k.
type matrixShape struct{ m, n, k int }

// parseShape reads "m16n8k32".
func parseShape(s string) (h matrixShape, ok bool) {
	rest, ok := strings.CutPrefix(s, "m")
	if !ok {
		return h, false
	}
	m, rest, ok1 := strings.Cut(rest, "n")
	n, k, ok2 := strings.Cut(rest, "k")
	var err [3]error
	h.m, err[0] = strconv.Atoi(m)
	h.n, err[1] = strconv.Atoi(n)
	h.k, err[2] = strconv.Atoi(k)
	return h, ok1 && ok2 && err == [3]error{}
}

// shape removes and returns the shape among the modifiers.
func (m *modset) shape() (matrixShape, bool) {
	for _, s := range m.list {
		if h, ok := parseShape(s); ok {
			m.take(s)
			return h, true
		}
	}
	return matrixShape{}, false
}

// elemKind is the type of a matrix element.
type elemKind struct {
	name string
	bits int
}

var elemKinds = map[string]elemKind{
	"f16": {"f16", 16}, "bf16": {"bf16", 16}, "tf32": {"tf32", 32}, "f32": {"f32", 32}, "f64": {"f64", 64},
	"s8": {"s8", 8}, "u8": {"u8", 8}, "s4": {"s4", 4}, "u4": {"u4", 4}, "b1": {"b1", 1}, "s32": {"s32", 32},
	"e4m3": {"e4m3", 8}, "e5m2": {"e5m2", 8},
}

// elem removes and returns the first element type.
func (m *modset) elem() elemKind {
	for _, s := range m.list {
		if e, ok := elemKinds[s]; ok {
			m.take(s)
			return e
		}
	}
	return elemKind{}
}

func (e elemKind) per() int { return max(1, 32/e.bits) } // elements a register

func (e elemKind) integer() bool {
	return e.name == "s8" || e.name == "u8" || e.name == "s4" || e.name == "u4" || e.name == "b1" || e.name == "s32"
}

// value returns element j of a register as a number.
func (e elemKind) value(reg uint64, j int) float64 {
	v := uint32(reg >> (j * e.bits) & (1<<min(e.bits, 32) - 1))
	switch e.name {
	case "f16":
		return float64(f16to32(v))
	case "bf16":
		return float64(math.Float32frombits(v << 16))
	case "tf32":
		return float64(math.Float32frombits(v &^ 0x1fff))
	case "f32":
		return float64(math.Float32frombits(v))
	case "f64":
		return math.Float64frombits(reg)
	case "e4m3":
		return float64(fp8E4M3.value(uint8(v)))
	case "e5m2":
		return float64(fp8E5M2.value(uint8(v)))
	case "s8":
		return float64(int8(v))
	case "s4":
		return float64(int32(v<<28) >> 28)
	case "s32":
		return float64(int32(v))
	}
	return float64(v)
}

// fragment says which element of a matrix a lane's register holds: at(lane, i, j) for element j of register i.
type fragment struct {
	rows []int32
	wide bool // 64-bit rows
	elem elemKind
	at   func(lane, reg, j int) (row, col int)
}

// get fills a matrix, by rows of width cols.
func (f *fragment) get(w *warp, out []float64, cols int) {
	for i, r := range f.rows {
		for l := range lanes {
			reg := uint64(0)
			if f.wide {
				reg = w.r64[r][l]
			} else {
				reg = uint64(w.r32[r][l])
			}
			for j := range f.elem.per() {
				row, col := f.at(l, i, j)
				out[row*cols+col] = f.elem.value(reg, j)
			}
		}
	}
}

// put stores a matrix.
func (f *fragment) put(w *warp, in []float64, cols int) {
	for i, r := range f.rows {
		for l := range lanes {
			row, col := f.at(l, i, 0)
			v := in[row*cols+col]
			switch f.elem.name {
			case "f64":
				w.r64[r][l] = canon64(v)
			case "s32":
				w.r32[r][l] = uint32(int32(int64(v)))
			case "f16":
				row, col = f.at(l, i, 1)
				w.r32[r][l] = f32toF16(float32(v)) | f32toF16(float32(in[row*cols+col]))<<16
			default:
				w.r32[r][l] = canon(float32(v))
			}
		}
	}
}

// matrixProduct is d = a·b + c with everything it needs.
type matrixProduct struct {
	shape      matrixShape
	a, b, c, d fragment
	saturate   bool   // integer sums stay in range
	bitOp      string // of b1: "xor" or "and"
}

// exec computes the product. Sums of floats are rounded after each step in ascending k, as in tensor_ops.go.
func (p *matrixProduct) exec(w *warp, in *inst) {
	if !w.wholeWarp(in) {
		return
	}
	h := p.shape
	a, b, c := make([]float64, h.m*h.k), make([]float64, h.k*h.n), make([]float64, h.m*h.n)
	p.a.get(w, a, h.k)
	p.b.get(w, b, h.n)
	p.c.get(w, c, h.n)
	for i := range h.m {
		for n := range h.n {
			s := c[i*h.n+n]
			for k := range h.k {
				x, y := a[i*h.k+k], b[k*h.n+n]
				switch {
				case p.bitOp == "xor":
					s += float64(bits.OnesCount8(uint8(x) ^ uint8(y)))
				case p.a.elem.name == "f64":
					s = math.FMA(x, y, s)
				case p.a.elem.integer():
					s += x * y
				default:
					s = float64(fma32(float32(x), float32(y), float32(s)))
				}
			}
			if p.a.elem.integer() {
				if p.saturate {
					s = min(max(s, math.MinInt32), math.MaxInt32)
				} else {
					s = float64(int32(int64(s)))
				}
			}
			c[i*h.n+n] = s
		}
	}
	p.d.put(w, c, h.n)
	w.blk.ctr.TensorMACs += uint64(h.m * h.n * h.k)
}

// mmaFragments gives the places of elements for mma.sync (PTX ISA 8.4, 9.7.13.4): lane 4g+t holds, of register i, the
// elements from column t·per of row g; further registers go down by 8 rows first where there are 16, then along k.
func (p *matrixProduct) mmaFragments() (na, nb, nc int) {
	h := p.shape
	per := p.a.elem.per()
	tall := h.m / 8
	p.a.at = func(l, i, j int) (int, int) { return l/4 + 8*(i%tall), l%4*per + j + 4*per*(i/tall) }
	p.b.at = func(l, i, j int) (int, int) { return l%4*per + j + 4*per*i, l / 4 }
	sum := func(per int) func(l, i, j int) (int, int) {
		if per == 2 {
			return func(l, i, j int) (int, int) { return l/4 + 8*i, l%4*2 + j }
		}
		return func(l, i, _ int) (int, int) { return l/4 + 8*(i/2), l%4*2 + i%2 }
	}
	p.c.at, p.d.at = sum(p.c.elem.per()), sum(p.d.elem.per())
	return h.m * h.k / lanes / per, h.k * h.n / lanes / per, h.m * h.n / lanes / p.c.elem.per()
}

// mmaShapes lists the shapes of each element type beside those of the fast path.
var mmaShapes = map[string]string{
	"s8": "m8n8k16 m16n8k16 m16n8k32", "u8": "m8n8k16 m16n8k16 m16n8k32", "s4": "m8n8k32 m16n8k32 m16n8k64", "u4": "m8n8k32 m16n8k32 m16n8k64",
	"b1": "m8n8k128 m16n8k128 m16n8k256", "f64": "m8n8k4 m16n8k4 m16n8k8 m16n8k16", "e4m3": "m16n8k32 m16n8k16", "e5m2": "m16n8k32 m16n8k16",
}

// decMMAGeneral translates mma.sync without a path of its own.
func decMMAGeneral(d *decoder, s *stmt, m *modset, in *inst, h matrixShape) error {
	p := &matrixProduct{shape: h, saturate: m.take("satfinite")}
	p.d.elem, p.a.elem, p.b.elem, p.c.elem = m.elem(), m.elem(), m.elem(), m.elem()
	if p.a.elem.name == "b1" {
		p.bitOp = m.one("xor", "and")
		if p.bitOp == "" || !m.take("popc") {
			return fmt.Errorf("needs .xor.popc or .and.popc")
		}
	}
	shape := fmt.Sprintf("m%dn%dk%d", h.m, h.n, h.k)
	allowed := false
	for _, s := range strings.Fields(mmaShapes[p.a.elem.name]) {
		allowed = allowed || s == shape
	}
	want := map[bool]string{true: "s32", false: "f32"}[p.a.elem.integer()]
	if p.a.elem.name == "f64" {
		want = "f64"
	}
	fp8 := strings.HasPrefix(p.a.elem.name, "e")
	if !allowed || p.a.elem.bits != p.b.elem.bits || p.a.elem.integer() != p.b.elem.integer() || p.d.elem != p.c.elem ||
		p.d.elem.name != want && !(fp8 && p.d.elem.name == "f16") {
		return fmt.Errorf("shape and types are not supported")
	}
	na, nb, nc := p.mmaFragments()
	return d.product(s, in, p, na, nb, nc)
}

// product fills in the registers of a product.
func (d *decoder) product(s *stmt, in *inst, p *matrixProduct, na, nb, nc int) error {
	nd := nc
	if p.d.elem.per() != p.c.elem.per() {
		nd = nc * p.c.elem.per() / p.d.elem.per()
	}
	for i, f := range []*fragment{&p.d, &p.a, &p.b, &p.c} {
		if err := d.fragment(s.args[i], f, []int{nd, na, nb, nc}[i], i == 0); err != nil {
			return err
		}
	}
	in.class, in.exec = clTensor, p.exec
	return d.sync(in, nil)
}

// fragment fills in the registers of one operand.
func (d *decoder) fragment(o operand, f *fragment, n int, dst bool) error {
	list, err := elements(o, n)
	if err != nil {
		return err
	}
	f.wide = f.elem.bits == 64
	for _, o := range list {
		var r int32
		switch {
		case dst && f.wide:
			r, err = d.dst64(o)
		case dst:
			r, err = d.dst32(o)
		case f.wide:
			r, err = d.src64(o, tF64)
		default:
			t := tB32
			if f.elem.name == "f32" {
				t = tF32
			}
			r, err = d.src32(o, t)
		}
		if err != nil {
			return err
		}
		f.rows = append(f.rows, r)
	}
	return nil
}
