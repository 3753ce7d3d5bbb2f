package tidy

import (
	"bytes"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	functionLines = 70
	switchLines   = 120
	fileLines     = 800
	testFileLines = 1200
	packageLines  = 6000
	packageFiles  = 20
	lineColumns   = 100
	interfaceSize = 5
)

func TestFunctions(t *testing.T) {
	for _, f := range load(t) {
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			bound := functionLines
			if isSwitch(fn.Body) {
				bound = switchLines
			}
			if n := f.lines(fn); n > bound && !f.allowed("function", fn) {
				t.Errorf("%s: function %s has %d lines, at most %d", f.pos(fn.Pos()),
					fn.Name.Name, n, bound)
			}
		}
	}
}

// isSwitch reports whether a body is in the main one switch.
func isSwitch(b *ast.BlockStmt) bool {
	for _, s := range b.List {
		switch s.(type) {
		case *ast.SwitchStmt, *ast.TypeSwitchStmt:
			return len(b.List) <= 6
		}
	}
	return false
}

func (f *file) lines(n ast.Node) int {
	return f.fset.Position(n.End()).Line - f.fset.Position(n.Pos()).Line + 1
}

func TestFiles(t *testing.T) {
	lines, files := map[string]int{}, map[string]int{}
	for _, f := range load(t) {
		n := bytes.Count(f.src, []byte("\n"))
		bound := fileLines
		if f.test {
			bound = testFileLines
		} else {
			lines[f.pkg] += codeLines(f.src)
			files[f.pkg]++
		}
		if n > bound {
			t.Errorf("%s has %d lines, at most %d", f.path, n, bound)
		}
		for i, l := range bytes.Split(f.src, []byte("\n")) {
			if utf8.RuneCount(l) > lineColumns && !bytes.Contains(l, []byte("http")) &&
				!bytes.Contains(l, []byte("`")) && !f.test {
				t.Errorf("%s:%d has more than %d columns", f.path, i+1, lineColumns)
			}
		}
	}
	for pkg, n := range lines {
		if n > packageLines && !strings.HasPrefix(pkg, "api/pb") {
			t.Errorf("package %q has %d lines, at most %d", pkg, n, packageLines)
		}
		if files[pkg] > packageFiles && !strings.HasPrefix(pkg, "api/pb") {
			t.Errorf("package %q has %d files, at most %d", pkg, files[pkg], packageFiles)
		}
	}
}

// codeLines counts the lines that are neither empty nor a comment.
func codeLines(src []byte) (n int) {
	for _, l := range bytes.Split(src, []byte("\n")) {
		l = bytes.TrimSpace(l)
		if len(l) > 0 && !bytes.HasPrefix(l, []byte("//")) {
			n++
		}
	}
	return n
}

func TestInterfaces(t *testing.T) {
	for _, f := range load(t) {
		if f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			it, ok := spec.Type.(*ast.InterfaceType)
			if ok && it.Methods.NumFields() > interfaceSize && !f.allowed("interface", spec) {
				t.Errorf("%s: interface %s has %d methods, at most %d", f.pos(spec.Pos()),
					spec.Name.Name, it.Methods.NumFields(), interfaceSize)
			}
			return true
		})
	}
}

func TestDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range load(t) {
		if f.test {
			continue
		}
		documented[f.pkg] = documented[f.pkg] || f.ast.Doc != nil
		for _, d := range f.ast.Decls {
			f.checkDoc(t, d)
		}
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %q has no package comment", pkg)
		}
	}
}

func (f *file) checkDoc(t *testing.T, d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
			t.Errorf("%s: %s is exported and not documented", f.pos(d.Pos()), d.Name.Name)
		}
	case *ast.GenDecl:
		if d.Tok == token.IMPORT || d.Doc != nil {
			return
		}
		for _, s := range d.Specs {
			if ts, ok := s.(*ast.TypeSpec); ok && ts.Name.IsExported() && ts.Doc == nil {
				t.Errorf("%s: %s is exported and not documented", f.pos(ts.Pos()), ts.Name.Name)
			}
		}
	}
}

// exportedReceiver reports whether a function is not a method of an unexported type, and
// not one that an interface of the standard library dictates.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if p, ok := typ.(*ast.StarExpr); ok {
		typ = p.X
	}
	if ix, ok := typ.(*ast.IndexExpr); ok {
		typ = ix.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

var leftover = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)

func TestLeftovers(t *testing.T) {
	for _, f := range load(t) {
		if f.pkg == "internal/tidy" {
			continue
		}
		for _, g := range f.ast.Comments {
			if leftover.MatchString(g.Text()) && !strings.Contains(g.Text(), "#") {
				t.Errorf("%s: a leftover without an issue number", f.pos(g.Pos()))
			}
		}
		if slices.Contains(f.imports(), "testing/synctest") {
			continue // sleeps there are in fake time
		}
		f.uses(func(name, pos string) {
			if name == "time.Sleep" && f.test && !f.commented(pos) {
				t.Errorf("%s: a test must not sleep; wait for a condition, or say beside it "+
					"which other process needs the time", pos)
			}
		})
	}
}

// commented reports whether a comment stands on the line of a position.
func (f *file) commented(pos string) bool {
	for _, g := range f.ast.Comments {
		at := f.pos(g.Pos())
		if at[:strings.LastIndexByte(at, ':')] == pos[:strings.LastIndexByte(pos, ':')] {
			return true
		}
	}
	return false
}
