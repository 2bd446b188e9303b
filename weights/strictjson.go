package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// jsonReader walks a JSON text whose form is known. Where encoding/json would keep the last of two equal keys or
// replace bytes that are not UTF-8, it gives an error, because readers that differ there see different files.
type jsonReader struct{ dec *json.Decoder }

// readJSON calls walk on a text that must hold one value and nothing after it.
func readJSON(r io.Reader, walk func(r *jsonReader) error) error {
	dec := json.NewDecoder(&utf8Reader{r: r})
	dec.UseNumber()
	j := &jsonReader{dec}
	if err := walk(j); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("JSON at byte %d: %w", dec.InputOffset(), err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("JSON at byte %d: text after the end", dec.InputOffset())
	}
	return nil
}

// object calls field for every key of an object; field must read the value.
func (j *jsonReader) object(field func(key string) error) error {
	if err := j.delim('{'); err != nil {
		return err
	}
	seen := make(map[string]struct{})
	for j.dec.More() {
		key, err := j.text()
		if err != nil {
			return err
		}
		if _, again := seen[key]; again {
			return fmt.Errorf("key %q appears twice", key)
		}
		seen[key] = struct{}{}
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
	for j.dec.More() {
		if err := item(); err != nil {
			return err
		}
	}
	return j.delim(']')
}

func (j *jsonReader) delim(want json.Delim) error {
	token, err := j.dec.Token()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("%v instead of %v", token, want)
	}
	return nil
}

func (j *jsonReader) text() (string, error) {
	token, err := j.dec.Token()
	if err != nil {
		return "", err
	}
	s, ok := token.(string)
	if !ok {
		return "", fmt.Errorf("%v instead of a string", token)
	}
	return s, nil
}

// count reads an integer from 0 to the largest int64, written in digits only.
func (j *jsonReader) count() (int64, error) {
	token, err := j.dec.Token()
	if err != nil {
		return 0, err
	}
	number, ok := token.(json.Number)
	if !ok {
		return 0, fmt.Errorf("%v instead of a number", token)
	}
	n, err := strconv.ParseUint(number.String(), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%.40s is not a whole number from 0 to 2^63-1", number)
	}
	return int64(n), nil
}

// utf8Reader passes r through and fails at the first byte that is not part of valid UTF-8.
type utf8Reader struct {
	r    io.Reader
	tail []byte // the bytes of an unfinished character
}

func (u *utf8Reader) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	text := append(u.tail, p[:n]...)
	for len(text) > 0 {
		if text[0] < utf8.RuneSelf {
			text = text[1:]
			continue
		}
		if !utf8.FullRune(text) && !errors.Is(err, io.EOF) {
			break
		}
		char, size := utf8.DecodeRune(text)
		if char == utf8.RuneError && size == 1 {
			return 0, errors.New("not valid UTF-8")
		}
		text = text[size:]
	}
	u.tail = append([]byte(nil), text...)
	return n, err
}
