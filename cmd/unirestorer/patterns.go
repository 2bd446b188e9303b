package main

import (
	"os"
	"path/filepath"
	"strings"
)

// expandPatterns replaces arguments such as *.png by the files they stand for, where the shell leaves that to programs
// (cmd and PowerShell do). What names a file as it is, or matches none, stays, and so do options.
func expandPatterns(args []string) []string {
	var out []string
	for _, a := range args {
		if strings.HasPrefix(a, "-") || !strings.ContainsAny(a, "*?") {
			out = append(out, a)
			continue
		}
		found, err := filepath.Glob(a)
		if _, missing := os.Lstat(a); missing == nil || err != nil || len(found) == 0 {
			found = []string{a}
		}
		out = append(out, found...)
	}
	return out
}
