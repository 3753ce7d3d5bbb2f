package value

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
)

// FromGo turns ordinary Go data into a decoded value that shares nothing mutable with it. It takes
// decoded values, numbers, strings, slices, maps with string keys (sorted by key), Raw, and
// whatever else encoding/json can marshal. Floats follow Float, so 5.0 stays 5.0.
// It fails for what has no JSON form, such as NaN, and beyond the default depth.
func FromGo(v any) (any, error) { return fromGo(v, 0) }

func fromGo(v any, depth int) (any, error) {
	if depth > DefaultLimits.Depth {
		return nil, &LimitError{Limit: "depth", Max: DefaultLimits.Depth}
	}
	switch v := v.(type) {
	case nil, bool, string:
		return v, nil
	case int:
		return Int(int64(v)), nil
	case int32:
		return Int(int64(v)), nil
	case int64:
		return Int(v), nil
	case *big.Int:
		return Number(v.String()), nil
	case float64:
		return checkNumber(Float(v))
	case Number:
		return checkNumber(v)
	case json.Number:
		return checkNumber(Number(v))
	case Raw:
		return Parse(v, DefaultLimits)
	case []any:
		return fromSlice(v, depth)
	case map[string]any:
		return fromMap(v, depth)
	case *Object:
		return fromObject(v, depth)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("value of type %T has no JSON form: %w", v, err)
	}
	return Parse(b, DefaultLimits)
}

func checkNumber(n Number) (any, error) {
	if !n.Valid() {
		return nil, fmt.Errorf("%q is not a JSON number", string(n))
	}
	return n, nil
}

func fromSlice(list []any, depth int) (any, error) {
	out := make([]any, len(list))
	for i, e := range list {
		var err error
		if out[i], err = fromGo(e, depth+1); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func fromMap(m map[string]any, depth int) (any, error) {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	o := &Object{members: make([]member, 0, len(m))}
	for _, k := range keys {
		v, err := fromGo(m[k], depth+1)
		if err != nil {
			return nil, err
		}
		o.Set(k, v)
	}
	return o, nil
}

func fromObject(in *Object, depth int) (any, error) {
	if in == nil {
		return nil, nil
	}
	o := &Object{members: make([]member, 0, in.Len())}
	for k, e := range in.All() {
		v, err := fromGo(e, depth+1)
		if err != nil {
			return nil, err
		}
		o.Set(k, v)
	}
	return o, nil
}

// ToGo turns a decoded value into ordinary Go data: objects become map[string]any, numbers written
// as integers int64 if they fit, all other numbers the nearest float64. The order of members and
// the digits beyond those types are lost.
func ToGo(v any) any {
	switch v := v.(type) {
	case Number:
		if v.IsInt() {
			if i, ok := v.Int64(); ok {
				return i
			}
		}
		f, _ := v.Float64()
		return f
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = ToGo(e)
		}
		return out
	case *Object:
		if v == nil {
			return nil
		}
		out := make(map[string]any, v.Len())
		for k, e := range v.All() {
			out[k] = ToGo(e)
		}
		return out
	}
	return v
}
