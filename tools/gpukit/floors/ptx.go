package floors

import (
	"bytes"

	"unirestorer/kernels"
	"unirestorer/runtime/gpu"
)

// code is the PTX of a kernel.
func code(module, kernel string) ([]byte, error) {
	image, err := kernels.Image(module, gpu.MinArch)
	if err != nil {
		return nil, err
	}
	_, body, _ := bytes.Cut(image, []byte(".entry "+kernel+"("))
	body, _, _ = bytes.Cut(body, []byte(".entry "))
	return body, nil
}
