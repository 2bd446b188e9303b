//go:build cuda && linux

package cuext

// #include <cuda.h>
import "C"

import "gorgonia.org/cu"

// Attributes that cu does not name.
const (
	// MaxDynamicShared is the dynamic shared memory in bytes that a function may be launched with.
	MaxDynamicShared cu.FunctionAttribute = C.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
	// SharedPerBlockOptin is the shared memory in bytes that a block can have after opting in.
	SharedPerBlockOptin cu.DeviceAttribute = C.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
)

// SetMaxDynamicShared allows launches of f with up to n bytes of dynamic shared memory.
func SetMaxDynamicShared(f cu.Function, n int) error {
	return check(C.cuFuncSetAttribute(function(f), C.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, C.int(n)))
}

// Parameter returns offset and size in bytes of f's parameter number i. It fails with InvalidValue when f has no
// parameter i. Drivers before 12.4 cannot tell and give another error.
func Parameter(f cu.Function, i int) (offset, size int, err error) {
	var o, s C.size_t
	err = check(C.cuFuncGetParamInfo(function(f), C.size_t(i), &o, &s))
	return int(o), int(s), err
}
