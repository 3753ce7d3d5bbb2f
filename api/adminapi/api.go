package adminapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"

	"github.com/go-chi/chi/v5"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
)

// Prefix is the path under which the API is served.
const Prefix = "/admin/v1"

// maxBody bounds the body of a request, in bytes: the largest payload within its envelope.
const maxBody = api.MaxPayloadBytes + 1<<20

// Options configure the API. Service is required.
type Options struct {
	Service  *api.Service
	Appliers api.Appliers // nil: definitions cannot be applied
	Logger   *slog.Logger
	Version  string // of the server
}

// API is the native JSON API.
type API struct {
	opts Options
	svc  *api.Service
	log  *slog.Logger
	doc  []byte // the OpenAPI document
}

// New returns the API.
func New(o Options) *API {
	a := &API{opts: o, svc: o.Service, log: o.Logger}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.doc = document(a.routes(), cmp.Or(o.Version, "dev"))
	return a
}

// Handler serves the API. It expects the full path, Prefix included.
func (a *API) Handler() http.Handler {
	r := chi.NewRouter()
	for _, rt := range a.routes() {
		r.Method(rt.method, Prefix+rt.pattern, a.serve(rt))
	}
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		a.fail(w, r, &tutti.Error{
			Kind: tutti.NotFound, Op: r.Method + " " + r.URL.Path, Code: "NoRoute",
			Err:  errors.New("there is nothing at this path"),
			Hint: "see " + Prefix + "/openapi.json",
		})
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusMethodNotAllowed)
	})
	return r
}

// serve wraps the handler of a route: permission, body, answer, errors.
func (a *API) serve(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				a.log.Error("a request failed unexpectedly", "path", r.URL.Path, "panic", p,
					"stack", string(debug.Stack()))
				a.fail(w, r, tutti.E(tutti.Internal, "serve", "Unexpected",
					"the server failed unexpectedly; its log says more"))
			}
		}()
		c := &call{API: a, w: w, r: r, ns: namespace(r), ctx: r.Context()}
		if rt.permission != "" {
			if err := a.svc.Allowed(c.ctx, rt.permission, c.ns); err != nil {
				a.fail(w, r, err)
				return
			}
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		out, err := rt.handle(c)
		switch {
		case err != nil && !c.streaming:
			a.fail(w, r, err)
		case err != nil:
			a.log.Debug("a stream was cut", "path", r.URL.Path, "error", err)
		case c.streaming:
		case out == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			writeJSON(w, cmp.Or(rt.status, http.StatusOK), out)
		}
	}
}

// namespace is that of a request: its query, then its header, then the default.
func namespace(r *http.Request) string {
	return cmp.Or(r.URL.Query().Get("namespace"), r.Header.Get("Tutti-Namespace"),
		api.DefaultNamespace)
}

// call is one request.
type call struct {
	*API
	ctx       context.Context
	w         http.ResponseWriter
	r         *http.Request
	ns        string
	streaming bool // the handler writes the answer by itself
}

func (c *call) param(name string) string { return chi.URLParam(c.r, name) }

// run is the run that the path names.
func (c *call) run() (tutti.RunID, error) { return tutti.ParseRunID(c.param("id")) }

// task is the attempt that the path names, by identifier or by number within its run.
func (c *call) task() (tutti.RunID, tutti.Seq, error) {
	run, err := c.run()
	if err != nil {
		return run, 0, err
	}
	if seq, err := strconv.ParseUint(c.param("task"), 10, 28); err == nil {
		return run, tutti.Seq(seq), nil
	}
	of, seq, err := tutti.ParseTaskID(c.param("task"))
	if err == nil && of != run {
		err = tutti.E(tutti.NotFound, "find task", "TaskNotFound", "the task is of another run")
	}
	return run, seq, err
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the client went away
}

// Error is the body of every answer that is an error.
type Error struct {
	Kind    string `json:"kind" doc:"what the caller can do about it, in words"`
	Code    string `json:"code,omitempty" doc:"stable identifier of the error"`
	Message string `json:"message" doc:"what is wrong"`
	Hint    string `json:"hint,omitempty" doc:"what to do next"`
	Pos     string `json:"pos,omitempty" doc:"where in the input, as line:column or a path"`
}

func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	kind := tutti.KindOf(err)
	body := Error{Kind: kind.String(), Message: err.Error()}
	var e *tutti.Error
	if errors.As(err, &e) {
		body.Code, body.Message, body.Hint, body.Pos = e.Code, e.Message(), e.Hint, e.Pos
	}
	if kind == tutti.Internal {
		a.log.Error("a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	writeJSON(w, api.HTTPStatus(kind), body)
}
