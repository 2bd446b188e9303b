package ptxsim

import (
	"strconv"
	"strings"
)

// topLevel parses one directive at module level.
func (p *parser) topLevel() error {
	t, err := p.take()
	if err != nil {
		return err
	}
	if t.is(";") {
		return nil
	}
	if t.kind != tokIdent {
		return p.errorf("expected a directive, found %v", t)
	}
	switch t.text {
	case ".version":
		p.file.version = p.tok.text
		return p.skipLine()
	case ".target":
		p.file.target = p.tok.text
		if err := p.target(p.tok.text); err != nil {
			return err
		}
		return p.skipLine()
	case ".address_size":
		if p.tok.text != "64" {
			return p.errorf("address size %v is not supported, only 64", p.tok)
		}
		return p.advance()
	case ".file":
		return p.fileDirective()
	case ".section":
		if _, err := p.ident(); err != nil {
			return err
		}
		return p.skipBraces()
	case ".pragma":
		return p.skipTo(";")
	case ".alias":
		return p.alias()
	}
	return p.declaration(t)
}

// alias parses .alias name, function; (PTX ISA 8.4, section 5.4.7).
func (p *parser) alias() error {
	name, err := p.ident()
	if err != nil {
		return err
	}
	if err := p.expect(","); err != nil {
		return err
	}
	of, err := p.ident()
	if err != nil {
		return err
	}
	if p.file.aliases[name] != "" {
		return p.errorf("alias %s is declared twice", name)
	}
	p.file.aliases[name] = of
	return p.expect(";")
}

// target checks the architecture, "sm_80" or "sm_90a".
func (p *parser) target(name string) error {
	digits := strings.TrimRight(strings.TrimPrefix(name, "sm_"), "af")
	n, err := strconv.Atoi(digits)
	if err != nil || !strings.HasPrefix(name, "sm_") || n < 20 || n > 999 {
		return p.errorf("target %q is not an architecture such as sm_80", name)
	}
	p.file.arch = n
	return nil
}

func (p *parser) fileDirective() error {
	n, err := p.count("file index", 1<<30)
	if err != nil {
		return err
	}
	if p.tok.kind != tokString {
		return p.errorf("expected a file name, found %v", p.tok)
	}
	p.file.sources[int(n)] = p.tok.text
	return p.skipLine()
}

// declaration parses a variable or function with its linkage.
func (p *parser) declaration(t token) error {
	extern := false
	for {
		switch t.text {
		case ".extern":
			extern = true
		case ".visible", ".weak", ".common":
		case ".entry":
			return p.function(true)
		case ".func":
			return p.function(false)
		case ".global", ".const", ".shared":
			vars, err := p.variables(spaceNames[t.text[1:]], extern)
			if err != nil {
				return err
			}
			for _, v := range vars {
				if p.varNames[v.name] {
					return p.errorf("variable %s is declared twice", v.name)
				}
				p.varNames[v.name] = true
				p.file.vars = append(p.file.vars, v)
			}
			return nil
		default:
			return p.errorf("unknown directive %v", t)
		}
		var err error
		if t, err = p.take(); err != nil {
			return err
		}
	}
}

// variables parses what follows a state space up to the semicolon: .align 16 .b8 name[64] = {...}, other;
func (p *parser) variables(sp space, extern bool) ([]*variable, error) {
	typ, align, vec, err := p.varType()
	if err != nil {
		return nil, err
	}
	var out []*variable
	for {
		v, err := p.variable(sp, typ, align, vec)
		if err != nil {
			return nil, err
		}
		v.extern = extern
		out = append(out, v)
		more, err := p.accept(",")
		if err != nil {
			return nil, err
		}
		if !more {
			return out, p.expect(";")
		}
	}
}

// varType parses alignment, vector length and type in front of a variable's name.
func (p *parser) varType() (typ dtype, align, vec int, err error) {
	vec = 1
	for p.tok.kind == tokIdent && p.tok.text[0] == '.' {
		name := p.tok.text[1:]
		if err := p.advance(); err != nil {
			return 0, 0, 0, err
		}
		switch {
		case name == "align":
			if align, err = p.alignment(); err != nil {
				return 0, 0, 0, err
			}
		case name == "ptr": // .param .u64 .ptr .global .align 16 name
			if err := p.pointee(); err != nil {
				return 0, 0, 0, err
			}
		case name == "v2" || name == "v4":
			vec = int(name[1] - '0')
		case typeNames[name] != tNone && typ == tNone:
			typ = typeNames[name]
		case (name == "texref" || name == "samplerref" || name == "surfref") && typ == tNone:
			typ = tB64 // opaque, and refused where it is used
		case name == "attribute": // .attribute(.managed), .attribute(.unified(a, b)): where the host sees it
			if err := p.skipParentheses(); err != nil {
				return 0, 0, 0, err
			}
		default:
			return 0, 0, 0, p.errorf("unknown qualifier .%s", name)
		}
	}
	if typ == tNone || typ == tPred {
		return 0, 0, 0, p.errorf("variable has no type")
	}
	if vec*typ.size() > 16 {
		return 0, 0, 0, p.errorf("a vector of %d bytes", vec*typ.size())
	}
	return typ, max(align, vec*typ.size()), vec, nil
}

// alignment parses a power of two.
func (p *parser) alignment() (int, error) {
	n, err := p.count("alignment", 1<<16)
	if err == nil && (n == 0 || n&(n-1) != 0) {
		err = p.errorf("alignment %d is not a power of two", n)
	}
	return int(n), err
}

// pointee passes over what stands behind ".ptr": the space and the alignment of what is pointed at.
func (p *parser) pointee() error {
	if p.tok.kind == tokIdent && spaceNames[strings.TrimPrefix(p.tok.text, ".")] != spGeneric {
		if err := p.advance(); err != nil {
			return err
		}
	}
	if p.tok.text != ".align" {
		return nil
	}
	if err := p.advance(); err != nil {
		return err
	}
	_, err := p.count("alignment", 1<<16)
	return err
}

// skipParentheses passes over a token, and if it opens a parenthesis, over all up to the one that closes it.
func (p *parser) skipParentheses() error {
	for depth := 0; ; {
		if p.tok.is("(") {
			depth++
		} else if p.tok.is(")") {
			depth--
		}
		if p.tok.kind == tokEOF {
			return p.errorf("missing %q", ")")
		}
		if err := p.advance(); err != nil {
			return err
		}
		if depth <= 0 {
			return nil
		}
	}
}

// variable parses a name with optional dimensions and initialiser.
func (p *parser) variable(sp space, typ dtype, align, vec int) (*variable, error) {
	line := p.tok.line
	name, err := p.ident()
	if err != nil {
		return nil, err
	}
	v := &variable{name: name, space: sp, typ: typ, align: align, count: int64(vec), line: line}
	for p.tok.is("[") {
		if err := p.advance(); err != nil {
			return nil, err
		}
		if p.tok.is("]") {
			v.flex = true
		} else {
			n, err := p.count("array length", maxVarBytes)
			if err != nil {
				return nil, err
			}
			if n > 0 && v.count > maxVarBytes/n {
				return nil, p.errorf("variable %s is too large", name)
			}
			v.count *= n
		}
		if err := p.expect("]"); err != nil {
			return nil, err
		}
	}
	if v.size() > maxVarBytes {
		return nil, p.errorf("variable %s is too large", name)
	}
	if p.tok.is("=") {
		if err := p.advance(); err != nil {
			return nil, err
		}
		if err := p.initialiser(v, 0); err != nil {
			return nil, err
		}
		if v.flex {
			v.flex, v.count = false, int64(len(v.init))
		}
		if int64(len(v.init)) > v.count {
			return nil, p.errorf("variable %s has %d initial values for %d elements", name, len(v.init), v.count)
		}
	}
	return v, nil
}

// initialiser parses a constant or a nest of braces of them.
func (p *parser) initialiser(v *variable, depth int) error {
	if depth > maxNesting {
		return p.errorf("initialiser is nested too deeply")
	}
	if p.tok.is("{") {
		return p.initialisers(v, depth+1)
	}
	if len(v.init) >= maxInitValues {
		return p.errorf("initialiser is too long")
	}
	neg, err := p.accept("-")
	if err != nil {
		return err
	}
	t, err := p.take()
	if err != nil {
		return err
	}
	switch t.kind {
	case tokNumber:
		o, err := parseNumber(t.text)
		if err != nil {
			return p.errorf("%v", err)
		}
		v.init = append(v.init, initValue{bits: constantBits(o, v.typ, neg)})
		return nil
	case tokIdent:
		iv, err := p.symbolValue(t.text)
		if err != nil {
			return err
		}
		v.init = append(v.init, iv)
		return nil
	}
	return p.errorf("bad initial value %v", t)
}

// initialisers parses a list in braces.
func (p *parser) initialisers(v *variable, depth int) error {
	for {
		if err := p.advance(); err != nil {
			return err
		}
		if p.tok.is("}") {
			break
		}
		if err := p.initialiser(v, depth); err != nil {
			return err
		}
		if !p.tok.is(",") {
			break
		}
	}
	return p.expect("}")
}

// symbolValue parses what stands behind the name of a symbol: generic(name), name+offset.
func (p *parser) symbolValue(name string) (iv initValue, err error) {
	iv.symbol = name
	if name == "generic" && p.tok.is("(") {
		iv.generic = true
		if err := p.advance(); err != nil {
			return iv, err
		}
		if iv.symbol, err = p.ident(); err != nil {
			return iv, err
		}
		if err := p.expect(")"); err != nil {
			return iv, err
		}
	}
	if p.tok.is("+") {
		if err := p.advance(); err != nil {
			return iv, err
		}
		n, err := p.integer()
		if err != nil {
			return iv, err
		}
		iv.bits = uint64(n)
	}
	return iv, nil
}

// function parses the header and body of an .entry or .func.
func (p *parser) function(entry bool) error {
	fn := &function{entry: entry, line: p.tok.line}
	var err error
	if p.tok.is("(") && !entry {
		if fn.rets, err = p.params(); err != nil {
			return err
		}
	}
	if fn.name, err = p.ident(); err != nil {
		return err
	}
	if p.tok.is("(") {
		if fn.params, err = p.params(); err != nil {
			return err
		}
	}
	if err := p.tuning(fn); err != nil {
		return err
	}
	if ok, err := p.accept(";"); ok || err != nil {
		return p.addFunction(fn, err)
	}
	fn.defined = true
	p.fn, p.src = fn, srcPos{}
	fn.root = newScope(nil)
	for i, v := range append(append([]*variable{}, fn.params...), fn.rets...) {
		if v.reg == 0 {
			fn.root.vars[v.name] = v
			continue
		}
		if entry {
			return p.errorf("parameter %s of a kernel cannot be a register", v.name)
		}
		r := int32(len(fn.regs))
		fn.root.regs[v.name], v.reg = r, r+1
		fn.regs = append(fn.regs, v.typ)
		if i < len(fn.params) {
			fn.regParams = append(fn.regParams, r)
		}
	}
	p.scope, p.depth = fn.root, 0
	start, tok, ahead := p.lex, p.tok, p.ahead
	err = p.block()
	if fn.refused = unsupportedBy(err); fn.refused != nil {
		// The rest of the module may do without it.
		p.lex, p.tok, p.ahead = start, tok, ahead
		fn.body, fn.vars = nil, nil
		err = p.skipBraces()
	}
	return p.addFunction(fn, err)
}

// addFunction records fn, replacing its forward declaration.
func (p *parser) addFunction(fn *function, err error) error {
	if err != nil {
		return err
	}
	i, ok := p.funcIndex[fn.name]
	if !ok {
		p.funcIndex[fn.name] = len(p.file.funcs)
		p.file.funcs = append(p.file.funcs, fn)
		return nil
	}
	if p.file.funcs[i].defined && fn.defined {
		return p.errorf("function %s is defined twice", fn.name)
	}
	if fn.defined {
		p.file.funcs[i] = fn
	}
	return nil
}

// params parses a parenthesised parameter list.
func (p *parser) params() ([]*variable, error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	var out []*variable
	var off int64
	for !p.tok.is(")") {
		kind, err := p.ident()
		if err != nil {
			return nil, err
		}
		if kind != ".param" && kind != ".reg" {
			return nil, p.errorf("parameters in %s are not supported, only .param and .reg", kind)
		}
		typ, align, vec, err := p.varType()
		if err != nil {
			return nil, err
		}
		v, err := p.variable(spParam, typ, align, vec)
		if err != nil {
			return nil, err
		}
		if kind == ".reg" {
			if v.count != 1 || v.flex || len(v.init) != 0 {
				return nil, p.errorf("register %s cannot have dimensions or initial values", v.name)
			}
			v.reg = 1
			out = append(out, v)
			if err := p.comma(); err != nil {
				return nil, err
			}
			continue
		}
		if v.flex || len(v.init) != 0 {
			return nil, p.errorf("parameter %s has no size", v.name)
		}
		off = (off + int64(align) - 1) &^ (int64(align) - 1)
		v.off = off
		off += v.size()
		out = append(out, v)
		if err := p.comma(); err != nil {
			return nil, err
		}
	}
	return out, p.advance()
}

// comma passes over what stands behind a parameter, if the list does not end there.
func (p *parser) comma() error {
	switch {
	case p.tok.is(","):
		return p.advance()
	case !p.tok.is(")"):
		return p.errorf("expected %q or %q, found %v", ",", ")", p.tok)
	}
	return nil
}

// extent parses one to three sizes.
func (p *parser) extent(what string, most int64) ([3]int, error) {
	sizes := [3]int{1, 1, 1}
	for i := range sizes {
		n, err := p.count(what, most)
		if err != nil {
			return sizes, err
		}
		sizes[i] = int(n)
		if more, err := p.accept(","); err != nil || !more {
			return sizes, err
		}
	}
	return sizes, nil
}

// tuning parses performance directives between header and body.
func (p *parser) tuning(fn *function) error {
	for p.tok.kind == tokIdent {
		t, err := p.take()
		if err != nil {
			return err
		}
		switch t.text {
		case ".maxntid", ".reqntid":
			dst := &fn.maxntid
			if t.text == ".reqntid" {
				dst = &fn.reqntid
			}
			if *dst, err = p.extent("block size", 1<<20); err != nil {
				return err
			}
		case ".maxnreg":
			n, err := p.count("register count", 1<<16)
			if err != nil {
				return err
			}
			fn.maxnreg = int(n)
		case ".minnctapersm", ".maxnctapersm":
			if _, err := p.count("block count", 1<<16); err != nil {
				return err
			}
		case ".reqnctapercluster":
			if fn.cluster, err = p.extent("cluster size", 1<<10); err != nil {
				return err
			}
		case ".maxclusterrank":
			n, err := p.count("cluster rank", 1<<10)
			if err != nil {
				return err
			}
			fn.maxClusterRank = int(n)
		case ".explicitcluster":
			fn.explicitCluster = true
		case ".noreturn":
		case ".pragma":
			if err := p.skipTo(";"); err != nil {
				return err
			}
		default:
			return p.errorf("unknown directive %v", t)
		}
	}
	return nil
}
