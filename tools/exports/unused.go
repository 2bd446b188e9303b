package main

import (
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// unusedExports lists, as `FOLDER NAME` or `FOLDER TYPE.METHOD`, the functions, types, methods, variables and constants that
// packages of the module at dir export and that nothing outside of them uses under any of the build tags. Used is
// what the code of another package names, a package of tests and files for other systems included; what satisfies an
// interface; a type that a used declaration shows; and every constant of a type of which one is used. What programs
// generate is not asked.
func unusedExports(dir string, tags ...string) ([]string, error) {
	exported, used := map[string]bool{}, map[string]bool{}
	for _, tags := range tags {
		all, err := list(dir, tags)
		if err != nil {
			return nil, err
		}
		packages, err := check(all)
		if err != nil {
			return nil, err
		}
		u := usage{used: map[types.Object]bool{}, byKey: map[string]types.Object{}, names: map[string][]types.Object{}}
		for _, p := range packages {
			u.declare(p)
		}
		for _, p := range packages {
			u.named(p)
			if err := u.mentioned(p); err != nil {
				return nil, err
			}
		}
		u.satisfied(packages)
		for key, o := range u.byKey {
			exported[key] = true
			if u.used[o] {
				used[key] = true
			}
		}
	}
	for key := range used {
		delete(exported, key)
	}
	return slices.Sorted(maps.Keys(exported)), nil
}

// usage is what packages export and which of it is used.
type usage struct {
	used  map[types.Object]bool
	byKey map[string]types.Object   // what packages export, but the root package
	names map[string][]types.Object // methods by their name
}

// declare enters what a package exports.
func (u usage) declare(p checked) {
	if p.ImportPath == p.Module.Path || p.types.Name() == "main" {
		return
	}
	folder := strings.TrimPrefix(p.ImportPath, p.Module.Path+"/")
	for _, name := range p.types.Scope().Names() {
		o := p.types.Scope().Lookup(name)
		if !o.Exported() || p.generated(o) {
			continue
		}
		u.byKey[folder+" "+name] = o
		t, _ := o.Type().(*types.Named)
		if _, isType := o.(*types.TypeName); !isType || t == nil {
			continue
		}
		for m := range t.Methods() {
			if m.Exported() {
				u.byKey[folder+" "+name+"."+m.Name()] = m
				u.names[m.Name()] = append(u.names[m.Name()], m)
			}
		}
	}
}

// use marks an object, the types that it shows, and the other constants of a constant's type.
func (u usage) use(o types.Object) {
	switch of := o.(type) {
	case *types.Func:
		o = of.Origin()
	case *types.Var:
		o = of.Origin()
	}
	if o.Pkg() == nil || u.used[o] {
		return
	}
	u.used[o] = true
	u.shown(o.Type(), map[types.Type]bool{})
	t, _ := o.Type().(*types.Named)
	if _, isConst := o.(*types.Const); !isConst || t == nil {
		return
	}
	for _, name := range o.Pkg().Scope().Names() {
		if c, ok := o.Pkg().Scope().Lookup(name).(*types.Const); ok && types.Identical(c.Type(), t) {
			u.use(c)
		}
	}
}

// shown marks the types that a declaration of type t shows: who has the one has the others.
func (u usage) shown(t types.Type, seen map[types.Type]bool) {
	if t == nil || seen[t] {
		return
	}
	seen[t] = true
	switch t := t.(type) {
	case *types.Alias:
		u.use(t.Obj())
		u.shown(types.Unalias(t), seen)
	case *types.Named:
		for a := range t.TypeArgs().Types() {
			u.shown(a, seen)
		}
		u.use(t.Obj())
		u.shown(t.Underlying(), seen)
	case *types.Signature:
		u.shown(t.Params(), seen)
		u.shown(t.Results(), seen)
	case *types.Tuple:
		for v := range t.Variables() {
			u.shown(v.Type(), seen)
		}
	case *types.Struct:
		for f := range t.Fields() {
			if f.Exported() {
				u.shown(f.Type(), seen)
			}
		}
	case *types.Interface:
		for m := range t.Methods() {
			u.shown(m.Type(), seen)
		}
	case *types.Map:
		u.shown(t.Key(), seen)
		u.shown(t.Elem(), seen)
	case interface{ Elem() types.Type }: // pointers, slices, arrays, channels
		u.shown(t.Elem(), seen)
	}
}

// named marks what the code of a package names of others. The root package shows what it declares to other modules.
func (u usage) named(p checked) {
	for _, o := range p.info.Uses {
		if o.Pkg() != p.types {
			u.use(o)
		}
	}
	if p.ImportPath != p.Module.Path {
		return
	}
	for _, o := range p.info.Defs {
		if o != nil && o.Exported() {
			u.use(o)
		}
	}
}

// mentioned marks what a package's tests, and its files that this build leaves out, name of others: tests in a package of
// their own are others to it. They are read without types, so every method of a name is taken to be meant.
func (u usage) mentioned(p checked) error {
	files, err := parse(token.NewFileSet(), p.Dir, slices.Concat(p.TestGoFiles, p.XTestGoFiles, p.IgnoredGoFiles))
	if err != nil {
		return err
	}
	for _, f := range files {
		apart := strings.HasSuffix(f.Name.Name, "_test")
		folders := map[string]string{}
		for _, i := range f.Imports {
			imported, _ := strconv.Unquote(i.Path.Value)
			folder, own := strings.CutPrefix(imported, p.Module.Path+"/")
			if !own || imported == p.ImportPath && !apart {
				continue
			}
			name := path.Base(folder)
			if i.Name != nil {
				name = i.Name.Name
			}
			folders[name] = folder
		}
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			for _, m := range u.names[s.Sel.Name] {
				if m.Pkg() != p.types || apart {
					u.use(m)
				}
			}
			if x, ok := s.X.(*ast.Ident); ok && folders[x.Name] != "" {
				if o := u.byKey[folders[x.Name]+" "+s.Sel.Name]; o != nil {
					u.use(o)
				}
			}
			return true
		})
	}
	return nil
}

// satisfied marks methods that make a type of the module satisfy an interface.
func (u usage) satisfied(packages []checked) {
	known := interfaces(packages)
	for _, p := range packages {
		for _, o := range p.info.Defs {
			t, ok := o.(*types.TypeName)
			if !ok || types.IsInterface(t.Type()) {
				continue
			}
			pointer := types.NewPointer(t.Type())
			methods := types.NewMethodSet(pointer)
			for m := range methods.Methods() {
				if asked[m.Obj().Name()] {
					u.use(m.Obj())
				}
				for _, i := range known[m.Obj().Name()] {
					if !u.used[m.Obj()] && types.Implements(pointer, i) {
						u.use(m.Obj())
					}
				}
			}
		}
	}
}

// asked are the methods that package errors asks for without an interface of a name.
var asked = map[string]bool{"Is": true, "As": true, "Unwrap": true}

// interfaces gives the interfaces that the packages write down and those that what they import exports, by the names
// of their methods.
func interfaces(packages []checked) map[string][]*types.Interface {
	known := map[string][]*types.Interface{}
	seen := map[*types.Interface]bool{}
	add := func(t types.Type) {
		i, ok := t.Underlying().(*types.Interface)
		if !ok || seen[i] {
			return
		}
		seen[i] = true
		for m := range i.Methods() {
			known[m.Name()] = append(known[m.Name()], i)
		}
	}
	imported := map[*types.Package]bool{}
	for _, p := range packages {
		if p.encoding != nil {
			imported[p.encoding] = true
		}
		for _, t := range p.info.Types {
			if t.IsType() {
				add(t.Type)
			}
		}
		for _, i := range p.types.Imports() {
			imported[i] = true
		}
	}
	for p := range imported {
		for _, name := range p.Scope().Names() {
			if t, ok := p.Scope().Lookup(name).(*types.TypeName); ok && t.Exported() {
				add(t.Type())
			}
		}
	}
	return known
}
