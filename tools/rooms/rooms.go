package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

// module is the path that import paths start with.
const module = "unirestorer"

// room is a row of the table: a folder with everything below it that has no row of its own.
type room struct {
	group  string // the heading above its part of the table
	folder string // "." is the root package
	about  string
	line   int      // of the document
	uses   []string // folders of other rooms that its packages import
}

// document is docs/design.md, whose table between the two marks lists rooms from the top of the house down.
type document struct {
	lines []string
	rooms []room
}

const (
	begin = "<!-- rooms: the last column is written by make rooms -->"
	end   = "<!-- end of rooms -->"
)

// parse finds the rooms in the document.
func parse(text string) (*document, error) {
	d := &document{lines: strings.Split(text, "\n")}
	inside, group := false, ""
	for i, line := range d.lines {
		switch {
		case line == begin:
			inside = true
		case line == end:
			if len(d.rooms) == 0 {
				return nil, errors.New("no rooms between the marks")
			}
			return d, nil
		case inside && strings.HasPrefix(line, "### "):
			group = strings.TrimPrefix(line, "### ")
		case inside && strings.HasPrefix(line, "| `"):
			cells := strings.Split(strings.Trim(line, "| "), " | ")
			if len(cells) < 2 {
				return nil, fmt.Errorf("line %d: want folder, what lives there and imports", i+1)
			}
			folder := strings.Trim(cells[0], "`")
			if folder == module {
				folder = "."
			}
			d.rooms = append(d.rooms, room{group: group, folder: folder, about: strings.TrimSpace(strings.TrimSuffix(cells[1], "|")), line: i})
		}
	}
	return nil, fmt.Errorf("no lines %q and %q", begin, end)
}

// of gives the index of the room that a package belongs to, -1 for none.
func (d *document) of(pkg string) int {
	folder := "."
	if pkg != module {
		folder = strings.TrimPrefix(pkg, module+"/")
	}
	best := -1
	for i, r := range d.rooms {
		own := r.folder == folder || r.folder != "." && strings.HasPrefix(folder, r.folder+"/")
		if own && (best < 0 || len(r.folder) > len(d.rooms[best].folder)) {
			best = i
		}
	}
	return best
}

// check notes what every room uses and lists what is wrong: packages without a room, rooms without a package and
// imports that point up.
func (d *document) check(imports map[string][]string) []string {
	var wrong []string
	lived := make([]bool, len(d.rooms))
	for _, pkg := range sortedKeys(imports) {
		from := d.of(pkg)
		if from < 0 {
			wrong = append(wrong, fmt.Sprintf("%s has no row in the table of rooms", pkg))
			continue
		}
		lived[from] = true
		for _, imported := range imports[pkg] {
			to := d.of(imported)
			switch {
			case to < 0 || to == from:
			case to < from:
				wrong = append(wrong, fmt.Sprintf("%s imports %s, which stands above it", pkg, imported))
			case !slices.Contains(d.rooms[from].uses, d.rooms[to].folder):
				d.rooms[from].uses = append(d.rooms[from].uses, d.rooms[to].folder)
			}
		}
	}
	for i, r := range d.rooms {
		slices.Sort(d.rooms[i].uses)
		if !lived[i] {
			wrong = append(wrong, fmt.Sprintf("nothing lives in %s", r.folder))
		}
	}
	return wrong
}

// text is the document with the last column of its table filled in: what a room imports, but for what another of these
// leads to.
func (d *document) text() string {
	lines := slices.Clone(d.lines)
	for i, r := range d.rooms {
		var uses []string
		for _, j := range d.reduced(i) {
			uses = append(uses, name(d.rooms[j].folder))
		}
		slices.Sort(uses)
		lines[r.line] = fmt.Sprintf("| `%s` | %s | %s |", name(r.folder), r.about, cmp.Or(strings.Join(uses, ", "), "–"))
	}
	return strings.Join(lines, "\n")
}

// reduced gives the rooms that room i imports, without those that one of the others leads to.
func (d *document) reduced(i int) []int {
	var direct []int
	for j, r := range d.rooms {
		if slices.Contains(d.rooms[i].uses, r.folder) {
			direct = append(direct, j)
		}
	}
	return slices.DeleteFunc(slices.Clone(direct), func(j int) bool {
		return slices.ContainsFunc(direct, func(k int) bool { return k != j && d.leads(k, j) })
	})
}

// leads tells whether room from imports room to, over others perhaps. Arrows point down, so this ends.
func (d *document) leads(from, to int) bool {
	for j, r := range d.rooms {
		if slices.Contains(d.rooms[from].uses, r.folder) && (j == to || d.leads(j, to)) {
			return true
		}
	}
	return false
}

func name(folder string) string {
	if folder == "." {
		return module
	}
	return folder
}

// imports lists the packages of the module with what they import of it, in the plain build and in that for CUDA.
func imports(dir string) (map[string][]string, error) {
	all := map[string][]string{}
	for _, tags := range []string{"", "cuda", "cuda,cudasim"} {
		cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "-tags", tags, "./...")
		cmd.Dir = dir
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go list -tags %q: %w", tags, err)
		}
		for d := json.NewDecoder(bytes.NewReader(out)); ; {
			var p struct {
				ImportPath string
				Imports    []string
			}
			if err := d.Decode(&p); err == io.EOF {
				break
			} else if err != nil {
				return nil, fmt.Errorf("go list -tags %q: %w", tags, err)
			}
			list := all[p.ImportPath]
			for _, imported := range p.Imports {
				own := imported == module || strings.HasPrefix(imported, module+"/")
				if own && !slices.Contains(list, imported) {
					list = append(list, imported)
				}
			}
			all[p.ImportPath] = list
		}
	}
	return all, nil
}

func sortedKeys(m map[string][]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
