package floors

import (
	"bytes"

	"unirestorer/kernels"
)

// usesTensorCores looks for matrix instructions in a kernel's PTX.
func usesTensorCores(module, kernel string) (bool, error) {
	image, err := kernels.Image(module)
	if err != nil {
		return false, err
	}
	_, code, _ := bytes.Cut(image, []byte(".entry "+kernel+"("))
	code, _, _ = bytes.Cut(code, []byte(".entry "))
	return bytes.Contains(code, []byte("mma.sync")), nil
}
