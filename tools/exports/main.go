// Command exports lists what packages of a module export although no other package uses it. The root package, whose
// exports are for other modules, is not asked.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	dir := flag.String("root", ".", "`folder` of the module")
	allow := flag.String("allow", ".ci/exports.allow", "`file` that lists what may stay, below the module's folder")
	flag.Parse()
	if err := run(os.Stdout, *dir, *allow); err != nil {
		fmt.Fprintln(os.Stderr, "exports:", err)
		os.Exit(1)
	}
}

// run fails if the module at dir has an unused export that the file does not allow.
func run(w io.Writer, dir, allow string) error {
	unused, err := unusedExports(dir, "", "cuda,cudasim")
	if err != nil {
		return err
	}
	allowed, err := readAllowed(filepath.Join(dir, allow))
	if err != nil {
		return err
	}
	fresh := slices.DeleteFunc(slices.Clone(unused), func(s string) bool { return slices.Contains(allowed, s) })
	for _, s := range allowed {
		if !slices.Contains(unused, s) {
			fmt.Fprintf(w, "in %s, but used or gone: %s\n", allow, s)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	return fmt.Errorf("no other package uses (unexport them, delete them, or allow them in %s):\n%s", allow, strings.Join(fresh, "\n"))
}

// readAllowed reads lines `FOLDER NAME # REASON`.
func readAllowed(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var allowed []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		entry, reason, _ := strings.Cut(lines.Text(), "#")
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		if strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("%s: %s has no reason", path, entry)
		}
		allowed = append(allowed, entry)
	}
	return allowed, lines.Err()
}
