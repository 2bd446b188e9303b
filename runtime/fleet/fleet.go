// Package fleet restores pictures on several devices as one Restorer does on one. Each device has a worker, in a process of its
// own or in this one, that has the model open; a [cards.Pool] gives them pictures. Pictures travel as files' names or as
// bytes, options as [unirestorer.MarshalCall] writes them, and errors keep what callers tell apart.
package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"unirestorer"
	"unirestorer/runtime/cards"
	"unirestorer/runtime/imaging"
)

// Config shapes a fleet.
type Config struct {
	// Devices are names as unirestorer.WithDevice takes them, one for each worker.
	Devices []string
	// Start starts a worker on a device. Its processes serve with [Serve], those in this process are made by [Inside].
	// memory bounds what it may take of the host's memory; 0 is no bound.
	Start func(ctx context.Context, device string, memory int64) (cards.Worker, error)
	// Memory bounds what all workers together take of the host's memory, in bytes; 0 is no bound.
	Memory int64
	// Cards shapes the pool.
	Cards cards.Options
}

// PicturesAtATime is how many pictures each of several devices should have: decoding and encoding take a core each and can
// take several times what a fast GPU needs for the network, and two more wait for the device or are on it.
func PicturesAtATime(cores, devices int) int { return min(cores/devices+2, 16) }

// Fleet is a model on several devices. Its methods may be called from several goroutines.
type Fleet struct {
	c     Config
	model *unirestorer.Restorer
	start func() (*cards.Pool, error)

	mu    sync.Mutex
	aside int64
	usage map[string]usage // of workers, as they last said
}

// usage is what a worker holds.
type usage struct {
	Host unirestorer.MemoryUsage
	Card *unirestorer.MemoryUsage
}

// New makes a fleet. model is the same model as the workers', opened on the CPU without its estimator, for what needs no
// device; it is the fleet's to close. Workers are started with the first picture, or by [Fleet.Start].
func New(model *unirestorer.Restorer, c Config) *Fleet {
	f := &Fleet{c: c, model: model, usage: map[string]usage{}}
	f.start = sync.OnceValues(func() (*cards.Pool, error) {
		var list []cards.Card
		for _, d := range c.Devices {
			list = append(list, cards.Card{Name: d, Start: func(ctx context.Context) (cards.Worker, error) { return c.Start(ctx, d, f.share()) }})
		}
		return cards.New(list, c.Cards)
	})
	return f
}

// share is what a worker may take of the host's memory: an equal part of what is left beside what is set aside, which the
// workers may hold a copy of.
func (f *Fleet) share() int64 {
	if f.c.Memory <= 0 {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(1, (f.c.Memory-2*f.aside)/int64(len(f.c.Devices)))
}

// Start starts the workers and waits until one is ready. It is an error if none can be started.
func (f *Fleet) Start(ctx context.Context) error {
	pool, err := f.start()
	if err != nil {
		return err
	}
	return errorOf(pool.Ready(ctx))
}

// States tells what every device does.
func (f *Fleet) States() []cards.State {
	pool, err := f.start()
	if err != nil {
		return nil
	}
	return pool.States()
}

// Shutdown refuses new calls, waits for those under way until ctx is done and ends them then, and ends the workers.
func (f *Fleet) Shutdown(ctx context.Context) error {
	pool, err := f.start()
	if err == nil {
		err = pool.Close(ctx)
	}
	return errors.Join(err, f.model.Close())
}

// Experts lists the pool.
func (f *Fleet) Experts() []unirestorer.Expert { return f.model.Experts() }

// Check reports the first option that does not fit the model.
func (f *Fleet) Check(opts ...unirestorer.CallOption) error { return f.model.Check(opts...) }

// Model is where the model was opened, ModelDigest identifies it.
func (f *Fleet) Model() string       { return f.model.Model() }
func (f *Fleet) ModelDigest() string { return f.model.ModelDigest() }

// Device names the devices.
func (f *Fleet) Device() string { return strings.Join(f.c.Devices, ", ") }

// Fingerprint names what results depend on beside pictures and options, see [unirestorer.Restorer.Fingerprint].
func (f *Fleet) Fingerprint() (string, error) {
	model, err := f.model.Fingerprint()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%q", model, slices.Sorted(slices.Values(f.c.Devices))))
	return hex.EncodeToString(sum[:12]), nil
}

// SetAside takes bytes off the bound on memory for good, for what the program holds beside the calls it makes. It counts for
// workers that are started later.
func (f *Fleet) SetAside(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.aside += bytes
}

// Memory adds up what workers last said that they hold of the host's memory and of devices'.
func (f *Fleet) Memory() (host unirestorer.MemoryUsage, device *unirestorer.MemoryUsage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	add := func(sum *unirestorer.MemoryUsage, u unirestorer.MemoryUsage) {
		sum.Bound += u.Bound
		sum.Reserved += u.Reserved
		sum.Accounts += u.Accounts
		sum.Peak += u.Peak
		sum.Waiting += u.Waiting
	}
	for _, u := range f.usage {
		add(&host, u.Host)
		if u.Card != nil {
			if device == nil {
				device = &unirestorer.MemoryUsage{}
			}
			add(device, *u.Card)
		}
	}
	host.Bound = f.c.Memory
	return host, device
}

// RestoreJob restores a file, see [unirestorer.Restorer.RestoreJob], and tells on which device.
func (f *Fleet) RestoreJob(ctx context.Context, j unirestorer.Job, opts ...unirestorer.CallOption) (*unirestorer.Result, string, error) {
	said, _, err := f.do(ctx, order{Kind: restoreFile, File: &j}, nil, opts)
	if err != nil {
		if errors.Is(err, cards.ErrBroken) || errors.Is(err, cards.ErrNoCards) {
			err = fmt.Errorf("restore %s: %w", j.In, err) // the worker's own errors name it
		}
		return nil, "", err
	}
	return said.Result, said.Device, nil
}

// RestoreStream restores the image file that in holds and writes the result to out, see
// [unirestorer.Restorer.RestoreStream].
func (f *Fleet) RestoreStream(ctx context.Context, in io.Reader, out io.Writer, opts ...unirestorer.CallOption) (*unirestorer.Result, error) {
	data, err := bytesOf(in)
	if err != nil {
		return nil, err
	}
	said, result, err := f.do(ctx, order{Kind: restoreStream}, data, opts)
	if err != nil {
		return nil, err
	}
	if _, err := out.Write(result); err != nil {
		return nil, fmt.Errorf("restore picture: %w", err)
	}
	return said.Result, nil
}

// RouteStream says which expert the image file that in holds would go to.
func (f *Fleet) RouteStream(ctx context.Context, in io.Reader, opts ...unirestorer.CallOption) (*unirestorer.Route, error) {
	data, err := bytesOf(in)
	if err != nil {
		return nil, err
	}
	said, _, err := f.do(ctx, order{Kind: route}, data, opts)
	if err != nil {
		return nil, err
	}
	return said.Route, nil
}

// Restore restores a picture, see [unirestorer.Restorer.Restore]. A picture with metadata or a colour profile is an error: it
// goes to other processes as a file only.
func (f *Fleet) Restore(ctx context.Context, img image.Image, opts ...unirestorer.CallOption) (*unirestorer.Result, error) {
	p, err := imaging.FromStandard(img)
	if err != nil {
		return nil, err
	}
	if !p.Plain() {
		return nil, errors.New("a picture with metadata or a colour profile is restored on several devices as a file only")
	}
	said, data, err := f.do(ctx, order{Kind: restorePicture, Picture: shapeOf(p)}, samplesOf(p), opts)
	if err != nil {
		return nil, err
	}
	result, err := said.Picture.image(data)
	if err != nil {
		return nil, err
	}
	said.Result.Image = result
	if _, own := img.(*unirestorer.Picture); !own {
		said.Result.Image = result.Standard()
	}
	return said.Result, nil
}

// do has a worker carry out an order.
func (f *Fleet) do(ctx context.Context, o order, data []byte, opts []unirestorer.CallOption) (answer, []byte, error) {
	pool, err := f.start()
	if err != nil {
		return answer{}, nil, err
	}
	expert, named, err := f.model.NamedExpert(opts...)
	if err != nil {
		return answer{}, nil, err
	}
	if o.Options, err = unirestorer.MarshalCall(opts...); err != nil {
		return answer{}, nil, err
	}
	spec, err := json.Marshal(o)
	if err != nil {
		return answer{}, nil, err
	}
	job := cards.Job{Spec: spec, Data: data}
	if named && o.Kind != route {
		job.Key = strconv.Itoa(expert)
	}
	reply, err := pool.Do(ctx, job, unirestorer.ProgressOf(opts...))
	if err != nil {
		return answer{}, nil, errorOf(err)
	}
	var said answer
	if err := json.Unmarshal(reply.Spec, &said); err != nil {
		return said, nil, fmt.Errorf("what a worker says of a picture: %w", err)
	}
	f.mu.Lock()
	f.usage[said.Device] = said.Usage
	f.mu.Unlock()
	return said, reply.Data, nil
}

// bytesOf reads all of in, or takes a buffer's bytes where they lie.
func bytesOf(in io.Reader) ([]byte, error) {
	if b, ok := in.(*bytes.Buffer); ok {
		return b.Bytes(), nil
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return nil, fmt.Errorf("read the picture: %w", err)
	}
	return data, nil
}
