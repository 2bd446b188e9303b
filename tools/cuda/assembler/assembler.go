// Package assembler runs ptxas over the project's PTX and reads what the kernels take of a multiprocessor.
package assembler

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"unirestorer/kernels"
	"unirestorer/runtime/ptxsim"
)

// Module assembles one module of package kernels for an architecture such as "sm_90", writes the machine code to cubin and
// returns the resources of its kernels by name.
func Module(ctx context.Context, ptxas, module, arch, cubin string) (map[string]ptxsim.Resources, error) {
	number, err := strconv.Atoi(strings.Trim(arch, "sm_a"))
	if err != nil {
		return nil, fmt.Errorf("assemble %s: %q is no architecture such as sm_90", module, arch)
	}
	image, err := kernels.Image(module, number)
	if err != nil {
		return nil, err
	}
	source := cubin + ".ptx"
	if err := os.WriteFile(source, image, 0o600); err != nil {
		return nil, err
	}
	defer os.Remove(source)
	log, err := exec.CommandContext(ctx, ptxas, "-v", "-arch="+arch, "-o", cubin, source).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("assemble %s for %s: %w: %s", module, arch, err, log)
	}
	all, err := ptxsim.ParseAssemblerReport(bytes.NewReader(log))
	if err != nil {
		return nil, fmt.Errorf("assemble %s for %s: %w", module, arch, err)
	}
	return all, nil
}
