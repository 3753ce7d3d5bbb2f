package jsonpath

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/tutti-run/tutti/value"
)

// An argument of a function is a path, evaluated on the document, or a literal.
type argument struct {
	path    *Path
	literal any
}

// A function turns what the path before it found into a result.
type function func(input any, args []any) (any, error)

var functions = map[string]function{
	"length": length, "size": length, "keys": keys, "concat": concat, "append": appendTo,
	"first": first, "last": last, "index": index, "distinct": distinct,
	"min": aggregate(func(ns []float64) float64 { return slices.Min(ns) }),
	"max": aggregate(func(ns []float64) float64 { return slices.Max(ns) }),
	"sum": aggregate(sum), "avg": aggregate(average), "stddev": aggregate(deviation),
}

// countChildren makes a path that is the argument of length() lead to the children of what it
// names, since those are what length() counts.
func (s callStep) countChildren() {
	if (s.name != "length" && s.name != "size") || len(s.args) == 0 || s.args[0].path == nil {
		return
	}
	path := s.args[0].path
	if n := len(path.steps); n > 0 {
		if _, isCall := path.steps[n-1].(callStep); isCall {
			return
		}
	}
	path.steps = append(path.steps[:len(path.steps):len(path.steps)], wildcardStep{})
}

func (s callStep) apply(w *walk, at int, v any) error {
	args := make([]any, 0, len(s.args))
	for _, a := range s.args {
		arg := a.literal
		if a.path != nil {
			var err error
			if arg, err = w.eval(a.path, w.root); err != nil {
				return err
			}
		}
		args = append(args, arg)
	}
	if err := w.spend(cost(v)); err != nil {
		return err
	}
	got, err := s.function(v, args)
	if err != nil {
		return fmt.Errorf("%s: %s(): %w", w.path.text, s.name, err)
	}
	return w.run(at+1, got)
}

// length counts the elements of the first argument or of the input; null for what has none.
func length(input any, args []any) (any, error) {
	if len(args) > 0 {
		if list, ok := args[0].([]any); ok {
			return value.Int(int64(len(list))), nil
		}
	}
	switch v := input.(type) {
	case []any:
		return value.Int(int64(len(v))), nil
	case *value.Object:
		return value.Int(int64(v.Len())), nil
	}
	return nil, nil
}

func keys(input any, _ []any) (any, error) {
	o, ok := input.(*value.Object)
	if !ok {
		return nil, nil
	}
	list := make([]any, 0, o.Len())
	for name := range o.All() {
		list = append(list, name)
	}
	return list, nil
}

// maxConcat bounds the length of a concatenation, in bytes.
const maxConcat = 16 << 20

// concat joins the strings of a list and all arguments.
func concat(input any, args []any) (any, error) {
	var b strings.Builder
	list, _ := input.([]any)
	for _, v := range list {
		if s, ok := v.(string); ok {
			b.WriteString(s)
		}
	}
	for _, v := range args {
		switch v := v.(type) {
		case nil:
		case string:
			b.WriteString(v)
		default:
			b.Write(value.Marshal(v))
		}
		if b.Len() > maxConcat {
			return nil, fmt.Errorf("%w: the text is longer than %d bytes", ErrLimit, maxConcat)
		}
	}
	return b.String(), nil
}

// appendTo adds the arguments to a copy of a list; any other input stays as it is.
func appendTo(input any, args []any) (any, error) {
	list, ok := input.([]any)
	if !ok {
		return input, nil
	}
	return slices.Concat(list, args), nil
}

func first(input any, _ []any) (any, error) { return element(input, 0) }

func last(input any, _ []any) (any, error) { return element(input, -1) }

func index(input any, args []any) (any, error) {
	if len(args) > 0 {
		if n, ok := args[0].(value.Number); ok {
			if i, ok := n.Int64(); ok {
				return element(input, i)
			}
		}
	}
	return nil, fmt.Errorf("wants a whole number as its argument")
}

func element(input any, i int64) (any, error) {
	list, ok := input.([]any)
	if !ok {
		return nil, fmt.Errorf("wants an array, found %s", value.Kind(input))
	}
	if i < 0 {
		i += int64(len(list))
	}
	if i < 0 || i >= int64(len(list)) {
		return nil, fmt.Errorf("%w: the array has %d elements", ErrNotFound, len(list))
	}
	return list[i], nil
}

// distinct keeps the first of the elements that are equal.
func distinct(input any, _ []any) (any, error) {
	list, ok := input.([]any)
	if !ok {
		return nil, fmt.Errorf("wants an array, found %s", value.Kind(input))
	}
	seen := make(map[string]bool, len(list))
	kept := []any{}
	for _, v := range list {
		if text := string(value.Marshal(v)); !seen[text] {
			seen[text] = true
			kept = append(kept, v)
		}
	}
	return kept, nil
}

// aggregate makes a function of all numbers in the input and the arguments. The result is never an
// integer, as in Java.
func aggregate(f func([]float64) float64) function {
	return func(input any, args []any) (any, error) {
		numbers := appendNumbers(nil, input)
		for _, a := range args {
			if n, ok := a.(value.Number); ok {
				a = []any{n}
			}
			numbers = appendNumbers(numbers, a)
		}
		if len(numbers) == 0 {
			return nil, fmt.Errorf("found no numbers")
		}
		n := value.Float(f(numbers))
		if !n.Valid() {
			return nil, fmt.Errorf("the result is out of range")
		}
		return n, nil
	}
}

func appendNumbers(numbers []float64, v any) []float64 {
	list, _ := v.([]any)
	for _, e := range list {
		if n, ok := e.(value.Number); ok {
			f, _ := n.Float64()
			numbers = append(numbers, f)
		}
	}
	return numbers
}

func sum(ns []float64) float64 {
	total := 0.0
	for _, n := range ns {
		total += n
	}
	return total
}

func average(ns []float64) float64 { return sum(ns) / float64(len(ns)) }

// deviation is the standard deviation of a whole population.
func deviation(ns []float64) float64 {
	mean, squares := average(ns), 0.0
	for _, n := range ns {
		squares += (n - mean) * (n - mean)
	}
	return math.Sqrt(squares / float64(len(ns)))
}
