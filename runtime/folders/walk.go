package folders

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"unirestorer/runtime/imaging"
)

// Passed is something in a folder that is no picture to restore.
type Passed struct {
	Path string
	// Why is the reason, the same words for things of one kind.
	Why string
	// Failed says that pictures may be missing because of it, as in a folder that cannot be read.
	Failed bool
	// Other is a file that is no picture by its name, of which there may be many.
	Other bool
}

// The reasons why something is passed over.
const (
	unreadable   = "cannot be read"
	notRegular   = "neither a file nor a folder"
	brokenLink   = "a link to nowhere"
	linkedFolder = "a link to a folder, which --follow follows"
	linkedTwice  = "a link to a folder that it lies in, or that was there before"
	sidecar      = "a sidecar of another system"
	earlier      = "a result of an earlier run"
	comparison   = "a before and after picture of an earlier run"
	noPicture    = "no picture by its name"
)

// WalkOptions are the choices of [Walk].
type WalkOptions struct {
	// Follow goes into linked folders, into each folder once.
	Follow bool
	// Out is the folder of the results, which is not walked; one that is walked itself has its earlier results left out.
	Out string
}

// Walk lists the files in the folder root that are pictures by their names, relative to root, in the order of their
// names, and what it passed over. Only root itself must be readable.
func Walk(root string, opt WalkOptions) (pictures []string, passed []Passed, err error) {
	w := walker{root: root, opt: opt}
	if info, err := os.Stat(opt.Out); err == nil {
		w.out = info
	} else if opt.Out != "" && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	info, err := os.Stat(root)
	if err != nil {
		return nil, nil, err
	}
	w.visited = []fs.FileInfo{info}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, nil, err
	}
	w.folder("", entries, w.recordsAt("", nil))
	return w.pictures, w.passed, nil
}

type walker struct {
	root     string
	opt      WalkOptions
	out      fs.FileInfo
	visited  []fs.FileInfo // folders that links may lead back to
	pictures []string
	passed   []Passed
}

// recorded are the results that a journal in the folder at tells of.
type recorded struct {
	at      string // relative to the root
	results map[string]resultRecord
	own     bool // the walked folder is that of the results
	asked   bool // the walked folder is one of results, which are asked for by name
}

// recordsAt reads the journal in a folder, or keeps the outer folder's.
func (w *walker) recordsAt(rel string, outer *recorded) *recorded {
	results := readRecords(filepath.Join(w.root, rel, journalFile))
	if len(results) == 0 {
		return outer
	}
	own := false
	if info, err := os.Stat(filepath.Join(w.root, rel)); err == nil && w.out != nil {
		own = os.SameFile(info, w.out)
	}
	return &recorded{at: rel, results: results, own: own, asked: rel == "" && !own}
}

func (w *walker) pass(rel, why string) {
	w.passed = append(w.passed, Passed{Path: filepath.Join(w.root, rel), Why: why, Failed: why == unreadable, Other: why == noPicture})
}

func (w *walker) folder(rel string, entries []fs.DirEntry, known *recorded) {
	for _, e := range entries {
		w.entry(filepath.Join(rel, e.Name()), e.Type(), known)
	}
}

func (w *walker) entry(rel string, kind fs.FileMode, known *recorded) {
	path := filepath.Join(w.root, rel)
	linked := kind&fs.ModeSymlink != 0
	if linked || kind&fs.ModeIrregular != 0 {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			w.named(rel, brokenLink)
			return
		case err != nil:
			w.named(rel, unreadable)
			return
		}
		kind = info.Mode().Type()
	}
	switch {
	case kind.IsDir():
		w.sub(rel, linked, known)
	case !kind.IsRegular():
		w.pass(rel, notRegular)
	default:
		w.file(rel, known)
	}
}

// named passes over what may have been a picture by its name.
func (w *walker) named(rel, why string) {
	if _, err := imaging.FormatFromPath(rel); err != nil && filepath.Ext(rel) != "" {
		why = noPicture
	}
	w.pass(rel, why)
}

func (w *walker) sub(rel string, linked bool, known *recorded) {
	path := filepath.Join(w.root, rel)
	if linked && !w.opt.Follow {
		w.pass(rel, linkedFolder)
		return
	}
	info, err := os.Stat(path)
	if err != nil {
		w.pass(rel, unreadable)
		return
	}
	if w.out != nil && os.SameFile(w.out, info) {
		return // an output folder inside the input would feed on itself
	}
	if w.opt.Follow {
		for _, v := range w.visited {
			if os.SameFile(v, info) {
				w.pass(rel, linkedTwice)
				return
			}
		}
		w.visited = append(w.visited, info)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		w.pass(rel, unreadable)
	}
	w.folder(rel, entries, w.recordsAt(rel, known))
}

func (w *walker) file(rel string, known *recorded) {
	base := filepath.Base(rel)
	name, foreign := imaging.ForeignExtension(rel)
	_, err := imaging.FormatFromPath(rel)
	switch {
	case strings.HasPrefix(base, "._"), strings.EqualFold(base, ".DS_Store"), strings.EqualFold(base, "Thumbs.db"):
		w.pass(rel, sidecar)
	case base == journalFile, isClaim(base), isTemporary(base):
	case foreign:
		w.pass(rel, fmt.Sprintf("%s, which is not read", name))
	case err != nil:
		w.pass(rel, noPicture)
	default:
		if why := known.earlier(w.root, rel); why != "" {
			w.pass(rel, why)
			return
		}
		w.pictures = append(w.pictures, rel)
	}
}

// earlier says why a file is not to be restored if an earlier run wrote it.
func (k *recorded) earlier(root, rel string) string {
	if k == nil {
		return ""
	}
	name, err := filepath.Rel(k.at, rel)
	if err != nil {
		return ""
	}
	r, ok := k.results[filepath.ToSlash(name)]
	if !ok {
		return ""
	}
	if k.asked && !r.Compare {
		return ""
	}
	if mark, err := markOf(filepath.Join(root, rel)); err != nil || mark != r.Mark {
		return "" // another file has taken its name since
	}
	if r.Compare {
		return comparison
	}
	return earlier
}
