package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"unirestorer/graph/models"
	"unirestorer/runtime/convert"
	"unirestorer/runtime/experts"
	"unirestorer/weights/nano"
)

// OpenModel opens what serves as a model: a model folder, the file of one network, a checkpoint, or the built-in model:
// that is what an empty path means, and the built-in model's name where nothing on disk is called so.
func OpenModel(ctx context.Context, path string, o convert.OpenOptions) (*experts.Model, error) {
	if path == "" || BuiltIn(path) {
		return experts.OpenModelFS(nano.Name, nano.Files())
	}
	return convert.Open(ctx, path, o)
}

// BuiltIn reports whether path means the built-in model: its name, where nothing on disk is called so.
func BuiltIn(path string) bool {
	_, err := os.Stat(path)
	return path == nano.Name && errors.Is(err, fs.ErrNotExist)
}

// randomSeed is where the weights of ReleasedSizes are drawn from.
const randomSeed = 1

// ReleasedSizes is a model of the released one's sizes with random weights, to measure what it costs without a
// checkpoint.
func ReleasedSizes() (*experts.Model, error) {
	config := models.Released()
	src, err := models.RandomWeights(config, randomSeed)
	if err != nil {
		return nil, err
	}
	return &experts.Model{Config: config, Source: src, Path: "the released configuration with random weights"}, nil
}
