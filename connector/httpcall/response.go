package httpcall

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/connector"
	"github.com/tutti-run/tutti/value"
)

const (
	maxReason    = 4 << 10 // bytes of a failure's reason
	maxErrorBody = 1 << 20 // bytes kept of the body of a response from 400
)

var errTooLarge = errors.New("the response is too large")

// response is what the service answered.
type response struct {
	status int
	phrase string
	header http.Header
	body   []byte // UTF-8, as far as the response's charset is known
}

// readResponse reads a response up to max bytes. Of an error's body the beginning is
// enough; of any other, more is an error.
func readResponse(resp *http.Response, silence *watchdog, max int64) (*response, error) {
	isError := resp.StatusCode >= 400
	if isError {
		max = min(max, maxErrorBody)
	}
	body, err := io.ReadAll(io.LimitReader(progressReader{resp.Body, silence}, max+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(body)) > max && isError:
		body = body[:max]
	case int64(len(body)) > max:
		return nil, fmt.Errorf("%w: its body is longer than %d bytes", errTooLarge, max)
	}
	code := strconv.Itoa(resp.StatusCode)
	phrase := strings.TrimSpace(strings.TrimPrefix(resp.Status, code))
	if phrase == "" {
		phrase = http.StatusText(resp.StatusCode)
	}
	return &response{
		status: resp.StatusCode,
		phrase: phrase,
		header: resp.Header,
		body:   toUTF8(body, resp.Header.Get("Content-Type")),
	}, nil
}

// progressReader tells the watchdog about every byte that arrives.
type progressReader struct {
	io.Reader
	silence *watchdog
}

func (r progressReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.silence.progress()
	}
	return n, err
}

// toUTF8 converts a body in the one other charset that services still send.
func toUTF8(body []byte, contentType string) []byte {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil || !strings.EqualFold(params["charset"], "iso-8859-1") {
		return body
	}
	out := make([]byte, 0, len(body)+len(body)/8)
	for _, c := range body {
		out = utf8.AppendRune(out, rune(c))
	}
	return out
}

func (r *response) outcome(req *request) connector.Outcome {
	switch {
	case r.status >= 400:
		return failure(r.asError(req))
	case r.status >= 300:
		out := connector.Failed("No response from the remote service")
		out.Output = r.output(value.Null)
		return out
	}
	return connector.Outcome{Status: tutti.Completed, Output: r.output(bodyValue(r.body))}
}

// asError puts an error status in the words of the official server.
func (r *response) asError(req *request) error {
	body := "[no body]"
	if len(r.body) > 0 {
		body = `"` + oneLine(string(r.body)) + `"`
	}
	return fmt.Errorf("%d %s on %s request for %q: %s",
		r.status, r.phrase, req.method, shown(req.url), body)
}

func oneLine(s string) string {
	var b strings.Builder
	for _, c := range s {
		switch {
		case c == '\n' || c == '\r':
			b.WriteString("<EOL>")
		case unicode.IsControl(c):
			b.WriteByte('?')
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// output is the task's output: {"response": {…}}.
func (r *response) output(body value.Raw) value.Raw {
	headers := value.NewObject()
	for _, name := range slices.Sorted(maps.Keys(r.header)) {
		var list []any
		for _, v := range r.header[name] {
			list = append(list, v)
		}
		headers.Set(name, list)
	}
	out := value.Append([]byte(`{"response":{"headers":`), headers)
	out = append(out, `,"statusCode":`...)
	out = strconv.AppendInt(out, int64(r.status), 10)
	out = append(out, `,"body":`...)
	out = append(out, body...)
	out = append(out, `,"reasonPhrase":`...)
	out = value.AppendString(out, r.phrase)
	return append(out, `}}`...)
}

// bodyValue is a body as a value: what a JSON body says, any other text as a string. As in
// the official server, the content type does not matter, true, false and null become text,
// and an empty body is null.
func bodyValue(body []byte) value.Raw {
	if len(body) == 0 {
		return value.Null
	}
	raw := value.Raw(bytes.TrimSpace(body))
	if value.Check(raw, value.Limits{}) != nil {
		return value.AppendString(nil, string(body))
	}
	switch raw.Kind() {
	case "boolean", "null":
		return value.AppendString(nil, string(raw))
	}
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return value.AppendString(nil, string(body))
	}
	return b.Bytes()
}

// truncate cuts a text to at most n bytes, between characters.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const ellipsis = "…"
	cut := n - len(ellipsis)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + ellipsis
}
