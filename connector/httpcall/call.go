package httpcall

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/connector"
	"github.com/tutti-run/tutti/connector/egress"
	"github.com/tutti-run/tutti/value"
)

// The defaults and bounds of a call.
const (
	DefaultMaxResponse = 10 << 20
	DefaultMaxDuration = 10 * time.Minute
	MaxRedirects       = 5
)

// Config configures a Connector. The zero value is ready for use.
type Config struct {
	// Guard returns the egress guard of a namespace; nil, or a nil guard, means the default
	// policy. It must return the same guard as long as the policy is the same: connections
	// are shared by the calls that share a guard.
	Guard func(namespace string) *egress.Guard
	// MaxResponse is the longest response body, decompressed, in bytes.
	MaxResponse int64
	// MaxDuration is the longest call, redirects included. A task's deadline may be nearer.
	MaxDuration time.Duration
	// TLS holds the authorities and client certificates for https; nil = the system's.
	TLS *tls.Config
}

// Connector performs HTTP tasks. It is safe for concurrent use.
type Connector struct {
	cfg      Config
	fallback *egress.Guard

	mu      sync.Mutex
	clients map[*egress.Guard]*http.Client
}

// New returns an HTTP connector.
func New(cfg Config) *Connector {
	cfg.MaxResponse = cmp.Or(cfg.MaxResponse, DefaultMaxResponse)
	cfg.MaxDuration = cmp.Or(cfg.MaxDuration, DefaultMaxDuration)
	fallback, _ := egress.New(egress.Policy{}) // an empty policy has no rule to be malformed
	return &Connector{cfg: cfg, fallback: fallback, clients: map[*egress.Guard]*http.Client{}}
}

// Close closes the connections that are kept for later calls.
func (c *Connector) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, client := range c.clients {
		client.CloseIdleConnections()
	}
}

// Perform makes the call that the task's input describes. A response below 300 completes
// the task with the output {"response": {headers, statusCode, body, reasonPhrase}}; any
// other ends it as Failed. A call that the egress policy refuses, and a response over the
// limit, end it as Fatal.
func (c *Connector) Perform(ctx context.Context, t connector.Task) connector.Outcome {
	req, err := parseRequest(t.Input)
	if err != nil {
		return connector.Failed(err.Error())
	}
	for name, v := range t.Headers {
		if req.header.Get(name) == "" {
			req.header.Set(name, v)
		}
	}
	if t.IdempotencyKey != "" && req.header.Get("Idempotency-Key") == "" {
		req.header.Set("Idempotency-Key", t.IdempotencyKey)
	}
	guard := c.guard(t.Namespace)
	resp, err := c.call(ctx, guard, req)
	if err != nil {
		return failure(err)
	}
	return resp.outcome(req)
}

func (c *Connector) guard(namespace string) *egress.Guard {
	if c.cfg.Guard != nil {
		if g := c.cfg.Guard(namespace); g != nil {
			return g
		}
	}
	return c.fallback
}

// client returns the client for a guard. Each guard has a pool of connections of its own,
// so that none opened under one policy is used under another.
func (c *Connector) client(guard *egress.Guard) *http.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if client := c.clients[guard]; client != nil {
		return client
	}
	client := &http.Client{
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			return checkRedirect(guard, req, via)
		},
		Transport: &http.Transport{
			Proxy:                  nil, // a proxy would connect where the guard cannot see
			DialContext:            dialer(guard),
			TLSClientConfig:        c.cfg.TLS.Clone(),
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           1024,
			MaxIdleConnsPerHost:    256,
			IdleConnTimeout:        90 * time.Second,
			TLSHandshakeTimeout:    10 * time.Second,
			ExpectContinueTimeout:  time.Second,
			MaxResponseHeaderBytes: 256 << 10,
		},
	}
	c.clients[guard] = client
	return client
}

type connectTimeoutKey struct{}

// dialer dials through the guard within the connect timeout of the call that needs the
// connection.
func dialer(guard *egress.Guard) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		limit, _ := ctx.Value(connectTimeoutKey{}).(time.Duration)
		if limit == 0 {
			return guard.DialContext(ctx, network, addr)
		}
		err := fmt.Errorf("%w: no connection to %s within %v; see connectionTimeOut",
			errConnectTimeout, addr, limit)
		within, cancel := context.WithTimeoutCause(ctx, limit, err)
		defer cancel()
		conn, dialErr := guard.DialContext(within, network, addr)
		if dialErr == nil || ctx.Err() != nil {
			return conn, dialErr
		}
		// The dialer may see the deadline pass a moment before the context does.
		var slow net.Error
		if within.Err() != nil || errors.As(dialErr, &slow) && slow.Timeout() {
			return nil, err
		}
		return nil, dialErr
	}
}

// checkRedirect bounds redirects, refuses those to forbidden hosts before connecting, and
// keeps what was meant for one origin from going to another.
func checkRedirect(guard *egress.Guard, req *http.Request, via []*http.Request) error {
	if len(via) > MaxRedirects {
		return fmt.Errorf("stopped after %d redirects", MaxRedirects)
	}
	if err := checkHost(guard, req.URL); err != nil {
		return err
	}
	req.Header.Del("Referer") // its query may hold a secret
	first := via[0].URL
	for _, hop := range append(via[1:], req) {
		if !sameOrigin(first, hop.URL) {
			keepPublicHeaders(req.Header)
			break
		}
	}
	return nil
}

func checkHost(guard *egress.Guard, u *url.URL) error {
	port, _ := strconv.ParseUint(portOf(u), 10, 16)
	return guard.CheckHost(u.Hostname(), uint16(port))
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// sameOrigin reports whether credentials for one URL may go to another: the same scheme,
// host and port, or the upgrade of a host from http to https on the usual ports.
func sameOrigin(from, to *url.URL) bool {
	if !strings.EqualFold(from.Hostname(), to.Hostname()) {
		return false
	}
	if from.Scheme == to.Scheme {
		return portOf(from) == portOf(to)
	}
	return from.Scheme == "http" && portOf(from) == "80" && portOf(to) == "443"
}

// keepPublicHeaders drops every header but those that cannot carry a credential. Names that
// workflows choose themselves, such as X-Api-Key, may.
func keepPublicHeaders(h http.Header) {
	for name := range h {
		switch name {
		case "Accept", "Accept-Language", "Content-Type", "User-Agent", "Traceparent",
			"Idempotency-Key":
		default:
			delete(h, name)
		}
	}
}

// call makes the call and reads the response within its bounds.
func (c *Connector) call(
	ctx context.Context, guard *egress.Guard, r *request,
) (*response, error) {
	if err := checkHost(guard, r.url); err != nil {
		return nil, r.failed(err)
	}
	tooLong := fmt.Errorf("the call took longer than %v", c.cfg.MaxDuration)
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.MaxDuration, tooLong)
	defer cancel()
	ctx = context.WithValue(ctx, connectTimeoutKey{}, r.connect)
	ctx, silence := watch(ctx, r.read)
	defer silence.stop()
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url.String(), body)
	if err != nil {
		return nil, r.failed(err)
	}
	req.Header, req.Host = r.header, cmp.Or(r.host, req.Host)
	resp, err := c.client(guard).Do(req)
	if err != nil {
		return nil, r.failed(silence.cause(err))
	}
	defer resp.Body.Close()
	out, err := readResponse(resp, silence, c.cfg.MaxResponse)
	if err != nil {
		return nil, r.failed(silence.cause(err))
	}
	return out, nil
}

// failed puts a failure to get a response in the words of the official server.
func (r *request) failed(err error) error {
	return fmt.Errorf("I/O error on %s request for %q: %w", r.method, shown(r.url), withoutURL(err))
}

// watchdog cancels a call when the server is silent for too long.
type watchdog struct {
	ctx   context.Context
	limit time.Duration
	timer *time.Timer
	end   context.CancelCauseFunc
}

// watch returns a context for the call whose server a watchdog watches. It counts from the
// end of the request to the first byte of the response, and from each byte to the next.
func watch(ctx context.Context, limit time.Duration) (context.Context, *watchdog) {
	w := &watchdog{limit: limit}
	w.ctx, w.end = context.WithCancelCause(ctx)
	if limit == 0 {
		return w.ctx, w
	}
	w.timer = time.AfterFunc(DefaultMaxDuration, func() {
		w.end(fmt.Errorf("%w: no data for %v; see readTimeOut", errReadTimeout, limit))
	})
	w.timer.Stop()
	return httptrace.WithClientTrace(w.ctx, &httptrace.ClientTrace{
		GetConn:      func(string) { w.timer.Stop() },
		WroteRequest: func(httptrace.WroteRequestInfo) { w.progress() },
	}), w
}

func (w *watchdog) progress() {
	if w.timer != nil {
		w.timer.Reset(w.limit)
	}
}

func (w *watchdog) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.end(nil)
}

// cause returns why the call failed: why its context was cancelled when it was.
func (w *watchdog) cause(err error) error {
	if cause := context.Cause(w.ctx); cause != nil {
		return cause
	}
	return err
}

// failure is the outcome of a call without a usable response. Its wording is the official
// server's, which names the class of its exception.
func failure(err error) connector.Outcome {
	text := "java.lang.Exception: " + err.Error()
	status := tutti.Failed
	if egress.IsRefusal(err) || errors.Is(err, errTooLarge) {
		status = tutti.Fatal
	}
	output := value.NewObject()
	output.Set("response", text)
	return connector.Outcome{
		Status: status,
		Output: value.Marshal(output),
		Reason: "Failed to invoke HTTP task due to: " + truncate(text, maxReason),
	}
}
