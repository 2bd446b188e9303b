package ptxsim

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Limits that keep a hostile file from costing more than its own size.
const (
	maxFileBytes  = 256 << 20
	maxNesting    = 64
	maxVarBytes   = 1 << 30
	maxRegisters  = 1 << 20
	maxInitValues = 1 << 26
)

// parser turns tokens into a file.
type parser struct {
	lex   lexer
	tok   token
	ahead *token
	file  *file
	fn    *function
	scope *scope
	depth int
	src   srcPos

	varNames  map[string]bool
	funcIndex map[string]int
}

// parse reads a PTX module.
func parse(src string) (*file, error) {
	if len(src) > maxFileBytes {
		return nil, fmt.Errorf("PTX of %d bytes is larger than the limit of %d", len(src), maxFileBytes)
	}
	src = strings.TrimRight(src, "\x00")
	p := &parser{lex: lexer{src: src, line: 1}, file: &file{sources: map[int]string{}, aliases: map[string]string{}},
		varNames: map[string]bool{}, funcIndex: map[string]int{}}
	if err := p.advance(); err != nil {
		return nil, err
	}
	for p.tok.kind != tokEOF {
		if err := p.topLevel(); err != nil {
			return nil, err
		}
	}
	if p.file.version == "" || p.file.target == "" {
		return nil, fmt.Errorf("not a PTX module: no .version and .target")
	}
	return p.file, nil
}

func (p *parser) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: %s", p.tok.line, fmt.Sprintf(format, args...))
}

// unsupported is an error of PTX that is right but not supported. It concerns one function.
type unsupported struct{ error }

func (p *parser) unsupported(format string, args ...any) error {
	return unsupported{p.errorf(format, args...)}
}

// unsupportedBy returns err if it says that something is not supported.
func unsupportedBy(err error) error {
	var u unsupported
	if errors.As(err, &u) {
		return u.error
	}
	return nil
}

func (p *parser) advance() (err error) {
	if p.ahead != nil {
		p.tok, p.ahead = *p.ahead, nil
		return nil
	}
	p.tok, err = p.lex.next()
	return err
}

// peek returns the token after the present one.
func (p *parser) peek() (token, error) {
	if p.ahead == nil {
		t, err := p.lex.next()
		if err != nil {
			return token{}, err
		}
		p.ahead = &t
	}
	return *p.ahead, nil
}

// take returns the present token and advances.
func (p *parser) take() (token, error) {
	t := p.tok
	return t, p.advance()
}

func (p *parser) expect(punct string) error {
	if !p.tok.is(punct) {
		return p.errorf("expected %q, found %v", punct, p.tok)
	}
	return p.advance()
}

func (p *parser) accept(punct string) (bool, error) {
	if !p.tok.is(punct) {
		return false, nil
	}
	return true, p.advance()
}

func (p *parser) ident() (string, error) {
	if p.tok.kind != tokIdent {
		return "", p.errorf("expected a name, found %v", p.tok)
	}
	t, err := p.take()
	return t.text, err
}

func (p *parser) integer() (int64, error) {
	neg, err := p.accept("-")
	if err != nil {
		return 0, err
	}
	if p.tok.kind != tokNumber {
		return 0, p.errorf("expected a number, found %v", p.tok)
	}
	v, err := parseInt(p.tok.text)
	if err != nil {
		return 0, p.errorf("%v", err)
	}
	if neg {
		v = -v
	}
	return int64(v), p.advance()
}

// count reads a non-negative size.
func (p *parser) count(what string, limit int64) (int64, error) {
	v, err := p.integer()
	if err == nil && (v < 0 || v > limit) {
		err = p.errorf("%s %d is outside 0..%d", what, v, limit)
	}
	return v, err
}

// parseInt reads an integer constant in any of PTX's bases, with an optional U suffix.
func parseInt(s string) (uint64, error) {
	digits := strings.TrimSuffix(s, "U")
	base := 10
	switch {
	case strings.HasPrefix(digits, "0x"), strings.HasPrefix(digits, "0X"):
		base, digits = 16, digits[2:]
	case strings.HasPrefix(digits, "0b"), strings.HasPrefix(digits, "0B"):
		base, digits = 2, digits[2:]
	case len(digits) > 1 && digits[0] == '0':
		base = 8
	}
	v, err := strconv.ParseUint(digits, base, 64)
	if err != nil {
		return 0, fmt.Errorf("bad integer %q", s)
	}
	return v, nil
}

// parseNumber reads an integer or floating-point constant as an operand.
func parseNumber(s string) (operand, error) {
	if len(s) == 10 && (s[:2] == "0f" || s[:2] == "0F") {
		if v, err := strconv.ParseUint(s[2:], 16, 32); err == nil {
			return operand{kind: opdFloat, imm: v}, nil
		}
	}
	if len(s) == 18 && (s[:2] == "0d" || s[:2] == "0D") {
		if v, err := strconv.ParseUint(s[2:], 16, 64); err == nil {
			return operand{kind: opdFloat, imm: v, wide: true}, nil
		}
	}
	if !strings.HasPrefix(s, "0x") && strings.ContainsAny(s, ".eE") {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return operand{}, fmt.Errorf("bad floating-point constant %q", s)
		}
		return operand{kind: opdFloat, imm: math.Float64bits(v), wide: true}, nil
	}
	v, err := parseInt(s)
	return operand{kind: opdImm, imm: v}, err
}

// skipBraces skips a balanced {...}.
func (p *parser) skipBraces() error {
	depth := 0
	for {
		switch {
		case p.tok.kind == tokEOF:
			return p.errorf("missing %q", "}")
		case p.tok.is("{"):
			depth++
		case p.tok.is("}"):
			depth--
		}
		if err := p.advance(); err != nil {
			return err
		}
		if depth <= 0 {
			return nil
		}
	}
}

// skipTo skips everything up to and including the punctuation character.
func (p *parser) skipTo(punct string) error {
	for !p.tok.is(punct) {
		if p.tok.kind == tokEOF {
			return p.errorf("missing %q", punct)
		}
		if err := p.advance(); err != nil {
			return err
		}
	}
	return p.advance()
}

// skipLine skips tokens to the end of the present line.
func (p *parser) skipLine() error {
	line := p.tok.line
	for p.tok.kind != tokEOF && p.tok.line == line {
		if err := p.advance(); err != nil {
			return err
		}
	}
	return nil
}
