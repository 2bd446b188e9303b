package ptxsim

import (
	"fmt"
	"strings"
)

// tokenKind tells tokens apart.
type tokenKind uint8

const (
	tokEOF    tokenKind = iota
	tokIdent            // names, registers, directives, opcodes with all their modifiers
	tokNumber           // integers and floating-point constants as written
	tokString
	tokPunct // one character
)

// token is one lexical element of a PTX file.
type token struct {
	kind tokenKind
	text string
	line int
}

// is reports whether t is the punctuation character p.
func (t token) is(p string) bool { return t.kind == tokPunct && t.text == p }

func (t token) String() string {
	if t.kind == tokEOF {
		return "end of file"
	}
	return fmt.Sprintf("%q", t.text)
}

// lexer splits PTX text into tokens.
type lexer struct {
	src  string
	pos  int
	line int
}

func isLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '$' || c == '%'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// space skips white space and comments.
func (l *lexer) space() error {
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == '\n':
			l.line++
			l.pos++
		case c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v':
			l.pos++
		case strings.HasPrefix(l.src[l.pos:], "//"):
			n := strings.IndexByte(l.src[l.pos:], '\n')
			if n < 0 {
				n = len(l.src) - l.pos
			}
			l.pos += n
		case strings.HasPrefix(l.src[l.pos:], "/*"):
			n := strings.Index(l.src[l.pos+2:], "*/")
			if n < 0 {
				return fmt.Errorf("line %d: comment is not closed", l.line)
			}
			l.line += strings.Count(l.src[l.pos:l.pos+2+n], "\n")
			l.pos += n + 4
		default:
			return nil
		}
	}
	return nil
}

// next returns the next token.
func (l *lexer) next() (token, error) {
	if err := l.space(); err != nil {
		return token{}, err
	}
	if l.pos >= len(l.src) {
		return token{kind: tokEOF, line: l.line}, nil
	}
	start, kind := l.pos, tokPunct
	switch c := l.at(0); {
	case isLetter(c) || c == '.' && isLetter(l.at(1)):
		kind = tokIdent
		l.name()
	case isDigit(c):
		kind = tokNumber
		l.number()
	case c == '"':
		return l.quoted()
	case c < 0x20 || c >= 0x7f:
		return token{}, fmt.Errorf("line %d: unexpected byte 0x%02x", l.line, c)
	default:
		l.pos++
	}
	return token{kind: kind, text: l.src[start:l.pos], line: l.line}, nil
}

// at is the byte i places from here, 0 beyond the end.
func (l *lexer) at(i int) byte {
	if l.pos+i < len(l.src) {
		return l.src[l.pos+i]
	}
	return 0
}

// name passes over a name, the first byte of which may be a dot or a percent sign.
func (l *lexer) name() {
	l.pos++
	for {
		c := l.at(0)
		switch {
		case isLetter(c) && c != '%', isDigit(c), c == '.' && (isLetter(l.at(1)) || isDigit(l.at(1))):
			l.pos++
		case c == ':' && l.at(1) == ':': // .L1::no_allocate
			l.pos += 2
		default:
			return
		}
	}
}

// number passes over an integer or a floating-point constant.
func (l *lexer) number() {
	start := l.pos
	for {
		c := l.at(0)
		switch {
		case isLetter(c) && c != '%' && c != '$', isDigit(c), c == '.':
			l.pos++
		case (c == '+' || c == '-') && l.pos > start && (l.at(-1) == 'e' || l.at(-1) == 'E') && !strings.HasPrefix(l.src[start:], "0x"):
			l.pos++
		default:
			return
		}
	}
}

// quoted reads a string; escapes stay as they are.
func (l *lexer) quoted() (token, error) {
	l.pos++
	start := l.pos
	for l.at(0) != '"' {
		if l.pos >= len(l.src) || l.at(0) == '\n' {
			return token{}, fmt.Errorf("line %d: string is not closed", l.line)
		}
		if l.at(0) == '\\' {
			l.pos++
		}
		l.pos++
	}
	l.pos++
	return token{kind: tokString, text: l.src[start : l.pos-1], line: l.line}, nil
}
