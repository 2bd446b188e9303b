package jobs

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"unirestorer"
)

// maxBytes bounds the file of a picture.
const maxBytes = 1 << 30

// Submission is what somebody wants restored.
type Submission struct {
	// Inputs are files, folders and s3://BUCKET/PREFIX; To is a folder or s3://BUCKET/PREFIX.
	Inputs []string
	To     string
	// Options are those of every picture; Model the digest of the model, Expert the number of the expert if Options name one.
	Options Options
	Model   string
	Expert  *int
	// Follow goes into linked folders.
	Follow bool
	// Say is told what people should read; may be nil.
	Say func(string)
	// Each is told of every job; may be nil.
	Each func(*Record)

	impatient bool
}

// Submitted says what became of a submission.
type Submitted struct {
	Batch string `json:"batch"`
	// New jobs, those that are under way since before, and those whose result is there.
	New   int `json:"new"`
	Known int `json:"known"`
	Done  int `json:"done"`
	// Jobs are the identities, in the order of the pictures.
	Jobs []string `json:"jobs"`
	// Errors are of pictures that could not be submitted.
	Errors []string `json:"errors,omitempty"`
}

// pair is a picture and the place of its result.
type pair struct{ in, out, folder string }

// Submit puts a job in for every picture. Submitting again what is there already only adds where results are wanted.
func (q *Queue) Submit(ctx context.Context, s Submission) (*Submitted, error) {
	ctx, cancel := undated(ctx)
	defer cancel()
	st := &storage{q: q}
	pairs, err := s.pairs(ctx, st)
	if err != nil {
		return nil, err
	}
	token := ""
	if isS3(s.To) {
		if _, _, err := splitS3(s.To); err != nil {
			return nil, err
		}
	} else {
		if token, err = mark(ctx, s.To); err != nil {
			return nil, fmt.Errorf("folder for the results: %w", err)
		}
	}
	res := &Submitted{Batch: time.Now().UTC().Format("20060102-150405-") + strings.ToLower(rand.Text()[:5])}
	for _, p := range pairs {
		if err := ctx.Err(); err != nil {
			return res, err
		}
		r, kind, err := q.persistently(ctx, st, &s, p, Out{To: p.out, Folder: p.folder, Token: token}, res.Batch)
		if err != nil {
			if ctx.Err() != nil {
				return res, ctx.Err()
			}
			text := fmt.Sprintf("submit %s: %v", p.in, err)
			res.Errors = append(res.Errors, text)
			if s.Say != nil {
				s.Say(text)
			}
			continue
		}
		res.Jobs = append(res.Jobs, r.ID)
		switch kind {
		case Queued:
			res.New++
		case Running:
			res.Known++
		case Done:
			res.Done++
		}
		if s.Each != nil {
			s.Each(r)
		}
	}
	return res, nil
}

// patience is for how long a submitter tries on with a picture where the server, or a store, does not answer.
const patience = time.Minute

// persistently is submit1, again and again while servers change.
func (q *Queue) persistently(ctx context.Context, st *storage, s *Submission, p pair, out Out, batch string) (r *Record, kind State, err error) {
	deadline := time.Now().Add(patience)
	for {
		r, kind, err = q.submit1(ctx, st, s, p, out, batch)
		var file *fs.PathError
		if err == nil {
			s.impatient = false
			return r, kind, nil
		}
		if s.impatient || errors.As(err, &file) || refused(err) || ctx.Err() != nil || time.Now().After(deadline) {
			s.impatient = true // the next one need not find out as slowly
			return r, kind, err
		}
		wait(ctx, 500*time.Millisecond)
	}
}

// pairs finds the pictures and where results go; names stay as restore would give them.
func (s *Submission) pairs(ctx context.Context, st *storage) ([]pair, error) {
	var all []pair
	var local []string
	for _, in := range s.Inputs {
		if !isS3(in) {
			local = append(local, in)
			continue
		}
		keys, err := st.listS3(ctx, in)
		if err != nil {
			return nil, err
		}
		bucket, prefix, _ := splitS3(in)
		for _, k := range keys {
			name := strings.TrimPrefix(strings.TrimPrefix(k, prefix), "/")
			if name == "" {
				name = path.Base(k)
			}
			all = append(all, pair{in: s3Scheme + bucket + "/" + k, out: s.renamed(name)})
		}
	}
	if len(local) > 0 {
		opts := []unirestorer.CallOption{unirestorer.WithFormat(s.Options.Format)}
		if s.Follow {
			opts = append(opts, unirestorer.WithLinkedFolders())
		}
		base := s.To
		if isS3(s.To) {
			base = filepath.Join(os.TempDir(), "unirestorer-"+rand.Text())
		}
		found, passed, err := unirestorer.FindJobs(local, base+string(filepath.Separator), opts...)
		if err != nil {
			return nil, err
		}
		for _, p := range passed {
			if s.Say != nil && !p.Other {
				s.Say(fmt.Sprintf("%s: passed over (%s)", p.Path, p.Why))
			}
		}
		for _, j := range found {
			if j.In == unirestorer.Stream {
				return nil, errors.New("standard input cannot be submitted; name files")
			}
			rel, err := filepath.Rel(base, j.Out)
			if err != nil {
				return nil, err
			}
			all = append(all, pair{in: j.In, out: filepath.ToSlash(rel)})
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no images found")
	}
	return all, s.place(all)
}

// renamed is the name of the result of an object.
func (s *Submission) renamed(name string) string {
	if s.Options.Format == "" {
		return name
	}
	return strings.TrimSuffix(name, path.Ext(name)) + "." + strings.TrimPrefix(s.Options.Format, ".")
}

// place makes places of names, and refuses two results of one.
func (s *Submission) place(all []pair) error {
	seen := map[string]string{}
	folder := ""
	if !isS3(s.To) {
		var err error
		if folder, err = filepath.Abs(s.To); err != nil {
			return err
		}
	}
	for i, p := range all {
		if !filepath.IsLocal(filepath.FromSlash(p.out)) {
			return fmt.Errorf("%s: its name leads out of the place for results", p.in)
		}
		if folder != "" {
			all[i].out, all[i].folder = filepath.Join(folder, filepath.FromSlash(p.out)), folder
		} else {
			all[i].out = strings.TrimSuffix(s.To, "/") + "/" + p.out
		}
		if other, ok := seen[all[i].out]; ok {
			return fmt.Errorf("%s and %s would both be written to %s", other, p.in, all[i].out)
		}
		if p.in == all[i].out {
			return fmt.Errorf("%s: the result would replace it", p.in)
		}
		seen[all[i].out] = p.in
	}
	return nil
}

// submit1 puts one picture in. The kind is Queued for a new job, Running for one that was known and Done.
func (q *Queue) submit1(ctx context.Context, st *storage, s *Submission, p pair, out Out, batch string) (*Record, State, error) {
	data, err := st.read(ctx, p.in, maxBytes)
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(data)
	o := s.Options
	if o.Format == "" {
		o.Format = strings.TrimPrefix(strings.ToLower(path.Ext(filepath.ToSlash(p.out))), ".")
	}
	model := modelKey(s.Model)
	id, err := identity(sum, o, s.Model)
	if err != nil {
		return nil, "", err
	}
	input := p.in
	if !isS3(input) {
		name := "picture-" + hex.EncodeToString(sum[:])
		if isS3(s.To) {
			input = strings.TrimSuffix(s.To, "/") + "/.inputs/" + name
			err = st.putS3(ctx, input, data)
		} else {
			input = objectScheme + name
			err = st.putObject(ctx, name, data)
		}
		if err != nil {
			return nil, "", fmt.Errorf("keep the picture: %w", err)
		}
	}
	kind := Queued
	r, err := q.change(ctx, id, func(r *Record) (*Record, error) {
		if r == nil {
			kind = Queued
			now := time.Now().UTC()
			return &Record{ID: id, Name: p.in, State: Queued, Model: model, Options: o, Input: input, Outs: []Out{out}, Batch: batch, Expert: s.Expert, Submitted: now}, nil
		}
		r.Batch, r.Input = batch, input
		i := slices.IndexFunc(r.Outs, func(x Out) bool { return x.To == out.To })
		if i < 0 {
			r.Outs = append(r.Outs, out)
		} else {
			r.Outs[i].Token, r.Outs[i].Folder = out.Token, out.Folder
			if r.Outs[i].Done {
				_, err := st.stored(ctx, &r.Outs[i], maxBytes)
				r.Outs[i].Done = err == nil
			}
		}
		open := slices.ContainsFunc(r.Outs, func(x Out) bool { return !x.Done })
		switch {
		case !open:
			kind = Done
		case r.State.final():
			kind = Queued
			r.again()
		default:
			kind = Running
		}
		return r, nil
	})
	if err != nil || kind == Done {
		return r, kind, err
	}
	if kind == Running {
		there, err := q.pending(ctx, r)
		if err != nil || there {
			return r, kind, err
		}
		// Its submitter died between record and message, or the message grew too old.
		if r, err = q.change(ctx, id, renew); err != nil {
			return r, kind, err
		}
	}
	return r, kind, q.enqueue(ctx, r)
}

// again makes a job of a new generation of a record.
func (r *Record) again() {
	r.State, r.Tries, r.Deferred, r.Error, r.Worker = Queued, 0, 0, "", ""
	r.Generation++
}

// renew gives a job that is not final a new generation.
func renew(r *Record) (*Record, error) {
	if r == nil || r.State.final() {
		return nil, errUnchanged
	}
	r.State, r.Deferred = Queued, 0
	r.Generation++
	return r, nil
}
