// Package conductorapi serves the REST API of Conductor, so that its official SDKs, its UI and
// its command line work unchanged: every endpoint of the open-source server with its status
// codes, plain-text answers, empty bodies and error bodies, and the OpenAPI document of all of
// it. Event handlers and schedules, which only Conductor's API knows, are carried out here too.
//
// It may import the root package, value, expr, dialect/conductor, engine (for views),
// connector/eventbus, observe and api; never the runner, a store or another wire protocol.
//
// Its invariants: no route exists without a permission; every operation passes through
// api.Service, which authorises it; a payload that is passed on is copied as bytes and never
// decoded.
package conductorapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/go-chi/chi/v5"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/api/conductorapi/events"
	"github.com/tutti-run/tutti/api/conductorapi/schedule"
	"github.com/tutti-run/tutti/connector/eventbus"
	"github.com/tutti-run/tutti/dialect/conductor/model"
)

// Options configure an API. Service is required.
type Options struct {
	Service *api.Service
	Logger  *slog.Logger
	// Rules are the optional checks of definitions.
	Rules model.Rules
	// Version and BuildDate are what /api/version and /api/admin/config tell.
	Version, BuildDate string
	// Environment answers /api/environment: what ${workflow.env.NAME} resolves to. Nil means
	// that there is none.
	Environment map[string]string
	// SecretNames lists the names of the secrets for /api/secrets; nil means that there are
	// none. Their values never leave through the API.
	SecretNames func() []string
	// Secret answers the value of a secret that a task definition asks to be given to its
	// workers (runtimeMetadata); nil means that there are none.
	Secret func(name string) (string, bool)
	// Bus carries the events that event handlers receive; nil means that they receive none.
	Bus eventbus.Bus
	// Config are further entries of /api/admin/config.
	Config map[string]string
}

// API serves Conductor's REST API. Its methods are safe for concurrent use.
type API struct {
	opts Options
	svc  *api.Service
	log  *slog.Logger

	kept      kept
	schedules *schedule.Service
	openapi   func() []byte
}

// New returns the API over a service.
func New(opts Options) *API {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	a := &API{opts: opts, svc: opts.Service, log: opts.Logger}
	a.openapi = sync.OnceValue(a.document)
	a.schedules = schedule.New(schedule.Options{
		Service: a.svc, Start: a.Start, Logger: a.log,
	})
	return a
}

// Run carries out event handlers and schedules until ctx is done.
func (a *API) Run(ctx context.Context) {
	var parts sync.WaitGroup
	parts.Go(func() { a.schedules.Run(ctx) })
	if a.opts.Bus != nil {
		handlers := events.NewHandlers(a.svc, a.opts.Bus, a.log)
		parts.Go(func() { handlers.Run(ctx) })
	}
	parts.Wait()
}

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
