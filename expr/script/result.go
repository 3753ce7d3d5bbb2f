package script

import (
	"math"
	"reflect"
	"regexp"
	"strconv"
	"time"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"

	"github.com/tutti-run/tutti/value"
)

// A reader turns JavaScript values into decoded values. The first limit that is passed is kept in
// err; from then on it reads nothing.
type reader struct {
	rt     *goja.Runtime
	limits Limits
	guard  *guard
	spent  int // bytes of output so far, roughly
	err    error
}

// spend counts output and reports whether to go on.
func (r *reader) spend(n, depth int) bool {
	switch r.spent += n; {
	case r.err != nil:
	case r.spent > r.limits.Output:
		r.err = limitError("a result of more than %d bytes", r.limits.Output)
	case depth > r.limits.Depth:
		r.err = limitError("a result nested deeper than %d", r.limits.Depth)
	default:
		r.err = r.guard.stopped()
	}
	return r.err == nil
}

func (r *reader) read(v goja.Value, depth int) any {
	if !r.spend(1, depth) || v == nil || goja.IsUndefined(v) || goja.IsNull(v) {
		return nil
	}
	switch v := v.(type) {
	case *goja.Object:
		return r.object(v, depth)
	case *goja.Symbol:
		return nil
	case goja.String:
		if !r.spend(v.Length(), depth) {
			return nil
		}
		return v.String()
	}
	switch x := v.Export().(type) {
	case bool:
		return x
	case int64:
		return value.Int(x)
	case float64:
		return readFloat(x)
	}
	return nil
}

// readFloat gives a number without fraction the form of an integer, as GraalJS does.
func readFloat(f float64) any {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	case f == math.Trunc(f) && math.Abs(f) < 1<<63:
		return value.Int(int64(f))
	}
	return value.Float(f)
}

func (r *reader) object(o *goja.Object, depth int) any {
	switch o.ClassName() {
	case "Function":
		return nil
	case "Array":
		return r.array(o, depth)
	case "Date":
		if t, ok := o.Export().(time.Time); ok {
			return t.UTC().Format("2006-01-02T15:04:05.000Z")
		}
		return nil
	case "Boolean":
		return r.read(r.rt.ToValue(o.Export()), depth)
	case "Number":
		return r.read(o.ToNumber(), depth)
	case "String":
		return r.read(o.ToString(), depth)
	}
	out := value.NewObject()
	for _, name := range o.Keys() {
		if !r.spend(len(name)+4, depth) {
			return nil
		}
		out.Set(r.rt.ToValue(name).String(), r.read(o.Get(name), depth+1))
	}
	return out
}

func (r *reader) array(o *goja.Object, depth int) any {
	n := o.Get("length").ToInteger()
	if n > int64(r.limits.Output) {
		r.err = limitError("a result of more than %d bytes", r.limits.Output)
		return nil
	}
	list := []any{}
	for i := range n {
		if r.err != nil {
			return nil
		}
		list = append(list, r.read(o.Get(strconv.FormatInt(i, 10)), depth+1))
	}
	return list
}

var mayBeBigInt = regexp.MustCompile(`[0-9a-fA-F]n`)

// usesBigInt reports whether a program has a BigInt literal. The arithmetic of huge integers
// cannot be interrupted.
func usesBigInt(src string, tree *ast.Program) bool {
	return mayBeBigInt.MatchString(src) && findBigInt(reflect.ValueOf(tree), 0)
}

var (
	numberLiteral = reflect.TypeFor[ast.NumberLiteral]()
	sourceFile    = reflect.TypeFor[ast.Program]()
)

func findBigInt(v reflect.Value, depth int) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return !v.IsNil() && findBigInt(v.Elem(), depth+1)
	case reflect.Slice:
		for i := range v.Len() {
			if findBigInt(v.Index(i), depth+1) {
				return true
			}
		}
	case reflect.Struct:
		if v.Type() == numberLiteral {
			n, _ := v.Interface().(ast.NumberLiteral)
			switch n.Value.(type) {
			case int64, float64:
				return false
			}
			return true
		}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.IsExported() && (v.Type() != sourceFile || f.Name == "Body") &&
				findBigInt(v.Field(i), depth+1) {
				return true
			}
		}
	}
	return false
}
