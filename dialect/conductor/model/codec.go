package model

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// maxProblems bounds how many faults of one document are reported.
const maxProblems = 100

// maxNesting bounds how deep tasks and definitions may be nested in each other.
const maxNesting = 64

// A record is a JSON object with known members. Its fields method names each of them once, in
// the order in which they are written, for reading and for writing alike.
type record interface {
	fields(c *codec)
}

// A codec moves the members of one record from (in) or to (out) a JSON object. It follows the
// rules of the official server's JSON mapper: unknown members are ignored, null leaves the
// default, scalars are converted where no information is lost that the server would keep, and
// members without a value are not written.
type codec struct {
	in       *value.Object
	out      *value.Object
	pointer  string
	depth    int
	problems *[]problem
}

// A problem is a fault of a document at the place that an RFC 6901 pointer names.
type problem struct {
	pointer string
	message string
}

// blanks holds the names of members that were given as an empty string, which is not the same
// as leaving them out: they are written again, and they satisfy rules that ask for a value.
type blanks []string

func (b blanks) has(name string) bool { return slices.Contains(b, name) }

// read fills r from a decoded value and returns all faults it met.
func read(r record, v any, pointer string, depth int) []problem {
	var found []problem
	c := &codec{pointer: pointer, depth: depth, problems: &found}
	o, ok := v.(*value.Object)
	switch {
	case !ok:
		c.fail(pointer, "want an object, found %s", value.Kind(v))
	case depth > maxNesting:
		c.fail(pointer, "nested deeper than %d levels", maxNesting)
	default:
		c.in = o
		r.fields(c)
	}
	return found
}

// write returns the JSON object of r.
func write(r record) *value.Object {
	c := &codec{out: value.NewObject()}
	r.fields(c)
	return c.out
}

// decode parses a document and fills r from it. The error is a *tutti.Error that wraps
// value.Diagnostics with the places of all faults.
func decode(r record, src value.Raw, what string) error {
	v, err := value.Parse(src, value.DefaultLimits)
	if err != nil {
		return malformed(what, value.Diagnostics{value.Diagnose("", err)})
	}
	return located(what, src, read(r, v, "", 0))
}

// decodeValue is decode for a value that is decoded already; positions are unknown.
func decodeValue(r record, v any, what string) error {
	return located(what, nil, read(r, v, "", 0))
}

func located(what string, src value.Raw, found []problem) error {
	if len(found) == 0 {
		return nil
	}
	list := make(value.Diagnostics, 0, len(found))
	for _, p := range found {
		list = append(list, p.diagnostic(src, value.Error, "malformed"))
	}
	return malformed(what, list)
}

func malformed(what string, list value.Diagnostics) error {
	e := &tutti.Error{
		Kind: tutti.Invalid, Op: "read " + what, Code: "MalformedDefinition", Err: list,
	}
	if list[0].Line > 0 && len(list) > 1 {
		e.Pos = fmt.Sprintf("%d:%d", list[0].Line, list[0].Column)
	}
	return e
}

func (p problem) diagnostic(src value.Raw, s value.Severity, code string) value.Diagnostic {
	d := value.Diagnostic{Severity: s, Code: code, Message: p.message}
	d.Line, d.Column = value.Locate(src, p.pointer)
	if p.pointer != "" {
		d.Message = p.pointer + ": " + p.message
	}
	return d
}

func (c *codec) fail(pointer, format string, args ...any) {
	if len(*c.problems) < maxProblems {
		*c.problems = append(*c.problems, problem{pointer, fmt.Sprintf(format, args...)})
	}
}

// at returns the pointer of a member of the record being read.
func (c *codec) at(name string) string { return pointerTo(c.pointer, name) }

func pointerTo(parent, token string) string {
	token = strings.ReplaceAll(token, "~", "~0")
	return parent + "/" + strings.ReplaceAll(token, "/", "~1")
}

// get returns a member that is neither missing nor null.
func (c *codec) get(name string) (any, bool) {
	v, ok := c.in.Get(name)
	return v, ok && v != nil
}

// member reads or writes one scalar: parse converts what is read, and put returns what is
// written, or false for nothing.
func (c *codec) member(name string, parse func(v any) string, put func() (any, bool)) {
	if c.out != nil {
		if v, ok := put(); ok {
			c.out.Set(name, v)
		}
		return
	}
	if v, ok := c.get(name); ok {
		if fault := parse(v); fault != "" {
			c.fail(c.at(name), "%s", fault)
		}
	}
}

// text is a string member; an empty one is not written unless b says that it was given.
func (c *codec) text(name string, p *string, b *blanks) {
	c.member(name, func(v any) string {
		s, fault := toText(v)
		if fault == "" {
			if *p = s; s == "" && b != nil && !b.has(name) {
				*b = append(*b, name)
			}
		}
		return fault
	}, func() (any, bool) { return *p, *p != "" || b.has(name) })
}

// null reports whether a member is null, which is zero for numbers and flags that cannot be
// missing.
func (c *codec) null(name string) bool {
	v, ok := c.in.Get(name)
	return ok && v == nil
}

// integer is a 32-bit member that is always written.
func (c *codec) integer(name string, p *int) {
	if c.null(name) {
		*p = 0
	}
	c.boxed(name, p)
}

// boxed is a 32-bit member that is always written, and that null leaves at its default.
func (c *codec) boxed(name string, p *int) {
	c.member(name, func(v any) string {
		n, fault := toInt(v, math.MinInt32, math.MaxInt32)
		if fault == "" {
			*p = int(n)
		}
		return fault
	}, func() (any, bool) { return value.Int(int64(*p)), true })
}

// long is a 64-bit member that is always written.
func (c *codec) long(name string, p *int64) {
	if c.null(name) {
		*p = 0
	}
	c.member(name, func(v any) string {
		n, fault := toInt(v, math.MinInt64, math.MaxInt64)
		if fault == "" {
			*p = n
		}
		return fault
	}, func() (any, bool) { return value.Int(*p), true })
}

// optInteger is a 32-bit member that may be missing.
func (c *codec) optInteger(name string, p **int) {
	c.member(name, func(v any) string {
		if v == "" {
			return ""
		}
		n, fault := toInt(v, math.MinInt32, math.MaxInt32)
		if fault == "" {
			i := int(n)
			*p = &i
		}
		return fault
	}, func() (any, bool) {
		if *p == nil {
			return nil, false
		}
		return value.Int(int64(**p)), true
	})
}

// flag is a boolean member that is always written.
func (c *codec) flag(name string, p *bool) {
	if c.null(name) {
		*p = false
	}
	c.member(name, func(v any) string {
		b, fault := toBool(v)
		if fault == "" {
			*p = b
		}
		return fault
	}, func() (any, bool) { return *p, true })
}

// optFlag is a boolean member that may be missing.
func (c *codec) optFlag(name string, p **bool) {
	c.member(name, func(v any) string {
		b, fault := toBool(v)
		if fault == "" && v != "" {
			*p = &b
		}
		return fault
	}, func() (any, bool) {
		if *p == nil {
			return nil, false
		}
		return **p, true
	})
}

// enum is a member that holds one of the given names, or the number of one.
func enum[T ~string](c *codec, name string, p *T, names ...T) {
	c.member(name, func(v any) string {
		if n, ok := v.(value.Number); ok {
			if i, ok := n.Int64(); ok && i >= 0 && i < int64(len(names)) {
				*p = names[i]
				return ""
			}
		}
		if s, ok := v.(string); ok && slices.Contains(names, T(s)) {
			*p = T(s)
			return ""
		}
		return fmt.Sprintf("want one of %s, found %s", quoteAll(names), brief(v))
	}, func() (any, bool) { return string(*p), *p != "" })
}

// object is a member with free content. It is always written; nil is written as empty.
func (c *codec) object(name string, p **value.Object) {
	c.optObject(name, p)
	if *p == nil {
		*p = value.NewObject()
		if c.out != nil {
			c.out.Set(name, *p)
		}
	}
}

// optObject is a member with free content that may be missing.
func (c *codec) optObject(name string, p **value.Object) {
	c.member(name, func(v any) string {
		o, ok := v.(*value.Object)
		if !ok {
			return "want an object, found " + brief(v)
		}
		*p = o
		return ""
	}, func() (any, bool) { return *p, *p != nil })
}

// anything is a member of any kind that may be missing.
func (c *codec) anything(name string, p *any) {
	c.member(name, func(v any) string {
		*p = v
		return ""
	}, func() (any, bool) { return *p, *p != nil })
}

// texts is a list of strings that is always written.
func (c *codec) texts(name string, p *[]string) {
	if c.out != nil {
		list := make([]any, len(*p))
		for i, s := range *p {
			list[i] = s
		}
		c.out.Set(name, list)
		return
	}
	*p = []string{}
	c.elements(c.in, c.pointer, name, func(at string, v any) {
		s, fault := toText(v)
		if fault != "" {
			c.fail(at, "%s", fault)
			return
		}
		*p = append(*p, s)
	})
}

// textMap is an object of strings that may be missing.
func (c *codec) textMap(name string, p *map[string]string) {
	c.member(name, func(v any) string {
		o, ok := v.(*value.Object)
		if !ok {
			return "want an object of strings, found " + brief(v)
		}
		m := make(map[string]string, o.Len())
		for k, e := range o.All() {
			s, fault := toText(e)
			if fault != "" {
				return k + ": " + fault
			}
			m[k] = s
		}
		*p = m
		return ""
	}, func() (any, bool) {
		o := value.NewObject()
		for _, k := range slices.Sorted(maps.Keys(*p)) {
			o.Set(k, (*p)[k])
		}
		return o, *p != nil
	})
}

// elements calls each with the elements of a list in o; null and absence are the empty list.
func (c *codec) elements(o *value.Object, parent, name string, each func(at string, v any)) {
	v, ok := o.Get(name)
	if !ok || v == nil {
		return
	}
	list, ok := v.([]any)
	if !ok {
		c.fail(pointerTo(parent, name), "want a list, found %s", brief(v))
		return
	}
	for i, e := range list {
		each(pointerTo(parent, name)+"/"+strconv.Itoa(i), e)
	}
}

// child is a record that may be missing. make returns it with its defaults.
func child[R interface {
	comparable
	record
}](c *codec, name string, p *R, make func() R,
) {
	var none R
	c.member(name, func(v any) string {
		*p = make()
		c.adopt(read(*p, v, c.at(name), c.depth+1))
		return ""
	}, func() (any, bool) {
		if *p == none {
			return nil, false
		}
		return write(*p), true
	})
}

// children is a list of records that is always written.
func children[R record](c *codec, name string, p *[]R, make func() R) {
	if c.out != nil {
		c.out.Set(name, writeAll(*p))
		return
	}
	*p = readAll(c, c.in, c.pointer, name, make)
}

func readAll[R record](c *codec, o *value.Object, parent, name string, make func() R) []R {
	list := []R{}
	c.elements(o, parent, name, func(at string, v any) {
		r := make()
		c.adopt(read(r, v, at, c.depth+1))
		list = append(list, r)
	})
	return list
}

// branches is a list of lists of records that is always written.
func branches[R record](c *codec, name string, p *[][]R, make func() R) {
	if c.out != nil {
		list := []any{}
		for _, b := range *p {
			list = append(list, writeAll(b))
		}
		c.out.Set(name, list)
		return
	}
	*p = [][]R{}
	c.elements(c.in, c.pointer, name, func(at string, v any) {
		list, ok := v.([]any)
		if !ok {
			c.fail(at, "want a list, found %s", brief(v))
			return
		}
		branch := []R{}
		for i, e := range list {
			r := make()
			c.adopt(read(r, e, at+"/"+strconv.Itoa(i), c.depth+1))
			branch = append(branch, r)
		}
		*p = append(*p, branch)
	})
}

func writeAll[R record](list []R) []any {
	out := make([]any, len(list))
	for i, r := range list {
		out[i] = write(r)
	}
	return out
}

// groups is an object of lists of records, in order, that is always written.
func groups[R record](c *codec, name string, p *[]Group[R], make func() R) {
	if c.out != nil {
		o := value.NewObject()
		for _, g := range *p {
			o.Set(g.Key, writeAll(g.List))
		}
		c.out.Set(name, o)
		return
	}
	*p = []Group[R]{}
	v, ok := c.get(name)
	if !ok {
		return
	}
	o, ok := v.(*value.Object)
	if !ok {
		c.fail(c.at(name), "want an object of lists, found %s", brief(v))
		return
	}
	for key := range o.All() {
		list := readAll(c, o, c.at(name), key, make)
		*p = append(*p, Group[R]{Key: key, List: list})
	}
}

// adopt takes over the faults of a nested record.
func (c *codec) adopt(found []problem) {
	for _, p := range found {
		c.fail(p.pointer, "%s", p.message)
	}
}

func toText(v any) (string, string) {
	switch v := v.(type) {
	case string:
		return v, ""
	case value.Number:
		return string(v), ""
	case bool:
		return strconv.FormatBool(v), ""
	case nil:
		return "", ""
	}
	return "", "want a string, found " + brief(v)
}

// toInt cuts off fractions and reads strings, as the official server does.
func toInt(v any, least, most int64) (int64, string) {
	var n value.Number
	switch v := v.(type) {
	case value.Number:
		n = v
	case string:
		if n = value.Number(strings.TrimSpace(v)); n == "" {
			return 0, ""
		}
		if _, err := strconv.ParseInt(string(n), 10, 64); err != nil {
			return 0, "want an integer, found " + brief(v)
		}
	default:
		return 0, "want an integer, found " + brief(v)
	}
	i, ok := n.Int64()
	if !ok && !n.IsInt() {
		f, valid := n.Float64()
		i, ok = int64(f), valid && math.Abs(f) < 1<<63
	}
	if !ok || i < least || i > most {
		return 0, fmt.Sprintf("integer %s is out of range", brief(v))
	}
	return i, ""
}

func toBool(v any) (bool, string) {
	switch v := v.(type) {
	case bool:
		return v, ""
	case value.Number:
		if i, ok := v.Int64(); ok && v.IsInt() {
			return i != 0, ""
		}
	case string:
		switch strings.TrimSpace(v) {
		case "true", "True", "TRUE":
			return true, ""
		case "", "false", "False", "FALSE":
			return false, ""
		}
	}
	return false, "want true or false, found " + brief(v)
}

// brief shows a value in an error message.
func brief(v any) string {
	switch v := v.(type) {
	case string:
		const most = 40
		if len(v) > most {
			v = strings.ToValidUTF8(v[:most], "") + "…"
		}
		return strconv.Quote(v)
	case value.Number:
		return string(v)
	case bool:
		return strconv.FormatBool(v)
	}
	return value.Kind(v)
}

func quoteAll[T ~string](names []T) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = strconv.Quote(string(n))
	}
	return strings.Join(quoted, ", ")
}
