package engine

import (
	"fmt"
	"slices"
	"strings"

	"unirestorer/runtime/backend"
)

// Precision names the numbers that networks compute in.
type Precision string

// The precisions. Auto is that of the device, fp32 on the CPU and fp16 on GPUs, and on a device in half precision a
// picture whose values leave its range all the same is restored in single precision by the CPU. The others are fixed: what
// leaves the range is an error.
const (
	precisionAuto Precision = "auto"
	precisionFP32 Precision = "fp32"
	precisionFP16 Precision = "fp16"
)

// ParsePrecision reads a precision's name; "" is auto.
func ParsePrecision(s string) (Precision, error) {
	p := Precision(strings.ToLower(s))
	if p == "" {
		return precisionAuto, nil
	}
	if !slices.Contains([]Precision{precisionAuto, precisionFP32, precisionFP16}, p) {
		return "", fmt.Errorf("%q: want auto, fp32 or fp16", s)
	}
	return p, nil
}

// auto reports whether pictures may be restored in wider numbers where the device's do not hold them.
func (p Precision) auto() bool { return p == "" || p == precisionAuto }

// fits reports, as an error, a precision that a device does not have.
func (p Precision) fits(i backend.Info) error {
	switch {
	case p == precisionFP32 && i.Half:
		return fmt.Errorf("precision fp32: %s computes in fp16; device cpu computes in fp32", i.Name)
	case p == precisionFP16 && !i.Half:
		return fmt.Errorf("precision fp16: %s computes in fp32", i.Name)
	}
	return nil
}
