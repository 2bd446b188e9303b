package ptxsim

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// The functions that CUDA's runtime provides to kernels: vprintf, which printf becomes, and __assertfail, which assert
// becomes (CUDA C++ Programming Guide 12.4, 10.33 and 10.34).

// systemCall executes one for the lanes that run. args are the places of the arguments in a lane's frame.
type systemCall func(w *warp, in *inst, args []int64, ret int64)

var systemCalls = map[string]systemCall{"vprintf": callPrintf, "__assertfail": callAssertFail}

// maxPrinted bounds what a launch prints, as the device's buffer does.
const maxPrinted = 1 << 20

// decSystemCall translates a call of a function that is not in the module.
func (d *decoder) decSystemCall(s *stmt, in *inst, fn *function, rets, args []operand) error {
	sizes := map[string][]int64{"vprintf": {8, 8}, "__assertfail": {8, 8, 4, 8, 8}}[fn.name]
	if len(args) != len(sizes) || len(rets) > 1 {
		return fmt.Errorf("call of %s with %d arguments and %d results", fn.name, len(args), len(rets))
	}
	var places []int64
	ret := int64(-1)
	for i, o := range append(args, rets...) {
		v := d.lookupVar(o.name, s.scope)
		if o.kind != opdSymbol || v == nil || v.space != spParam {
			return fmt.Errorf("only variables can be passed to functions")
		}
		if size := append(sizes, 4)[i]; v.size() != size {
			return fmt.Errorf("variable %s of %d bytes for %d", v.name, v.size(), size)
		}
		if i < len(args) {
			places = append(places, d.varOff[v])
		} else {
			ret = d.varOff[v]
		}
	}
	call := systemCalls[fn.name]
	in.class, in.kind = clControl, kExec
	in.exec = func(w *warp, in *inst) { call(w, in, places, ret) }
	d.prog.prints = true
	return nil
}

// frame64 reads an argument of a lane.
func (w *warp) frame64(lane int, at int64) uint64 {
	return binary.LittleEndian.Uint64(w.frame[int64(lane*w.prog.frameBytes)+at:])
}

// generic returns up to n bytes at a generic address, fewer at the end of memory.
func (w *warp) generic(lane int, addr uint64, n int) []byte {
	cut := func(p []byte, at uint64) []byte {
		if at >= uint64(len(p)) {
			return nil
		}
		p = p[at:]
		return p[:min(n, len(p))]
	}
	switch {
	case addr-sharedWindow < windowSize:
		return cut(w.blk.shared, addr-sharedWindow)
	case addr-paramWindow < windowSize:
		return cut(w.frame[lane*w.prog.frameBytes:(lane+1)*w.prog.frameBytes], addr-paramWindow)
	case addr-localWindow < windowSize:
		return cut(w.local[lane*w.prog.localBytes:(lane+1)*w.prog.localBytes], addr-localWindow)
	}
	a := w.blk.launch.mem.near(addr)
	if a == nil || a.freed {
		return nil
	}
	return cut(a.data, addr-a.base)
}

// text reads a string that ends in a zero.
func (w *warp) text(in *inst, lane int, addr uint64) string {
	p := w.generic(lane, addr, 4096)
	n := strings.IndexByte(string(p), 0)
	if n < 0 {
		w.report(in, lane, OutOfBounds, spGeneric, addr, "the string has no end")
		return ""
	}
	return string(p[:n])
}

func callPrintf(w *warp, in *inst, args []int64, ret int64) {
	for m := w.mask; m != 0; m &= m - 1 {
		l := lowest(m)
		text, n := w.format(in, l, w.text(in, l, w.frame64(l, args[0])), w.frame64(l, args[1]))
		w.blk.launch.print(text)
		if ret >= 0 {
			binary.LittleEndian.PutUint32(w.frame[int64(l*w.prog.frameBytes)+ret:], uint32(n))
		}
	}
}

// print hands on what a kernel printed.
func (l *launch) print(text string) {
	if l.output == nil {
		return
	}
	if n := maxPrinted - l.printed; len(text) > n {
		text = text[:n]
	}
	l.printed += len(text)
	_, _ = l.output.Write([]byte(text))
}

// format replaces the conversions of a format string by the values at args, which lie there as C passes them: integers
// of 4 or 8 bytes, doubles and pointers of 8, each aligned. It returns the number of conversions too.
func (w *warp) format(in *inst, lane int, format string, args uint64) (string, int) {
	var out strings.Builder
	n, at := 0, args
	next := func(size uint64) uint64 {
		at = (at + size - 1) &^ (size - 1)
		p := w.generic(lane, at, int(size))
		at += size
		if uint64(len(p)) < size {
			w.report(in, lane, OutOfBounds, spGeneric, at-size, "the format %q has more conversions than there are arguments", format)
			return 0
		}
		if size == 4 {
			return uint64(binary.LittleEndian.Uint32(p))
		}
		return binary.LittleEndian.Uint64(p)
	}
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			out.WriteByte(format[i])
			continue
		}
		j := i + 1
		for j < len(format) && strings.IndexByte("-+ #0123456789.*", format[j]) >= 0 {
			j++
		}
		flags := format[i+1 : j]
		for strings.Contains(flags, "*") {
			flags = strings.Replace(flags, "*", fmt.Sprint(int32(next(4))), 1)
		}
		size := uint64(4)
		for j < len(format) && strings.IndexByte("hlLzjt", format[j]) >= 0 {
			if format[j] != 'h' {
				size = 8
			}
			j++
		}
		if j == len(format) {
			out.WriteString(format[i:])
			break
		}
		verb := format[j]
		i = j
		if verb == '%' {
			out.WriteByte('%')
			continue
		}
		n++
		switch verb {
		case 'd', 'i':
			v := next(size)
			if size == 4 {
				v = uint64(int64(int32(v)))
			}
			fmt.Fprintf(&out, "%"+flags+"d", int64(v))
		case 'u':
			fmt.Fprintf(&out, "%"+flags+"d", next(size))
		case 'x', 'X', 'o':
			fmt.Fprintf(&out, "%"+flags+string(verb), next(size))
		case 'c':
			fmt.Fprintf(&out, "%"+flags+"c", rune(next(4)&0xff))
		case 'e', 'E', 'f', 'F', 'g', 'G', 'a', 'A':
			v := math.Float64frombits(next(8))
			if strings.IndexByte("fFeE", verb) >= 0 && !strings.Contains(flags, ".") {
				flags += ".6"
			}
			fmt.Fprintf(&out, "%"+flags+map[byte]string{'a': "x", 'A': "X"}[verb]+strings.Trim(string(verb), "aA"), v)
		case 's':
			fmt.Fprintf(&out, "%"+flags+"s", w.text(in, lane, next(8)))
		case 'p':
			fmt.Fprintf(&out, "0x%x", next(8))
		default:
			fmt.Fprintf(&out, "%%%s%c", flags, verb)
		}
	}
	return out.String(), n
}

func callAssertFail(w *warp, in *inst, args []int64, _ int64) {
	l := lowest(w.mask)
	line := binary.LittleEndian.Uint32(w.frame[int64(l*w.prog.frameBytes)+args[2]:])
	message := w.text(in, l, w.frame64(l, args[0]))
	file, function := w.text(in, l, w.frame64(l, args[1])), w.text(in, l, w.frame64(l, args[3]))
	w.blk.launch.print(fmt.Sprintf("%s:%d: %s: block: %v, thread: %v Assertion `%s` failed.\n",
		file, line, function, w.blk.launch.blockIndex(w.blk.index), w.blk.thread(w.id, l), message))
	w.fatal(in, l, Trap, "assertion %q of %s failed at %s:%d", message, function, file, line)
}
