package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// State is how far a job is.
type State string

// The states. Done, Failed and Cancelled are final.
const (
	Queued    State = "queued"
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// final reports whether nothing will happen any more.
func (s State) final() bool { return s == Done || s == Failed || s == Cancelled }

// Record is what is known of a job.
type Record struct {
	ID    string `json:"id"`
	Name  string `json:"name"` // of the picture where it was first submitted
	State State  `json:"state"`
	// Model is the digest that messages and workers go by; Options those of the picture.
	Model   string  `json:"model"`
	Options Options `json:"options"`
	// Input is where the picture lies: object:NAME or s3://BUCKET/KEY.
	Input string `json:"input"`
	// Outs are where results go.
	Outs []Out `json:"outs"`
	// Batch is the submission that the job came with last.
	Batch string `json:"batch"`
	// Expert is the one that was named, or that the routing stage found.
	Expert *int `json:"expert,omitempty"`
	Routed bool `json:"routed,omitempty"`
	// Generation counts how often the job was put in. Tries counts those that have begun in its stage; what was no try of its
	// picture in the end is Deferred instead.
	Generation int `json:"generation"`
	Tries      int `json:"tries,omitempty"`
	Deferred   int `json:"deferred,omitempty"`
	// Error says what went wrong last, also where that is being tried again.
	Error     string    `json:"error,omitempty"`
	Worker    string    `json:"worker,omitempty"`
	Submitted time.Time `json:"submitted"`
	Updated   time.Time `json:"updated"`
}

// Out is a place of a result.
type Out struct {
	// To is a file's absolute path or s3://BUCKET/KEY.
	To string `json:"to"`
	// Token is in a file of the folder of To, by which workers know that they see the same folder.
	Token  string `json:"token,omitempty"`
	Folder string `json:"folder,omitempty"`
	// Done says that the result is stored: in To, or as Object where the worker does not see the folder.
	Done   bool   `json:"done,omitempty"`
	Object string `json:"object,omitempty"`
	Sum    string `json:"sum,omitempty"` // SHA-256 of the result
}

// Options are those of a picture, as restore has them. The zero value is what restore does without options.
type Options struct {
	Format       string   `json:"format,omitempty"`
	Quality      int      `json:"quality,omitempty"`
	Chroma       string   `json:"chroma,omitempty"`
	Page         string   `json:"page,omitempty"`
	Strict       bool     `json:"strict,omitempty"`
	MaxPixels    int64    `json:"max_pixels,omitempty"`
	Strength     *float64 `json:"strength,omitempty"`
	NoGuard      bool     `json:"no_guard,omitempty"`
	Level        string   `json:"level,omitempty"`
	Degradations []string `json:"degradations,omitempty"`
	Expert       string   `json:"expert,omitempty"`
}

// identity is the identity of a job: content, options and model.
func identity(content [sha256.Size]byte, o Options, model string) (string, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%x\n%s\n%s\n", content, text, model)
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// modelKey shortens a model's digest to what subjects and consumers are named by.
func modelKey(digest string) string {
	sum := sha256.Sum256([]byte(digest))
	return hex.EncodeToString(sum[:6])
}

// record reads a record; nil if there is none. What is no record counts as none, and may be replaced at its revision.
func (q *Queue) record(ctx context.Context, id string) (*Record, uint64, error) {
	e, err := q.kv.Get(ctx, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("record of job %s: %w", id, err)
	}
	return parse(e), e.Revision(), nil
}

// persistence is for how long a change of a record is tried: a cluster may have to find a new leader.
const persistence = 15 * time.Second

// errUnchanged leaves a record as it is.
var errUnchanged = errors.New("unchanged")

// change changes a record, or makes it where change is given nil: change runs again where somebody else was faster, and may
// return errUnchanged.
func (q *Queue) change(ctx context.Context, id string, change func(*Record) (*Record, error)) (*Record, error) {
	began := time.Now()
	for try := 0; ; try++ {
		r, revision, err := q.record(ctx, id)
		if err != nil {
			if ctx.Err() != nil || time.Since(began) > persistence {
				return nil, err
			}
			wait(ctx, 250*time.Millisecond)
			continue
		}
		before := r
		if r != nil {
			c := *r
			c.Outs = slices.Clone(r.Outs)
			r = &c
		}
		if r, err = change(r); errors.Is(err, errUnchanged) {
			return before, nil
		} else if err != nil {
			return nil, err
		}
		r.Updated = time.Now().UTC()
		text, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		if revision == 0 {
			_, err = q.kv.Create(ctx, id, text)
		} else {
			_, err = q.kv.Update(ctx, id, text, revision)
		}
		if err == nil {
			return r, nil
		}
		if ctx.Err() != nil || time.Since(began) > persistence {
			return nil, fmt.Errorf("record of job %s: %w", id, err)
		}
		wait(ctx, time.Duration(min(try+1, 10))*25*time.Millisecond)
	}
}

// All gives every record, or those of a batch, oldest first.
func (q *Queue) All(ctx context.Context, batch string) (all []*Record, err error) {
	ctx, cancel := undated(ctx)
	defer cancel()
	for try := range 3 {
		if try > 0 {
			wait(ctx, time.Second)
		}
		if all, err = q.snapshot(ctx, batch); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the records: %w", err)
	}
	slices.SortStableFunc(all, func(a, b *Record) int { return a.Submitted.Compare(b.Submitted) })
	return all, nil
}

// silence is how long a server may say nothing in the middle of an answer.
const silence = 10 * time.Second

// snapshot reads the records as they are. A server that dies in the middle never ends its answer, so silence does.
func (q *Queue) snapshot(ctx context.Context, batch string) (all []*Record, err error) {
	w, err := q.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(silence):
			return nil, errors.New("the server fell silent")
		case e, open := <-w.Updates():
			switch {
			case !open:
				return nil, errors.New("the server ended its answer")
			case e == nil:
				return all, nil
			}
			if r := parse(e); r != nil && (batch == "" || r.Batch == batch) {
				all = append(all, r)
			}
		}
	}
}

// parse reads an entry of the bucket; nil where it is no record of a job.
func parse(e jetstream.KeyValueEntry) *Record {
	return parseRecord(e.Key(), e.Value())
}

func parseRecord(key string, value []byte) *Record {
	r := &Record{}
	if !isIdentity(key) || json.Unmarshal(value, r) != nil || r.ID != key {
		return nil
	}
	return r
}

// isIdentity tells whether a word has the form of identity's.
func isIdentity(id string) bool {
	_, err := hex.DecodeString(id)
	return err == nil && len(id) == 32
}
