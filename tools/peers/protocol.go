package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
)

// Workers read requests from standard input and answer each on standard output, one JSON object a line:
//
//	{"op":"load","load":{…}}       {"version":"1.30.0","seconds":[0.12]}
//	{"op":"run","count":3}         {"seconds":[0.071,0.070,0.070]}
//	{"op":"write","path":"y.f32"}  {"shape":[1,3,256,256]}
//	{"op":"quit"}                  {}
//
// A request that fails is answered {"error":"…"}. The end of the input ends a worker.
const (
	opLoad  = "load"
	opRun   = "run"
	opWrite = "write"
	opQuit  = "quit"
)

// request is what the driver asks of a worker.
type request struct {
	Op   string `json:"op"`
	Load *load  `json:"load,omitempty"`
	// Count is how often to run.
	Count int `json:"count,omitempty"`
	// Path is where to write the last run's output, as raw little-endian float32.
	Path string `json:"path,omitempty"`
}

// load tells a worker what to prepare; each runtime reads the fields it needs.
type load struct {
	Architecture string          `json:"architecture"`
	Args         json.RawMessage `json:"args"`
	// Weights is a safetensors file and Model the same network in ONNX.
	Weights string `json:"weights"`
	Model   string `json:"model"`
	// Input is an image as raw little-endian float32 in the NCHW shape.
	Input   string `json:"input"`
	Shape   [4]int `json:"shape"`
	Threads int    `json:"threads"`
	// Mode is how PyTorch runs the network: eager or jit.
	Mode string `json:"mode,omitempty"`
}

// reply answers a request.
type reply struct {
	Error   string    `json:"error,omitempty"`
	Version string    `json:"version,omitempty"`
	Seconds []float64 `json:"seconds,omitempty"`
	Shape   []int     `json:"shape,omitempty"`
}

// bounds on what a worker may say or be asked.
const (
	maxLine = 1 << 20
	maxRuns = 10_000
	maxSide = 1 << 14
)

// parseRequest reads a request and checks it.
func parseRequest(line []byte) (request, error) {
	var r request
	if err := decodeLine(line, &r); err != nil {
		return r, fmt.Errorf("request: %w", err)
	}
	switch r.Op {
	case opLoad:
		if r.Load == nil {
			return r, errors.New("request load: nothing to load")
		}
		return r, r.Load.check()
	case opRun:
		if r.Count < 1 || r.Count > maxRuns {
			return r, fmt.Errorf("request run: %d times, want 1 to %d", r.Count, maxRuns)
		}
	case opWrite:
		if r.Path == "" {
			return r, errors.New("request write: no path")
		}
	case opQuit:
	default:
		return r, fmt.Errorf("request: unknown operation %q", r.Op)
	}
	return r, nil
}

func (l *load) check() error {
	if s := l.Shape; s[0] != 1 || s[1] != 3 || s[2] < 1 || s[2] > maxSide || s[3] < 1 || s[3] > maxSide {
		return fmt.Errorf("request load: shape %v, want one image of 3 channels with sides up to %d", s, maxSide)
	}
	if l.Threads < 0 {
		return fmt.Errorf("request load: %d threads", l.Threads)
	}
	return nil
}

// parseReply reads a reply and checks it; a failure that the worker reports is an error.
func parseReply(line []byte) (reply, error) {
	var r reply
	if err := decodeLine(line, &r); err != nil {
		return r, fmt.Errorf("reply %.200q: %w", line, err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	for _, s := range r.Seconds {
		if !(s >= 0) || s > math.MaxInt32 {
			return r, fmt.Errorf("reply: a run of %v seconds", s)
		}
	}
	return r, nil
}

// elems is the number of values of the output that a reply describes.
func (r reply) elems() (int, error) {
	n := 1
	for _, d := range r.Shape {
		if d < 1 || d > maxSide*maxSide/n*4 {
			return 0, fmt.Errorf("reply: an output of shape %v", r.Shape)
		}
		n *= d
	}
	return n, nil
}

func decodeLine(line []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value on a line")
	}
	return nil
}
