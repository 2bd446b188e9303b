package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/graphtest"
	"unirestorer/graph/reference"
	"unirestorer/tools/benchfiles"
	"unirestorer/weights"
)

func TestWrongRequestsAreRefused(t *testing.T) {
	for line, wrong := range map[string]string{
		``:                             "EOF",
		`{`:                            "unexpected EOF",
		`{"op":"quit"} {}`:             "more than one value",
		`{"op":"dance"}`:               `unknown operation "dance"`,
		`{"op":"quit","extra":1}`:      "unknown field",
		`{"op":"load"}`:                "nothing to load",
		`{"op":"load","load":{}}`:      "shape [0 0 0 0]",
		`{"op":"run"}`:                 "0 times",
		`{"op":"run","count":1000000}`: "1000000 times",
		`{"op":"write"}`:               "no path",
		`{"op":"load","load":{"shape":[1,3,8,8],"threads":-1}}`: "-1 threads",
	} {
		_, err := parseRequest([]byte(line))
		require.ErrorContains(t, err, wrong, "%s", line)
	}
}

func TestWrongRepliesAreRefused(t *testing.T) {
	for line, wrong := range map[string]string{
		`Segmentation fault`:         "invalid character",
		`{"error":"no such file"}`:   "no such file",
		`{"seconds":[-1]}`:           "-1 seconds",
		`{"seconds":[1e300]}`:        "1e+300 seconds",
		`{"seconds":["fast"]}`:       "cannot unmarshal",
		`{"seconds":[1],"laps":"1"}`: "unknown field",
	} {
		_, err := parseReply([]byte(line))
		require.ErrorContains(t, err, wrong, "%s", line)
	}
	for _, shape := range [][]int{{0}, {-1, -1}, {1 << 30, 1 << 30, 1 << 30}} {
		_, err := reply{Shape: shape}.elems()
		require.Error(t, err)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"op":"load","load":{"architecture":"nafnet","args":{},"weights":"w","model":"m","input":"i","shape":[1,3,8,8],"threads":2}}`))
	f.Add([]byte(`{"op":"run","count":3}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parseRequest(line)
		if err != nil {
			return
		}
		text, err := json.Marshal(r)
		require.NoError(t, err)
		again, err := parseRequest(text)
		require.NoError(t, err)
		require.Equal(t, r.Op, again.Op)
		require.Equal(t, r.Count, again.Count)
	})
}

func FuzzParseReply(f *testing.F) {
	f.Add([]byte(`{"version":"1.30.0","seconds":[0.12]}`))
	f.Add([]byte(`{"shape":[1,3,256,256]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parseReply(line)
		if err != nil {
			return
		}
		if n, err := r.elems(); err == nil {
			require.Positive(t, n)
			require.LessOrEqual(t, n, 4*maxSide*maxSide)
		}
		for _, s := range r.Seconds {
			require.GreaterOrEqual(t, s, 0.0)
		}
	})
}

func TestWorkerAnswersErrorsAndGoesOn(t *testing.T) {
	var out strings.Builder
	in := "nonsense\n" + `{"op":"run","count":1}` + "\n" + `{"op":"write","path":"x"}` + "\n" + `{"op":"quit"}` + "\n" + `{"op":"quit"}` + "\n"
	require.NoError(t, serve(t.Context(), strings.NewReader(in), &out, &cpuEngine{}))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 4, "nothing follows the answer to quit")
	require.Contains(t, lines[0], "invalid character")
	require.Contains(t, lines[1], "nothing is loaded")
	require.Contains(t, lines[2], "nothing has run")
	require.Equal(t, "{}", lines[3])
}

func TestOwnWorkerEqualsReference(t *testing.T) {
	l := tinyLoad(t, 12)
	p, err := start(t.Context(), fakeLaunch(t, "real"))
	require.NoError(t, err)
	defer p.kill()
	version, _, err := p.load(l)
	require.NoError(t, err)
	require.Contains(t, version, "instructions")
	seconds, err := p.run(3)
	require.NoError(t, err)
	require.Len(t, seconds, 3)
	got, shape, err := p.output(filepath.Join(t.TempDir(), "y"))
	require.NoError(t, err)
	require.Equal(t, []int{1, 3, 12, 12}, shape)
	_, _, err = p.load(l)
	require.ErrorContains(t, err, "loaded already")
	require.NoError(t, p.quit())

	src, err := weights.Open(l.Weights)
	require.NoError(t, err)
	defer src.Close()
	g, err := build(l.Architecture, l.Args, src, 12, 12)
	require.NoError(t, err)
	image, err := benchfiles.ReadRaw(l.Input, 3*12*12)
	require.NoError(t, err)
	want, err := reference.Run(g, [][]float32{image})
	require.NoError(t, err)
	require.Less(t, graphtest.Compare(got, want[0]).MaxAbs, 1e-5)
	require.Greater(t, graphtest.Compare(got, image).MaxAbs, 1e-2, "the network changes its input")
}

func TestWorkersThatMisbehaveGiveErrors(t *testing.T) {
	for kind, wrong := range map[string]string{
		"dies":      "out of memory",
		"babbles":   `reply "Welcome!"`,
		"endless":   "longer than",
		"miscounts": "3 times for 1 runs",
		"fails":     "no kernel",
	} {
		t.Run(kind, func(t *testing.T) {
			p, err := start(t.Context(), fakeLaunch(t, kind))
			require.NoError(t, err)
			defer p.kill()
			_, err = p.run(1)
			require.ErrorContains(t, err, wrong)
			require.ErrorContains(t, err, kind+": run: ")
		})
	}
	_, err := start(t.Context(), launch{runtime: "absent", argv: []string{filepath.Join(t.TempDir(), "absent")}})
	require.ErrorContains(t, err, "absent: start: ")
}

func TestCancelledRunEndsTheWorker(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p, err := start(ctx, fakeLaunch(t, "hangs"))
	require.NoError(t, err)
	defer p.kill()
	began := time.Now()
	_, err = p.run(1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(began), 5*time.Second)
}
