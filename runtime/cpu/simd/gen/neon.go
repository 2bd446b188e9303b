package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"math"
	"os"
	"strings"
)

// neon writes functions for arm64 in Go's assembly. Instructions name virtual
// registers; finish gives them real ones.
type neon struct {
	code  bytes.Buffer
	stubs bytes.Buffer

	// of the function being written
	kernel    kernel
	frame     map[string]int // offsets of arguments
	size      int            // bytes of arguments and results
	body      []*instruction
	constants map[uint32]vec
	hoisted   []*instruction // that set constants
	vectors   []bool         // whether each register is one of vectors
	labels    int
}

// vec and gp are virtual registers of vectors and of integers. scalar is a
// vector's first lane.
type (
	vec    int
	gp     int
	scalar int
)

const (
	neonWidth = 4 // floats
	neonBytes = 16
)

// instruction is one line of assembly.
type instruction struct {
	label      string // instead of one
	format     string // with a verb for each of args
	args       []any  // registers and values
	encode     func(reg func(r int) int) (uint32, string)
	def, use   []int
	jump       string // label it may go on at
	ends       bool   // does not go on after it
	live       map[int]bool
	successors []int
}

func (n *neon) vec() vec {
	n.vectors = append(n.vectors, true)
	return vec(len(n.vectors) - 1)
}

func (n *neon) gp() gp {
	n.vectors = append(n.vectors, false)
	return gp(len(n.vectors) - 1)
}

func (n *neon) vecs(count int) []vec {
	r := make([]vec, count)
	for i := range r {
		r[i] = n.vec()
	}
	return r
}

// number is that of a virtual register.
func number(r any) int {
	switch r := r.(type) {
	case vec:
		return int(r)
	case gp:
		return int(r)
	case scalar:
		return int(r)
	}
	panic(fmt.Sprintf("gen: %T is no register", r))
}

func numbers(rs ...any) []int {
	var all []int
	for _, r := range rs {
		all = append(all, number(r))
	}
	return all
}

// regs is a list of registers.
func regs(rs ...any) []any { return rs }

// op adds an instruction in Go's syntax that sets and reads the registers.
func (n *neon) op(sets, reads []any, format string, args ...any) *instruction {
	i := &instruction{format: format, args: args, def: numbers(sets...), use: numbers(reads...)}
	n.body = append(n.body, i)
	return i
}

// word adds an encoded instruction.
func (n *neon) word(sets, reads []any, encode func(reg func(r int) int) (uint32, string)) {
	n.body = append(n.body, &instruction{encode: encode, def: numbers(sets...), use: numbers(reads...)})
}

func (n *neon) newLabel(name string) string {
	n.labels++
	return fmt.Sprintf("%s%d", name, n.labels)
}

func (n *neon) label(name string) { n.body = append(n.body, &instruction{label: name}) }

// begin starts the function of a kernel.
func (n *neon) begin(k kernel) {
	n.kernel, n.body, n.hoisted, n.vectors, n.labels = k, nil, nil, nil, 0
	n.constants = map[uint32]vec{}
	n.frame, n.size = layout(k.args)
	fmt.Fprintf(&n.stubs, "// %s\n//\n//go:noescape\nfunc %sNEON%s\n\n", k.comment("NEON", neonWidth, neonRows), k.name, k.args)
}

// finish ends the function and writes it.
func (n *neon) finish() {
	n.op(nil, nil, "RET").ends = true
	n.body = append(n.hoisted, n.body...)
	name := n.allocate()
	fmt.Fprintf(&n.code, "// func %sNEON%s\n// Requires: ASIMD\nTEXT ·%sNEON(SB), NOSPLIT, $0-%d\n", n.kernel.name, n.kernel.args, n.kernel.name, n.size)
	for _, i := range n.body {
		n.print(i, name)
	}
	n.code.WriteByte('\n')
}

func (n *neon) print(i *instruction, name func(r int) int) {
	switch {
	case i.label != "":
		fmt.Fprintf(&n.code, "\n%s:\n", i.label)
	case i.encode != nil:
		word, text := i.encode(name)
		fmt.Fprintf(&n.code, "\tWORD $0x%08x // %s\n", word, text)
	default:
		args := make([]any, len(i.args))
		for j, a := range i.args {
			switch a := a.(type) {
			case vec:
				args[j] = fmt.Sprintf("V%d", name(int(a)))
			case scalar:
				args[j] = fmt.Sprintf("F%d", name(int(a)))
			case gp:
				args[j] = fmt.Sprintf("R%d", name(int(a)))
			default:
				args[j] = a
			}
		}
		fmt.Fprintf(&n.code, "\t"+i.format+"\n", args...)
	}
}

// layout places arguments and results as Go's stack frames do. A slice has
// entries for its base and length.
func layout(args string) (offsets map[string]int, size int) {
	expr, err := parser.ParseExpr("func" + args)
	if err != nil {
		panic("gen: signature " + args + ": " + err.Error())
	}
	offsets = map[string]int{}
	place := func(name string, typ ast.Expr) {
		bytes := 8
		switch t := typ.(type) {
		case *ast.ArrayType:
			offsets[name+"_base"], offsets[name+"_len"] = size, size+8
			size += 24
			return
		case *ast.Ident:
			if t.Name == "float32" {
				bytes = 4
			}
		}
		size = (size + bytes - 1) / bytes * bytes
		offsets[name] = size
		size += bytes
	}
	signature := expr.(*ast.FuncType)
	for _, f := range signature.Params.List {
		for _, name := range f.Names {
			place(name.Name, f.Type)
		}
	}
	if signature.Results != nil {
		size = (size + 7) / 8 * 8
		for _, f := range signature.Results.List {
			place("ret", f.Type)
		}
	}
	return offsets, size
}

// writeNeon writes the assembly and the declarations of kernels.
func writeNeon(kernels []kernel, code, stubs, pkg string) error {
	n := &neon{}
	for _, k := range kernels {
		n.begin(k)
		k.arm64(n)
	}
	const header = "// Code generated by the list of kernels in gen. DO NOT EDIT.\n\n//go:build arm64\n\n"
	asm := header + "#include \"textflag.h\"\n\n" + n.data() + strings.TrimRight(n.code.String(), "\n") + "\n"
	if err := os.WriteFile(code, []byte(asm), 0o644); err != nil {
		return err
	}
	text, err := format.Source([]byte(header + "package " + pkg + "\n\n" + strings.TrimRight(n.stubs.String(), "\n") + "\n"))
	if err != nil {
		return fmt.Errorf("declarations: %w", err)
	}
	return os.WriteFile(stubs, text, 0o644)
}

// firstLanes is a table of four set lanes and four clear ones.
const firstLanes = "firstLanes<>"

// data is the table of masks, where a function reads it.
func (n *neon) data() string {
	if !bytes.Contains(n.code.Bytes(), []byte(firstLanes)) {
		return ""
	}
	var b strings.Builder
	for i := range 8 {
		value := uint32(math.MaxUint32)
		if i >= neonWidth {
			value = 0
		}
		fmt.Fprintf(&b, "DATA %s+%d(SB)/4, $0x%08x\n", firstLanes, 4*i, value)
	}
	fmt.Fprintf(&b, "GLOBL %s(SB), RODATA|NOPTR, $32\n\n", firstLanes)
	return b.String()
}
