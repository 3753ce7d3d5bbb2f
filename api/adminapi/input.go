package adminapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// body reads a JSON body into v. Unknown members are refused; an empty body leaves v as it
// is. Errors say where.
func (c *call) body(v any) error {
	raw, err := c.rawBody()
	if err != nil || len(bytes.TrimSpace(raw)) == 0 {
		return err
	}
	var syntax *value.SyntaxError
	if err := value.Check(raw, value.DefaultLimits); errors.As(err, &syntax) {
		return invalidBody(fmt.Sprintf("%d:%d", syntax.Line, syntax.Column), syntax.Message)
	} else if err != nil {
		return &tutti.Error{Kind: tutti.Exhausted, Op: "read body", Code: "BodyTooLarge", Err: err}
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	err = dec.Decode(v)
	var typ *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &typ):
		return invalidBody(position(raw, int(typ.Offset)),
			fmt.Sprintf("%s must be a %s, not a %s", typ.Field, typ.Type, typ.Value))
	}
	return invalidBody(unknownAt(raw, err), strings.TrimPrefix(err.Error(), "json: "))
}

func (c *call) rawBody() ([]byte, error) {
	raw, err := io.ReadAll(c.r.Body)
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tutti.E(tutti.Exhausted, "read body", "BodyTooLarge",
			fmt.Sprintf("the body is over the bound of %d bytes", over.Limit))
	case err != nil:
		return nil, &tutti.Error{Kind: tutti.Cancelled, Op: "read body", Err: err}
	}
	return raw, nil
}

func invalidBody(pos, message string) error {
	return &tutti.Error{
		Kind: tutti.Invalid, Op: "read body", Code: "InvalidBody", Pos: pos,
		Err: errors.New(message),
	}
}

// position is the line and column of an offset, both from 1.
func position(raw []byte, offset int) string {
	before := raw[:min(max(offset, 0), len(raw))]
	line := bytes.Count(before, []byte("\n")) + 1
	start := bytes.LastIndexByte(before, '\n') + 1
	return fmt.Sprintf("%d:%d", line, len([]rune(string(before[start:])))+1)
}

// unknownAt finds the member that an error of the decoder names.
func unknownAt(raw []byte, err error) string {
	_, name, ok := strings.Cut(err.Error(), "unknown field ")
	if !ok {
		return ""
	}
	at := bytes.Index(raw, []byte(name))
	if at < 0 {
		return ""
	}
	return position(raw, at)
}

// number reads a number of a query that is not negative; empty text is def.
func number(name, text string, def int64) (int64, error) {
	if text == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, invalidQuery(name, text, "a number that is not negative")
	}
	return n, nil
}

func invalidQuery(name, text, want string) error {
	return &tutti.Error{
		Kind: tutti.Invalid, Op: "read query", Code: "InvalidQuery", Pos: name,
		Err: fmt.Errorf("%q is not %s", text, want),
	}
}

// query reads the parameters of a query and keeps the first error.
type query struct {
	c   *call
	err error
}

func (q *query) text(name string) string { return q.c.r.URL.Query().Get(name) }

func (q *query) list(name string) (out []string) {
	for _, v := range q.c.r.URL.Query()[name] {
		for part := range strings.SplitSeq(v, ",") {
			if part != "" {
				out = append(out, part)
			}
		}
	}
	return out
}

func (q *query) num(name string, def int64) int64 {
	n, err := number(name, q.text(name), def)
	q.keep(err)
	return n
}

func (q *query) flag(name string) bool {
	text := q.text(name)
	if text == "" {
		return q.c.r.URL.Query().Has(name)
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		q.keep(invalidQuery(name, text, "true or false"))
	}
	return b
}

// moment reads a time: Unix milliseconds or RFC 3339.
func (q *query) moment(name string) int64 {
	text := q.text(name)
	if text == "" {
		return 0
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		q.keep(invalidQuery(name, text, "a time: Unix milliseconds or RFC 3339"))
		return 0
	}
	return at.UnixMilli()
}

func (q *query) statuses() (out []tutti.RunStatus) {
	for _, text := range q.list("status") {
		st, ok := tutti.ParseRunStatus(strings.ToUpper(text))
		if !ok {
			q.keep(invalidQuery("status", text, "a status of runs"))
		}
		out = append(out, st)
	}
	return out
}

func (q *query) keep(err error) {
	if q.err == nil {
		q.err = err
	}
}
