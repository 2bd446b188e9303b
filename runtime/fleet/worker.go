package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"unirestorer"
	"unirestorer/runtime/cards"
)

// order is what a worker should do; the picture, unless it is a file's, lies beside it.
type order struct {
	Kind    kind
	File    *unirestorer.Job `json:",omitempty"`
	Picture *shape           `json:",omitempty"`
	Options json.RawMessage
}

// kind is a kind of order.
type kind string

const (
	restoreFile    kind = "file"
	restoreStream  kind = "stream"
	restorePicture kind = "picture"
	route          kind = "route"
)

// answer is what a worker says of a picture; the result, unless it went to a file, lies beside it.
type answer struct {
	Device  string
	Result  *unirestorer.Result `json:",omitempty"`
	Route   *unirestorer.Route  `json:",omitempty"`
	Picture *shape              `json:",omitempty"`
	Usage   usage
}

// Worker does a fleet's work on one device.
type Worker struct {
	// Restorer is the model on the device; Device is the name that it was opened by.
	Restorer *unirestorer.Restorer
	Device   string
	// Broken tells errors after which the process can use the device no more.
	Broken func(error) bool
}

// Serve carries out the orders that in brings, from the [Fleet] that started this process, until in ends.
func Serve(ctx context.Context, w Worker, in io.Reader, out io.Writer) error {
	return cards.Serve(ctx, in, out, func(err error) []string { return kindsOf(err, w.Broken) }, w.do)
}

// progressEvery bounds how often progress is told.
const progressEvery = 20 * time.Millisecond

func (w Worker) do(ctx context.Context, job cards.Job, under cards.Under) (cards.Reply, error) {
	var o order
	if err := json.Unmarshal(job.Spec, &o); err != nil {
		return cards.Reply{}, fmt.Errorf("an order that is none: %w", err)
	}
	var last time.Time
	asked := false
	opts := []unirestorer.CallOption{
		unirestorer.WithMarshalled(o.Options),
		unirestorer.WithProgress(func(done float64) {
			if now := time.Now(); now.Sub(last) >= progressEvery {
				last = now
				under.Progress(done)
			}
		}),
		unirestorer.WithWaits(under.Waits),
		unirestorer.WithRouted(func(_ context.Context, expert int, resident bool) error {
			if resident || asked {
				return nil
			}
			asked = true // later pages of a file stay where the first is
			return under.Choose(strconv.Itoa(expert))
		}),
	}
	said, data, err := w.carryOut(ctx, o, job.Data, opts)
	if err != nil {
		return cards.Reply{}, err
	}
	said.Device = w.Device
	said.Usage.Host, said.Usage.Card = w.Restorer.Memory()
	reply := cards.Reply{Data: data}
	if r := said.Result; r != nil {
		reply.Key = strconv.Itoa(r.Route.Expert.Index)
		reply.Costs = cards.Costs{Load: r.Stages.Load, Run: r.Stages.Run, Again: r.Stages.Decode + r.Stages.Estimate}
	}
	reply.Spec, err = json.Marshal(said)
	return reply, err
}

// carryOut does what an order says with the picture data.
func (w Worker) carryOut(ctx context.Context, o order, data []byte, opts []unirestorer.CallOption) (said answer, result []byte, err error) {
	switch o.Kind {
	case restoreFile:
		if o.File == nil {
			return said, nil, errors.New("an order without a file")
		}
		said.Result, err = w.Restorer.RestoreJob(ctx, *o.File, opts...)
		return said, nil, err
	case restoreStream:
		var out bytes.Buffer
		said.Result, err = w.Restorer.RestoreStream(ctx, bytes.NewBuffer(data), &out, opts...)
		return said, out.Bytes(), err
	case route:
		said.Route, err = w.Restorer.RouteStream(ctx, bytes.NewBuffer(data), opts...)
		return said, nil, err
	case restorePicture:
		p, err := o.Picture.image(data)
		if err != nil {
			return said, nil, err
		}
		if said.Result, err = w.Restorer.Restore(ctx, p, opts...); err != nil {
			return said, nil, err
		}
		out, ok := said.Result.Image.(*unirestorer.Picture)
		if !ok {
			return said, nil, errors.New("a result that is no picture")
		}
		said.Result.Image, said.Picture = nil, shapeOf(out)
		return said, samplesOf(out), nil
	}
	return said, nil, fmt.Errorf("an order %q that is not known", o.Kind)
}

// inside is a worker in this process. A kernel that hangs cannot be ended here.
type inside struct {
	w      Worker
	ctx    context.Context
	cancel context.CancelFunc
	close  func() error
}

// Inside makes a worker in this process, whose Restorer is the worker's to close.
func Inside(w Worker) cards.Worker {
	i := &inside{w: w}
	i.ctx, i.cancel = context.WithCancel(context.Background())
	i.close = sync.OnceValue(w.Restorer.Close)
	return i
}

// Do implements cards.Worker.
func (i *inside) Do(ctx context.Context, job cards.Job, under cards.Under) (cards.Reply, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(i.ctx, cancel)()
	reply, err := i.w.do(ctx, job, under)
	if err == nil || errors.Is(err, cards.ErrElsewhere) {
		return reply, err
	}
	if i.ctx.Err() != nil {
		return reply, fmt.Errorf("%w: %w", cards.ErrBroken, err)
	}
	return reply, &cards.JobError{Text: err.Error(), Kinds: kindsOf(err, i.w.Broken)}
}

// Kill implements cards.Worker.
func (i *inside) Kill() { i.cancel() }

// Close implements cards.Worker.
func (i *inside) Close() error { return i.close() }
