package query

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tutti-run/tutti"
)

// Type is what kind of values a field has.
type Type uint8

// The types.
const (
	Text    Type = iota // compared as it is
	Number              // whole numbers
	Time                // Unix milliseconds, or a date and time
	Body                // a long text: = looks for the value within it
	TextSet             // several texts: = asks whether one of them is the value
)

// Fields are the fields that a search knows.
type Fields map[string]Type

// Check returns an Invalid error for the first condition with a field that is not known, or
// with values that its type does not have.
func (f Fields) Check(e Expr) error {
	switch e := e.(type) {
	case And:
		return f.checkAll(e)
	case Or:
		return f.checkAll(e)
	case Not:
		return f.Check(e.Expr)
	case *Cond:
		return f.checkCond(e)
	}
	return nil
}

func (f Fields) checkAll(parts []Expr) error {
	for _, e := range parts {
		if err := f.Check(e); err != nil {
			return err
		}
	}
	return nil
}

func (f Fields) checkCond(c *Cond) error {
	t, ok := f[c.Field]
	if !ok {
		return f.unknown(c)
	}
	for _, v := range c.Values {
		if _, ok := number(t, v); !ok {
			return fault(c.String(), c.Offset,
				fmt.Sprintf("%q is no value for the field %s", v, c.Field))
		}
	}
	return nil
}

func (f Fields) unknown(c *Cond) error {
	names := make([]string, 0, len(f))
	for name := range f {
		names = append(names, name)
	}
	slices.Sort(names)
	return &tutti.Error{
		Kind: tutti.Invalid, Op: "search", Code: "UnknownSearchField",
		Err:  fmt.Errorf("Incorrectly formatted query string: there is no field %q", c.Field),
		Hint: "the fields are " + strings.Join(names, ", "),
	}
}

// number reads a value of a field with numbers; for other types it is zero.
func number(t Type, v string) (int64, bool) {
	if t != Number && t != Time || v == "*" {
		return 0, true
	}
	v = strings.TrimSpace(v)
	if n, err := strconv.ParseInt(v, 10, 64); err == nil {
		return n, true
	}
	if t == Time {
		for _, layout := range []string{time.RFC3339Nano, time.DateTime, time.DateOnly} {
			if at, err := time.Parse(layout, v); err == nil {
				return at.UnixMilli(), true
			}
		}
	}
	return 0, false
}

// Value is the value of a field of one record; the zero Value is null.
type Value struct {
	Texts  []string
	Number int64
	Set    bool
}

// OfText returns a text, or null when it is empty.
func OfText(s ...string) Value {
	if len(s) == 0 || len(s) == 1 && s[0] == "" {
		return Value{}
	}
	return Value{Texts: s, Set: true}
}

// OfNumber returns a number.
func OfNumber(n int64) Value { return Value{Number: n, Set: true} }

// Match reports whether a record matches. get returns the record's fields. e must have been
// checked.
func (f Fields) Match(e Expr, get func(field string) Value) bool {
	switch e := e.(type) {
	case And:
		for _, part := range e {
			if !f.Match(part, get) {
				return false
			}
		}
		return true
	case Or:
		for _, part := range e {
			if f.Match(part, get) {
				return true
			}
		}
		return false
	case Not:
		return !f.Match(e.Expr, get)
	case *Cond:
		return e.match(f[e.Field], get(e.Field))
	}
	return false
}

func (c *Cond) match(t Type, v Value) bool {
	if c.Op == IsNull {
		return !v.Set
	}
	if !v.Set {
		return false
	}
	if t == Number || t == Time {
		return compareNumber(c, t, v.Number)
	}
	for _, text := range v.Texts {
		if compareText(c, t, text) {
			return true
		}
	}
	return false
}

func compareNumber(c *Cond, t Type, have int64) bool {
	var want [2]int64
	for i, v := range c.Values {
		if i < len(want) {
			want[i], _ = number(t, v)
		}
		n, _ := number(t, v)
		if exact := c.Op == In || c.Op == Equal || c.Op == Like; exact && (n == have || v == "*") {
			return true
		}
	}
	switch c.Op {
	case Between:
		return have >= want[0] && have <= want[1]
	case StartsWith:
		return strings.HasPrefix(strconv.FormatInt(have, 10), c.Values[0])
	}
	return ordered(c.Op, cmp.Compare(have, want[0]))
}

func ordered(op Op, sign int) bool {
	switch op {
	case Less:
		return sign < 0
	case LessOrEqual:
		return sign <= 0
	case Greater:
		return sign > 0
	case GreaterOrEqual:
		return sign >= 0
	}
	return false
}

func compareText(c *Cond, t Type, have string) bool {
	switch c.Op {
	case Equal, In:
		return slices.ContainsFunc(c.Values, func(want string) bool { return same(t, want, have) })
	case Like:
		return glob(strings.ReplaceAll(c.Values[0], "%", "*"), have)
	case StartsWith:
		return strings.HasPrefix(have, c.Values[0])
	case Between:
		return have >= c.Values[0] && have <= c.Values[1]
	}
	return ordered(c.Op, cmp.Compare(have, c.Values[0]))
}

func same(t Type, want, have string) bool {
	if t == Body {
		return Contains(have, want)
	}
	if strings.ContainsAny(want, "*?") {
		return glob(want, have)
	}
	return want == have
}

// Contains reports whether a text holds the words of another, without regard to case. * at
// either end of what is looked for is left out.
func Contains(text, want string) bool {
	want = strings.Trim(want, "*")
	return strings.Contains(strings.ToLower(text), strings.ToLower(want))
}

// glob matches a pattern in which * stands for any text and ? for any byte.
func glob(pattern, s string) bool {
	star, mark := -1, 0
	i, j := 0, 0
	for j < len(s) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, mark = i, j
			i++
		case i < len(pattern) && (pattern[i] == '?' || pattern[i] == s[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[i:], "*") == ""
}

// Only returns the texts that a field must have one of for the query to match, when the query
// says so: by = or IN, without wildcards, in a part that every match must fulfil. It is how a
// search finds the rows to look at.
func Only(e Expr, field string) ([]string, bool) {
	switch e := e.(type) {
	case *Cond:
		if e.Field != field || e.Op != Equal && e.Op != In {
			return nil, false
		}
		for _, v := range e.Values {
			if strings.ContainsAny(v, "*?") {
				return nil, false
			}
		}
		return e.Values, true
	case And:
		for _, part := range e {
			if values, ok := Only(part, field); ok {
				return values, true
			}
		}
	}
	return nil, false
}

// Range returns bounds, both inclusive, outside of which a field with numbers cannot be for
// the query to match.
func (f Fields) Range(e Expr, field string) (least, most int64) {
	least, most = -1<<63, 1<<63-1
	switch e := e.(type) {
	case *Cond:
		if e.Field == field {
			return e.bounds(f[field])
		}
	case And:
		for _, part := range e {
			lo, hi := f.Range(part, field)
			least, most = max(least, lo), min(most, hi)
		}
	}
	return least, most
}

func (c *Cond) bounds(t Type) (least, most int64) {
	least, most = -1<<63, 1<<63-1
	if len(c.Values) == 0 || slices.Contains(c.Values, "*") {
		return least, most
	}
	n, _ := number(t, c.Values[0])
	switch c.Op {
	case Equal:
		return n, n
	case Less, LessOrEqual:
		return least, n
	case Greater, GreaterOrEqual:
		return n, most
	case Between:
		to, _ := number(t, c.Values[1])
		return n, to
	}
	return least, most
}
