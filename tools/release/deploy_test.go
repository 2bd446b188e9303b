package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// documents reads a file of YAML documents as JSON values.
func documents(t *testing.T, path string) (all []map[string]any) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	d := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var v map[string]any
		err := d.Decode(&v)
		if errors.Is(err, io.EOF) {
			require.NotEmpty(t, all)
			return all
		}
		require.NoError(t, err, path)
		b, err := json.Marshal(v)
		require.NoError(t, err)
		j, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		require.NoError(t, err)
		all = append(all, j.(map[string]any))
	}
}

// schema compiles a part of a schema's file.
func schema(t *testing.T, name, part string) *jsonschema.Schema {
	t.Helper()
	path := filepath.Join("deploy", "schema", name)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("schema.json", doc))
	s, err := c.Compile("schema.json" + part)
	require.NoError(t, err)
	return s
}

func TestManifestsFollowTheirSchemas(t *testing.T) {
	var kinds struct{ Kinds map[string]string }
	text, err := os.ReadFile(filepath.Join("deploy", "schema", "kubernetes.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &kinds))
	for _, d := range documents(t, filepath.Join("deploy", "kubernetes.yaml")) {
		kind := d["kind"].(string)
		require.Contains(t, kinds.Kinds, kind)
		s := schema(t, "kubernetes.json", "#/definitions/"+kinds.Kinds[kind])
		require.NoError(t, s.Validate(d), kind)
		d["specs"] = true
		require.Error(t, s.Validate(d), "what a schema does not know is refused")
	}
	for _, d := range documents(t, filepath.Join("deploy", "kserve.yaml")) {
		require.NoError(t, schema(t, "kserve.json", "").Validate(d))
	}
	for _, d := range documents(t, filepath.Join("deploy", "compose.yaml")) {
		require.NoError(t, schema(t, "compose.json", "").Validate(d))
	}
}

func TestManifestsNameOptionsThatAreThere(t *testing.T) {
	for file, commands := range map[string][]string{"kubernetes.yaml": {"jobs.go", "flags.go"}, "kserve.yaml": {"serve.go", "flags.go"}, "compose.yaml": {"jobs.go", "serve.go", "flags.go"}} {
		text, err := os.ReadFile(filepath.Join("deploy", file))
		require.NoError(t, err)
		var source strings.Builder
		for _, c := range commands {
			b, err := os.ReadFile(filepath.Join("..", "..", "cmd", "unirestorer", c))
			require.NoError(t, err)
			source.Write(b)
		}
		for _, line := range regexp.MustCompile(`\["(?:work|serve|unirestorer)"[^\]]*\]`).FindAllString(string(text), -1) {
			for _, flag := range regexp.MustCompile(`"--([a-z-]+)"`).FindAllStringSubmatch(line, -1) {
				require.Contains(t, source.String(), `Name: "`+flag[1]+`"`, "%s: %s", file, line)
			}
		}
	}
}
