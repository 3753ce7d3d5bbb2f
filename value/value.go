// Package value is Tutti's model of JSON documents.
//
// A payload travels as Raw, the bytes of one JSON text, and is decoded only where an expression
// needs it. The decoded form is an any that holds exactly one of
//
//	nil, bool, Number, string, []any, *Object
//
// so numbers keep their exact spelling and objects keep the order of their members. YAML documents
// decode to the same form. Positions (line and column) are kept for errors and can be found again
// for any JSON pointer, which is how validators point into a user's file.
//
// The package is pure: it may import the standard library, jsontext and the YAML parser, and
// nothing of Tutti. Its invariant: no input, however hostile, makes it panic or use more than a
// constant factor of the bytes, depth and values that Limits allow.
package value

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Limits bound what a document may hold. A field of zero takes the value of DefaultLimits, so the
// zero Limits is ready for use. Passing a limit is a *LimitError.
type Limits struct {
	// Bytes is the longest source text, in bytes.
	Bytes int
	// Depth is how many arrays and objects may be nested in each other.
	Depth int
	// Number is the longest number, in bytes of its text.
	Number int
	// Values is how many values a YAML document may hold once its aliases are expanded.
	// A JSON document is bounded by Bytes alone.
	Values int
	// RejectDuplicates makes a name that occurs twice in one object a syntax error. Otherwise the
	// last value wins and the name keeps its first place, as in Jackson.
	RejectDuplicates bool
}

// DefaultLimits apply wherever a field of Limits is zero: 32 MiB, 1000 levels, numbers of 1000
// bytes and a million YAML values. Depth and number length are those of Jackson.
var DefaultLimits = Limits{Bytes: 32 << 20, Depth: 1000, Number: 1000, Values: 1 << 20}

func (l Limits) withDefaults() Limits {
	l.Bytes = cmp.Or(l.Bytes, DefaultLimits.Bytes)
	l.Depth = cmp.Or(l.Depth, DefaultLimits.Depth)
	l.Number = cmp.Or(l.Number, DefaultLimits.Number)
	l.Values = cmp.Or(l.Values, DefaultLimits.Values)
	return l
}

// A LimitError reports a document that passes one of its Limits.
type LimitError struct {
	Limit  string // what is bounded: "bytes", "depth", "number bytes" or "values"
	Max    int    // the bound that was passed
	Line   int    // where, counted from 1; 0 when the document as a whole is too large
	Column int
}

// Error names the limit, after the place if it is known.
func (e *LimitError) Error() string {
	msg := fmt.Sprintf("document passes the limit of %d %s", e.Max, e.Limit)
	if e.Line == 0 {
		return msg
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, msg)
}

// A SyntaxError reports text that is not a JSON or YAML document.
type SyntaxError struct {
	Offset  int // in bytes from the start; for YAML the start of the line
	Line    int // counted from 1
	Column  int // counted from 1, in Unicode code points
	Message string
}

// Error returns the place and the message.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// Equal reports whether two decoded values are the same JSON value. Numbers are compared by value
// (1 equals 1.0), objects without regard to the order of their members.
func Equal(a, b any) bool {
	switch a := a.(type) {
	case nil:
		return b == nil
	case bool:
		b, ok := b.(bool)
		return ok && a == b
	case string:
		b, ok := b.(string)
		return ok && a == b
	case Number:
		b, ok := b.(Number)
		return ok && a.Compare(b) == 0
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, Equal)
	case *Object:
		b, ok := b.(*Object)
		return ok && equalObjects(a, b)
	}
	return false
}

func equalObjects(a, b *Object) bool {
	if a.Len() != b.Len() {
		return false
	}
	for name, v := range a.All() {
		w, ok := b.Get(name)
		if !ok || !Equal(v, w) {
			return false
		}
	}
	return true
}

// Clone returns a deep copy of a decoded value. Strings and numbers are immutable and shared.
func Clone(v any) any {
	switch v := v.(type) {
	case []any:
		c := make([]any, len(v))
		for i, e := range v {
			c[i] = Clone(e)
		}
		return c
	case *Object:
		c := v.Clone()
		for i := range c.members {
			c.members[i].value = Clone(c.members[i].value)
		}
		return c
	}
	return v
}

// Kind names the kind of a decoded value as JSON does: "null", "boolean", "number", "string",
// "array" or "object"; any other Go value is "invalid".
func Kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case Number:
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	case *Object:
		return "object"
	}
	return "invalid"
}

// quoteForError shortens a fragment of the source for an error message.
func quoteForError(s string) string {
	const most = 24
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return fmt.Sprintf("%q", s)
}
