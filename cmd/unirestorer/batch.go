package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"unirestorer"
	"unirestorer/runtime/folders"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/report"
)

// batch restores jobs. A job that fails does not stop the others; its error is
// repeated at the end.
type batch struct {
	c        *cli.Context
	r        *unirestorer.Restorer
	opts     []unirestorer.CallOption
	jobs     []unirestorer.Job
	passed   []unirestorer.PassedOver
	settings string // a digest of what results depend on
	left     folders.Leftovers

	mu       sync.Mutex
	journals map[string]*folders.Journal
	results  []*restored // by job; nil: not tried
	errs     []error     // by job
	full     error       // why no further result can be written
	told     time.Time   // that pictures wait
}

func newBatch(c *cli.Context, opts []unirestorer.CallOption, jobs []unirestorer.Job, passed []unirestorer.PassedOver, digest string) *batch {
	b := &batch{c: c, opts: opts, jobs: jobs, passed: passed, settings: settingsOf(c, digest), journals: map[string]*folders.Journal{},
		results: make([]*restored, len(jobs)), errs: make([]error, len(jobs))}
	var outs []string
	for _, j := range jobs {
		if j.Folder != "" {
			outs = append(outs, j.Out)
			if b.journals[j.Folder] == nil {
				b.journals[j.Folder] = folders.OpenJournal(j.Folder)
			}
		}
	}
	b.left = folders.FindLeftovers(outs)
	return b
}

// notInResults are options on which no pixel of a result depends; nor does it on the sound beside a clip's.
var notInResults = []string{"output", "model", "device", "threads", "memory", "device-memory", "device-wait", "fallback", "json", "quiet", "isolate",
	"watchdog", "restart", "overwrite", "compare", "second", "follow", "keep-times", "max-pixels", "strict", "audio-codec"}

// settingsOf is a digest of the model and of the options that results depend on.
func settingsOf(c *cli.Context, model string) string {
	h := sha256.New()
	fmt.Fprintln(h, model)
	for _, f := range c.Command.Flags {
		if name := f.Names()[0]; c.IsSet(name) && !slices.Contains(notInResults, name) {
			fmt.Fprintf(h, "%s=%v\n", name, c.Value(name))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// run restores the jobs one after the other.
func (b *batch) run(ctx context.Context) error {
	b.sayPassed()
	b.all(ctx, func(i int) bool { return b.attempt(ctx, i, b.one) })
	return b.finish(ctx)
}

// all has every job attempted, and those again, after the others, that another run was at work on.
func (b *batch) all(ctx context.Context, attempt func(i int) (claimed bool)) {
	var again []int
	for i := range b.jobs {
		if ctx.Err() != nil || b.stopped() != nil {
			return
		}
		if attempt(i) {
			again = append(again, i)
		}
	}
	b.settle(ctx, again, attempt)
}

// settle waits for other runs to finish what they are at work on, or to end.
func (b *batch) settle(ctx context.Context, again []int, attempt func(i int) (claimed bool)) {
	for len(again) > 0 && ctx.Err() == nil && b.stopped() == nil {
		var still []int
		for _, i := range again {
			if ctx.Err() == nil && b.stopped() == nil && attempt(i) {
				still = append(still, i)
			}
		}
		if again = still; len(again) > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
}

func (b *batch) stopped() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.full
}

// restoring restores the job i and returns what to say of it.
type restoring func(ctx context.Context, i int, j unirestorer.Job) (*unirestorer.Result, string, error)

// attempt does a job unless its result is there already, or another run is at work on it.
func (b *batch) attempt(ctx context.Context, i int, do restoring) (claimed bool) {
	j := b.jobs[i]
	res := &restored{In: j.In, Out: j.Out}
	if b.current(j) { // without a claim, which a folder that is only read does not take
		res.Skipped = true
		b.note(ctx, i, res, nil)
		return false
	}
	if j.Folder != "" {
		claim, err := folders.TakeClaim(j.Out)
		switch {
		case errors.Is(err, folders.ErrClaimed):
			return true
		case err != nil:
			b.note(ctx, i, res, fmt.Errorf("restore %s: %w", j.In, err))
			return false
		}
		defer claim.Release()
		b.left.Clean(j.Out)
	}
	skip, err := b.skip(j)
	if skip {
		res.Skipped = true
	}
	if skip || err != nil {
		b.note(ctx, i, res, err)
		return false
	}
	result, line, err := do(ctx, i, j)
	if err == nil {
		res.Report = &result.Report
		b.say("%s", line)
		err = b.record(j)
	}
	b.note(ctx, i, res, err)
	return false
}

// note keeps what became of a job.
func (b *batch) note(ctx context.Context, i int, res *restored, err error) {
	if err != nil && ctx.Err() != nil {
		return // interrupted: nothing became of it
	}
	if err != nil {
		res.Error = err.Error()
		if len(b.jobs) > 1 {
			b.say("%v", err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.results[i], b.errs[i] = res, err
	if folders.NoRoom(err) && b.full == nil {
		b.full = err
	}
}

// record keeps account of a result, and its time if asked to.
func (b *batch) record(j unirestorer.Job) error {
	if j.Out == unirestorer.Stream {
		return nil
	}
	if b.c.Bool("keep-times") && j.In != unirestorer.Stream {
		info, err := os.Stat(j.In)
		if err == nil {
			err = os.Chtimes(j.Out, time.Time{}, info.ModTime())
		}
		if err != nil {
			return fmt.Errorf("restore %s: time of the result: %w", j.In, err)
		}
	}
	if j.Folder == "" {
		return nil
	}
	compare := ""
	if b.c.Bool("compare") {
		compare = unirestorer.ComparePath(j.Out)
	}
	if err := b.journals[j.Folder].Add(j.Out, j.In, b.settings, compare); err != nil {
		return fmt.Errorf("restore %s: keep account of the result: %w", j.In, err)
	}
	return nil
}

// current tells whether a folder's picture has the very result that would be made.
func (b *batch) current(j unirestorer.Job) bool {
	if !j.FromFolder || b.c.Bool("overwrite") || len(b.left[j.Out]) > 0 {
		return false
	}
	state, err := b.journals[j.Folder].State(j.Out, j.In, b.settings)
	if err != nil || state != folders.Current {
		return false
	}
	b.say("%s: %s exists, skipped (--overwrite restores it again)", j.In, j.Out)
	return true
}

// skip tells whether a folder's picture has its result already, and why one that is there is not it.
func (b *batch) skip(j unirestorer.Job) (bool, error) {
	if !j.FromFolder || b.c.Bool("overwrite") {
		return false, nil
	}
	state, err := b.journals[j.Folder].State(j.Out, j.In, b.settings)
	if err != nil {
		return false, fmt.Errorf("restore %s: in the place of the result: %w", j.In, err)
	}
	switch state {
	case folders.Missing:
		return false, nil
	case folders.Outdated:
		b.say("%s: has changed since %s was made, restored again", j.In, j.Out)
		return false, nil
	case folders.Differs:
		b.say("%s: %s was made with another model or other options, restored again", j.In, j.Out)
		return false, nil
	case folders.Unknown:
		if err := imaging.CheckWhole(j.Out); err != nil && !errors.Is(err, fs.ErrPermission) {
			b.say("%s: %s is no whole picture, restored again", j.In, j.Out)
			return false, nil
		}
	}
	b.say("%s: %s exists, skipped (--overwrite restores it again)", j.In, j.Out)
	return true, nil
}

// sayPassed names what was passed over in folders, a few of each kind.
func (b *batch) sayPassed() {
	var reasons []string
	by := map[string][]unirestorer.PassedOver{}
	for _, p := range b.passed {
		if by[p.Why] == nil {
			reasons = append(reasons, p.Why)
		}
		by[p.Why] = append(by[p.Why], p)
	}
	const named = 5
	for _, why := range reasons {
		list := by[why]
		if list[0].Other {
			b.say("passed over: %d of other kinds (%s)", len(list), why)
			continue
		}
		var names []string
		for _, p := range list[:min(len(list), named)] {
			names = append(names, p.Path)
		}
		if len(list) > named {
			names = append(names, fmt.Sprintf("and %d more", len(list)-named))
		}
		b.say("passed over: %d (%s): %s", len(list), why, strings.Join(names, ", "))
	}
}

// report is everything that became of something: jobs that were tried, and what was passed over.
func (b *batch) report() []restored {
	all := []restored{}
	for _, r := range b.results {
		if r != nil {
			all = append(all, *r)
		}
	}
	for _, p := range b.passed {
		if !p.Other {
			all = append(all, restored{In: p.Path, Passed: p.Why})
		}
	}
	return all
}

// finish prints the report, of an interrupted batch too, and repeats what failed.
func (b *batch) finish(ctx context.Context) error {
	if b.c.Bool("json") {
		if err := writeJSON(b.c.App.Writer, b.report()); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var failed []error
	for _, p := range b.passed {
		if p.Failed {
			failed = append(failed, fmt.Errorf("%s: %s, passed over", p.Path, p.Why))
		}
	}
	if len(b.jobs) == 0 && len(failed) == 0 {
		return errors.New("no images found")
	}
	bad, untried := 0, 0
	for i, err := range b.errs {
		if err != nil {
			bad++
			failed = append(failed, err)
		} else if b.results[i] == nil {
			untried++
		}
	}
	if len(failed) == 0 {
		return nil
	}
	if len(b.jobs) > 1 && bad > 0 {
		fmt.Fprintf(b.c.App.ErrWriter, "%d of %d images failed:\n", bad, len(b.jobs))
	}
	for _, err := range failed {
		fmt.Fprintln(b.c.App.ErrWriter, "unirestorer:", printable(err.Error()))
	}
	if untried > 0 {
		fmt.Fprintf(b.c.App.ErrWriter, "unirestorer: %d images were not tried, as nothing can be written any more\n", untried)
	}
	return errReported
}

func (b *batch) one(ctx context.Context, i int, j unirestorer.Job) (*unirestorer.Result, string, error) {
	bar := newBar(b.c.App.ErrWriter, b.c.Bool("quiet"), fmt.Sprintf("[%d/%d] %s", i+1, len(b.jobs), report.Printable(j.In)))
	result, err := b.r.RestoreJob(ctx, j, append(slices.Clone(b.opts), unirestorer.WithProgress(bar.set), unirestorer.WithWaits(b.waits))...)
	bar.close()
	if err != nil {
		return nil, "", err
	}
	return result, describe(j, result), nil
}

// waits says why a picture waits, at most once a minute.
func (b *batch) waits(why string) {
	b.mu.Lock()
	tell := time.Since(b.told) > time.Minute
	if tell {
		b.told = time.Now()
	}
	b.mu.Unlock()
	if tell {
		b.say("waiting: %s", why)
	}
}

// say prints a line for people, on standard error so that pipes stay clean.
func (b *batch) say(format string, args ...any) {
	if b.c.Bool("quiet") {
		return
	}
	for i, arg := range args {
		if name, ok := arg.(string); ok { // a name may have a line's end in it
			args[i] = report.Printable(name)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprintln(b.c.App.ErrWriter, printable(fmt.Sprintf(format, args...)))
}

// printable escapes what a name may do to a terminal, line by line.
func printable(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = report.Printable(l)
	}
	return strings.Join(lines, "\n")
}
