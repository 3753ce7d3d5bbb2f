package conductorapi

import (
	"maps"
	"slices"
	"strconv"

	"github.com/tutti-run/tutti/value"
)

// object writes a JSON object member by member, payloads as the bytes they are. Names must
// need no escaping.
type object struct{ b []byte }

func newObject(dst []byte) *object { return &object{append(dst, '{')} }

func (o *object) name(name string) {
	if o.b[len(o.b)-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(o.b, '"')
	o.b = append(o.b, name...)
	o.b = append(o.b, '"', ':')
}

// text writes a string, or nothing when it is empty: the server's form of null.
func (o *object) text(name, s string) {
	if s != "" {
		o.string(name, s)
	}
}

// string writes a string, also an empty one.
func (o *object) string(name, s string) {
	o.name(name)
	o.b = value.AppendString(o.b, s)
}

func (o *object) num(name string, n int64) {
	o.name(name)
	o.b = strconv.AppendInt(o.b, n, 10)
}

func (o *object) flag(name string, v bool) {
	o.name(name)
	o.b = strconv.AppendBool(o.b, v)
}

// raw writes a payload, or nothing when there is none.
func (o *object) raw(name string, v value.Raw) {
	if len(v) > 0 {
		o.name(name)
		o.b = append(o.b, v...)
	}
}

// payload writes an object that is never missing.
func (o *object) payload(name string, v value.Raw) {
	if v.IsNull() {
		v = value.Raw("{}")
	}
	o.raw(name, v)
}

// texts writes a list of strings, also an empty one.
func (o *object) texts(name string, list []string) {
	o.name(name)
	o.b = appendTexts(o.b, list)
}

// pairs writes an object of strings in order of name, also an empty one.
func (o *object) pairs(name string, m map[string]string) {
	o.name(name)
	o.b = appendPairs(o.b, m)
}

func (o *object) end() []byte {
	o.b = append(o.b, '}')
	return o.b
}

func appendTexts(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		dst = comma(dst, i)
		dst = value.AppendString(dst, s)
	}
	return append(dst, ']')
}

func appendPairs(dst []byte, m map[string]string) []byte {
	dst = append(dst, '{')
	for i, k := range slices.Sorted(maps.Keys(m)) {
		dst = comma(dst, i)
		dst = value.AppendString(dst, k)
		dst = append(dst, ':')
		dst = value.AppendString(dst, m[k])
	}
	return append(dst, '}')
}

// appendList writes a list whose elements each appends.
func appendList[T any](dst []byte, list []T, each func(dst []byte, e T) []byte) []byte {
	dst = append(dst, '[')
	for i, e := range list {
		dst = comma(dst, i)
		dst = each(dst, e)
	}
	return append(dst, ']')
}

func appendRaw[T ~[]byte](dst []byte, v T) []byte { return append(dst, v...) }

func comma(dst []byte, i int) []byte {
	if i > 0 {
		dst = append(dst, ',')
	}
	return dst
}
