package conductorapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/value"
)

// call is one request.
type call struct {
	r     *http.Request
	query url.Values
}

func (c *call) ctx() context.Context { return c.r.Context() }

// path returns a parameter of the route.
func (c *call) path(name string) string {
	s := chi.URLParam(c.r, name)
	if c.r.URL.RawPath == "" {
		return s
	}
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}

// text returns a query parameter, or a default when it is missing.
func (c *call) text(name, absent string) string {
	if !c.query.Has(name) {
		return absent
	}
	return c.query.Get(name)
}

// required returns a query parameter that must be there.
func (c *call) required(name, javaType string) (string, error) {
	if !c.query.Has(name) {
		return "", fail(http.StatusInternalServerError, "Required request parameter '%s' for"+
			" method parameter type %s is not present", name, javaType)
	}
	return c.query.Get(name), nil
}

func badParameter(name, got, javaType string) error {
	return fail(http.StatusInternalServerError, "Failed to convert value of type"+
		" 'java.lang.String' to required type '%s' for parameter %s; For input string: %q",
		javaType, name, got)
}

// number returns a whole-number query parameter. An empty one counts as missing.
func (c *call) number(name string, absent int64) (int64, error) {
	s := strings.TrimSpace(c.query.Get(name))
	if s == "" {
		return absent, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, badParameter(name, s, "long")
	}
	return n, nil
}

// integer is number within the range of an int.
func (c *call) integer(name string, absent int) (int, error) {
	n, err := c.number(name, int64(absent))
	if err != nil || n != int64(int32(n)) {
		return 0, badParameter(name, c.query.Get(name), "int")
	}
	return int(n), nil
}

// flag returns a boolean query parameter, in the spellings that Spring takes.
func (c *call) flag(name string, absent bool) (bool, error) {
	s := strings.ToLower(strings.TrimSpace(c.query.Get(name)))
	switch s {
	case "":
		return absent, nil
	case "true", "on", "yes", "1":
		return true, nil
	case "false", "off", "no", "0":
		return false, nil
	}
	return false, badParameter(name, s, "boolean")
}

// list returns a query parameter that may be repeated or hold commas.
func (c *call) list(name string) []string {
	var all []string
	for _, s := range c.query[name] {
		for _, part := range strings.Split(s, ",") {
			if part = strings.TrimSpace(part); part != "" {
				all = append(all, part)
			}
		}
	}
	return all
}

// version reads the version of a path or query; 0 stands for the newest.
func readVersion(s string) (int, error) {
	if s == "" || s == "null" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, badParameter("version", s, "java.lang.Integer")
	}
	return max(int(n), 0), nil
}

// body reads the request's body.
func (c *call) body() ([]byte, error) {
	size := c.r.ContentLength
	if size > api.MaxPayloadBytes {
		return nil, tooLarge()
	}
	b := make([]byte, 0, max(size, 511)+1)
	src := io.LimitReader(c.r.Body, api.MaxPayloadBytes+1)
	for {
		n, err := src.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case len(b) > api.MaxPayloadBytes:
			return nil, tooLarge()
		case errors.Is(err, io.EOF):
			return b, nil
		case err != nil:
			return nil, &tutti.Error{Kind: tutti.Cancelled, Op: "read request", Err: err}
		case len(b) == cap(b):
			b = slices.Grow(b, cap(b))
		}
	}
}

func tooLarge() error {
	return tutti.E(tutti.Exhausted, "read request", "PayloadTooLarge",
		fmt.Sprintf("the body is larger than %d bytes", api.MaxPayloadBytes))
}

// malformed answers a body that cannot be read, which is a fault of the server there.
func malformed(err error) error {
	return &failure{
		status: http.StatusInternalServerError, cause: err,
		message: "JSON parse error: " + err.Error(),
	}
}

// json reads the body and checks that it is one JSON value of a kind.
func (c *call) json(kind string) (value.Raw, error) {
	b, err := c.body()
	if err != nil {
		return nil, err
	}
	raw := value.Raw(b)
	if len(strings.TrimSpace(string(b[:min(len(b), 64)]))) == 0 && raw.IsNull() {
		return nil, malformed(errors.New("Required request body is missing"))
	}
	if err := value.Check(raw, value.DefaultLimits); err != nil {
		return nil, malformed(err)
	}
	if raw.Kind() != kind {
		return nil, malformed(fmt.Errorf("want an %s, found %s", kind, raw.Kind()))
	}
	return raw, nil
}

// optional is json for a body that may be missing; it is nil then.
func (c *call) optional(kind string) (value.Raw, error) {
	if c.r.ContentLength == 0 {
		return nil, nil
	}
	b, err := c.body()
	if err != nil {
		return nil, err
	}
	if len(strings.TrimSpace(string(b))) == 0 {
		return nil, nil
	}
	if err := value.Check(b, value.DefaultLimits); err != nil {
		return nil, malformed(err)
	}
	raw := value.Raw(b)
	if raw.IsNull() {
		return nil, nil
	}
	if raw.Kind() != kind {
		return nil, malformed(fmt.Errorf("want an %s, found %s", kind, raw.Kind()))
	}
	return raw, nil
}

// names reads a body that is a list of strings.
func (c *call) names() ([]string, error) {
	raw, err := c.json("array")
	if err != nil {
		return nil, err
	}
	return textList(raw)
}

func textList(raw value.Raw) ([]string, error) {
	var list []string
	for e := range raw.Elements() {
		s, ok := e.Text()
		if !ok {
			return nil, malformed(fmt.Errorf("want strings, found %s", e.Kind()))
		}
		list = append(list, s)
	}
	return list, nil
}

// objects reads a body that is an object, or a list of them.
func (c *call) objects() ([]value.Raw, error) {
	b, err := c.body()
	if err != nil {
		return nil, err
	}
	raw := value.Raw(b)
	if err := value.Check(raw, value.DefaultLimits); err != nil {
		return nil, malformed(err)
	}
	all := []value.Raw{raw}
	if raw.Kind() == "array" {
		all = slices.Collect(raw.Elements())
	}
	for _, one := range all {
		if one.Kind() != "object" {
			return nil, malformed(fmt.Errorf("want an object, found %s", one.Kind()))
		}
	}
	return all, nil
}

// bodyReader reads the members of a JSON object and keeps the first fault.
type bodyReader struct {
	raw value.Raw
	err error
}

func (b *bodyReader) fault(name, want string, got value.Raw) {
	if b.err == nil {
		b.err = malformed(fmt.Errorf("%s: want %s, found %s", name, want, got.Kind()))
	}
}

// text reads a string; numbers and booleans are taken as they are written.
func (b *bodyReader) text(name string) string {
	f, ok := b.raw.Field(name)
	if !ok || f.IsNull() {
		return ""
	}
	if s, ok := f.Text(); ok {
		return s
	}
	if k := f.Kind(); k == "number" || k == "boolean" {
		return strings.TrimSpace(string(f))
	}
	b.fault(name, "a string", f)
	return ""
}

// number reads a whole number, also one in quotes; null is absent.
func (b *bodyReader) number(name string, absent int64) int64 {
	f, ok := b.raw.Field(name)
	if !ok || f.IsNull() {
		return absent
	}
	if n, ok := f.Int64(); ok {
		return n
	}
	if s, ok := f.Text(); ok {
		if n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64); err == nil {
			return n
		}
		if s == "" {
			return absent
		}
	}
	b.fault(name, "an integer", f)
	return absent
}

func (b *bodyReader) flag(name string) bool {
	f, ok := b.raw.Field(name)
	if !ok || f.IsNull() {
		return false
	}
	if v, ok := f.Bool(); ok {
		return v
	}
	switch s, ok := f.Text(); {
	case ok && strings.EqualFold(s, "true"):
		return true
	case ok && (s == "" || strings.EqualFold(s, "false")):
		return false
	}
	b.fault(name, "true or false", f)
	return false
}

// object reads a member that is an object; nil when it is missing or null.
func (b *bodyReader) object(name string) value.Raw {
	f, ok := b.raw.Field(name)
	if !ok || f.IsNull() {
		return nil
	}
	if f.Kind() != "object" {
		b.fault(name, "an object", f)
		return nil
	}
	return f
}

// list reads a member that is a list of strings; nil when it is missing or null.
func (b *bodyReader) list(name string) []string {
	f, ok := b.raw.Field(name)
	switch {
	case !ok || f.IsNull():
		return nil
	case f.Kind() != "array":
		b.fault(name, "a list", f)
		return nil
	}
	list, err := textList(f)
	if err != nil && b.err == nil {
		b.err = err
	}
	return list
}

// texts reads an object of strings.
func (b *bodyReader) texts(name string) map[string]string {
	f := b.object(name)
	if f == nil {
		return nil
	}
	m := map[string]string{}
	inner := bodyReader{raw: f}
	for k := range f.Members() {
		m[k] = inner.text(k)
	}
	if inner.err != nil && b.err == nil {
		b.err = inner.err
	}
	return m
}

// choice reads one of several names; empty when it is missing.
func (b *bodyReader) choice(name string, names ...string) string {
	s := b.text(name)
	if s != "" && !slices.Contains(names, s) && b.err == nil {
		b.err = malformed(fmt.Errorf("%s: want one of %s, found %q",
			name, strings.Join(names, ", "), s))
	}
	return s
}
