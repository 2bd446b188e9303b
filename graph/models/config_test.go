package models

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const tinyConfig = `{
	"format": "unirestorer", "version": 1, "name": "tiny",
	"estimator": {"architecture": "daclip", "prefix": "daclip_model.",
		"args": {"embed_dim": 8, "vision_cfg": {"image_size": 16, "layers": 1, "width": 8, "head_width": 4, "patch_size": 8}},
		"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
	"router": {"width": 8, "prefix": ""},
	"tree": {"levels": ["coarse", "fine"], "leaves": [{"name": "a", "experts": [0, 1]}, {"name": "b", "kinds": ["rain"], "experts": [0, 0]}]},
	"experts": [
		{"name": "all", "architecture": "nafnet", "args": {"width": 2}, "prefix": "l0.", "level": 0},
		{"name": "one", "architecture": "nafnet", "args": {"width": 2}, "prefix": "l1.", "level": 1, "base": 0}],
	"provenance": {}
}`

func TestConfigRoundTrips(t *testing.T) {
	c, err := ParseConfig([]byte(tinyConfig))
	require.NoError(t, err)
	b, err := json.Marshal(c)
	require.NoError(t, err)
	again, err := ParseConfig(b)
	require.NoError(t, err)
	same, err := json.Marshal(again)
	require.NoError(t, err)
	require.JSONEq(t, string(b), string(same))
	require.Equal(t, []int{0, 1}, c.Tree.Reachable())
}

func TestConfigErrorsSayWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{`"version": 1`, `"version": 2`, "version 2 is not supported, want 1"},
		{`"format": "unirestorer"`, `"format": "onnx"`, `format is "onnx"`},
		{`"name": "tiny"`, `"nmae": "tiny"`, `unknown field "nmae"`},
		{`"provenance": {}`, `"provenance": {}, "x": [[[[`, "config.json"},
		{`"experts": [0, 1]`, `"experts": [0]`, "leaf 0: 1 experts for 2 levels"},
		{`"experts": [0, 1]`, `"experts": [0, 2]`, "leaf 0: expert 2 is not one of 2"},
		{`"experts": [0, 0]`, `"experts": [-1, 0]`, "leaf 1: expert -1 is not one of 2"},
		{`"levels": ["coarse", "fine"]`, `"levels": []`, "0 levels"},
		{`"leaves": [{"name": "a", "experts": [0, 1]}, {"name": "b", "kinds": ["rain"], "experts": [0, 0]}]`, `"leaves": []`, "0 leaves"},
		{`"architecture": "nafnet", "args": {"width": 2}, "prefix": "l1."`, `"architecture": "unet", "prefix": "l1."`, `expert 1: unknown architecture "unet"`},
		{`"args": {"width": 2}, "prefix": "l0."`, `"args": {"width": -2}, "prefix": "l0."`, "expert 0: nafnet arguments: width"},
		{`"base": 0`, `"base": 1`, "expert 1: base 1 is not another expert"},
		{`"base": 0`, `"base": 7`, "expert 1: base 7"},
		{`"level": 1`, `"level": 2`, "expert 1: level 2 is not one of 2"},
		{`"std": [0.25, 0.25, 0.25]`, `"std": [0.25, 0, 0.25]`, "std positive"},
		{`"std": [0.25, 0.25, 0.25]`, `"std": [0.25, 1e99, 0.25]`, "1e99"},
		{`"architecture": "daclip"`, `"architecture": "clip"`, `estimator: unknown architecture "clip"`},
		{`"patch_size": 8`, `"patch_size": 7`, "16 pixels into patches of 7"},
		{`"width": 8, "head_width": 4`, `"width": 8, "head_width": 3`, "width 8 does not split into heads of 3"},
		{`"layers": 1`, `"layers": 1000000`, "layers"},
		{`"router": {"width": 8`, `"router": {"width": 9`, "the estimator gives 8 features, the router takes 9"},
		{`"router": {"width": 8`, `"router": {"width": 0`, "router"},
	} {
		t.Run(c.want, func(t *testing.T) {
			changed := strings.Replace(tinyConfig, c.old, c.new, 1)
			require.NotEqual(t, tinyConfig, changed)
			_, err := ParseConfig([]byte(changed))
			require.ErrorContains(t, err, "config.json: ")
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := ParseConfig([]byte(tinyConfig + tinyConfig))
	require.ErrorContains(t, err, "more than one JSON value")
	_, err = ParseConfig(nil)
	require.ErrorContains(t, err, "config.json")
}

func TestBuildingAnExpertOutsideThePoolFails(t *testing.T) {
	c, err := ParseConfig([]byte(tinyConfig))
	require.NoError(t, err)
	for _, i := range []int{-1, 2} {
		_, err := c.BuildExpert(nil, i, 1, 8, 8, Options{})
		require.ErrorContains(t, err, fmt.Sprintf("expert %d: the pool has 0 to 1", i))
	}
}

// FuzzParseConfig tries for panics, and for accepted configurations that then
// cannot be used: all of their networks must build.
func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(tinyConfig))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"format":"unirestorer","version":1,"experts":[{"architecture":"dehazeformer","args":null}]}`))
	for _, c := range small {
		f.Add([]byte(strings.Replace(tinyConfig, `"architecture": "nafnet", "args": {"width": 2}`, fmt.Sprintf(`"architecture": %q, "args": %s`, c.arch, c.args), 1)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig(data)
		if err != nil {
			return
		}
		b, err := json.Marshal(c)
		require.NoError(t, err)
		_, err = ParseConfig(b)
		require.NoError(t, err)
		for i := range c.Experts[:min(2, len(c.Experts))] {
			net, err := c.Expert(i)
			require.NoError(t, err)
			h, w, err := Fit(net, 8, 8)
			require.NoError(t, err)
			_, err = net.Build(nil, 1, h, w, Options{})
			require.NoError(t, err)
		}
		require.NotPanics(t, func() { c.Tree.Reachable() })
	})
}
