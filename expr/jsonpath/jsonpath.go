// Package jsonpath evaluates JSONPath expressions with the semantics of Jayway JsonPath, the
// library behind Conductor's ${…} expressions.
//
// A path is definite if it can name at most one value: only single names, single indexes, several
// names as the last step (which make one object) and functions. A definite path gives that value or
// ErrNotFound, an indefinite one a list of what it found. Objects keep their order, numbers their
// spelling. It differs from Jayway where that is plainly a slip: slices with ends of mixed sign
// follow RFC 9535, and last() works on a list of one.
//
// The package is pure and imports only value and the standard library. Its invariant: no expression
// and no document makes it panic, and each evaluation ends within a fixed amount of work.
package jsonpath

import (
	"errors"
	"fmt"
)

// The bounds of an expression and of one evaluation.
const (
	maxLength  = 16 << 10 // bytes of an expression
	maxNesting = 32       // filters and arguments within each other
	maxResults = 1 << 20  // values in a result
	maxWork    = 20 << 20 // values visited, and 64-byte pieces of strings compared
	maxDepth   = 10_000   // nesting of a document under ..
)

// ErrNotFound is wrapped by the error of a path that leads nowhere.
var ErrNotFound = errors.New("no value at this path")

// ErrLimit is wrapped by the error of an evaluation that finds too much or takes too long.
var ErrLimit = errors.New("JSONPath evaluation passes a limit")

// A SyntaxError reports an expression that is no JSONPath.
type SyntaxError struct {
	Path    string
	Column  int // counted from 1, in Unicode code points
	Message string
}

// Error returns the path, the column and the message.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("JSONPath %q, column %d: %s", e.Path, e.Column, e.Message)
}

// A Path is a compiled expression. Any number of goroutines may use it.
type Path struct {
	text  string
	steps []step
	// usesRoot is set if a filter or an argument refers to the document by $.
	usesRoot bool
}

// Compile compiles an expression of up to 16 KiB. The leading $ may be left out: foo.bar[0] is
// $.foo.bar[0]. The error is a *SyntaxError.
func Compile(expr string) (*Path, error) {
	p := parser{src: expr}
	path, err := p.compile()
	if err != nil {
		return nil, err
	}
	path.text = expr
	path.invertScan()
	return path, nil
}

// String returns the text that was compiled.
func (p *Path) String() string { return p.text }

// Definite reports whether the path names at most one value.
func (p *Path) Definite() bool {
	for i, s := range p.steps {
		if !s.definite(i == len(p.steps)-1) {
			return false
		}
	}
	return true
}

// Head splits a path whose first step is a single name into that name and the rest, so that a
// caller can find the first value itself and evaluate only the rest on it. The rest may be the
// path $, which gives back its root. It is not ok for any other path, nor for one that refers to
// the document by $ in a filter or argument.
func (p *Path) Head() (name string, rest *Path, ok bool) {
	if len(p.steps) == 0 || p.usesRoot {
		return "", nil, false
	}
	first, ok := p.steps[0].(nameStep)
	if !ok || len(first.names) != 1 {
		return "", nil, false
	}
	return first.names[0], &Path{text: p.text, steps: p.steps[1:]}, true
}

// Eval evaluates the path on a decoded value. The result of a definite path is the value it names,
// shared with root; that of an indefinite one is a new []any, possibly empty. The error wraps
// ErrNotFound or ErrLimit, or says which function could not take its input.
func (p *Path) Eval(root any) (any, error) {
	e := evaluation{root: root, work: new(int)}
	return e.eval(p, root)
}

// Lookup evaluates the path like Eval but takes any failure other than ErrLimit for "nothing
// there": null for a definite path, an empty list for an indefinite one. This is Jayway's option
// SUPPRESS_EXCEPTIONS.
func (p *Path) Lookup(root any) (any, error) {
	v, err := p.Eval(root)
	switch {
	case err == nil || errors.Is(err, ErrLimit):
		return v, err
	case p.Definite():
		return nil, nil
	}
	return []any{}, nil
}

// invertScan rewrites $..a.f() to $.f($..a): a function after a leading .. takes all that was
// found, not each of it.
func (p *Path) invertScan() {
	last := len(p.steps) - 1
	if last < 2 {
		return
	}
	_, scan := p.steps[0].(scanStep)
	call, isCall := p.steps[last].(callStep)
	if !scan || !isCall {
		return
	}
	call.args = []argument{{path: &Path{text: p.text, steps: p.steps[:last:last]}}}
	call.countChildren()
	p.steps = []step{call}
	p.usesRoot = true
}
