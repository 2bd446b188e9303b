package kernels

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
)

// Resources are what a kernel takes of a multiprocessor on one architecture.
type Resources struct {
	Registers int `json:"registers"` // a thread
	Shared    int `json:"shared"`    // static, in bytes
	// Expansion is how many machine instructions the assembler makes of a PTX instruction.
	Expansion float64 `json:"expansion"`
}

//go:embed resources.json
var resourcesJSON []byte

var resources = sync.OnceValues(func() (all map[string]map[string]Resources, err error) {
	if err = json.Unmarshal(resourcesJSON, &all); err != nil {
		err = fmt.Errorf("kernels/resources.json: %w", err)
	}
	return all, err
})

// ResourcesOf is what the assembler reported of a kernel for compute capability sm, 90 for 9.0; for one that it does not
// know, the figures of the newest before it.
func ResourcesOf(kernel string, sm int) (Resources, error) {
	all, err := resources()
	if err != nil {
		return Resources{}, err
	}
	best := 0
	for arch := range all[kernel] {
		if n, err := strconv.Atoi(arch); err == nil && n <= sm && n > best {
			best = n
		}
	}
	if best == 0 {
		return Resources{}, fmt.Errorf("kernel %s: nothing is known of it on sm_%d; make kernel-table writes kernels/resources.json", kernel, sm)
	}
	return all[kernel][strconv.Itoa(best)], nil
}
