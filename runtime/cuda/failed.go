//go:build cuda && linux

package cuda

import (
	"reflect"

	"unirestorer/runtime/cuda/internal/cuext"
)

// failed turns a result of gorgonia.org/cu or cuext into an [Error]; err is not nil.
//
// cu's result type is not exported and prints cu's own abbreviation, so the number is taken out of it to ask the
// driver for name and text.
func failed(call string, err error) *Error {
	e := &Error{Call: call, Code: codeUnknown}
	if v := reflect.ValueOf(err); v.CanInt() {
		e.Code = int(v.Int())
	}
	e.Name, e.Text = cuext.Describe(e.Code)
	return e
}

// wrap is failed for a result that may be nil.
func wrap(call string, err error) error {
	if err == nil {
		return nil
	}
	return failed(call, err)
}
