package verify

import (
	"context"

	"unirestorer/graph"
	"unirestorer/graph/reference"
	"unirestorer/runtime/backend"
)

// interpreted is a backend over the reference interpreter.
type interpreted struct{}

func (interpreted) Info() backend.Info                               { return backend.Info{Name: "reference"} }
func (interpreted) Plan(*graph.Graph) (backend.Memory, error)        { return backend.Memory{}, nil }
func (interpreted) Holdings(*graph.Graph) ([]backend.Holding, error) { return nil, nil }
func (interpreted) Resident() int64                                  { return 0 }
func (interpreted) Close() error                                     { return nil }
func (interpreted) Trim() (int64, bool)                              { return 0, true }
func (interpreted) Compile(_ context.Context, g *graph.Graph) (backend.Program, error) {
	return referenceProgram{g}, nil
}

type referenceProgram struct{ g *graph.Graph }

func (p referenceProgram) Graph() *graph.Graph    { return p.g }
func (p referenceProgram) Memory() backend.Memory { return backend.Memory{} }
func (p referenceProgram) Close() error           { return nil }
func (p referenceProgram) Run(_ context.Context, in, out [][]float32, _ backend.RunOptions) error {
	got, err := reference.Run(p.g, in)
	if err != nil {
		return err
	}
	for i := range out {
		copy(out[i], got[i])
	}
	return nil
}
