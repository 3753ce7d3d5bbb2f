package conductorapi

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/value"
)

// route is one endpoint. The same table makes the router and the OpenAPI document.
type route struct {
	method, pattern string
	// perm is what the endpoint's operation needs. It is enforced by api.Service, which the
	// handler calls; open says that there is nothing to enforce.
	perm   api.Permission
	doc    string
	handle func(*API, *call) (answer, error)
	query  []string // "name type", "name type=default", a leading * for required ones
	body   string   // schema of the body, [Schema] for a list
	result string   // schema of the answer; "text" for plain text, empty for none
}

// open marks endpoints that answer nothing about any namespace.
const open api.Permission = "open"

// answer is what a handler answers.
type answer struct {
	status int // 0 = 200
	plain  bool
	body   []byte
	header http.Header // additional fields; may be nil
}

// The usual answers.
func empty() (answer, error)             { return answer{}, nil }
func noContent() (answer, error)         { return answer{status: http.StatusNoContent}, nil }
func jsonOf(b []byte) (answer, error)    { return answer{body: b}, nil }
func rawOf(v value.Raw) (answer, error)  { return answer{body: v}, nil }
func plainText(s string) (answer, error) { return answer{plain: true, body: []byte(s)}, nil }
func emptyOr(err error) (answer, error)  { return answer{}, err }
func textOr(s string, e error) (answer, error) {
	if e != nil {
		return answer{}, e
	}
	return plainText(s)
}

// routes lists every endpoint.
func routes() []route {
	var all []route
	for _, group := range [][]route{
		metadataRoutes(), taskDefRoutes(), workflowRoutes(), payloadRoutes(), controlRoutes(),
		bulkRoutes(), taskRoutes(), signalRoutes(), queueRoutes(), searchRoutes(), adminRoutes(),
		eventRoutes(), dryRoutes(), scheduleRoutes(), schedulerRoutes(),
	} {
		all = append(all, group...)
	}
	return all
}

// Handler returns the handler of everything below /api, of /health and of the OpenAPI
// document.
func (a *API) Handler() http.Handler {
	m := chi.NewRouter()
	m.Use(trimSlash)
	for _, rt := range routes() {
		if rt.perm == "" {
			panic("route without permission: " + rt.method + " " + rt.pattern)
		}
		m.Method(rt.method, rt.pattern, a.serve(rt))
		if rt.method == http.MethodGet && rt.reads() {
			m.Method(http.MethodHead, rt.pattern, a.serve(rt))
		}
	}
	m.NotFound(func(w http.ResponseWriter, r *http.Request) {
		a.fail(w, r, fail(http.StatusNotFound, "No static resource %s.",
			strings.TrimPrefix(r.URL.Path, "/")))
	})
	m.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		a.otherMethod(m, w, r)
	})
	return m
}

// reads reports whether the endpoint changes nothing. Conductor has some that answer GET and do.
func (rt *route) reads() bool {
	switch rt.perm {
	case open, api.ReadDefinitions, api.ReadRuns, api.ReadQueues:
		return true
	}
	return false
}

// trimSlash makes a trailing slash mean nothing.
func trimSlash(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if r.URL.RawPath != "" {
			path = r.URL.RawPath
		}
		if len(path) > 1 && strings.HasSuffix(path, "/") {
			chi.RouteContext(r.Context()).RoutePath = strings.TrimRight(path, "/")
		}
		next.ServeHTTP(w, r)
	})
}

// otherMethod answers a method that a path does not have: OPTIONS with what it has.
func (a *API) otherMethod(m chi.Router, w http.ResponseWriter, r *http.Request) {
	path := chi.RouteContext(r.Context()).RoutePath
	if path == "" {
		path = r.URL.Path
	}
	var allowed []string
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE"} {
		if m.Match(chi.NewRouteContext(), method, path) {
			allowed = append(allowed, method)
		}
	}
	w.Header().Set("Allow", strings.Join(append(allowed, "OPTIONS"), ","))
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusOK)
		return
	}
	a.fail(w, r, fail(http.StatusMethodNotAllowed,
		"Request method '%s' is not supported", r.Method))
}

func (a *API) serve(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer a.recoverTo(w, r)
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil && len(query) == 0 {
			query = url.Values{}
		}
		ans, err := rt.handle(a, &call{r: r, query: query})
		if err != nil {
			a.fail(w, r, err)
			return
		}
		send(w, ans)
	}
}

func send(w http.ResponseWriter, ans answer) {
	h := w.Header()
	for k, v := range ans.header {
		h[k] = v
	}
	if ans.status == 0 {
		ans.status = http.StatusOK
	}
	switch {
	case ans.plain:
		h.Set("Content-Type", "text/plain;charset=UTF-8")
	case len(ans.body) > 0:
		h.Set("Content-Type", "application/json")
	}
	if ans.status != http.StatusNoContent {
		h.Set("Content-Length", strconv.Itoa(len(ans.body)))
	}
	w.WriteHeader(ans.status)
	_, _ = w.Write(ans.body) // the client is gone: nobody is left to be told
}

// fail answers an error. Faults of the server are logged; all others are the caller's news.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := failureOf(err)
	var known *failure
	if !errors.As(err, &known) && isKind(err, tutti.Internal) && r.Context().Err() == nil {
		a.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	send(w, answer{status: f.status, body: f.body()})
}

func (a *API) recoverTo(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	a.log.Error("handler panicked", "method", r.Method, "path", r.URL.Path, "panic", p,
		slog.String("stack", string(debug.Stack())))
	send(w, answer{status: 500, body: (&failure{status: 500, message: "internal error"}).body()})
}
