package ledger

import (
	"bufio"
	"io/fs"
	"math"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/pbnjay/memory"
)

// Auto is the bound for users who set none: half of the memory that the process
// may have, the machine's or what the strictest of its control groups allows, in
// bytes.
func Auto() int64 { return Available() / 2 }

// Available is the memory that the process may have: the machine's or what the
// strictest of its control groups (versions 1 and 2) allows.
func Available() int64 {
	n := int64(min(memory.TotalMemory(), math.MaxInt64))
	if limit, ok := cgroupLimit(os.DirFS("/")); ok && (n == 0 || limit < n) {
		n = limit
	}
	return n
}

// cgroupLimit is the smallest memory limit of the process's control groups and
// those around them, in a file system that has /proc and /sys.
func cgroupLimit(root fs.FS) (limit int64, ok bool) {
	take := func(file string) {
		data, err := fs.ReadFile(root, file)
		if err != nil {
			return
		}
		// "max", or a number that in version 1 is near 2⁶³ for no limit.
		if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && n >= 0 && n < 1<<62 && (!ok || n < limit) {
			limit, ok = n, true
		}
	}
	eachGroup(root, "memory", func(dir string, v2 bool) {
		if v2 {
			take(path.Join(dir, "memory.max"))
			take(path.Join(dir, "memory.high"))
		} else {
			take(path.Join(dir, "memory.limit_in_bytes"))
		}
	})
	return limit, ok
}

// Processors is how many processors' time the strictest of the process's control
// groups (versions 1 and 2) lets it use, a fraction perhaps; 0 for no limit.
func Processors() float64 { return processors(os.DirFS("/")) }

func processors(root fs.FS) (least float64) {
	eachGroup(root, "cpu", func(dir string, v2 bool) {
		names := []string{"cpu.cfs_quota_us", "cpu.cfs_period_us"}
		if v2 {
			names = []string{"cpu.max"} // quota or "max", and period
		}
		var text string
		for _, name := range names {
			data, _ := fs.ReadFile(root, path.Join(dir, name)) // where there is none, nothing limits
			text += string(data) + " "
		}
		field := strings.Fields(text)
		if len(field) != 2 {
			return
		}
		quota, errQuota := strconv.ParseFloat(field[0], 64) // -1 in version 1 for no limit
		period, errPeriod := strconv.ParseFloat(field[1], 64)
		if n := quota / period; errQuota == nil && errPeriod == nil && n > 0 && !math.IsInf(n, 0) && (least == 0 || n < least) {
			least = n
		}
	})
	return least
}

// eachGroup calls f with the folder of each of the process's control groups that
// have the controller: every group up to the mount bounds those in it. A
// container may see a path from outside that its mount does not have: the mount
// is its own then.
func eachGroup(root fs.FS, controller string, f func(dir string, v2 bool)) {
	for _, m := range cgroupMounts(root, controller) {
		for dir := m.group; ; dir = path.Dir(dir) {
			f(path.Join(m.at, dir), m.v2)
			if dir == "/" || dir == "." {
				break
			}
		}
	}
}

// cgroupMount is where a hierarchy with a controller is mounted, and
// the process's group under it.
type cgroupMount struct {
	at, group string
	v2        bool
}

func cgroupMounts(root fs.FS, controller string) []cgroupMount {
	v1, v2 := "", ""
	lines(root, "proc/self/cgroup", func(line string) {
		// id:controllers:path
		part := strings.SplitN(line, ":", 3)
		switch {
		case len(part) != 3:
		case part[0] == "0" && part[1] == "":
			v2 = part[2]
		case hasField(part[1], controller):
			v1 = part[2]
		}
	})
	var all []cgroupMount
	lines(root, "proc/self/mountinfo", func(line string) {
		// id parent device root mount options… - type source superoptions
		head, tail, ok := strings.Cut(line, " - ")
		field, kind := strings.Fields(head), strings.Fields(tail)
		if !ok || len(field) < 5 || len(kind) < 3 {
			return
		}
		at := strings.TrimPrefix(unescape(field[4]), "/")
		switch {
		case kind[0] == "cgroup2" && v2 != "":
			all = append(all, cgroupMount{at, beneath(v2, unescape(field[3])), true})
		case kind[0] == "cgroup" && v1 != "" && hasField(kind[2], controller):
			all = append(all, cgroupMount{at, beneath(v1, unescape(field[3])), false})
		}
	})
	return all
}

// beneath is a group's path under a mount that shows the hierarchy from root on.
func beneath(group, root string) string {
	if root == "/" {
		return path.Clean("/" + group)
	}
	if rest, ok := strings.CutPrefix(group, root); ok && (rest == "" || rest[0] == '/') {
		return path.Clean("/" + rest)
	}
	return "/"
}

func hasField(list, name string) bool {
	for f := range strings.SplitSeq(list, ",") {
		if f == name {
			return true
		}
	}
	return false
}

// unescape undoes mountinfo's octal escapes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

func lines(root fs.FS, name string, each func(string)) {
	f, err := root.Open(name)
	if err != nil {
		return
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		each(s.Text())
	}
}
