package main

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// maxBody bounds the body of an HTTP request, in bytes: a little over the largest
	// payload, which travels within an envelope.
	maxBody = 40 << 20
	// bodyTime is how long a client may take to send a body.
	bodyTime = 2 * time.Minute
)

// guard keeps out what a browser was talked into by a foreign site: requests addressed to a
// name that is not this server's (DNS rebinding) and requests that another origin sends. It
// also bounds bodies and the time that they may take.
type guard struct {
	next http.Handler
	// anyHost is set where every name may lead to the server: beyond loopback.
	anyHost bool
	hosts   map[string]bool
}

func newGuard(next http.Handler, onLoopback bool, hosts []string) *guard {
	g := &guard{next: next, anyHost: !onLoopback && len(hosts) == 0, hosts: map[string]bool{}}
	for _, h := range hosts {
		g.hosts[strings.ToLower(h)] = true
	}
	return g
}

// ServeHTTP answers 403 or passes the request on.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case !g.known(r.Host):
		refuse(w, "the request is addressed to a host name that is not this server's; "+
			"name it with --allowed-hosts")
		return
	case foreign(r):
		refuse(w, "the request comes from a page of another site")
		return
	}
	if r.Body != nil && r.Body != http.NoBody {
		limited := http.MaxBytesReader(w, r.Body, maxBody)
		r.Body = newTimedBody(limited, http.NewResponseController(w))
	}
	g.next.ServeHTTP(&stopAnswer{w}, r)
}

// stopAnswer turns 499, the status for a caller that went away, into 503: a caller that gets
// to see it is still there, so it is the server that stops.
type stopAnswer struct{ http.ResponseWriter }

// statusGone is what handlers answer when the context of a request has ended.
const statusGone = 499

// WriteHeader writes the status.
func (w *stopAnswer) WriteHeader(status int) {
	if status == statusGone {
		w.Header().Set("Retry-After", "1")
		status = http.StatusServiceUnavailable
	}
	w.ResponseWriter.WriteHeader(status)
}

// Flush sends what was written.
func (w *stopAnswer) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap lets response controllers reach the connection.
func (w *stopAnswer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func refuse(w http.ResponseWriter, why string) {
	http.Error(w, why, http.StatusForbidden)
}

// known reports whether a Host header may name this server.
func (g *guard) known(hostport string) bool {
	if g.anyHost {
		return true
	}
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") || g.hosts[host] {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// foreign reports whether a browser says that another site caused the request. Following a
// link to a page is fine; anything else, reads included since polls are reads, is not.
func foreign(r *http.Request) bool {
	if o := r.Header.Get("Origin"); o != "" {
		u, err := url.Parse(o)
		return err != nil || !strings.EqualFold(u.Host, r.Host)
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return false
	}
	page := r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" &&
		!strings.HasPrefix(r.URL.Path, "/api/") && !strings.HasPrefix(r.URL.Path, "/admin/")
	return !page
}

// timedBody is a body whose reading has a deadline; the deadline of the connection is lifted
// at its end, since the answer may take longer.
type timedBody struct {
	io.ReadCloser
	conn *http.ResponseController
}

func newTimedBody(b io.ReadCloser, conn *http.ResponseController) *timedBody {
	_ = conn.SetReadDeadline(time.Now().Add(bodyTime)) // not supported: no deadline to lift
	return &timedBody{b, conn}
}

// Read lifts the deadline when the body has ended.
func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		_ = b.conn.SetReadDeadline(time.Time{})
	}
	return n, err
}
