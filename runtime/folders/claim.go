package folders

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// ErrClaimed reports that another process is at work on a result. Use errors.Is.
var ErrClaimed = errors.New("another run is at work on it")

const claimSuffix = ".claim"

// Claim is the right to write one result. The system ends it with the process that holds it, however that ends.
type Claim struct {
	path string
	file *os.File
}

// TakeClaim claims the result out for this process, or returns [ErrClaimed]. The folder of the result is made if it is
// not there. Where a file system has no locks, everybody's claim succeeds.
func TakeClaim(out string) (*Claim, error) {
	if err := os.MkdirAll(filepath.Dir(out), 0o777); err != nil {
		return nil, err
	}
	c := &Claim{path: claimPath(out)}
	for {
		f, err := lockedFile(c.path)
		if err != nil {
			return nil, err
		}
		c.file = f
		if f == nil {
			return c, nil // no locks here
		}
		// The file may have been removed by its last owner between opening and locking.
		mine, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if there, err := os.Lstat(c.path); err == nil && os.SameFile(mine, there) {
			return c, nil
		}
		f.Close()
	}
}

// Release gives the claim back and removes its file.
func (c *Claim) Release() {
	if c.file == nil {
		return
	}
	removeLocked(c.path, c.file)
	c.file = nil
}

func claimPath(out string) string {
	base := filepath.Base(out)
	if len(base) > 200 { // leave room for the suffix in file systems that allow 255 bytes
		base = base[:200]
	}
	return filepath.Join(filepath.Dir(out), "."+base+claimSuffix)
}

func isClaim(base string) bool {
	return strings.HasPrefix(base, ".") && strings.HasSuffix(base, claimSuffix)
}

// temporary is the form of the names that atomicfile gives.
var temporary = regexp.MustCompile(`^\.(.+)\.[0-9a-f]{12}\.tmp$`)

func isTemporary(base string) bool { return temporary.MatchString(base) }

// Leftovers are the temporary files of runs that were killed, by the result that they were to become.
type Leftovers map[string][]string

// FindLeftovers lists the temporary files in the folders of results.
func FindLeftovers(results []string) Leftovers {
	left := Leftovers{}
	seen := map[string]bool{}
	for _, out := range results {
		dir := filepath.Dir(out)
		if seen[dir] {
			continue
		}
		seen[dir] = true
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // nothing there yet
		}
		for _, e := range entries {
			if m := temporary.FindStringSubmatch(e.Name()); m != nil && e.Type().IsRegular() {
				result := filepath.Join(dir, m[1])
				left[result] = append(left[result], filepath.Join(dir, e.Name()))
			}
		}
	}
	return left
}

// Clean removes the temporary files of a result. Whoever holds the claim on the result may: nobody else writes it.
func (l Leftovers) Clean(out string) {
	base := filepath.Base(out)
	for _, path := range l[filepath.Join(filepath.Dir(out), base[:min(len(base), 200)])] {
		_ = os.Remove(path) // as good as a try
	}
}
