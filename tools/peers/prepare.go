package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"

	"unirestorer/tools/benchfiles"
)

// files are what the workers of one network and size read.
type files struct{ weights, model, input string }

// preparer makes the files of a benchmark in a folder, and finds those that are there already: their names contain a
// digest of what they are made from.
type preparer struct {
	tools   tools
	folder  string
	seed    uint64
	threads int
	// export tells whether the network is needed in ONNX.
	export bool
	log    func(format string, args ...any)
}

func (p preparer) prepare(ctx context.Context, n network, side int) (files, error) {
	if err := os.MkdirAll(p.folder, 0o777); err != nil {
		return files{}, err
	}
	var f files
	var err error
	if f.weights, err = p.weights(ctx, n); err != nil {
		return f, fmt.Errorf("weights: %w", err)
	}
	f.input = filepath.Join(p.folder, fmt.Sprintf("image-%d-%d.f32", side, p.seed))
	if err := benchfiles.Missing(f.input, func() error { return benchfiles.WriteRaw(ctx, f.input, randomImage(side, p.seed)) }); err != nil {
		return f, fmt.Errorf("input: %w", err)
	}
	if !p.export {
		return f, nil
	}
	if f.model, err = p.model(ctx, n, side, f.weights); err != nil {
		return f, fmt.Errorf("export to ONNX: %w", err)
	}
	return f, nil
}

func (p preparer) weights(ctx context.Context, n network) (string, error) {
	specs, err := n.stored()
	if err != nil {
		return "", err
	}
	path := filepath.Join(p.folder, fmt.Sprintf("%s-%s.safetensors", n.name, digest(benchfiles.ValuesVersion, p.seed, specs)))
	return path, benchfiles.Missing(path, func() error {
		p.log("%s: drawing weights", n.name)
		defer debug.FreeOSMemory() // the runtimes need it
		return benchfiles.WriteWeights(ctx, path, specs, p.seed)
	})
}

func (p preparer) model(ctx context.Context, n network, side int, weights string) (string, error) {
	sources, err := pythonSources(p.tools.folder)
	if err != nil {
		return "", err
	}
	path := filepath.Join(p.folder, fmt.Sprintf("%s-%d-%s.onnx", n.name, side, digest(filepath.Base(weights), n.args, sources)))
	return path, benchfiles.Missing(path, func() error {
		p.log("%s %d×%d: exporting to ONNX", n.name, side, side)
		partial := path + ".partial"
		defer os.Remove(partial) // gone unless the export failed
		cmd := exec.CommandContext(ctx, p.tools.python, filepath.Join(p.tools.folder, "export.py"),
			"--architecture", n.architecture, "--args", n.args, "--weights", weights,
			"--side", strconv.Itoa(side), "--threads", strconv.Itoa(p.threads), "--output", partial)
		said := &tail{limit: 2000}
		cmd.Stdout, cmd.Stderr = said, said
		if err := cmd.Run(); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%w:\n%s", err, said)
		}
		return os.Rename(partial, path)
	})
}

// pythonSources is the text of everything that an exported network depends on.
func pythonSources(folder string) ([]byte, error) {
	var paths []string
	for _, pattern := range []string{"*.py", "../nets/*.py"} {
		found, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			return nil, err
		}
		paths = append(paths, found...)
	}
	var all bytes.Buffer
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		all.Write(text)
	}
	return all.Bytes(), nil
}

// digest is a short name for values that JSON can hold.
func digest(of ...any) string {
	h := sha256.New()
	encoder := json.NewEncoder(h)
	for _, v := range of {
		if err := encoder.Encode(v); err != nil {
			panic(fmt.Sprintf("digest of %T: %v", v, err))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}
