package profile

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"unirestorer/runtime/report"
)

// LoadOptions say how pictures arrive.
type LoadOptions struct {
	// Clients is how many pictures are worked on at a time.
	Clients int
	// Rate is how many pictures arrive a second on average, at random (a Poisson
	// process), whether or not a client is free.
	Rate float64
	// Duration is how long pictures arrive.
	Duration time.Duration
	// Seed sets the moments of arrival.
	Seed uint64
}

// maxArrivals bounds the pictures of a load.
const maxArrivals = 1 << 20

func (o LoadOptions) check() error {
	switch {
	case o.Clients < 1 || o.Clients > 1<<12:
		return fmt.Errorf("%d clients: want 1 to %d", o.Clients, 1<<12)
	case !(o.Rate > 0) || !(o.Duration > 0):
		return fmt.Errorf("%g pictures a second for %v: want more than none", o.Rate, o.Duration)
	case o.Rate*o.Duration.Seconds() > maxArrivals:
		return fmt.Errorf("%g pictures a second for %v: at most %d pictures", o.Rate, o.Duration, maxArrivals)
	}
	return nil
}

// Load is how long pictures took that arrived at a given rate. Times are in
// seconds.
type Load struct {
	Clients int     `json:"clients"`
	Rate    float64 `json:"rate"`
	// Seconds is the time from the first arrival that was possible to the last
	// picture done.
	Seconds float64 `json:"seconds"`
	Arrived int     `json:"arrived"`
	Failed  int     `json:"failed"`
	// Failure is the first error.
	Failure string `json:"failure,omitempty"`
	// Throughput is pictures done a second.
	Throughput float64 `json:"throughput"`
	// Latency counts from a picture's arrival, Waiting is the part of it before a
	// client was free: a slow picture is not forgiven those that it kept waiting.
	Latency Latency `json:"latency"`
	Waiting Latency `json:"waiting"`
	// Stages are the steps of pictures, in order.
	Stages []StageTimes `json:"stages"`
	// Contention says what disturbed the times; nil where nothing did.
	Contention *Contention `json:"contention,omitempty"`
	// Pictures are all that arrived, in order.
	Pictures []Arrival `json:"pictures"`

	spans []span
}

// StageTimes are the times of one step.
type StageTimes struct {
	Name string `json:"name"`
	Latency
}

// Arrival is one picture of a load; times are seconds from its begin.
type Arrival struct {
	Arrived float64 `json:"arrived"`
	Begun   float64 `json:"begun"`
	Done    float64 `json:"done"`
	Client  int     `json:"client"`
	Error   string  `json:"error,omitempty"`
}

// span is a step of a picture.
type span struct {
	name       string
	picture    int
	begin, end time.Duration
	about      map[string]any
}

// OpenLoop has clients work on pictures that arrive at a rate, in the order of
// arrival; do works on picture i. Steps that package stage is told of become
// stages. threads is the number of threads that compute, for contention.
func OpenLoop(ctx context.Context, o LoadOptions, threads int, do func(ctx context.Context, i int) error) (*Load, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	var arrivals []time.Duration
	rng := rand.New(rand.NewPCG(o.Seed, 28))
	for at := 0.0; ; {
		at += rng.ExpFloat64() / o.Rate
		if at >= o.Duration.Seconds() {
			break
		}
		arrivals = append(arrivals, time.Duration(at*float64(time.Second)))
	}
	if len(arrivals) == 0 {
		return nil, errors.New("no picture arrived in that time: let it last longer")
	}
	l := &Load{Clients: o.Clients, Rate: o.Rate, Arrived: len(arrivals), Pictures: make([]Arrival, len(arrivals))}
	start := time.Now()
	watcher := &spanKeeper{start: start, pictures: map[trace.TraceID]int{}}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(watcher), sdktrace.WithSampler(sdktrace.AlwaysSample()))
	disturbed := watch(threads)
	var mu sync.Mutex
	next := 0
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1, next <= len(arrivals)
	}
	var clients sync.WaitGroup
	for client := range o.Clients {
		clients.Go(func() {
			for {
				i, more := take()
				if !more {
					return
				}
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Until(start.Add(arrivals[i]))):
				}
				within, root := provider.Tracer("unirestorer").Start(ctx, "picture")
				watcher.belongs(root.SpanContext().TraceID(), i)
				begun := time.Since(start)
				err := do(within, i)
				done := time.Since(start)
				root.End()
				p := Arrival{Arrived: arrivals[i].Seconds(), Begun: begun.Seconds(), Done: done.Seconds(), Client: client}
				if err != nil {
					p.Error = err.Error()
				}
				l.Pictures[i] = p
			}
		})
	}
	clients.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.Contention = disturbed()
	l.spans = watcher.spans
	return l, l.sum()
}

// sum computes what pictures and steps come to.
func (l *Load) sum() error {
	var latency, waiting []float64
	for _, p := range l.Pictures {
		l.Seconds = max(l.Seconds, p.Done)
		if p.Error != "" {
			l.Failed++
			if l.Failure == "" {
				l.Failure = p.Error
			}
			continue
		}
		latency, waiting = append(latency, p.Done-p.Arrived), append(waiting, p.Begun-p.Arrived)
	}
	if len(latency) == 0 {
		return fmt.Errorf("no picture was done; the first: %s", l.Failure)
	}
	l.Throughput = float64(len(latency)) / l.Seconds
	var err error
	if l.Latency, err = Summarise(latency); err != nil {
		return err
	}
	if l.Waiting, err = Summarise(waiting); err != nil {
		return err
	}
	// Steps in the order in which the first picture went through them.
	times := map[string][]float64{}
	var order []string
	for _, s := range l.spans {
		if s.name == "picture" {
			continue
		}
		if times[s.name] == nil {
			order = append(order, s.name)
		}
		times[s.name] = append(times[s.name], (s.end - s.begin).Seconds())
	}
	for _, name := range order {
		t, err := Summarise(times[name])
		if err != nil {
			return err
		}
		l.Stages = append(l.Stages, StageTimes{name, t})
	}
	return nil
}

// spanKeeper keeps the spans of pictures.
type spanKeeper struct {
	start    time.Time
	mu       sync.Mutex
	pictures map[trace.TraceID]int
	spans    []span
}

func (k *spanKeeper) belongs(id trace.TraceID, picture int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pictures[id] = picture
}

// OnStart implements sdktrace.SpanProcessor.
func (k *spanKeeper) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements sdktrace.SpanProcessor.
func (k *spanKeeper) OnEnd(s sdktrace.ReadOnlySpan) {
	k.mu.Lock()
	defer k.mu.Unlock()
	about := map[string]any{}
	for _, a := range s.Attributes() {
		about[string(a.Key)] = a.Value.AsInterface()
	}
	k.spans = append(k.spans, span{
		name: s.Name(), picture: k.pictures[s.SpanContext().TraceID()], about: about,
		begin: s.StartTime().Sub(k.start), end: s.EndTime().Sub(k.start),
	})
}

// Shutdown implements sdktrace.SpanProcessor.
func (k *spanKeeper) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor.
func (k *spanKeeper) ForceFlush(context.Context) error { return nil }

// Table shows the load.
func (l *Load) Table() *report.Table {
	t := &report.Table{
		Caption: fmt.Sprintf("%d pictures arrived at %s a second for %d clients; done were %s a second",
			l.Arrived, report.Digits(l.Rate), l.Clients, report.Digits(l.Throughput)),
		Columns: []report.Column{text("time"), number("pictures", ""), number("mean", "ms"), number("p50", "ms"), number("p90", "ms"), number("p99", "ms"), number("longest", "ms")},
	}
	row := func(name string, s Latency) {
		t.Add(name, strconv.Itoa(s.Runs), milliseconds(s.Mean), milliseconds(s.P50), milliseconds(s.P90), milliseconds(s.P99), milliseconds(s.Max))
	}
	row("from arrival to done", l.Latency)
	row("waiting for a client", l.Waiting)
	for _, s := range l.Stages {
		row(s.Name, s.Latency)
	}
	t.Notes = []string{"Pictures arrive at random moments whether or not a client is free, and time counts from then. \"turn\" is waiting for the device."}
	if l.Failed > 0 {
		t.Notes = append(t.Notes, fmt.Sprintf("! %d pictures failed; the first: %s.", l.Failed, l.Failure))
	}
	if last := l.Pictures[len(l.Pictures)-1]; last.Begun-last.Arrived > max(4*l.Latency.Min, 0.2*last.Arrived) {
		t.Notes = append(t.Notes, "! More arrives than is done: the longer this lasts, the longer pictures wait. The latencies are those of this duration only.")
	}
	if l.Contention != nil {
		t.Notes = append(t.Notes, "! The machine was busy with something else ("+l.Contention.String()+").")
	}
	return t
}

// events are the load as a trace: a thread for each client with its pictures and
// their steps, and pictures that wait for a client.
func (l *Load) events() []traceEvent {
	const clients, waiting = 1, 2
	var all []traceEvent
	name := func(what string, process, thread int, value string) {
		all = append(all, traceEvent{Name: what, Phase: "M", Process: process, Thread: thread, Args: map[string]any{"name": value}})
	}
	name("process_name", clients, 0, "clients")
	name("process_name", waiting, 0, "waiting for a client")
	for c := range l.Clients {
		name("thread_name", clients, c+1, "client "+strconv.Itoa(c+1))
	}
	for _, s := range slices.SortedStableFunc(slices.Values(l.spans), func(a, b span) int { return int(a.begin - b.begin) }) {
		p := l.Pictures[s.picture]
		title := s.name
		if title == "picture" {
			title += " " + strconv.Itoa(s.picture)
		}
		s.about["picture"] = s.picture
		all = append(all, traceEvent{
			Name: title, Category: "picture", Phase: "X", Time: s.begin.Seconds() * 1e6, Duration: (s.end - s.begin).Seconds() * 1e6,
			Process: clients, Thread: p.Client + 1, Args: s.about,
		})
	}
	// Waiting pictures overlap: each takes the lowest line that is free.
	var free []float64
	for i, p := range l.Pictures {
		line := slices.IndexFunc(free, func(until float64) bool { return until <= p.Arrived })
		if line < 0 {
			free = append(free, 0)
			line = len(free) - 1
		}
		free[line] = p.Begun
		all = append(all, traceEvent{
			Name: "picture " + strconv.Itoa(i), Category: "waiting", Phase: "X", Time: p.Arrived * 1e6, Duration: (p.Begun - p.Arrived) * 1e6,
			Process: waiting, Thread: line + 1, Args: map[string]any{"picture": i},
		})
	}
	return all
}
