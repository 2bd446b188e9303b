package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/tools/benchfiles"
)

// fakeVariable makes the test program a worker of the kind it names.
const fakeVariable = "PEERS_FAKE_WORKER"

// TestMain lets the test program stand in for workers.
func TestMain(m *testing.M) {
	if kind := os.Getenv(fakeVariable); kind != "" {
		if err := fakeWorker(kind); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// fakeLaunch starts this program as a worker of a kind that fakeWorker knows.
func fakeLaunch(t *testing.T, kind string, env ...string) launch {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	return launch{runtime: kind, argv: []string{self}, env: append(env, fakeVariable+"="+kind)}
}

func fakeWorker(kind string) error {
	switch kind {
	case "real": // this project's own worker
		return app(os.Stdin, os.Stdout, os.Stderr).Run([]string{"peers", workerCommand})
	case "dies":
		return errors.New("out of memory")
	case "babbles":
		fmt.Println("Welcome!")
	case "endless":
		fmt.Println(strings.Repeat("x", 2*maxLine))
	case "miscounts":
		fmt.Println(`{"seconds":[1,2,3]}`)
	case "hangs":
		time.Sleep(time.Hour)
	default:
		return serve(context.Background(), os.Stdin, os.Stdout, &fakeEngine{name: kind})
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// logVariable names a file to which fake engines add a line for every request.
const logVariable = "PEERS_FAKE_LOG"

// fakeEngine gives its input back. One called "wrong" adds 1, one called "fails" cannot run.
type fakeEngine struct {
	name  string
	image []float32
	shape [4]int
}

func (e *fakeEngine) note(what string) error {
	path := os.Getenv(logVariable)
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, what, e.name)
	return errors.Join(err, f.Close())
}

func (e *fakeEngine) load(_ context.Context, l load) (string, error) {
	var err error
	e.shape = l.Shape
	e.image, err = benchfiles.ReadRaw(l.Input, l.Shape[0]*l.Shape[1]*l.Shape[2]*l.Shape[3])
	return "1.2.3", errors.Join(err, e.note("load"))
}

func (e *fakeEngine) run(context.Context) error {
	if e.name == "fails" {
		return errors.New("no kernel")
	}
	time.Sleep(time.Millisecond)
	return e.note("run")
}

func (e *fakeEngine) output() ([]float32, []int) {
	if e.image == nil {
		return nil, nil
	}
	values := append([]float32{}, e.image...)
	if e.name == "wrong" {
		values[0]++
	}
	return values, e.shape[:]
}

func (e *fakeEngine) Close() error { return nil }

// tiny is a network that runs in no time.
func tiny() network {
	return network{name: "tiny", architecture: "nafnet_local", args: `{"width":4,"enc_blk_nums":[1],"middle_blk_num":1,"dec_blk_nums":[1],"train_size":[1,3,8,8]}`}
}

// tinyLoad makes the files of the tiny network.
func tinyLoad(t *testing.T, side int) load {
	t.Helper()
	n := tiny()
	p := preparer{folder: filepath.Join(t.TempDir(), "cache"), seed: 1, threads: 1, log: t.Logf}
	f, err := p.prepare(t.Context(), n, side)
	require.NoError(t, err)
	return load{
		Architecture: n.architecture, Args: json.RawMessage(n.args), Weights: f.weights, Input: f.input,
		Shape: [4]int{1, 3, side, side}, Threads: 1,
	}
}
