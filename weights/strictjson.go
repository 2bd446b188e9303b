package weights

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// jsonReader walks a JSON text whose form is known. Equal keys of an object and bytes that are not UTF-8 are errors, because
// readers that take them differently see different files.
type jsonReader struct{ dec *jsontext.Decoder }

// readJSON calls walk on a text that must hold one value and nothing after it.
func readJSON(r io.Reader, walk func(r *jsonReader) error) error {
	j := &jsonReader{jsontext.NewDecoder(r)}
	if err := walk(j); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("JSON at byte %d: %w", j.dec.InputOffset(), err)
	}
	if _, err := j.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("JSON at byte %d: text after the end", j.dec.InputOffset())
	}
	return nil
}

// object calls field for every key of an object; field must read the value.
func (j *jsonReader) object(field func(key string) error) error {
	if err := j.delim('{'); err != nil {
		return err
	}
	for j.dec.PeekKind() != '}' {
		key, err := j.text()
		if err != nil {
			return err
		}
		if err := field(key); err != nil {
			return err
		}
	}
	return j.delim('}')
}

// array calls item for every item of an array; item must read it.
func (j *jsonReader) array(item func() error) error {
	if err := j.delim('['); err != nil {
		return err
	}
	for j.dec.PeekKind() != ']' {
		if err := item(); err != nil {
			return err
		}
	}
	return j.delim(']')
}

// token reads what comes next.
func (j *jsonReader) token() (jsontext.Token, error) {
	t, err := j.dec.ReadToken()
	var syntax *jsontext.SyntacticError
	switch {
	case !errors.As(err, &syntax):
		return t, err
	case errors.Is(err, jsontext.ErrDuplicateName):
		return t, fmt.Errorf("key %q appears twice", syntax.JSONPointer.LastToken())
	}
	return t, syntax.Err
}

func (j *jsonReader) delim(want jsontext.Kind) error {
	token, err := j.token()
	if err != nil {
		return err
	}
	if token.Kind() != want {
		return fmt.Errorf("%v instead of %c", token, want)
	}
	return nil
}

func (j *jsonReader) text() (string, error) {
	token, err := j.token()
	if err != nil {
		return "", err
	}
	if token.Kind() != '"' {
		return "", fmt.Errorf("%v instead of a string", token)
	}
	return token.String(), nil
}

// count reads an integer from 0 to the largest int64, written in digits only.
func (j *jsonReader) count() (int64, error) {
	token, err := j.token()
	if err != nil {
		return 0, err
	}
	if token.Kind() != '0' {
		return 0, fmt.Errorf("%v instead of a number", token)
	}
	n, err := strconv.ParseUint(token.String(), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%.40s is not a whole number from 0 to 2^63-1", token)
	}
	return int64(n), nil
}
