package value

import (
	"iter"

	"github.com/go-json-experiment/json/jsontext"
)

// Raw is one JSON text, compact or not. It is assumed to be valid (see Check): on text that is not,
// its methods find nothing but never panic. Whoever holds a Raw must not change its bytes.
type Raw []byte

// Null is the JSON text null.
var Null = Raw("null")

// Parse decodes the text within DefaultLimits.
func (r Raw) Parse() (any, error) { return Parse(r, DefaultLimits) }

// Kind names the kind of the value as the function Kind does. It is "invalid" for empty text.
func (r Raw) Kind() string {
	i := skipSpace(r, 0)
	if i >= len(r) {
		return "invalid"
	}
	switch c := r[i]; c {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	default:
		if c == '-' || '0' <= c && c <= '9' {
			return "number"
		}
	}
	return "invalid"
}

// IsNull reports whether the text is null. Text without any value counts as null.
func (r Raw) IsNull() bool {
	i := skipSpace(r, 0)
	return i >= len(r) || r[i] == 'n'
}

// Field returns the named member of an object without decoding the others. The result shares
// memory with r. If the name occurs twice the last one counts, as in Parse.
func (r Raw) Field(name string) (Raw, bool) {
	var found span
	for key, at := range r.memberSpans() {
		if matches(key, name) {
			found = at
		}
	}
	return r[found.from:found.to:found.to], found.to > 0
}

// matches compares a name as it stands between its quotes with a decoded one.
func matches(key []byte, name string) bool {
	if string(key) == name {
		return true
	}
	for _, c := range key {
		if c == '\\' {
			return unquote(string(key)) == name
		}
	}
	return false
}

// Members yields the members of an object in the order of the text, duplicates included. It yields
// nothing for any other value.
func (r Raw) Members() iter.Seq2[string, Raw] {
	return func(yield func(string, Raw) bool) {
		for key, at := range r.memberSpans() {
			if !yield(unquote(string(key)), r[at.from:at.to:at.to]) {
				return
			}
		}
	}
}

// Elements yields the elements of an array. It yields nothing for any other value.
func (r Raw) Elements() iter.Seq[Raw] {
	return func(yield func(Raw) bool) {
		for at := range r.elementSpans() {
			if !yield(r[at.from:at.to:at.to]) {
				return
			}
		}
	}
}

// A span is the place of a value within a text.
type span struct{ from, to int }

func (r Raw) elementSpans() iter.Seq[span] {
	return func(yield func(span) bool) {
		i := skipSpace(r, 0)
		if i >= len(r) || r[i] != '[' {
			return
		}
		for i = skipSpace(r, i+1); i < len(r) && r[i] != ']'; {
			end := skipValue(r, i)
			if end < 0 || !yield(span{i, end}) {
				return
			}
			i = skipComma(r, end)
		}
	}
}

// Text returns the value of a string.
func (r Raw) Text() (string, bool) {
	i := skipSpace(r, 0)
	if i >= len(r) || r[i] != '"' {
		return "", false
	}
	end := skipValue(r, i)
	if end < 0 {
		return "", false
	}
	return unquote(string(r[i+1 : end-1])), true
}

// Int64 returns the value of a whole number, however it is written.
func (r Raw) Int64() (int64, bool) {
	i := skipSpace(r, 0)
	end, ok := scanNumber(r, i)
	if !ok {
		return 0, false
	}
	return Number(r[i:end]).Int64()
}

// Bool returns the value of a boolean.
func (r Raw) Bool() (b, ok bool) {
	i := skipSpace(r, 0)
	end := skipValue(r, i)
	if end < 0 {
		return false, false
	}
	switch string(r[i:end]) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

// memberSpans yields names as they stand between their quotes, and the places of the values.
func (r Raw) memberSpans() iter.Seq2[[]byte, span] {
	return func(yield func([]byte, span) bool) {
		i := skipSpace(r, 0)
		if i >= len(r) || r[i] != '{' {
			return
		}
		for i = skipSpace(r, i+1); i < len(r) && r[i] == '"'; {
			end := skipValue(r, i)
			if end < 0 {
				return
			}
			key := r[i+1 : end-1]
			if i = skipSpace(r, end); i >= len(r) || r[i] != ':' {
				return
			}
			i = skipSpace(r, i+1)
			if end = skipValue(r, i); end < 0 || !yield(key, span{i, end}) {
				return
			}
			i = skipComma(r, end)
		}
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipComma moves past a comma and the space around it; at anything else it ends the walk.
func skipComma(b []byte, i int) int {
	i = skipSpace(b, i)
	if i >= len(b) || b[i] != ',' {
		return len(b)
	}
	return skipSpace(b, i+1)
}

// skipValue returns the end of the value that starts at i, -1 if there is none. It trusts the text
// to be valid and only pairs quotes and brackets, which is several times faster than a check.
func skipValue(b []byte, i int) int {
	start, depth := i, 0
	for i < len(b) {
		switch b[i] {
		case '"':
			if i = skipString(b, i); i < 0 {
				return -1
			}
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth <= 0 {
				return bracketEnd(start, i, depth)
			}
		case ',', ' ', '\n', '\t', '\r', ':':
			if depth == 0 {
				return scalarEnd(start, i)
			}
		}
		i++
	}
	if depth > 0 {
		return -1
	}
	return scalarEnd(start, i)
}

// bracketEnd returns the end at a closing bracket, which is part of the value only if it opened
// there.
func bracketEnd(start, i, depth int) int {
	if depth == 0 {
		return i + 1
	}
	return scalarEnd(start, i)
}

func scalarEnd(start, end int) int {
	if end == start {
		return -1
	}
	return end
}

func skipString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return -1
}

// MarshalJSON returns the text, null if it is empty.
func (r Raw) MarshalJSON() ([]byte, error) {
	if len(r) == 0 {
		return Null, nil
	}
	return r, nil
}

// UnmarshalJSON copies the text.
func (r *Raw) UnmarshalJSON(b []byte) error {
	*r = append((*r)[:0:0], b...)
	return nil
}

// MarshalJSONTo writes the text, null if it is empty.
func (r Raw) MarshalJSONTo(enc *jsontext.Encoder) error {
	if len(r) == 0 {
		return enc.WriteToken(jsontext.Null)
	}
	return enc.WriteValue(jsontext.Value(r))
}

// UnmarshalJSONFrom copies the text of the next value.
func (r *Raw) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	v, err := dec.ReadValue()
	if err != nil {
		return err
	}
	*r = append((*r)[:0:0], v...)
	return nil
}

// MarshalJSON returns the text of the number, null if it is not valid.
func (n Number) MarshalJSON() ([]byte, error) { return Append(nil, n), nil }
