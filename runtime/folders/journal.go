package folders

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// journalFile lies in a folder of results. Each line is a resultRecord as JSON; of several for one result the last counts.
const journalFile = ".unirestorer-results"

// maxJournalBytes bounds what is read of a journal.
const maxJournalBytes = 256 << 20

// resultRecord says what a result was made from and with.
type resultRecord struct {
	// Result is its path in the folder, with slashes.
	Result string `json:"result"`
	// Mark tells the file from others of its name: its size and a digest of its beginning and end.
	Mark string `json:"mark"`
	// Source is the size and time of the picture that it was made from.
	Source string `json:"source,omitempty"`
	// Settings is a digest of the model and the options.
	Settings string `json:"settings,omitempty"`
	// Compare is a before and after picture rather than a result.
	Compare bool `json:"compare,omitempty"`
}

// Journal is the record of a folder of results. It may be used by several goroutines, and several processes may write one
// folder's.
type Journal struct {
	folder string

	mu      sync.Mutex
	records map[string]resultRecord
}

// OpenJournal reads the journal of a folder of results, which need not exist.
func OpenJournal(folder string) *Journal {
	return &Journal{folder: folder, records: readRecords(filepath.Join(folder, journalFile))}
}

// readRecords reads what it can: a line that a killed run left half written says nothing.
func readRecords(path string) map[string]resultRecord {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	return parseRecords(io.LimitReader(f, maxJournalBytes))
}

func parseRecords(r io.Reader) map[string]resultRecord {
	records := map[string]resultRecord{}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		var rec resultRecord
		if json.Unmarshal(line, &rec) == nil && rec.Result != "" {
			records[rec.Result] = rec
		}
		if err != nil {
			return records
		}
	}
}

// State is what is known of a result that exists.
type State int

// The states of a result.
const (
	Missing  State = iota // there is no such file
	Current               // made from this picture with these settings
	Outdated              // made from another picture, or one that has changed since
	Differs               // made with another model or other options
	Unknown               // not written by a run that kept account, or changed since
)

// State tells what a result is that was, perhaps, made from the picture in with settings. Another process may have made it
// meanwhile.
func (j *Journal) State(out, in, settings string) (State, error) {
	if _, err := os.Lstat(out); os.IsNotExist(err) {
		return Missing, nil
	}
	mark, err := markOf(out)
	if err != nil {
		return Unknown, err
	}
	name, err := j.name(out)
	if err != nil {
		return Unknown, err
	}
	j.mu.Lock()
	rec, ok := j.records[name]
	if !ok || rec.Mark != mark {
		j.records = readRecords(filepath.Join(j.folder, journalFile))
		rec, ok = j.records[name]
	}
	j.mu.Unlock()
	switch {
	case !ok || rec.Mark != mark:
		return Unknown, nil
	case rec.Source != sourceOf(in):
		return Outdated, nil
	case rec.Settings != settings:
		return Differs, nil
	}
	return Current, nil
}

func (j *Journal) name(path string) (string, error) {
	name, err := filepath.Rel(j.folder, path)
	return filepath.ToSlash(name), err
}

// Add records the result out, made from the picture in with settings; compare is its before and after picture, if any.
func (j *Journal) Add(out, in, settings, compare string) error {
	var lines bytes.Buffer
	for _, f := range []struct {
		path string
		rec  resultRecord
	}{
		{out, resultRecord{Source: sourceOf(in), Settings: settings}},
		{compare, resultRecord{Compare: true}},
	} {
		if f.path == "" {
			continue
		}
		var err error
		if f.rec.Mark, err = markOf(f.path); err != nil {
			return err
		}
		if f.rec.Result, err = j.name(f.path); err != nil {
			return err
		}
		line, err := json.Marshal(f.rec)
		if err != nil {
			return err
		}
		lines.Write(append(line, '\n'))
	}
	// One write of whole lines: those of several processes do not mix.
	f, err := os.OpenFile(filepath.Join(j.folder, journalFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(lines.Bytes())
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// sourceOf is a picture's size and time; empty if it is gone.
func sourceOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d %s", info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano))
}

// markedBytes is how much of the beginning and of the end of a file its mark holds: enough that two results differ, for
// compressed pixels at the end do, and little to read.
const markedBytes = 16 << 10

func markOf(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is %s, not a file", path, kindOf(info))
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, markedBytes)); err != nil {
		return "", err
	}
	if _, err := io.Copy(h, io.NewSectionReader(f, max(0, info.Size()-markedBytes), markedBytes)); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d %s", info.Size(), hex.EncodeToString(h.Sum(nil)[:12])), nil
}

func kindOf(info os.FileInfo) string {
	switch m := info.Mode(); {
	case m.IsDir():
		return "a folder"
	case m&os.ModeNamedPipe != 0:
		return "a pipe"
	case m&os.ModeSocket != 0:
		return "a socket"
	default:
		return "a device"
	}
}
