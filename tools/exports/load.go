package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// listed is a package as `go list` describes it.
type listed struct {
	ImportPath, Dir, Export                                    string
	CompiledGoFiles, IgnoredGoFiles, TestGoFiles, XTestGoFiles []string
	Module                                                     *struct {
		Path, GoVersion string
		Main            bool
	}
}

func (p listed) own() bool { return p.Module != nil && p.Module.Main }

// checked is a package of the module with its types.
type checked struct {
	listed
	files []*ast.File
	types *types.Package
	info  *types.Info
	// encoding is the package of that name, whose interfaces others ask for without showing it. It may be nil.
	encoding *types.Package
}

// generated tells whether an object is declared in a file that a program wrote.
func (p checked) generated(o types.Object) bool {
	for _, f := range p.files {
		if f.FileStart <= o.Pos() && o.Pos() < f.FileEnd {
			return ast.IsGenerated(f)
		}
	}
	return false
}

// list gives the packages of the module at dir and all that they import, which come first.
func list(dir, tags string) ([]listed, error) {
	cmd := exec.Command("go", "list", "-deps", "-export", "-compiled", "-tags", tags,
		"-json=ImportPath,Dir,Export,CompiledGoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles,Module", "./...")
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list -tags %q: %w\n%s", tags, err, stderr.Bytes())
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list -tags %q: %w", tags, err)
		}
		all = append(all, p)
	}
}

// check reads the types of the module's packages from their sources, and of all others from what the compiler exported.
// Every type is one object, whichever package names it.
func check(all []listed) ([]checked, error) {
	exports := map[string]string{}
	for _, p := range all {
		exports[p.ImportPath] = p.Export
	}
	fset := token.NewFileSet()
	compiled := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(exports[path])
	})
	own := map[string]*types.Package{}
	from := importFunc(func(path string) (*types.Package, error) {
		if p := own[path]; p != nil {
			return p, nil
		}
		return compiled.Import(path)
	})
	encoding, err := compiled.Import("encoding")
	if err != nil {
		encoding = nil // nothing in the module's reach imports it
	}
	var packages []checked
	for _, p := range all {
		if !p.own() {
			continue
		}
		files, err := parse(fset, p.Dir, p.CompiledGoFiles)
		if err != nil {
			return nil, err
		}
		info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}, Types: map[ast.Expr]types.TypeAndValue{}}
		config := types.Config{Importer: from, GoVersion: "go" + p.Module.GoVersion, Sizes: types.SizesFor("gc", runtime.GOARCH)}
		pkg, err := config.Check(p.ImportPath, fset, files, info)
		if err != nil {
			return nil, err
		}
		own[p.ImportPath] = pkg
		packages = append(packages, checked{p, files, pkg, info, encoding})
	}
	return packages, nil
}

type importFunc func(path string) (*types.Package, error)

func (f importFunc) Import(path string) (*types.Package, error) { return f(path) }

func parse(fset *token.FileSet, dir string, names []string) ([]*ast.File, error) {
	var files []*ast.File
	for _, name := range names {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}
