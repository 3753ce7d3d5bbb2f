package jsonpath

import (
	"errors"
	"regexp"
	"strings"
	"unicode/utf16"

	"github.com/tutti-run/tutti/value"
)

// A condition is what a filter asks of a value.
type condition interface {
	holds(e *evaluation, v any) (bool, error)
}

type (
	orCondition      struct{ left, right condition }
	andCondition     struct{ left, right condition }
	notCondition     struct{ condition }
	existsCondition  struct{ term }
	compareCondition struct {
		left  term
		op    operator
		right term
	}
)

// A term is one side of a comparison: a path, a pattern or a literal.
type term struct {
	path     *Path
	fromRoot bool
	pattern  *regexp.Regexp
	literal  any
}

// undefined is the value of a path that leads nowhere. It equals nothing, not even itself.
type undefined struct{}

func (c orCondition) holds(e *evaluation, v any) (bool, error) {
	if ok, err := c.left.holds(e, v); ok || err != nil {
		return ok, err
	}
	return c.right.holds(e, v)
}

func (c andCondition) holds(e *evaluation, v any) (bool, error) {
	if ok, err := c.left.holds(e, v); !ok || err != nil {
		return ok, err
	}
	return c.right.holds(e, v)
}

func (c notCondition) holds(e *evaluation, v any) (bool, error) {
	ok, err := c.condition.holds(e, v)
	return !ok && err == nil, err
}

func (c existsCondition) holds(e *evaluation, v any) (bool, error) {
	got, err := c.eval(e, v)
	_, missing := got.(undefined)
	return !missing && err == nil, err
}

func (c compareCondition) holds(e *evaluation, v any) (bool, error) {
	left, err := c.left.eval(e, v)
	if err != nil {
		return false, err
	}
	right, err := c.right.eval(e, v)
	if err != nil {
		return false, err
	}
	if err := e.spend(1 + pairCost(left, right)); err != nil {
		return false, err
	}
	return c.op.test(left, right), nil
}

// pairCost estimates the work of an operator; on two lists it may compare each with each.
func pairCost(left, right any) int {
	_, l := left.([]any)
	_, r := right.([]any)
	if l && r {
		return cost(left) * cost(right)
	}
	return cost(left) + cost(right)
}

// cost estimates the work of comparing v.
func cost(v any) int {
	switch v := v.(type) {
	case string:
		return len(v) / 64
	case []any:
		return len(v)
	case *value.Object:
		return v.Len()
	}
	return 0
}

// eval returns the value of the term for v. Only passing a limit is an error.
func (t term) eval(e *evaluation, v any) (any, error) {
	switch {
	case t.pattern != nil:
		return t.pattern, nil
	case t.path == nil:
		return t.literal, nil
	case t.fromRoot:
		v = e.root
	}
	got, err := e.eval(t.path, v)
	if errors.Is(err, ErrLimit) {
		return nil, err
	}
	if err != nil {
		return undefined{}, nil
	}
	return got, nil
}

type operator struct {
	name string
	test func(left, right any) bool
}

var operators = map[string]func(left, right any) bool{
	"==":       equal,
	"!=":       func(l, r any) bool { return !equal(l, r) },
	"===":      identical,
	"!==":      func(l, r any) bool { return !identical(l, r) },
	"<":        func(l, r any) bool { c, ok := compare(l, r); return ok && c < 0 },
	"<=":       func(l, r any) bool { c, ok := compare(l, r); return ok && c <= 0 },
	">":        func(l, r any) bool { c, ok := compare(l, r); return ok && c > 0 },
	">=":       func(l, r any) bool { c, ok := compare(l, r); return ok && c >= 0 },
	"=~":       matches,
	"in":       func(l, r any) bool { return contains(r, l) },
	"nin":      func(l, r any) bool { return !contains(r, l) },
	"contains": containsOperator,
	"all":      func(l, r any) bool { return subset(r, l) },
	"subsetof": subset,
	"anyof":    func(l, r any) bool { n, ok := common(l, r); return ok && n > 0 },
	"noneof":   func(l, r any) bool { n, ok := common(l, r); return ok && n == 0 },
	"size":     hasSize,
	"empty":    isEmpty,
}

// equal compares a string and a number by the text of the number, as Jayway does.
func equal(left, right any) bool {
	switch l := left.(type) {
	case string:
		if r, ok := right.(value.Number); ok {
			return l == string(r)
		}
	case value.Number:
		if r, ok := right.(string); ok {
			n := value.Number(r)
			return n.Valid() && l.Compare(n) == 0
		}
	}
	return value.Equal(left, right)
}

func identical(left, right any) bool {
	return value.Kind(left) == value.Kind(right) && value.Equal(left, right)
}

// compare orders two numbers or two strings; a number next to a string counts as its text.
func compare(left, right any) (c int, ok bool) {
	l, lok := left.(value.Number)
	r, rok := right.(value.Number)
	if lok && rok {
		return l.Compare(r), true
	}
	ls, lok := text(left)
	rs, rok := text(right)
	return strings.Compare(ls, rs), lok && rok
}

func text(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case value.Number:
		return string(v), true
	}
	return "", false
}

// matches applies the pattern on one side to the value on the other, or to each element of a list.
func matches(left, right any) bool {
	re, ok := right.(*regexp.Regexp)
	input := left
	if !ok {
		re, ok = left.(*regexp.Regexp)
		input = right
	}
	if !ok {
		return false
	}
	list, isList := input.([]any)
	if !isList {
		return re.MatchString(patternInput(input))
	}
	for _, v := range list {
		if re.MatchString(patternInput(v)) {
			return true
		}
	}
	return false
}

func patternInput(v any) string {
	if b, ok := v.(bool); ok {
		if b {
			return "true"
		}
		return "false"
	}
	s, _ := text(v)
	return s
}

func contains(list, v any) bool {
	elements, _ := list.([]any)
	for _, e := range elements {
		if equal(e, v) {
			return true
		}
	}
	return false
}

func containsOperator(left, right any) bool {
	if l, ok := left.(string); ok {
		r, ok := right.(string)
		return ok && strings.Contains(l, r)
	}
	return contains(left, right)
}

func subset(left, right any) bool {
	elements, ok := left.([]any)
	if _, list := right.([]any); !ok || !list {
		return false
	}
	for _, e := range elements {
		if !contains(right, e) {
			return false
		}
	}
	return true
}

// common counts the elements of left that right has too; both must be lists.
func common(left, right any) (n int, ok bool) {
	l, lok := left.([]any)
	_, rok := right.([]any)
	for _, e := range l {
		if contains(right, e) {
			n++
		}
	}
	return n, lok && rok
}

// hasSize counts the elements of a list, or the UTF-16 units of a string as Java does.
func hasSize(left, right any) bool {
	n, ok := right.(value.Number)
	if !ok {
		return false
	}
	want, ok := n.Int64()
	if !ok {
		return false
	}
	switch l := left.(type) {
	case string:
		return int64(len(utf16.Encode([]rune(l)))) == want
	case []any:
		return int64(len(l)) == want
	}
	return false
}

func isEmpty(left, right any) bool {
	want, ok := right.(bool)
	if !ok {
		return false
	}
	switch l := left.(type) {
	case string:
		return (l == "") == want
	case []any:
		return (len(l) == 0) == want
	case *value.Object:
		return (l.Len() == 0) == want
	}
	return false
}
