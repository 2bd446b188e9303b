// Package jobs restores pictures on any number of machines, over NATS JetStream: submitters put a message a picture, workers
// route it and restore it with the expert that it needs, and what became of it is kept where everybody can look.
//
// A job is a picture's content, the options and the model: its identity is their digest. Whoever submits it again finds it.
// Results are stored under their names before messages are acknowledged, and storing twice is storing the same, so a worker,
// a server or a submitter may die at any moment: what was not acknowledged comes again.
package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Names of what lies on the server.
const (
	streamName = "UNIRESTORER"          // messages of pictures to route and to restore
	deadName   = "UNIRESTORER_DEAD"     // what could not be restored, with the reason
	recordName = "UNIRESTORER_JOBS"     // key-value bucket: a record a job
	objectName = "UNIRESTORER_PICTURES" // object store: pictures that lie nowhere else
	root       = "unirestorer"          // of subjects: root.MODEL.STAGE.ID, STAGE being route or e and an expert's number
	deadRoot   = "unirestorer-dead"     // deadRoot.MODEL.ID
	routeStage = "route"
)

// DefaultURL is where a server is looked for, and where the one inside the program answers.
const DefaultURL = "nats://127.0.0.1:4222"

// ErrNoServer is wrapped by errors of an address at which no server answers.
var ErrNoServer = errors.New("no NATS server answers")

// Limits bound how long things wait. They are those of whoever creates the streams first.
type Limits struct {
	// AckWait is how long a message may be without a sign of life of its worker.
	AckWait time.Duration
	// Duplicates is how long the server remembers a message's identity.
	Duplicates time.Duration
	// MaxAge is how long a message, a picture or a record is kept; work that is not done by then is put in again.
	MaxAge time.Duration
	// KeepFor is how long records and pictures stay.
	KeepFor time.Duration
	// Replicas of everything; 0 is 3 in a cluster and 1 elsewhere.
	Replicas int
}

// defaults fills in what was left 0.
func (l Limits) defaults() Limits {
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&l.AckWait, time.Minute)
	set(&l.Duplicates, 2*time.Minute)
	set(&l.MaxAge, 7*24*time.Hour)
	set(&l.KeepFor, 30*24*time.Hour)
	l.Duplicates = min(l.Duplicates, l.MaxAge)
	return l
}

// Queue is a connection to the server.
type Queue struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
	kv     jetstream.KeyValue
	obj    jetstream.ObjectStore
	limits Limits
}

// Access is how to reach a server.
type Access struct {
	// URL of one server or of several, with commas between; empty is DefaultURL.
	URL string
	// Creds is a file of credentials; empty for none.
	Creds string
	// Name is what the server calls the connection.
	Name string
	// Patience is how long the first connection may take.
	Patience time.Duration
}

// Connect connects to a server and makes streams and buckets there, unless they are there.
func Connect(ctx context.Context, a Access, l Limits) (*Queue, error) {
	if a.URL == "" {
		a.URL = DefaultURL
	}
	opts := []nats.Option{nats.Name(a.Name), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond), nats.Timeout(3 * time.Second)}
	if a.Creds != "" {
		if _, err := os.Stat(a.Creds); err != nil {
			return nil, err
		}
		opts = append(opts, nats.UserCredentials(a.Creds))
	}
	deadline := time.Now().Add(a.Patience)
	var nc *nats.Conn
	var err error
	for {
		if nc, err = nats.Connect(a.URL, opts...); err == nil {
			break
		}
		if time.Now().After(deadline) || errors.Is(err, nats.ErrAuthorization) || ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w: %w", a.URL, ErrNoServer, err)
		}
		wait(ctx, 200*time.Millisecond)
	}
	q := &Queue{nc: nc, limits: l.defaults()}
	if q.js, err = jetstream.New(nc); err == nil {
		err = q.setUp(ctx, max(a.Patience, 5*time.Second))
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("%s: %w", a.URL, err)
	}
	return q, nil
}

// Close ends the connection.
func (q *Queue) Close() { q.nc.Close() }

// undated ends with ctx but names no deadline: where a context has one, the client waits until then for an answer that died
// with a server; where it has none, for seconds.
func undated(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	return out, func() { stop(); cancel(nil) }
}

// wait sleeps, or until ctx is done.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// setUp makes what is not there, trying for a while: a cluster may still be choosing its leaders.
func (q *Queue) setUp(ctx context.Context, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for {
		err := q.create(ctx)
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		wait(ctx, 250*time.Millisecond)
	}
}

func (q *Queue) create(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	l := q.limits
	replicas := l.Replicas
	if replicas == 0 {
		replicas = 1
		if q.nc.ConnectedClusterName() != "" {
			replicas = 3
		}
	}
	q.stream, err = q.stream1(ctx, jetstream.StreamConfig{
		Name: streamName, Subjects: []string{root + ".>"}, Retention: jetstream.WorkQueuePolicy, MaxAge: l.MaxAge,
		Duplicates: l.Duplicates, Replicas: replicas,
		Description: "pictures to route (unirestorer.MODEL.route.ID) and to restore (unirestorer.MODEL.eN.ID)",
	})
	if err != nil {
		return err
	}
	if _, err = q.stream1(ctx, jetstream.StreamConfig{
		Name: deadName, Subjects: []string{deadRoot + ".>"}, MaxAge: l.KeepFor, Replicas: replicas, Duplicates: min(l.Duplicates, l.KeepFor),
		Description: "pictures that could not be restored, with the reason",
	}); err != nil {
		return err
	}
	if q.kv, err = q.js.KeyValue(ctx, recordName); errors.Is(err, jetstream.ErrBucketNotFound) {
		q.kv, err = q.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: recordName, TTL: l.KeepFor, Replicas: replicas})
	}
	if err != nil {
		return fmt.Errorf("bucket %s: %w", recordName, err)
	}
	if q.obj, err = q.js.ObjectStore(ctx, objectName); errors.Is(err, jetstream.ErrBucketNotFound) {
		q.obj, err = q.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: objectName, TTL: l.KeepFor, Replicas: replicas})
	}
	if err != nil {
		return fmt.Errorf("object store %s: %w", objectName, err)
	}
	return nil
}

// stream1 finds a stream or makes it.
func (q *Queue) stream1(ctx context.Context, c jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := q.js.Stream(ctx, c.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = q.js.CreateStream(ctx, c)
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", c.Name, err)
	}
	return s, nil
}

// The answer to a request is lost where the server dies meanwhile: consumerTry bounds the wait for it, consumerTries how often
// it is asked for.
const (
	consumerTry   = 5 * time.Second
	consumerTries = 12
)

// consumer is the durable consumer of a stage of a model's work, shared by all workers.
func (q *Queue) consumer(ctx context.Context, model, stage string) (c jetstream.Consumer, err error) {
	for range consumerTries {
		if c, err = q.tryConsumer(ctx, model, stage); err == nil {
			return c, nil
		}
		unanswered := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders)
		if ctx.Err() != nil || !unanswered {
			break
		}
	}
	return nil, fmt.Errorf("consumer %s-%s: %w", model, stage, err)
}

func (q *Queue) tryConsumer(ctx context.Context, model, stage string) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, consumerTry)
	defer cancel()
	return q.stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: model + "-" + stage, FilterSubject: subject(model, stage, "*"), AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: q.limits.AckWait, MaxDeliver: -1, MaxAckPending: 10_000,
	})
}

func subject(model, stage, id string) string {
	return strings.Join([]string{root, model, stage, id}, ".")
}

// expertStage is the stage of pictures for an expert.
func expertStage(expert int) string { return fmt.Sprintf("e%d", expert) }

// message is what is sent of a job; all else is in its record.
type message struct {
	ID    string          `json:"id"`
	Route json.RawMessage `json:"route,omitempty"` // from the routing stage
}

// parseMessage reads a message; ok only if it is of the job that its subject names.
func parseMessage(subject string, data []byte) (m message, ok bool) {
	return m, json.Unmarshal(data, &m) == nil && isIdentity(m.ID) && strings.HasSuffix(subject, "."+m.ID)
}

// publish puts a message of a job in, once a generation and stage as long as the server remembers.
func (q *Queue) publish(ctx context.Context, r *Record, stage string, m message) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = q.js.Publish(ctx, subject(r.Model, stage, r.ID), data, jetstream.WithMsgID(fmt.Sprintf("%s.%d.%s", r.ID, r.Generation, stage)),
		jetstream.WithRetryAttempts(20), jetstream.WithRetryWait(250*time.Millisecond))
	return err
}

// pending tells whether a message of a job is in the stream, in whatever stage.
func (q *Queue) pending(ctx context.Context, r *Record) (bool, error) {
	_, err := q.stream.GetLastMsgForSubject(ctx, subject(r.Model, "*", r.ID))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	return err == nil, err
}

// enqueue puts a job in at its first stage.
func (q *Queue) enqueue(ctx context.Context, r *Record) error {
	stage := routeStage
	if r.Expert != nil {
		stage = expertStage(*r.Expert)
	}
	return q.publish(ctx, r, stage, message{ID: r.ID})
}
