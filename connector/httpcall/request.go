package httpcall

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tutti-run/tutti/value"
)

const (
	defaultMediaType = "application/json"
	defaultTimeoutMs = 3000
	formMediaType    = "application/x-www-form-urlencoded"
	maxTimeoutMs     = 24 * 60 * 60 * 1000
)

// problem is an error in the official server's own words.
type problem string

func (p problem) Error() string { return string(p) }

const (
	errNoURI = problem("Missing HTTP URI.  See documentation for HttpTask for required input " +
		"parameters")
	errNoMethod       = problem("No HTTP method specified")
	errConnectTimeout = problem("Connect timed out")
	errReadTimeout    = problem("Read timed out")
)

// request is what a task's input asks for.
type request struct {
	method  string
	url     *url.URL
	host    string // of the Host header when the input sets one
	header  http.Header
	body    []byte        // nil for none
	connect time.Duration // 0 = no timeout of its own
	read    time.Duration // longest silence of the server; 0 = no timeout of its own
}

// parseRequest reads the input of an HTTP task: the member http_request, or the input itself
// when there is none. Unknown members are ignored.
func parseRequest(input value.Raw) (*request, error) {
	if r, ok := input.Field("http_request"); ok && !r.IsNull() {
		input = r
	}
	if input.Kind() != "object" {
		return nil, fmt.Errorf("the HTTP request must be an object, not %s", input.Kind())
	}
	fields := map[string]value.Raw{}
	for name, v := range input.Members() {
		if !v.IsNull() {
			fields[name] = v
		}
	}
	r := &request{}
	for _, step := range []func(map[string]value.Raw) error{
		r.parseTarget, r.parseHeader, r.parseBody, r.parseTimeouts,
	} {
		if err := step(fields); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *request) parseTarget(fields map[string]value.Raw) error {
	uri := fields["uri"]
	if uri == nil {
		return errNoURI
	}
	method := fields["method"]
	if method == nil {
		return errNoMethod
	}
	text, ok := uri.Text()
	if !ok {
		return fmt.Errorf("uri must be a string, not %s", uri.Kind())
	}
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return fmt.Errorf("uri is malformed: %w", withoutURL(err))
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return fmt.Errorf("uri %q is not an absolute http or https URL", shown(u))
	}
	u.RawQuery, u.Fragment, u.RawFragment = escapeQuery(u.RawQuery), "", ""
	r.url = u
	text, ok = method.Text()
	r.method = strings.ToUpper(strings.TrimSpace(text))
	if !ok || !isToken(r.method) {
		return fmt.Errorf("method %s is not an HTTP method", method)
	}
	return nil
}

func (r *request) parseHeader(fields map[string]value.Raw) error {
	r.header = http.Header{}
	r.header.Set("Accept", defaultMediaType)
	r.header.Set("Content-Type", defaultMediaType)
	r.header.Set("User-Agent", "tutti")
	for name, field := range map[string]string{"Accept": "accept", "Content-Type": "contentType"} {
		if v := fields[field]; v != nil {
			r.header.Set(name, strings.Join(texts(v), ", "))
		}
	}
	headers := fields["headers"]
	if headers != nil && headers.Kind() != "object" {
		return fmt.Errorf("headers must be an object, not %s", headers.Kind())
	}
	for name, v := range headers.Members() {
		if v.IsNull() {
			continue
		}
		if !isToken(name) {
			return fmt.Errorf("header name %q is malformed", name)
		}
		r.header[http.CanonicalHeaderKey(name)] = texts(v)
	}
	for name, values := range r.header {
		for _, v := range values {
			if !isHeaderValue(v) {
				return fmt.Errorf("header %s has a value with control characters", name)
			}
		}
	}
	r.host = r.header.Get("Host")
	if strings.Contains(strings.ToLower(r.header.Get("Accept-Encoding")), "gzip") {
		// The transport asks for gzip by itself, and decodes only what it asked for.
		r.header.Del("Accept-Encoding")
	}
	return nil
}

// parseBody takes a string as it is and everything else as JSON, but an object as a form
// where the content type says so.
func (r *request) parseBody(fields map[string]value.Raw) error {
	body := fields["body"]
	if body == nil {
		return nil
	}
	if s, ok := body.Text(); ok {
		r.body = []byte(s)
		return nil
	}
	mediaType, _, _ := strings.Cut(r.header.Get("Content-Type"), ";")
	isForm := strings.EqualFold(strings.TrimSpace(mediaType), formMediaType)
	if isForm && body.Kind() == "object" {
		form := url.Values{}
		for name, v := range body.Members() {
			form[name] = texts(v)
		}
		r.body = []byte(form.Encode())
		return nil
	}
	r.body = []byte(compact(body))
	return nil
}

func (r *request) parseTimeouts(fields map[string]value.Raw) (err error) {
	if r.connect, err = timeout(fields, "connectionTimeOut"); err != nil {
		return err
	}
	r.read, err = timeout(fields, "readTimeOut")
	return err
}

// timeout returns a member in milliseconds; 0 means no timeout. Numbers may be strings.
func timeout(fields map[string]value.Raw, name string) (time.Duration, error) {
	v := fields[name]
	if v == nil {
		return defaultTimeoutMs * time.Millisecond, nil
	}
	ms, ok := v.Int64()
	if s, isText := v.Text(); isText {
		n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
		ms, ok = n, err == nil
	}
	if !ok || ms < 0 || ms > maxTimeoutMs {
		return 0, fmt.Errorf("%s must be a number of milliseconds from 0 to %d, not %s",
			name, maxTimeoutMs, v)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// texts returns a header or form value as text: the elements of a list one by one.
func texts(v value.Raw) []string {
	if v.Kind() != "array" {
		return []string{text(v)}
	}
	var out []string
	for e := range v.Elements() {
		if !e.IsNull() {
			out = append(out, text(e))
		}
	}
	return out
}

func text(v value.Raw) string {
	if s, ok := v.Text(); ok {
		return s
	}
	return compact(v)
}

func compact(v value.Raw) string {
	var b bytes.Buffer
	if json.Compact(&b, v) != nil {
		return string(v)
	}
	return b.String()
}

// escapeQuery escapes what may not stand in a query, so that a value pasted into a uri by
// an expression does not break the request line.
func escapeQuery(q string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(q) {
		c := q[i]
		if c > ' ' && c < 0x7f && !strings.ContainsRune("\"<>\\^`{|}", rune(c)) {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
	}
	return b.String()
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return s != ""
}

func isHeaderValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// shown is a URL as it may stand in a message: without what is often secret.
func shown(u *url.URL) string {
	s := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath, Opaque: u.Opaque}
	return s.String()
}

// withoutURL drops the URL that net/url and net/http put before the cause.
func withoutURL(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
