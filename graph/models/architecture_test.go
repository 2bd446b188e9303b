package models

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStages(t *testing.T) {
	for name, want := range map[string]string{
		"encoder_level1.0.attn.qkv":       "encoder_level1",
		"down1_2.body.0":                  "down1_2.body",
		"encoders.3.26.conv2":             "encoders.3",
		"middle_blks.0.conv1":             "middle_blks",
		"downs.2":                         "downs",
		"layer1.blocks.2.mlp.mlp.0":       "layer1.blocks",
		"output":                          "output",
		"output:restored":                 "output",
		"visual_control.conv1":            "visual_control",
		"":                                "",
		"..":                              "",
		"7":                               "7",
		"body.0.denoiser.bottleneck.norm": "bottleneck",
		"body.0.denoiser.encoder_layers.1.0.blocks.1.0.to_qkv":        "encoder_layers.1",
		"visual_control.transformer.transformer.resblocks.3.mlp.c_fc": "visual_control.transformer.transformer.resblocks",
	} {
		require.Equal(t, want, StageOf(RetinexFormerName, name), name)
	}
}

func TestRegisteredArchitecturesAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range Architectures() {
		same, err := Lookup(a.Name)
		require.NoError(t, err)
		require.Same(t, a, same)
		require.Equal(t, a.Name, a.Default().Architecture())
		if a.Small == "" {
			continue
		}
		args := map[string]string{"": `{}`, "small": a.Small}
		for _, size := range a.Sizes {
			require.False(t, seen[size.Name], size.Name)
			seen[size.Name] = true
			args[size.Name] = size.Args
		}
		for name, text := range args {
			n, err := New(a.Name, json.RawMessage(text))
			require.NoError(t, err, "%s %s", a.Name, name)
			specs, err := Stored(n)
			require.NoError(t, err)
			require.NotEmpty(t, specs)
		}
	}
	require.Panics(t, func() { Register(Architecture{Name: "half"}) })
	require.Panics(t, func() { Register(*architectures[RestormerName]) })
	_, err := Lookup("resnet")
	require.ErrorContains(t, err, `unknown architecture "resnet": there are `)
	require.ErrorContains(t, err, RestormerName)
}
