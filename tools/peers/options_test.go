package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWrongOptionsAreRefused(t *testing.T) {
	for args, wrong := range map[string]string{
		"stray":               `unexpected argument "stray"`,
		"--network resnet":    `no network "resnet"`,
		"--runtime tensorrt":  `no runtime "tensorrt"`,
		"--runtime ,":         "no runtime",
		"--size 0":            "--size 0",
		"--size 1000000":      "--size 1000000",
		"--threads -1":        "--threads -1",
		"--rounds 0":          "--rounds 0",
		"--cold-rounds -1":    "--cold-rounds -1",
		"--turn -1s":          "--turn -1s",
		"--tolerance NaN":     "--tolerance NaN",
		"--pytorch-mode fast": `--pytorch-mode "fast"`,
		"--json --markdown":   "exclude each other",
	} {
		all := append([]string{"peers", "--quiet", "--cache", t.TempDir()}, strings.Fields(args)...)
		require.ErrorContains(t, app(strings.NewReader(""), io.Discard, io.Discard).Run(all), wrong, args)
	}
}

func TestSelectionsAreOrderedAndUnique(t *testing.T) {
	r, err := chosenRuntimes([]string{pyTorch, ours, pyTorch})
	require.NoError(t, err)
	require.Equal(t, []string{ours, pyTorch}, r)
	n, err := chosenNetworks([]string{"restormer", "nafnet", "restormer"})
	require.NoError(t, err)
	require.Len(t, n, 2)
	require.Equal(t, "restormer", n[0].name)
	n, err = chosenNetworks(nil)
	require.NoError(t, err)
	require.Len(t, n, len(networkNames()))
}

func TestEveryNetworkBuilds(t *testing.T) {
	for _, n := range catalogue() {
		for _, side := range n.sides([]int{256, 512}) {
			g, err := build(n.architecture, json.RawMessage(n.args), nil, side, side)
			require.NoError(t, err, n.name)
			require.Positive(t, g.Cost().MACs)
		}
		specs, err := n.stored()
		require.NoError(t, err)
		require.NotEmpty(t, specs)
	}
	_, err := build("daclip", nil, nil, 256, 256)
	require.ErrorContains(t, err, "224×224")
	_, err = build("retinexformer", nil, nil, 30, 32)
	require.Error(t, err)
}

func TestCommandMeasuresAndSaves(t *testing.T) {
	t.Setenv(fakeVariable, "real") // the program under test starts itself
	saved := filepath.Join(t.TempDir(), "report.json")
	var out, log strings.Builder
	require.NoError(t, app(strings.NewReader(""), &out, &log).Run([]string{"peers", "--runtime", ours, "--network", "nafnet-nano",
		"--size", "16,24", "--rounds", "1", "--cold-rounds", "1", "--turn", "1ms", "--threads", "1", "--cache", t.TempDir(), "--save", saved, "--json"}))
	text, err := os.ReadFile(saved)
	require.NoError(t, err)
	require.JSONEq(t, out.String(), string(text))
	var r report
	require.NoError(t, json.Unmarshal(text, &r))
	require.Len(t, r.Results, 2)
	require.Equal(t, 24, r.Results[1].Side)
	require.Contains(t, log.String(), "round 1 of 1")
}

func TestReportThatCannotBeSavedIsAnError(t *testing.T) {
	t.Setenv(fakeVariable, "real") // the program under test starts itself
	err := app(strings.NewReader(""), io.Discard, io.Discard).Run([]string{"peers", "--quiet", "--runtime", ours, "--network", "nafnet-nano",
		"--size", "8", "--rounds", "1", "--cold-rounds", "0", "--turn", "0s", "--cache", t.TempDir(), "--save", filepath.Join(t.TempDir(), "none", "report.json")})
	require.ErrorContains(t, err, "save: ")
}
