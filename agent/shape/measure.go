package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// A record is the largest of its kind.
type record struct {
	n    int
	name string
}

func (r record) String() string { return fmt.Sprintf("%d (%s)", r.n, r.name) }

// beat makes r the record when n is larger.
func (r *record) beat(n int, name string) {
	if n > r.n {
		*r = record{n, name}
	}
}

// shape is what was counted. Tests count only where a figure says so.
type shape struct {
	lines, testLines int
	files            []int // lines of each file that is no test
	longest          record

	functions, longFunctions int
	longestFunction          record

	widestStruct    record
	interfaces      []int // methods of each interface
	widestInterface record

	locks, dirLines map[string]int // by directory
	mocks           int
	accessors       int
	sleeps          int

	packages             map[string]bool // by directory: is it documented
	exported, documented int
}

// measure counts in all Go files below tree, but for testdata and directories
// whose names begin with a dot.
func measure(tree fs.FS) (*shape, error) {
	s := &shape{locks: make(map[string]int), dirLines: make(map[string]int), packages: make(map[string]bool)}
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "testdata" || name != "." && strings.HasPrefix(entry.Name(), ".")) {
			return fs.SkipDir
		}
		if entry.IsDir() || path.Ext(name) != ".go" {
			return nil
		}
		content, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		return s.add(name, content)
	})
	return s, err
}

// add counts one file.
func (s *shape) add(name string, content []byte) error {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, content, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	lines := strings.Count(string(content), "\n")
	if strings.Contains(strings.ToLower(path.Base(name)), "mock") {
		s.mocks++
	}
	if strings.HasSuffix(name, "_test.go") {
		s.testLines += lines
		if !imports(file, "testing/synctest") {
			s.sleeps += calls(file, func(sel *ast.SelectorExpr) bool {
				x, ok := sel.X.(*ast.Ident)
				return ok && x.Name == "time" && sel.Sel.Name == "Sleep"
			})
		}
		return nil
	}
	dir := path.Dir(name)
	s.lines += lines
	s.files = append(s.files, lines)
	s.longest.beat(lines, name)
	s.packages[dir] = s.packages[dir] || file.Doc != nil
	s.dirLines[dir] += lines
	s.locks[dir] += calls(file, func(sel *ast.SelectorExpr) bool {
		return slices.Contains([]string{"Lock", "RLock", "TryLock", "TryRLock"}, sel.Sel.Name)
	})
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			length := files.Position(d.End()).Line - files.Position(d.Pos()).Line + 1
			s.function(d, length, dir)
		case *ast.GenDecl:
			s.declaration(d, dir)
		}
	}
	return nil
}

// function counts a function or method.
func (s *shape) function(d *ast.FuncDecl, length int, dir string) {
	name := path.Join(dir, d.Name.Name)
	s.functions++
	s.longestFunction.beat(length, name)
	if length > 100 {
		s.longFunctions++
	}
	if d.Recv != nil && accessor(d.Name.Name) {
		s.accessors++
	}
	if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d))) {
		s.export(d.Doc != nil)
	}
}

// accessor says whether name is GetX or SetX.
func accessor(name string) bool {
	rest, ok := strings.CutPrefix(name, "Get")
	if !ok {
		rest, ok = strings.CutPrefix(name, "Set")
	}
	return ok && ast.IsExported(rest)
}

// receiver is the name of the type that a method is of.
func receiver(d *ast.FuncDecl) string {
	typ := d.Recv.List[0].Type
	for {
		switch t := typ.(type) {
		case *ast.StarExpr:
			typ = t.X
		case *ast.IndexExpr:
			typ = t.X
		case *ast.IndexListExpr:
			typ = t.X
		case *ast.Ident:
			return t.Name
		default:
			return ""
		}
	}
}

// declaration counts types, constants and variables.
func (s *shape) declaration(d *ast.GenDecl, dir string) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			name := path.Join(dir, spec.Name.Name)
			if spec.Name.IsExported() {
				s.export(spec.Doc != nil || d.Doc != nil)
			}
			if strings.Contains(strings.ToLower(spec.Name.Name), "mock") {
				s.mocks++
			}
			switch t := spec.Type.(type) {
			case *ast.StructType:
				if !strings.HasSuffix(spec.Name.Name, "Config") && !strings.HasPrefix(dir, "agent/wire/") {
					s.widestStruct.beat(t.Fields.NumFields(), name)
				}
			case *ast.InterfaceType:
				s.interfaces = append(s.interfaces, t.Methods.NumFields())
				s.widestInterface.beat(t.Methods.NumFields(), name)
			}
		case *ast.ValueSpec:
			if slices.ContainsFunc(spec.Names, (*ast.Ident).IsExported) {
				s.export(spec.Doc != nil || spec.Comment != nil || d.Doc != nil)
			}
		}
	}
}

func (s *shape) export(documented bool) {
	s.exported++
	if documented {
		s.documented++
	}
}

func (s *shape) documentedPackages() int {
	n := 0
	for _, documented := range s.packages {
		if documented {
			n++
		}
	}
	return n
}

// imports says whether file imports that path.
func imports(file *ast.File, path string) bool {
	return slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"`+path+`"` })
}

// calls counts the calls in file whose function is such a selector.
func calls(file *ast.File, such func(*ast.SelectorExpr) bool) int {
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		if call, ok := node.(*ast.CallExpr); ok {
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok && such(sel) {
				n++
			}
		}
		return true
	})
	return n
}

// percentile is the smallest value that at least p percent of values do not
// exceed, 0 when there are none.
func percentile(values []int, p int) int {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)*p+99)/100-1]
}

func percent(part, whole int) string {
	if whole == 0 {
		return "none"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(whole))
}

func perThousand(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return 1000 * float64(part) / float64(whole)
}
