//go:build cuda && !cudasim && linux

package lazy

// #cgo CFLAGS: -O2 -Wall -Wextra
// #cgo LDFLAGS: -L${SRCDIR}/lib -Wl,--as-needed -ldl -lpthread
// #include "lazy.h"
import "C"

// Status returns what loading and initialising the driver gave: a CUresult, 0 for success. why says what kept the
// library from being loaded; it is empty when the library was loaded.
func Status() (code int, why string) {
	var text *C.char
	code = int(C.lazy_status(&text))
	return code, C.GoString(text)
}
