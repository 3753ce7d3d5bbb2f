package model

import (
	"bytes"
	"math"
	"strconv"
	"strings"

	"github.com/tutti-run/tutti/expr/jsonpath"
	"github.com/tutti-run/tutti/value"
)

// JavaString returns a decoded value as the official server puts it into a string: the text of a
// scalar, [1, 2] for lists and {a=b} for objects, strings without quotes at any depth.
func JavaString(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return string(appendJava(nil, v))
}

func appendJava(b []byte, v any) []byte {
	switch v := v.(type) {
	case bool:
		return strconv.AppendBool(b, v)
	case value.Number:
		return appendJavaNumber(b, v)
	case string:
		return append(b, v...)
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = appendJava(b, e)
		}
		return append(b, ']')
	case *value.Object:
		b = append(b, '{')
		first := true
		for name, e := range v.All() {
			if !first {
				b = append(b, ", "...)
			}
			first = false
			b = append(append(b, name...), '=')
			b = appendJava(b, e)
		}
		return append(b, '}')
	}
	return append(b, "null"...)
}

// appendJavaNumber writes integers as they are, and other numbers like Java's Double.toString:
// decimal from 10^-3 to 10^7, otherwise with an exponent.
func appendJavaNumber(b []byte, n value.Number) []byte {
	if n.IsInt() {
		if n == "-0" {
			return append(b, '0')
		}
		return append(b, n...)
	}
	f, ok := n.Float64()
	abs := math.Abs(f)
	switch {
	case !ok && strings.HasPrefix(string(n), "-"):
		return append(b, "-Infinity"...)
	case !ok:
		return append(b, "Infinity"...)
	case abs == 0 || (abs >= 1e-3 && abs < 1e7):
		start := len(b)
		b = strconv.AppendFloat(b, f, 'f', -1, 64)
		if bytes.IndexByte(b[start:], '.') < 0 {
			b = append(b, ".0"...)
		}
		return b
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	b = append(b, mantissa...)
	if !strings.Contains(mantissa, ".") {
		b = append(b, ".0"...)
	}
	e, _ := strconv.Atoi(exponent)
	return strconv.AppendInt(append(b, 'E'), int64(e), 10)
}

// mergeDefaults returns o with those members of defaults that o lacks or that are null in it.
// Neither argument is changed; o itself is returned when nothing is to be added.
func mergeDefaults(o, defaults *value.Object) *value.Object {
	merged := o
	for name, v := range defaults.All() {
		if old, ok := o.Get(name); ok && old != nil {
			continue
		}
		if merged == o {
			merged = o.Clone()
		}
		merged.Set(name, v)
	}
	return merged
}

// ApplyInputTemplate returns a workflow's input with the defaults of its definition: members
// that are missing or null are added, but only if the input has any member at all.
func ApplyInputTemplate(input, template *value.Object) *value.Object {
	if input.Len() == 0 {
		return input
	}
	return mergeDefaults(input, template)
}

// A TaskInput is the compiled input of a task: its input parameters over the input template of
// its task definition. It is immutable and safe for concurrent use.
type TaskInput struct {
	*Template
	defaults *value.Object
}

// CompileTaskInput compiles input parameters, which may be nil, with an input template, which
// may be nil. Neither must be changed afterwards.
func CompileTaskInput(params, template *value.Object) *TaskInput {
	if params == nil {
		params = value.NewObject()
	}
	t := CompileTemplate(mergeDefaults(params, template))
	return &TaskInput{Template: t, defaults: template}
}

// Resolve returns the task's input; see Template.Resolve. Parameters that resolve to null take
// the value in the input template as it is written there.
func (t *TaskInput) Resolve(s Scope) (*value.Object, error) {
	v, err := t.Template.Resolve(s)
	if err != nil {
		return nil, err
	}
	return mergeDefaults(v.(*value.Object), t.known(v.(*value.Object))), nil
}

// known returns the defaults for members that o has.
func (t *TaskInput) known(o *value.Object) *value.Object {
	d := value.NewObject()
	for name, v := range t.defaults.All() {
		if old, ok := o.Get(name); ok && old == nil {
			d.Set(name, v)
		}
	}
	return d
}

// Handoff returns a task's input with references to secrets, ${workflow.secrets.NAME} or
// ${workflow.secrets.NAME.json.path}, replaced by what secrets returns for the name. It is
// called when a worker or connector is handed the task; nothing it returns may be stored. A
// string that is one reference becomes the value itself, null when it is not known; within
// longer strings what is not known leaves nothing behind.
func Handoff(input value.Raw, secrets func(name string) (string, bool)) value.Raw {
	if !bytes.Contains(input, []byte(secretStart)) {
		return input
	}
	v, err := input.Parse()
	if err != nil {
		return input
	}
	return value.Marshal(substitute(v, secrets))
}

func substitute(v any, secrets func(string) (string, bool)) any {
	switch v := v.(type) {
	case string:
		return substituteText(v, secrets)
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = substitute(e, secrets)
		}
		return list
	case *value.Object:
		o := value.NewObject()
		for name, e := range v.All() {
			o.Set(name, substitute(e, secrets))
		}
		return o
	}
	return v
}

func substituteText(s string, secrets func(string) (string, bool)) any {
	var b []byte
	for rest := s; ; {
		before, after, found := strings.Cut(rest, secretStart)
		name, tail, closed := strings.Cut(after, "}")
		switch {
		case !found || !closed:
			return string(append(b, rest...))
		case name == "":
			b = append(append(b, before...), secretStart+"}"...)
			rest = tail
			continue
		}
		v := secretValue(name, secrets)
		if before == "" && tail == "" && len(b) == 0 {
			return v
		}
		b = append(b, before...)
		if v != nil {
			b = appendJava(b, v)
		}
		rest = tail
	}
}

func secretValue(ref string, secrets func(string) (string, bool)) any {
	name, rest, deep := strings.Cut(ref, ".")
	s, ok := secrets(name)
	if !ok {
		return nil
	}
	if !deep {
		return s
	}
	path, err := jsonpath.Compile(rest)
	if err != nil {
		return nil
	}
	v, err := lookupText(path, s)
	if err != nil {
		return nil
	}
	return v
}
