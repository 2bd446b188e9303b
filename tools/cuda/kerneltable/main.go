// Kerneltable writes docs/kernels.md and kernels/resources.json: what each kernel takes of a multiprocessor, by architecture, as ptxas reports it.
// It fails when a kernel spills registers, or when one that should run on tensor cores has no such instruction.
//
//	go run ./tools/cuda/kerneltable -ptxas /opt/cuda/bin/ptxas -out docs/kernels.md
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"unirestorer/kernels"
	"unirestorer/runtime/ptxsim"
	"unirestorer/tools/cuda/assembler"
)

var architectures = []string{"sm_80", "sm_89", "sm_90"}

// tensorCore are the kernels, by the beginning of their names, that multiply matrices.
var tensorCore = []string{"feedforward_", "queries_", "pointwise_", "conv_", "depthwise_gram", "gram", "fold", "attention_32", "attention_64"}

// notTensorCore begin like those but do not.
var notTensorCore = []string{"gram_normalise", "fold_wide"}

// hopper are the kernels whose blocks take more shared memory than a multiprocessor has before sm_90: they are assembled for
// older ones, but never run there.
var hopper = []string{"queries_16x96"}

// usage is what one kernel takes on one architecture.
type usage struct {
	ptxsim.Resources
	Matrix       int // tensor-core instructions
	Instructions int // of the machine code
}

func main() {
	ptxas := flag.String("ptxas", "ptxas", "the assembler; nvdisasm is looked for beside it")
	out := flag.String("out", "docs/kernels.md", "file to write")
	resources := flag.String("resources", "kernels/resources.json", "file to write for predictions")
	kept := flag.String("kept", "build/kerneltable", "folder that keeps what the assembler said of each image, for the next time; may be empty")
	quick := flag.String("quick", "", "assemble only this module, for sm_90, and write only its rows of -resources")
	flag.Parse()
	if *quick != "" {
		if err := one(*ptxas, *quick, *resources); err != nil {
			fmt.Fprintln(os.Stderr, "kerneltable:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(*ptxas, *out, *resources, *kept); err != nil {
		fmt.Fprintln(os.Stderr, "kerneltable:", err)
		os.Exit(1)
	}
}

func run(ptxas, out, resources, kept string) error {
	found, err := exec.LookPath(ptxas)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kerneltable")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	modules := kernels.Modules()
	taken := make([]map[string]usage, len(modules)*len(architectures))
	var images errgroup.Group
	images.SetLimit(runtime.NumCPU())
	for i := range taken {
		images.Go(func() (err error) {
			module, arch := modules[i/len(architectures)], architectures[i%len(architectures)]
			taken[i], err = remembered(kept, found, module, arch, filepath.Join(dir, module+"."+arch))
			return err
		})
	}
	if err := images.Wait(); err != nil {
		return err
	}
	table := map[string]map[string]usage{} // by module/kernel, architecture
	var faults []error
	for m, module := range modules {
		for a, arch := range architectures {
			all := taken[m*len(architectures)+a]
			for kernel, u := range all {
				key := module + "/" + kernel
				if table[key] == nil {
					table[key] = map[string]usage{}
				}
				if arch != "sm_90" && begins(kernel, hopper) {
					u.SpillBytes = 0
				}
				table[key][arch] = u
				if u.SpillBytes > 0 {
					faults = append(faults, fmt.Errorf("%s spills %d bytes on %s", kernel, u.SpillBytes, arch))
				}
				if begins(kernel, tensorCore) && !begins(kernel, notTensorCore) && u.Matrix == 0 {
					faults = append(faults, fmt.Errorf("%s has no tensor-core instruction on %s", kernel, arch))
				}
			}
		}
	}
	figures, err := figures(table)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{out: render(table), resources: figures} {
		if err := os.WriteFile(name+".new", content, 0o644); err != nil {
			return err
		}
		if err := os.Rename(name+".new", name); err != nil {
			return err
		}
	}
	return errors.Join(faults...)
}

// figures are what package kernels embeds: by kernel and architecture registers, static shared memory, and machine
// instructions for each PTX instruction.
func figures(table map[string]map[string]usage) ([]byte, error) {
	all := map[string]map[string]kernels.Resources{}
	for key, by := range table {
		module, kernel, _ := strings.Cut(key, "/")
		image, err := kernels.Image(module, 90)
		if err != nil {
			return nil, err
		}
		ptx := ptxInstructions(image, kernel)
		if ptx == 0 {
			return nil, fmt.Errorf("%s.ptx has no instructions of %s", module, kernel)
		}
		all[kernel] = map[string]kernels.Resources{}
		for arch, u := range by {
			ratio := math.Round(1000*float64(u.Instructions)/float64(ptx)) / 1000
			all[kernel][strings.TrimPrefix(arch, "sm_")] = kernels.Resources{Registers: u.Registers, Shared: u.Shared, Expansion: ratio}
		}
	}
	b, err := json.MarshalIndent(all, "", " ")
	return append(b, '\n'), err
}

// ptxInstructions counts the statements of a kernel.
func ptxInstructions(image []byte, kernel string) int {
	_, body, _ := bytes.Cut(image, []byte(".entry "+kernel+"("))
	body, _, _ = bytes.Cut(body, []byte(".entry "))
	n := 0
	for line := range bytes.Lines(body) {
		line = bytes.TrimSpace(line)
		if bytes.HasSuffix(line, []byte(";")) && !bytes.HasPrefix(line, []byte(".")) {
			n++
		}
	}
	return n
}

// one brings the rows of one module up to date while kernels are worked on.
func one(ptxas, module, resources string) error {
	dir, err := os.MkdirTemp("", "kerneltable")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	found, err := assemble(ptxas, module, "sm_90", filepath.Join(dir, module))
	if err != nil {
		return err
	}
	table := map[string]map[string]usage{}
	for kernel, u := range found {
		table[module+"/"+kernel] = map[string]usage{"sm_80": u, "sm_89": u, "sm_90": u}
	}
	rows, err := figures(table)
	if err != nil {
		return err
	}
	all := map[string]map[string]kernels.Resources{}
	old, err := os.ReadFile(resources)
	if err != nil {
		return err
	}
	if err := errors.Join(json.Unmarshal(old, &all), json.Unmarshal(rows, &all)); err != nil {
		return err
	}
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(resources, append(b, '\n'), 0o644)
}

func begins(s string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// machine is a line of the disassembly that holds an instruction.
var machine = regexp.MustCompile(`^\s+/\*[0-9a-f]{4,}\*/\s+\S`)

var function = regexp.MustCompile(`^\s*\.section\s+\.text\.(\w+)`)

// remembered is assemble, or what it gave for the same image before.
func remembered(folder, ptxas, module, arch, cubin string) (map[string]usage, error) {
	if folder == "" {
		return assemble(ptxas, module, arch, cubin)
	}
	number, err := strconv.Atoi(strings.TrimPrefix(arch, "sm_"))
	if err != nil {
		return nil, err
	}
	image, err := kernels.Image(module, number)
	if err != nil {
		return nil, err
	}
	version, err := exec.Command(ptxas, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w", ptxas, err)
	}
	name := filepath.Join(folder, fmt.Sprintf("%s.%s.%x.json", module, arch, sha256.Sum256(append(version, image...))))
	all := map[string]usage{}
	if b, err := os.ReadFile(name); err == nil && json.Unmarshal(b, &all) == nil {
		return all, nil
	}
	if all, err = assemble(ptxas, module, arch, cubin); err != nil {
		return nil, err
	}
	b, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	return all, os.WriteFile(name, b, 0o644)
}

// assemble reads what the assembler reports and counts tensor-core instructions in the machine code.
func assemble(ptxas, module, arch, cubin string) (map[string]usage, error) {
	resources, err := assembler.Module(context.Background(), ptxas, module, arch, cubin)
	if err != nil {
		return nil, err
	}
	all := map[string]usage{}
	for kernel, r := range resources {
		all[kernel] = usage{Resources: r}
	}
	code, err := exec.Command(filepath.Join(filepath.Dir(ptxas), "nvdisasm"), cubin).Output()
	if err != nil {
		return nil, fmt.Errorf("disassemble %s for %s: %w", module, arch, err)
	}
	kernel := ""
	for line := range bytes.Lines(code) {
		if m := function.FindSubmatch(line); m != nil {
			kernel = string(m[1])
		}
		if bytes.Contains(line, []byte("$__internal_")) && bytes.HasSuffix(bytes.TrimSpace(line), []byte(":")) {
			kernel = "" // a division's slow path, which no kernel takes for sizes of images
		}
		if kernel == "" || !machine.Match(line) || bytes.Contains(line, []byte("NOP")) {
			continue
		}
		u := all[kernel]
		u.Instructions++
		if bytes.Contains(line, []byte("HMMA.")) {
			u.Matrix++
		}
		all[kernel] = u
	}
	return all, nil
}

func render(table map[string]map[string]usage) []byte {
	var b bytes.Buffer
	b.WriteString("# Kernels\n\nGenerated by `go run ./tools/cuda/kerneltable` from the committed PTX; do not edit.\n\n")
	b.WriteString("Registers a thread on sm_80 / sm_89 / sm_90, static shared memory in bytes, spilled bytes (largest of the three),\nand tensor-core instructions in the sm_80 code. Launch shapes, bytes and operations are in the head comment of each source.\n\n")
	b.WriteString("| source | kernel | registers | shared | spills | tensor-core instructions |\n|---|---|---|---|---|---|\n")
	keys := make([]string, 0, len(table))
	for k := range table {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		module, kernel, _ := strings.Cut(k, "/")
		var registers []string
		spills := 0
		for _, arch := range architectures {
			registers = append(registers, strconv.Itoa(table[k][arch].Registers))
			spills = max(spills, table[k][arch].SpillBytes)
		}
		u := table[k]["sm_80"]
		fmt.Fprintf(&b, "| %s.cu | %s | %s | %d | %d | %d |\n", module, kernel, strings.Join(registers, " / "), u.Shared, spills, u.Matrix)
	}
	return b.Bytes()
}
