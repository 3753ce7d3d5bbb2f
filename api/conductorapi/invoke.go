package conductorapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/go-chi/chi/v5"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
)

// Invocation is a call of an endpoint from within the server: by a wire protocol that offers
// the same operations in another form.
type Invocation struct {
	Method, Pattern string            // of the endpoint, as in its route
	Path            map[string]string // parameters of the pattern
	Query           url.Values
	Body            []byte // JSON
}

// Invoke performs an operation and returns what the endpoint answers; nothing is empty. An
// error is a *tutti.Error in the words of the official server. An endpoint that does not exist
// is a fault of the caller and panics.
func (a *API) Invoke(ctx context.Context, in Invocation) ([]byte, error) {
	rt, ok := routeTable()[in.Method+" "+in.Pattern]
	if !ok {
		panic("no endpoint " + in.Method + " " + in.Pattern)
	}
	params := chi.NewRouteContext()
	for name, val := range in.Path {
		params.URLParams.Add(name, val)
	}
	r := &http.Request{
		Method: in.Method, URL: &url.URL{Path: in.Pattern},
		Header:        http.Header{"Content-Type": {"application/json"}},
		ContentLength: int64(len(in.Body)), Body: io.NopCloser(bytes.NewReader(in.Body)),
	}
	r = r.WithContext(context.WithValue(ctx, chi.RouteCtxKey, params))
	ans, err := rt.handle(a, &call{r: r, query: in.Query})
	if err != nil {
		return nil, asError(in.Method+" "+in.Pattern, err)
	}
	return ans.body, nil
}

var routeTable = sync.OnceValue(func() map[string]route {
	table := map[string]route{}
	for _, rt := range routes() {
		table[rt.method+" "+rt.pattern] = rt
	}
	return table
})

// asError puts an answer of the official server into the words of the root package. What is no
// fault of this server but answers 500 there is the caller's.
func asError(op string, err error) error {
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	e := &tutti.Error{Kind: tutti.Invalid, Op: op, Err: err}
	var cause *tutti.Error
	switch {
	case errors.As(f.cause, &cause):
		e.Kind, e.Code = cause.Kind, cause.Code
	case f.status != http.StatusInternalServerError:
		e.Kind = kindOf(f.status)
	}
	if len(f.violations) > 0 {
		texts := make([]string, len(f.violations))
		for i, v := range f.violations {
			texts[i] = v.path + ": " + v.message
		}
		e.Code = "ValidationFailed"
		e.Err = errors.New(f.message + " " + strings.Join(texts, "; "))
	}
	return e
}

// kindOf is the kind of error that answers a status.
func kindOf(status int) tutti.Kind {
	for k := tutti.Internal; k <= tutti.Unsupported; k++ {
		if api.HTTPStatus(k) == status && k != tutti.Conflict {
			return k
		}
	}
	if status < http.StatusInternalServerError {
		return tutti.Invalid
	}
	return tutti.Internal
}
