package script

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/itchyny/gojq"

	"github.com/tutti-run/tutti/value"
)

// JQ is a compiled jq program. Any number of goroutines may run it.
type JQ struct{ code *gojq.Code }

var jqCache = cache[*JQ]{compile: compileJQ}

// CompileJQ compiles a jq program of up to 64 KiB. The environment is empty and there are neither
// modules nor further inputs. Programs seen of late are kept. The error is a *ScriptError or wraps
// ErrLimit.
//
// A single step of jq is bounded only by gojq: 2 GiB for a string that is multiplied, 2^29 elements
// for an array that is assigned to by index. Time and memory are looked at between steps.
func CompileJQ(src string) (*JQ, error) { return jqCache.get(src) }

func compileJQ(src string) (jq *JQ, err error) {
	defer recoverTo(&err)
	if err := checkSource(src); err != nil {
		return nil, err
	}
	query, err := gojq.Parse(src)
	if err != nil {
		return nil, jqSyntaxError(src, err)
	}
	// now is the only function that sees the world; a definition in front of the program hides it.
	query.FuncDefs = slices.Insert(query.FuncDefs, 0, nowDefinition())
	code, err := gojq.Compile(query, gojq.WithVariables([]string{"$__now"}))
	if err != nil {
		return nil, &ScriptError{Message: err.Error()}
	}
	return &JQ{code}, nil
}

func nowDefinition() *gojq.FuncDef {
	return &gojq.FuncDef{
		Name: "now",
		Body: &gojq.Query{Term: &gojq.Term{
			Type: gojq.TermTypeFunc, Func: &gojq.Func{Name: "$__now"},
		}},
	}
}

func jqSyntaxError(src string, err error) error {
	e := &ScriptError{Message: err.Error()}
	var parse *gojq.ParseError
	if errors.As(err, &parse) {
		at := min(max(parse.Offset-len(parse.Token), 0), len(src))
		line := 0
		e.Line = 1
		for i := range at {
			if src[i] == '\n' {
				e.Line++
				line = i + 1
			}
		}
		e.Column = utf8.RuneCountInString(src[line:at]) + 1
	}
	return e
}

// JQOptions are what a run of a jq program is given.
type JQOptions struct {
	// Now is what now returns, throughout the run. The zero Time stands for 1970.
	Now    time.Time
	Limits Limits
}

// Run evaluates the program on a decoded value and returns all that it emits. Integers are exact,
// however large; other numbers are float64. Members are in the order of their names, as gojq
// leaves them. The error is a *ScriptError, or wraps ErrTimeout or ErrLimit.
func (jq *JQ) Run(input any, opts JQOptions) (results []any, err error) {
	defer recoverTo(&err)
	limits := opts.Limits.withDefaults()
	ctx, cancel := context.WithCancelCause(context.Background())
	w := newWatch(limits, cancel)
	defer cancel(nil)
	defer w.close()
	now := 0.0
	if !opts.Now.IsZero() {
		now = float64(opts.Now.UnixNano()) / 1e9
	}
	r := jqReader{limits: limits}
	iter := jq.code.RunWithContext(ctx, toJQ(input), now)
	for {
		v, ok := iter.Next()
		if !ok {
			break
		}
		if err, ok := v.(error); ok {
			return results, jqError(ctx, err)
		}
		results = append(results, r.read(v, 0))
		if r.err == nil && len(results) > limits.Results {
			r.err = limitError("more than %d results", limits.Results)
		}
		if r.err != nil {
			return nil, r.err
		}
	}
	return results, nil
}

func jqError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var halt *gojq.HaltError
	if errors.As(err, &halt) && halt.Value() == nil {
		return nil
	}
	return &ScriptError{Message: clip(err.Error())}
}

// toJQ turns a decoded value into what gojq works on. Nothing mutable is shared.
func toJQ(v any) any {
	switch v := v.(type) {
	case value.Number:
		return toJQNumber(v)
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = toJQ(e)
		}
		return list
	case *value.Object:
		m := make(map[string]any, v.Len())
		for name, e := range v.All() {
			m[name] = toJQ(e)
		}
		return m
	case nil, bool, string:
		return v
	}
	return nil
}

func toJQNumber(n value.Number) any {
	if n.IsInt() {
		if i, ok := n.Int64(); ok && int64(int(i)) == i {
			return int(i)
		}
		if b, ok := new(big.Int).SetString(string(n), 10); ok {
			return b
		}
	}
	f, _ := n.Float64()
	return f
}

// A jqReader turns what a program emits into decoded values, within limits.
type jqReader struct {
	limits Limits
	spent  int
	err    error
}

func (r *jqReader) spend(n, depth int) bool {
	switch r.spent += n; {
	case r.err != nil:
	case r.spent > r.limits.Output:
		r.err = limitError("a result of more than %d bytes", r.limits.Output)
	case depth > r.limits.Depth:
		r.err = limitError("a result nested deeper than %d", r.limits.Depth)
	}
	return r.err == nil
}

func (r *jqReader) read(v any, depth int) any {
	if !r.spend(1, depth) {
		return nil
	}
	switch v := v.(type) {
	case nil, bool:
		return v
	case string:
		r.spend(len(v), depth)
		return v
	case int:
		return value.Int(int64(v))
	case float64:
		return readJQFloat(v)
	case *big.Int:
		if !r.spend(v.BitLen()/3, depth) {
			return nil
		}
		return value.Number(v.String())
	case json.Number:
		return value.Number(v)
	case []any:
		list := make([]any, 0, min(len(v), r.limits.Output))
		for _, e := range v {
			list = append(list, r.read(e, depth+1))
			if r.err != nil {
				return nil
			}
		}
		return list
	case map[string]any:
		return r.object(v, depth)
	}
	r.err = &ScriptError{Message: fmt.Sprintf("jq emitted a value of type %T", v)}
	return nil
}

func (r *jqReader) object(m map[string]any, depth int) any {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	o := value.NewObject()
	for _, name := range names {
		if !r.spend(len(name)+4, depth) {
			return nil
		}
		o.Set(name, r.read(m[name], depth+1))
	}
	return o
}

// readJQFloat writes numbers as jq does: whole ones as integers, NaN as null and the infinities as
// the largest finite numbers.
func readJQFloat(f float64) any {
	switch {
	case math.IsNaN(f):
		return nil
	case math.IsInf(f, 0):
		return value.Float(math.Copysign(math.MaxFloat64, f))
	case f == math.Trunc(f) && math.Abs(f) < 1<<53:
		return value.Int(int64(f))
	}
	return value.Float(f)
}
