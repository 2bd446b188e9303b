package profile

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStoredProfilesReadBack(t *testing.T) {
	p := stored(timed(t, 0, 0.01, 20, 1))
	p.Model, p.Peaks = "m", &Peaks{1, 2, "given", ""}
	var b bytes.Buffer
	require.NoError(t, p.Write(&b))
	back, err := Read(&b)
	require.NoError(t, err)
	require.Equal(t, p, back)
}

func TestWhatIsNoProfileIsRefused(t *testing.T) {
	valid := func(change func(map[string]any, map[string]any)) string {
		var b bytes.Buffer
		require.NoError(t, stored(timed(t, 0, 0.01, 3, 1)).Write(&b))
		var p map[string]any
		require.NoError(t, json.Unmarshal(b.Bytes(), &p))
		change(p, p["networks"].([]any)[0].(map[string]any))
		out, err := json.Marshal(p)
		require.NoError(t, err)
		return string(out)
	}
	for want, text := range map[string]string{
		"not a profile":             "[]",
		"unexpected end":            "",
		`format is ""`:              "{}",
		"version 7":                 valid(func(p, _ map[string]any) { p["version"] = 7 }),
		"no networks":               valid(func(p, _ map[string]any) { p["networks"] = nil }),
		`kind "x"`:                  valid(func(_, n map[string]any) { n["kind"] = "x" }),
		"1 images of 0x64":          valid(func(_, n map[string]any) { n["width"] = 0 }),
		"count of -1":               valid(func(_, n map[string]any) { n["launches"] = -1 }),
		"no runs to summarise":      valid(func(_, n map[string]any) { n["measured"].(map[string]any)["samples_seconds"] = nil }),
		"a run of -1":               valid(func(_, n map[string]any) { n["measured"].(map[string]any)["samples_seconds"] = []float64{-1} }),
		"time of -1":                valid(func(_, n map[string]any) { n["measured"].(map[string]any)["load_seconds"] = -1 }),
		"cannot unmarshal number 1": valid(func(_, n map[string]any) { n["parameters"] = 1e300 }),
	} {
		_, err := Read(strings.NewReader(text))
		require.ErrorContains(t, err, want)
	}
	_, err := ReadFile(t.TempDir() + "/none.json")
	require.ErrorContains(t, err, "none.json")
}

// FuzzRead holds that whatever reads as a profile can be compared with itself
// and printed.
func FuzzRead(f *testing.F) {
	t := &testing.T{}
	for _, p := range []*Profile{stored(timed(t, 0, 0.01, 20, 1), timed(t, 1, 0.02, 2, 1)), stored(Network{NetworkID: NetworkID{Kind: Router, Index: -1, Width: 1, Height: 1, Batch: 1}})} {
		var b bytes.Buffer
		require.NoError(f, p.Write(&b))
		f.Add(b.Bytes())
	}
	f.Add([]byte(`{"format":"unirestorer-profile","version":1,"networks":[{"kind":"expert","width":1,"height":1,"batch":1,"measured":{"samples_seconds":[0,0,0]}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		d := Diff(p, p, DefaultDiff())
		for _, c := range d.Changes {
			require.Contains(t, []Verdict{verdictNoise, verdictSingle}, c.Verdict)
			require.False(t, math.IsNaN(c.A))
		}
		require.NoError(t, d.Table().WriteText(&bytes.Buffer{}))
		for _, table := range p.Tables() {
			require.NoError(t, table.WriteText(&bytes.Buffer{}))
		}
		require.NoError(t, p.Flat().WriteCSV(&bytes.Buffer{}))
	})
}
