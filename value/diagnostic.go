package value

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Position is a place in a source text. Line and Column count from 1, the column in Unicode code
// points; both are 0 for "unknown".
type Position struct {
	Line   int
	Column int
}

// positionAt returns the position of a byte offset.
func positionAt(src []byte, offset int) Position {
	before := src[:min(max(offset, 0), len(src))]
	line := bytes.LastIndexByte(before, '\n') + 1
	return Position{
		Line:   bytes.Count(before, []byte("\n")) + 1,
		Column: utf8.RuneCount(before[line:]) + 1,
	}
}

// Severity says how bad what a Diagnostic reports is.
type Severity int

// The severities, the worst first. An Error keeps a document from being accepted.
const (
	Error Severity = iota
	Warning
	Info
)

// String returns the severity as a lower-case word.
func (s Severity) String() string {
	switch s {
	case Error:
		return "error"
	case Warning:
		return "warning"
	}
	return "info"
}

// MarshalText writes the severity as a lower-case word.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Diagnostic is one finding about a document, fit to be shown to its author.
type Diagnostic struct {
	File     string   `json:"file,omitempty"`
	Line     int      `json:"line,omitempty"`   // from 1; 0 if unknown
	Column   int      `json:"column,omitempty"` // from 1; 0 if unknown
	Severity Severity `json:"severity"`
	Code     string   `json:"code,omitempty"` // stable identifier of the rule, such as "unknown-task"
	Message  string   `json:"message"`
	Hint     string   `json:"hint,omitempty"` // what to do about it
}

// String returns "file:line:col: message", without the parts that are unknown.
func (d Diagnostic) String() string {
	var b strings.Builder
	b.WriteString(d.File)
	if d.Line > 0 {
		if d.File != "" {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%d:%d", d.Line, max(d.Column, 1))
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if d.Severity != Error {
		b.WriteString(d.Severity.String() + ": ")
	}
	b.WriteString(d.Message)
	return b.String()
}

// Excerpt returns the line of src that d points at with a caret under the column, two lines that
// end in a newline each. It is empty if d has no position in src.
func (d Diagnostic) Excerpt(src []byte) string {
	lines := bytes.SplitN(src, []byte("\n"), d.Line+1)
	if d.Line < 1 || d.Line > len(lines) {
		return ""
	}
	text := []rune(strings.TrimRight(string(lines[d.Line-1]), "\r"))
	column := min(max(d.Column, 1), len(text)+1)
	indent := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, string(text[:column-1]))
	number := fmt.Sprintf("%4d | ", d.Line)
	margin := strings.Repeat(" ", len(number)-2) + "| "
	return number + string(text) + "\n" + margin + indent + "^\n"
}

// Diagnostics is a list of findings.
type Diagnostics []Diagnostic

// HasErrors reports whether any finding is an Error.
func (ds Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == Error })
}

// Err returns ds as an error if any finding is an Error, else nil.
func (ds Diagnostics) Err() error {
	if ds.HasErrors() {
		return ds
	}
	return nil
}

// Error returns the findings, one a line.
func (ds Diagnostics) Error() string {
	lines := make([]string, len(ds))
	for i, d := range ds {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

// Sort orders the findings by file, place and severity; those alike in all three keep their order.
func (ds Diagnostics) Sort() {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Severity, b.Severity),
		)
	})
}

// Diagnose makes a Diagnostic of an error from Check, Parse or ParseYAML. Any other error becomes
// one without a position.
func Diagnose(file string, err error) Diagnostic {
	d := Diagnostic{File: file, Message: err.Error()}
	var syntax *SyntaxError
	var limit *LimitError
	switch {
	case errors.As(err, &syntax):
		d.Line, d.Column, d.Message = syntax.Line, syntax.Column, syntax.Message
		d.Code = "syntax"
	case errors.As(err, &limit):
		d.Line, d.Column = limit.Line, limit.Column
		d.Message = (&LimitError{Limit: limit.Limit, Max: limit.Max}).Error()
		d.Code = "limit"
	}
	return d
}
