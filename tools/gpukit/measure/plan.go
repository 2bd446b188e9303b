package measure

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"unirestorer/tools/benchfiles"
	"unirestorer/tools/gpukit/networks"
	"unirestorer/tools/gpukit/results"
	"unirestorer/weights/atomicfile"
)

// Size is a size and number of images.
type Size struct {
	Batch  int `json:"batch"`
	Height int `json:"height"`
	Width  int `json:"width"`
}

// Subject is a network with the files that all runtimes share.
type Subject struct {
	networks.Network
	// Weights is a safetensors file with the network's random values in fp16.
	Weights string `json:"weights"`
	Sizes   []Case `json:"sizes"`
}

// Case is a size with the files of its images and of our result, raw little-endian fp32 in NCHW. The result appears once we
// have run.
type Case struct {
	Size
	Input  string `json:"input"`
	Output string `json:"output"`
}

// Plan is what is measured. Each network's sizes are in order of importance.
type Plan struct {
	Quick    bool      `json:"quick"`
	Subjects []Subject `json:"subjects"`
}

// Sizes are those of the full plan, the most important first.
func Sizes() []Size {
	return []Size{{1, 256, 256}, {1, 512, 512}, {1, 720, 1280}, {8, 256, 256}, {8, 512, 512}, {8, 720, 1280}}
}

// QuickSizes are those of a quick run.
func QuickSizes() []Size { return []Size{{2, 16, 16}} }

// planName is the plan's file in the working folder.
const planName = "plan.json"

// seed is that of all random values.
const seed = 1

// Prepare writes weights and images of a plan into a folder, and the plan. Files that are there already stay.
func Prepare(ctx context.Context, folder string, list []networks.Network, sizes []Size, quick bool) (*Plan, error) {
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return nil, err
	}
	p := &Plan{Quick: quick}
	for _, n := range list {
		s := Subject{Network: n, Weights: filepath.Join(folder, fileName(n.Name, quick)+".safetensors")}
		specs, err := n.Stored()
		if err == nil {
			err = benchfiles.Missing(s.Weights, func() error { return benchfiles.WriteWeights(ctx, s.Weights, specs, seed) })
		}
		if err != nil {
			return nil, fmt.Errorf("weights of %s: %w", n.Name, err)
		}
		for _, size := range sizes {
			if n.Side != 0 {
				size.Height, size.Width = n.Side, n.Side
			}
			name := fmt.Sprintf("%d-%dx%d", size.Batch, size.Width, size.Height)
			c := Case{size, filepath.Join(folder, "images-"+name+".f32"), filepath.Join(folder, fileName(n.Name, quick)+"-"+name+".f32")}
			if s.has(size) {
				continue // the only size of the network
			}
			err := benchfiles.Missing(c.Input, func() error {
				return benchfiles.WriteRaw(ctx, c.Input, networks.Images(size.Batch, size.Height, size.Width, seed))
			})
			if err != nil {
				return nil, fmt.Errorf("images: %w", err)
			}
			s.Sizes = append(s.Sizes, c)
		}
		p.Subjects = append(p.Subjects, s)
	}
	return p, WriteJSON(ctx, filepath.Join(folder, planName), p)
}

func (s *Subject) has(size Size) bool {
	for _, c := range s.Sizes {
		if c.Size == size {
			return true
		}
	}
	return false
}

func fileName(network string, quick bool) string {
	network = strings.NewReplacer(" ", "-", ",", "").Replace(network)
	if quick {
		return "small-" + network
	}
	return network
}

// ReadPlan reads the plan of a folder.
func ReadPlan(folder string) (*Plan, error) {
	path := filepath.Join(folder, planName)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p := &Plan{}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return p, nil
}

// WriteJSON writes a value as JSON to a file, which appears whole.
func WriteJSON(ctx context.Context, path string, v any) error {
	return atomicfile.Write(ctx, path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", " ")
		return e.Encode(v)
	})
}

// SaveRuns writes runs as far as they are known.
func SaveRuns(ctx context.Context, path string, runs []results.Run) error {
	if runs == nil {
		runs = []results.Run{}
	}
	return WriteJSON(ctx, path, runs)
}
