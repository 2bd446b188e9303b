package ptxsim

import (
	"strconv"
	"strings"
)

// block parses { ... } into the present function.
func (p *parser) block() error {
	if p.depth++; p.depth > maxNesting {
		return p.errorf("blocks are nested too deeply")
	}
	if err := p.expect("{"); err != nil {
		return err
	}
	for !p.tok.is("}") {
		if p.tok.kind == tokEOF {
			return p.errorf("missing %q at the end of %s", "}", p.fn.name)
		}
		if err := p.statement(); err != nil {
			return err
		}
	}
	p.depth--
	return p.advance()
}

// statement parses one directive, label, nested block or instruction.
func (p *parser) statement() error {
	switch {
	case p.tok.is(";"):
		return p.advance()
	case p.tok.is("{"):
		p.scope = newScope(p.scope)
		err := p.block()
		p.scope = p.scope.parent
		return err
	case p.tok.is("@"):
		return p.instruction()
	case p.tok.kind != tokIdent:
		return p.errorf("expected an instruction, found %v", p.tok)
	case p.tok.text[0] == '.':
		return p.bodyDirective()
	}
	next, err := p.peek()
	if err != nil {
		return err
	}
	if !next.is(":") {
		return p.instruction()
	}
	name := p.tok.text
	if p.scope.labels[name] != nil {
		return p.errorf("label %s is defined twice", name)
	}
	p.scope.labels[name] = &label{name: name, pos: len(p.fn.body), line: p.tok.line}
	if err := p.advance(); err != nil {
		return err
	}
	if err := p.advance(); err != nil {
		return err
	}
	switch p.tok.text {
	case ".branchtargets", ".calltargets":
		return p.targets(name)
	case ".callprototype":
		return p.prototype(name)
	}
	return nil
}

// targets parses the list of labels that an indirect branch chooses from, or of functions that an indirect call does.
func (p *parser) targets(name string) error {
	if err := p.advance(); err != nil {
		return err
	}
	var targets []string
	for {
		t, err := p.ident()
		if err != nil {
			return err
		}
		targets = append(targets, t)
		if more, err := p.accept(","); err != nil {
			return err
		} else if !more {
			p.scope.labels[name].targets = targets
			return p.expect(";")
		}
	}
}

func (p *parser) bodyDirective() error {
	t, err := p.take()
	if err != nil {
		return err
	}
	extern := false
	if t.text == ".extern" {
		extern = true
		if t, err = p.take(); err != nil {
			return err
		}
	}
	switch t.text {
	case ".reg":
		return p.registers()
	case ".shared", ".local", ".param", ".global", ".const":
		vars, err := p.variables(spaceNames[t.text[1:]], extern)
		if err != nil {
			return err
		}
		for _, v := range vars {
			if p.scope.vars[v.name] != nil {
				return p.errorf("variable %s is declared twice", v.name)
			}
			if v.space == spGlobal || v.space == spConst {
				p.file.vars = append(p.file.vars, v)
			} else {
				p.fn.vars = append(p.fn.vars, v)
			}
			p.scope.vars[v.name] = v
		}
		return nil
	case ".loc":
		return p.loc()
	case ".file":
		return p.fileDirective()
	case ".pragma":
		return p.skipTo(";")
	}
	return p.unsupported("directive %v is not supported in a function", t)
}

// loc parses .loc file line column [, function_name label, inlined_at file line column].
func (p *parser) loc() error {
	f, err := p.count("file index", 1<<30)
	if err != nil {
		return err
	}
	l, err := p.count("line", 1<<30)
	if err != nil {
		return err
	}
	p.src = srcPos{file: int(f), line: int(l)}
	for line := p.tok.line; p.tok.kind != tokEOF && p.tok.line == line; {
		t, err := p.take()
		if err != nil {
			return err
		}
		if t.text != "inlined_at" {
			continue
		}
		if f, err = p.count("file index", 1<<30); err != nil {
			return err
		}
		if l, err = p.count("line", 1<<30); err != nil {
			return err
		}
		p.src.atFile, p.src.atLine = int(f), int(l)
	}
	return nil
}

// registers parses what follows .reg.
func (p *parser) registers() error {
	t, err := p.ident()
	if err != nil {
		return err
	}
	typ := typeNames[strings.TrimPrefix(t, ".")]
	if typ == tNone || t[0] != '.' {
		return p.errorf("unknown register type %s", t)
	}
	if typ == tB128 {
		return p.unsupported("128-bit registers are not supported")
	}
	for {
		name, err := p.ident()
		if err != nil {
			return err
		}
		if p.tok.is("<") {
			if err := p.advance(); err != nil {
				return err
			}
			n, err := p.count("register count", 1<<31)
			if err != nil {
				return err
			}
			if err := p.expect(">"); err != nil {
				return err
			}
			p.scope.ranges = append(p.scope.ranges, regRange{prefix: name, count: n, typ: typ})
		} else {
			if _, ok := p.scope.regs[name]; ok {
				return p.errorf("register %s is declared twice", name)
			}
			p.scope.regs[name] = int32(len(p.fn.regs))
			p.fn.regs = append(p.fn.regs, typ)
		}
		if len(p.fn.regs) > maxRegisters {
			return p.errorf("too many registers")
		}
		if more, err := p.accept(","); err != nil {
			return err
		} else if !more {
			return p.expect(";")
		}
	}
}

// lookupReg finds a register by name, from the present scope outwards; -1 if there is none.
func (p *parser) lookupReg(name string) int32 {
	for s := p.scope; s != nil; s = s.parent {
		if r, ok := s.regs[name]; ok {
			return r
		}
		for _, rr := range s.ranges {
			digits, ok := strings.CutPrefix(name, rr.prefix)
			if !ok || digits == "" || len(digits) > 1 && digits[0] == '0' {
				continue
			}
			n, err := strconv.ParseUint(digits, 10, 32)
			if err != nil || int64(n) >= rr.count {
				continue
			}
			r := int32(len(p.fn.regs))
			p.fn.regs = append(p.fn.regs, rr.typ)
			s.regs[name] = r
			return r
		}
	}
	return -1
}

// instruction parses a guarded or plain instruction.
func (p *parser) instruction() error {
	s := stmt{guard: -1, line: p.tok.line, src: p.src, scope: p.scope}
	if ok, err := p.accept("@"); err != nil {
		return err
	} else if ok {
		if s.guardNot, err = p.accept("!"); err != nil {
			return err
		}
		name, err := p.ident()
		if err != nil {
			return err
		}
		if s.guard = p.lookupReg(name); s.guard < 0 || p.fn.regs[s.guard] != tPred {
			return p.errorf("guard %s is not a predicate register", name)
		}
		s.line = p.tok.line
	}
	op, err := p.ident()
	if err != nil {
		return err
	}
	parts := strings.Split(op, ".")
	if s.op, s.mods = parts[0], parts[1:]; s.op == "" {
		return p.errorf("expected an instruction, found %q", op)
	}
	for !p.tok.is(";") {
		o, err := p.operand(0)
		if err != nil {
			return err
		}
		s.args = append(s.args, o)
		if p.tok.is(",") {
			if err := p.advance(); err != nil {
				return err
			}
		} else if !p.tok.is(";") {
			return p.errorf("expected %q or %q after an operand of %s, found %v", ",", ";", op, p.tok)
		}
	}
	p.fn.body = append(p.fn.body, s)
	return p.advance()
}

// operandList parses operands up to the closing character, which it consumes.
func (p *parser) operandList(closing string, depth int) ([]operand, error) {
	var out []operand
	for !p.tok.is(closing) {
		o, err := p.operand(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, o)
		if p.tok.is(",") {
			if err := p.advance(); err != nil {
				return nil, err
			}
		} else if !p.tok.is(closing) {
			return nil, p.errorf("expected %q or %q, found %v", ",", closing, p.tok)
		}
	}
	return out, p.advance()
}

// operand parses one operand, including "a|b".
func (p *parser) operand(depth int) (operand, error) {
	if depth > 4 {
		return operand{}, p.errorf("operand is nested too deeply")
	}
	o, err := p.simpleOperand(depth)
	if err != nil || !p.tok.is("|") {
		return o, err
	}
	if err := p.advance(); err != nil {
		return o, err
	}
	second, err := p.simpleOperand(depth)
	return operand{kind: opdPair, list: []operand{o, second}}, err
}

func (p *parser) simpleOperand(depth int) (operand, error) {
	switch {
	case p.tok.is("{"):
		if err := p.advance(); err != nil {
			return operand{}, err
		}
		list, err := p.operandList("}", depth)
		return operand{kind: opdVector, list: list}, err
	case p.tok.is("("):
		if err := p.advance(); err != nil {
			return operand{}, err
		}
		list, err := p.operandList(")", depth)
		return operand{kind: opdList, list: list}, err
	case p.tok.is("["):
		if err := p.advance(); err != nil {
			return operand{}, err
		}
		return p.address(depth)
	case p.tok.is("!"), p.tok.is("-"):
		minus := p.tok.is("-")
		if err := p.advance(); err != nil {
			return operand{}, err
		}
		if p.tok.kind != tokNumber && p.tok.kind != tokIdent {
			return operand{}, p.errorf("expected a constant or a name after a sign, found %v", p.tok)
		}
		o, err := p.simpleOperand(depth)
		if err != nil {
			return o, err
		}
		switch {
		case minus && o.kind == opdImm:
			o.imm = -o.imm
		case minus && o.kind == opdFloat && o.wide:
			o.imm ^= 1 << 63
		case minus && o.kind == opdFloat:
			o.imm ^= 1 << 31
		case !minus && o.kind == opdReg && p.fn.regs[o.reg] == tPred:
			o.neg = true
		default:
			return o, p.errorf("sign before an operand that takes none")
		}
		return o, nil
	case p.tok.kind == tokNumber:
		o, err := parseNumber(p.tok.text)
		if err != nil {
			return o, p.errorf("%v", err)
		}
		return o, p.advance()
	case p.tok.kind == tokIdent:
		return p.named()
	}
	return operand{}, p.errorf("expected an operand, found %v", p.tok)
}

// named parses a register or symbol, the latter with an optional offset.
func (p *parser) named() (operand, error) {
	name := p.tok.text
	if err := p.advance(); err != nil {
		return operand{}, err
	}
	if name == "_" {
		return operand{kind: opdSink}, nil
	}
	if r := p.lookupReg(name); r >= 0 {
		return operand{kind: opdReg, reg: r}, nil
	}
	o := operand{kind: opdSymbol, name: name}
	var err error
	o.off, err = p.offset()
	return o, err
}

// offset parses an optional "+n" or "-n".
func (p *parser) offset() (int64, error) {
	if p.tok.is("+") {
		if err := p.advance(); err != nil {
			return 0, err
		}
		return p.integer()
	}
	if p.tok.is("-") {
		return p.integer()
	}
	return 0, nil
}

// address parses the inside of [...]: a register, symbol or constant with an offset.
func (p *parser) address(depth int) (operand, error) {
	if depth > 0 {
		return operand{}, p.errorf("address inside another operand")
	}
	base, err := p.simpleOperand(1)
	if err != nil {
		return operand{}, err
	}
	if k := base.kind; k != opdReg && k != opdSymbol && k != opdImm {
		return operand{}, p.errorf("address must be a register, a variable or a constant")
	}
	off, err := p.offset()
	if err != nil {
		return operand{}, err
	}
	if base.kind == opdSymbol {
		off, base.off = off+base.off, 0
	}
	o := operand{kind: opdAddress, off: off, list: []operand{base}}
	for p.tok.is(",") { // coordinates of a tensor or texture
		if err := p.advance(); err != nil {
			return operand{}, err
		}
		c, err := p.simpleOperand(1)
		if err != nil {
			return operand{}, err
		}
		o.list = append(o.list, c)
	}
	return o, p.expect("]")
}
