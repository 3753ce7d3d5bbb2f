package tidy

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// file is one Go file of the module, parsed.
type file struct {
	path string // relative to the module's root
	pkg  string // folder, "" for the root package
	test bool
	src  []byte
	ast  *ast.File
	fset *token.FileSet
}

var (
	loadOnce sync.Once
	loaded   []*file
	loadErr  error
)

// load parses every hand-written Go file of the module. Nested modules are left out.
func load(t *testing.T) []*file {
	t.Helper()
	loadOnce.Do(func() { loaded, loadErr = loadAll(filepath.Join("..", "..")) })
	if loadErr != nil {
		t.Fatal(loadErr)
	}
	if len(loaded) < 50 {
		t.Fatalf("only %d files found; the test does not see the module", len(loaded))
	}
	return loaded
}

func loadAll(root string) (files []*file, err error) {
	fset := token.NewFileSet()
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return enter(root, path, d.Name())
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parse(fset, root, path)
		if f != nil {
			files = append(files, f)
		}
		return err
	})
	return files, err
}

func enter(root, path, name string) error {
	if path == root {
		return nil
	}
	if strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
		return filepath.SkipDir
	}
	return nil
}

func parse(fset *token.FileSet, root, path string) (*file, error) {
	src, err := os.ReadFile(path)
	if err != nil || bytes.Contains(src[:min(len(src), 2000)], []byte("DO NOT EDIT.")) {
		return nil, err
	}
	tree, err := parser.ParseFile(fset, path, src, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return nil, err
	}
	pkg := filepath.ToSlash(filepath.Dir(rel))
	if pkg == "." {
		pkg = ""
	}
	if strings.HasPrefix(pkg, "api/pb/") {
		pkg = "api/pb"
	}
	return &file{
		path: rel, pkg: pkg, test: strings.HasSuffix(path, "_test.go"),
		src: src, ast: tree, fset: fset,
	}, nil
}

// outside reports whether the file is a tool, example or test outside the layers.
func (f *file) outside() bool {
	for _, p := range []string{"internal/", "examples/", "test/", "bench/"} {
		if strings.HasPrefix(f.pkg+"/", p) {
			return true
		}
	}
	return false
}

func (f *file) imports() (paths []string) {
	for _, s := range f.ast.Imports {
		paths = append(paths, strings.Trim(s.Path.Value, `"`))
	}
	return paths
}

func (f *file) pos(p token.Pos) string {
	at := f.fset.Position(p)
	return strings.TrimPrefix(at.String(), "../../")
}

// uses calls fn for every selector on an imported package, as "package.Name".
func (f *file) uses(fn func(name, pos string)) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if id, ok := sel.X.(*ast.Ident); ok && id.Obj == nil {
			fn(id.Name+"."+sel.Sel.Name, f.pos(sel.Pos()))
		}
		return true
	})
}

func (f *file) goStatements() (at []string) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if g, ok := n.(*ast.GoStmt); ok {
			at = append(at, f.pos(g.Pos()))
		}
		return true
	})
	return at
}

// allowed reports whether a tidy:allow comment for a rule stands on or above a node.
func (f *file) allowed(rule string, n ast.Node) bool {
	first, last := f.fset.Position(n.Pos()).Line-1, f.fset.Position(n.End()).Line
	for _, g := range f.ast.Comments {
		for _, c := range g.List {
			line := f.fset.Position(c.Pos()).Line
			if line >= first && line <= last && strings.HasPrefix(c.Text, "//tidy:allow "+rule+":") {
				return true
			}
		}
	}
	return false
}
