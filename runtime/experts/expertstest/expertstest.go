// Package expertstest makes a small model and a backend for tests of what uses
// a pool of experts.
package expertstest

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/convert"
	"unirestorer/runtime/cpu"
	"unirestorer/runtime/experts"
	"unirestorer/weights"
)

// Tiny converts a golden case of a whole model in memory: folder holds its
// checkpoint model.pth and its config.json, such as
// testdata/goldens/unirestorer_tiny. The checkpoint stays open until the end of
// the test.
func Tiny(t testing.TB, folder string) *experts.Model {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(folder, "config.json"))
	require.NoError(t, err)
	var c struct {
		DACLIP  json.RawMessage            `json:"daclip_args"`
		ByClass map[string]json.RawMessage `json:"expert_args_by_class"`
	}
	require.NoError(t, json.Unmarshal(raw, &c))
	f, err := weights.Open(filepath.Join(folder, "model.pth"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	hints := convert.Hints{Args: map[string]json.RawMessage{models.DACLIPName: c.DACLIP}}
	for class, args := range c.ByClass {
		hints.Args[class] = args
	}
	plan, err := convert.New(context.Background(), f, nil, hints)
	require.NoError(t, err)
	return &experts.Model{Config: plan.Config, Source: plan.Source(), Path: "tiny"}
}

// CPU is a backend on the host's processors that is closed at the end of the
// test.
func CPU(t testing.TB) backend.Backend {
	t.Helper()
	b, err := cpu.New(cpu.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}
