package httpcall_test

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/connector"
	"github.com/tutti-run/tutti/connector/egress"
	"github.com/tutti-run/tutti/connector/httpcall"
	"github.com/tutti-run/tutti/value"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service starts an HTTP server for the test.
func service(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func newConnector(t *testing.T, cfg httpcall.Config) *httpcall.Connector {
	t.Helper()
	c := httpcall.New(cfg)
	t.Cleanup(c.Close)
	return c
}

func perform(t *testing.T, cfg httpcall.Config, input string) connector.Outcome {
	t.Helper()
	c := newConnector(t, cfg)
	return c.Perform(t.Context(), connector.Task{Input: value.Raw(input)})
}

// at returns the JSON text of a member of the output, "" if it is not there.
func at(o connector.Outcome, path ...string) string {
	v := o.Output
	for _, name := range path {
		v, _ = v.Field(name)
	}
	return string(v)
}

var requestForms = []struct {
	name, input        string
	method, uri, body  string
	header, wantHeader string
}{
	{
		name:   "wrapped",
		input:  `{"http_request":{"uri":"URL/a?b=1","method":"GET"}}`,
		method: "GET", uri: "/a?b=1", header: "Accept", wantHeader: "application/json",
	},
	{
		name: "flat, lower case, object body",
		input: `{"uri":"URL/a","method":"post","body":{"x": [1, 5.0]},
			"vipAddress":"v","appName":"n","asyncComplete":true,"unknown":1}`,
		method: "POST", uri: "/a", body: `{"x":[1,5.0]}`,
		header: "Content-Type", wantHeader: "application/json",
	},
	{
		name:   "null http_request means the input itself",
		input:  `{"http_request":null,"uri":"URL/a","method":"GET"}`,
		method: "GET", uri: "/a", header: "User-Agent", wantHeader: "tutti",
	},
	{
		name:   "accept list",
		input:  `{"uri":"URL/","method":"GET","accept":["text/plain","text/html"]}`,
		method: "GET", uri: "/", header: "Accept", wantHeader: "text/plain, text/html",
	},
	{
		name: "string body goes as it is",
		input: `{"uri":"URL/","method":"PUT","body":"<a/>","accept":"text/xml",
			"contentType":"text/xml"}`,
		method: "PUT", uri: "/", body: "<a/>", header: "Content-Type", wantHeader: "text/xml",
	},
	{
		name: "form",
		input: `{"uri":"URL/","method":"POST","body":{"a":"1 2","b":[true,3]},
			"contentType":"application/x-www-form-urlencoded; charset=utf-8"}`,
		method: "POST", uri: "/", body: "a=1+2&b=true&b=3",
		header:     "Content-Type",
		wantHeader: "application/x-www-form-urlencoded; charset=utf-8",
	},
	{
		name:   "headers that are not strings",
		input:  `{"uri":"URL/","method":"GET","headers":{"x-n":5,"x-null":null,"accept":"a/b"}}`,
		method: "GET", uri: "/", header: "X-N", wantHeader: "5",
	},
	{
		name:   "own content type wins",
		input:  `{"uri":"URL/","method":"POST","body":1,"headers":{"Content-Type":"a/b"}}`,
		method: "POST", uri: "/", body: "1", header: "Content-Type", wantHeader: "a/b",
	},
	{
		name:   "query with what needs escaping",
		input:  `{"uri":"URL/a b?q=x y&z=\"é|","method":"GET"}`,
		method: "GET", uri: "/a%20b?q=x%20y&z=%22%C3%A9%7C",
	},
	{
		name:   "fragment stays here",
		input:  `{"uri":"URL/a#f","method":"DELETE"}`,
		method: "DELETE", uri: "/a",
	},
	{
		name:   "timeouts as strings",
		input:  `{"uri":"URL/","method":"GET","connectionTimeOut":"5000","readTimeOut":0}`,
		method: "GET", uri: "/",
	},
}

func TestRequestForms(t *testing.T) {
	var got struct {
		method, uri, body string
		header            http.Header
		host              string
	}
	s := service(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got.method, got.uri, got.body = r.Method, r.RequestURI, string(body)
		got.header, got.host = r.Header, r.Host
	})
	for _, tt := range requestForms {
		t.Run(tt.name, func(t *testing.T) {
			o := perform(t, httpcall.Config{}, strings.ReplaceAll(tt.input, "URL", s.URL))
			if o.Status != tutti.Completed {
				t.Fatalf("ended as %v: %s", o.Status, o.Reason)
			}
			want := []string{tt.method, tt.uri, tt.body, tt.wantHeader}
			have := []string{got.method, got.uri, got.body, got.header.Get(tt.header)}
			if d := cmp.Diff(want, have); d != "" {
				t.Error(d)
			}
		})
	}

	o := perform(t, httpcall.Config{},
		fmt.Sprintf(`{"uri":%q,"method":"GET","headers":{"Host":"shop.example"}}`, s.URL))
	if o.Status != tutti.Completed || got.host != "shop.example" {
		t.Errorf("Host %q (%s), want shop.example", got.host, o.Reason)
	}
}

func TestRefusedInput(t *testing.T) {
	tests := []struct{ input, reason string }{
		{`{}`, "Missing HTTP URI.  See documentation for HttpTask for required input parameters"},
		{`{"uri":"http://a"}`, "No HTTP method specified"},
		{`{"uri":null,"method":"GET"}`, "Missing HTTP URI"},
		{`{"http_request":"x"}`, "must be an object, not string"},
		{`{"uri":5,"method":"GET"}`, "uri must be a string, not number"},
		{`{"uri":"/orders","method":"GET"}`, `"/orders" is not an absolute http or https URL`},
		{`{"uri":"file:///etc/passwd","method":"GET"}`, "not an absolute http or https URL"},
		{`{"uri":"http://a:b c/","method":"GET"}`, "uri is malformed"},
		{`{"uri":"http://a","method":"G T"}`, "is not an HTTP method"},
		{`{"uri":"http://a","method":7}`, "is not an HTTP method"},
		{`{"uri":"http://a","method":"GET","headers":[]}`, "headers must be an object"},
		{`{"uri":"http://a","method":"GET","headers":{"a b":"c"}}`, `"a b" is malformed`},
		{`{"uri":"http://a","method":"GET","headers":{"a":"b\r\nc: d"}}`, "control characters"},
		{`{"uri":"http://a","method":"GET","readTimeOut":-1}`, "readTimeOut must be a number"},
		{`{"uri":"http://a","method":"GET","connectionTimeOut":"x"}`, "connectionTimeOut must be"},
		{`not json`, "must be an object"},
	}
	for _, tt := range tests {
		o := perform(t, httpcall.Config{}, tt.input)
		if o.Status != tutti.Failed || !strings.Contains(o.Reason, tt.reason) {
			t.Errorf("%s: ended as %v %q, want the reason %q", tt.input, o.Status, o.Reason, tt.reason)
		}
	}
}

func TestResponseBody(t *testing.T) {
	var body, contentType string
	status := 200
	s := service(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
	input := fmt.Sprintf(`{"uri":%q,"method":"GET"}`, s.URL+"/x?secret=1")
	tests := []struct {
		status            int
		contentType, body string
		want              string
	}{
		{200, "application/json", ` { "a": [1, 2.50] } `, `{"a":[1,2.50]}`},
		{201, "application/json", `[1]`, `[1]`},
		{200, "text/plain", `12.50`, `12.50`},
		{200, "text/plain", `hello`, `"hello"`},
		{200, "application/json", `"hello"`, `"hello"`},
		{200, "application/json", `true`, `"true"`},
		{200, "application/json", `null`, `"null"`},
		{200, "application/json", `{"a":`, `"{\"a\":"`},
		{200, "text/html", "caf\xe9", "\"caf\ufffd\""},
		{200, "text/html; charset=ISO-8859-1", "caf\xe9", `"café"`},
		{204, "", "", "null"},
	}
	for _, tt := range tests {
		status, body, contentType = tt.status, tt.body, tt.contentType
		o := perform(t, httpcall.Config{}, input)
		if o.Status != tutti.Completed || at(o, "response", "body") != tt.want {
			t.Errorf("%q: %v %s, want the body %s", tt.body, o.Status, o.Output, tt.want)
		}
		if got := at(o, "response", "statusCode"); got != fmt.Sprint(tt.status) {
			t.Errorf("%q: status code %s", tt.body, got)
		}
		if err := value.Check(o.Output, value.Limits{}); err != nil {
			t.Errorf("%q: output is not valid: %v", tt.body, err)
		}
	}
	if o := perform(t, httpcall.Config{}, input); at(o, "response", "reasonPhrase") != `"No Content"` {
		t.Errorf("output %s, want the reason phrase No Content", o.Output)
	}
}

func TestResponseHeaders(t *testing.T) {
	s := service(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("X-Two", "a")
		w.Header().Add("X-Two", "b")
	})
	o := perform(t, httpcall.Config{}, fmt.Sprintf(`{"uri":%q,"method":"GET"}`, s.URL))
	if got := at(o, "response", "headers", "X-Two"); got != `["a","b"]` {
		t.Errorf("X-Two is %s in %s", got, o.Output)
	}
}

func TestErrorStatus(t *testing.T) {
	var status int
	var body string
	s := service(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
	input := fmt.Sprintf(`{"uri":%q,"method":"GET"}`, s.URL+"/pay?token=s3cret")
	on := fmt.Sprintf(` on GET request for "%s/pay": `, s.URL)
	tests := []struct {
		status int
		body   string
		want   string
	}{
		{404, "{\n\"a\":1}", `404 Not Found` + on + `"{<EOL>"a":1}"`},
		{500, "", `500 Internal Server Error` + on + `[no body]`},
	}
	for _, tt := range tests {
		status, body = tt.status, tt.body
		o := perform(t, httpcall.Config{}, input)
		want := "Failed to invoke HTTP task due to: java.lang.Exception: " + tt.want
		if o.Status != tutti.Failed || o.Reason != want {
			t.Errorf("%d: %v %s\nwant %s", tt.status, o.Status, o.Reason, want)
		}
		text, _ := value.Raw(at(o, "response")).Text()
		if text != "java.lang.Exception: "+tt.want {
			t.Errorf("%d: output %s", tt.status, o.Output)
		}
	}

	status, body = 503, strings.Repeat("é", 3<<20)
	o := perform(t, httpcall.Config{}, input)
	if o.Status != tutti.Failed || len(o.Reason) > 5<<10 || len(o.Output) > 3<<20 {
		t.Errorf("huge error body: %v, reason of %d bytes, output of %d", o.Status, len(o.Reason),
			len(o.Output))
	}

	status, body = 304, ""
	o = perform(t, httpcall.Config{}, input)
	if o.Reason != "No response from the remote service" || at(o, "response", "statusCode") != "304" {
		t.Errorf("304: %v %s %s", o.Status, o.Reason, o.Output)
	}
}

func TestBounds(t *testing.T) {
	s := service(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/huge":
			_, _ = io.WriteString(w, strings.Repeat("x", 2000))
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(make([]byte, 1<<20))
			_ = z.Close()
		case "/gzip":
			if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				http.Error(w, "gzip not accepted", http.StatusNotAcceptable)
				return
			}
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, `{"zipped":true}`)
			_ = z.Close()
		}
	})
	cfg := httpcall.Config{MaxResponse: 1000}
	for _, path := range []string{"/huge", "/bomb"} {
		o := perform(t, cfg, fmt.Sprintf(`{"uri":%q,"method":"GET"}`, s.URL+path))
		if o.Status != tutti.Fatal || !strings.Contains(o.Reason, "longer than 1000 bytes") {
			t.Errorf("%s: %v %s", path, o.Status, o.Reason)
		}
	}
	for _, headers := range []string{`{}`, `{"Accept-Encoding":"gzip, br"}`} {
		input := fmt.Sprintf(`{"uri":%q,"method":"GET","headers":%s}`, s.URL+"/gzip", headers)
		o := perform(t, cfg, input)
		if got := at(o, "response", "body"); got != `{"zipped":true}` {
			t.Errorf("gzip with headers %s: %v %s %s", headers, o.Status, o.Reason, o.Output)
		}
	}
}

func TestTimeouts(t *testing.T) {
	release := make(chan struct{})
	s := service(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/stall": // after the headers
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			<-release
		case "/silent":
			<-release
		case "/trickle": // slower as a whole than the timeout, but never silent for so long
			for range 6 {
				_, _ = io.WriteString(w, "x")
				w.(http.Flusher).Flush()
				select {
				case <-r.Context().Done():
				case <-time.After(50 * time.Millisecond):
				}
			}
		}
	})
	defer close(release)
	input := func(path string, ms int) string {
		return fmt.Sprintf(`{"uri":%q,"method":"GET","readTimeOut":%d}`, s.URL+path, ms)
	}
	for _, path := range []string{"/silent", "/stall"} {
		o := perform(t, httpcall.Config{}, input(path, 50))
		if o.Status != tutti.Failed || !strings.Contains(o.Reason, "Read timed out") {
			t.Errorf("%s: %v %s", path, o.Status, o.Reason)
		}
	}
	o := perform(t, httpcall.Config{}, input("/trickle", 200))
	if at(o, "response", "body") != `"xxxxxx"` {
		t.Errorf("/trickle: %v %s %s", o.Status, o.Reason, o.Output)
	}
	o = perform(t, httpcall.Config{MaxDuration: 50 * time.Millisecond}, input("/silent", 0))
	if o.Status != tutti.Failed || !strings.Contains(o.Reason, "took longer than 50ms") {
		t.Errorf("no read timeout: %v %s", o.Status, o.Reason)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	task := connector.Task{Input: value.Raw(input("/silent", 0))}
	if o := newConnector(t, httpcall.Config{}).Perform(ctx, task); o.Status != tutti.Failed {
		t.Errorf("deadline of the task: %v %s", o.Status, o.Reason)
	}
}

func TestConnectionRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	o := perform(t, httpcall.Config{}, fmt.Sprintf(`{"uri":"http://%s/a?b","method":"POST"}`, addr))
	want := fmt.Sprintf("Failed to invoke HTTP task due to: java.lang.Exception: "+
		"I/O error on POST request for \"http://%s/a\": ", addr)
	if o.Status != tutti.Failed || !strings.HasPrefix(o.Reason, want) ||
		!strings.Contains(o.Reason, "refused") {
		t.Errorf("%v %s\nwant %s", o.Status, o.Reason, want)
	}
}

// TestHandshakeIsBounded calls a server that accepts and then never starts TLS.
func TestHandshakeIsBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := perform(t, httpcall.Config{MaxDuration: 100 * time.Millisecond},
		fmt.Sprintf(`{"uri":"https://%s/","method":"GET","readTimeOut":0}`, l.Addr()))
	if o.Status != tutti.Failed || !strings.Contains(o.Reason, "took longer") {
		t.Errorf("%v %s", o.Status, o.Reason)
	}
}

func TestRedirects(t *testing.T) {
	var got http.Header
	other := service(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header })
	var s *httptest.Server
	var hops atomic.Int32
	s = service(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL+"/landed", http.StatusFound)
		case "/there-and-back":
			http.Redirect(w, r, other.URL+"/landed", http.StatusTemporaryRedirect)
		case "/near":
			http.Redirect(w, r, "/landed", http.StatusMovedPermanently)
		case "/loop":
			hops.Add(1)
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/metadata":
			http.Redirect(w, r, "http://[::ffff:a9fe:a9fe]/latest", http.StatusFound)
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "/landed":
			got = r.Header
		}
	})
	call := func(path string) connector.Outcome {
		u, _ := url.Parse(s.URL + path)
		u.User = url.UserPassword("user", "pass")
		return perform(t, httpcall.Config{}, fmt.Sprintf(`{"uri":%q,"method":"GET","accept":"a/b",
			"headers":{"X-Api-Key":"k","Cookie":"c=1","Traceparent":"tp"}}`, u))
	}
	secrets := func() string {
		return got.Get("X-Api-Key") + got.Get("Cookie") + got.Get("Authorization") + got.Get("Referer")
	}
	if o := call("/near"); o.Status != tutti.Completed || got.Get("X-Api-Key") != "k" {
		t.Errorf("same origin: %v %s, headers %v", o.Status, o.Reason, got)
	}
	for _, path := range []string{"/away", "/there-and-back"} {
		o := call(path)
		if o.Status != tutti.Completed || secrets() != "" {
			t.Errorf("%s: %v %s, headers %v", path, o.Status, o.Reason, got)
		}
		if got.Get("Accept") != "a/b" || got.Get("Traceparent") != "tp" {
			t.Errorf("%s: harmless headers were lost: %v", path, got)
		}
	}
	if o := call("/loop"); o.Status != tutti.Failed || hops.Load() != 6 ||
		!strings.Contains(o.Reason, "stopped after 5 redirects") {
		t.Errorf("loop: %v %s after %d requests", o.Status, o.Reason, hops.Load())
	}
	if o := call("/metadata"); o.Status != tutti.Fatal || !strings.Contains(o.Reason, "metadata") {
		t.Errorf("to metadata: %v %s", o.Status, o.Reason)
	}
	if o := call("/file"); o.Status == tutti.Completed {
		t.Errorf("to a file: %v %s", o.Status, o.Output)
	}
}

func TestEgress(t *testing.T) {
	s := service(t, func(http.ResponseWriter, *http.Request) {})
	own := netip.MustParseAddrPort(s.Listener.Addr().String())
	guard, err := egress.New(egress.Policy{OwnAddrs: []netip.AddrPort{own}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := httpcall.Config{Guard: func(namespace string) *egress.Guard {
		if namespace == "free" {
			return nil
		}
		return guard
	}}
	c := newConnector(t, cfg)
	for _, host := range []string{"127.0.0.1", "localhost", "2130706433", "127.1", "[::ffff:7f00:1]"} {
		task := connector.Task{
			Input: value.Raw(fmt.Sprintf(`{"uri":"http://%s:%d/","method":"GET"}`, host, own.Port())),
		}
		o := c.Perform(t.Context(), task)
		if o.Status != tutti.Fatal || !strings.Contains(o.Reason, "this server listens there") {
			t.Errorf("%s: %v %s", host, o.Status, o.Reason)
		}
		task.Namespace = "free"
		if o := c.Perform(t.Context(), task); o.Status != tutti.Completed {
			t.Errorf("%s without a guard for the port: %v %s", host, o.Status, o.Reason)
		}
	}
	t.Setenv("HTTP_PROXY", s.URL)
	o := perform(t, httpcall.Config{}, `{"uri":"http://169.254.169.254/","method":"GET"}`)
	if o.Status != tutti.Fatal {
		t.Errorf("metadata: %v %s", o.Status, o.Reason)
	}
}

func TestIdempotencyAndTrace(t *testing.T) {
	var got http.Header
	s := service(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header })
	c := newConnector(t, httpcall.Config{})
	task := connector.Task{
		IdempotencyKey: "run-1/pay",
		Headers:        map[string]string{"traceparent": "00-1-2-01"},
		Input:          value.Raw(fmt.Sprintf(`{"uri":%q,"method":"POST"}`, s.URL)),
	}
	c.Perform(t.Context(), task)
	if got.Get("Idempotency-Key") != "run-1/pay" || got.Get("Traceparent") != "00-1-2-01" {
		t.Errorf("headers %v", got)
	}
	task.Input = value.Raw(fmt.Sprintf(
		`{"uri":%q,"method":"POST","headers":{"idempotency-key":"mine"}}`, s.URL))
	c.Perform(t.Context(), task)
	if got.Get("Idempotency-Key") != "mine" {
		t.Errorf("headers %v, want the workflow's own key", got)
	}
}

func TestConnectionsAreReused(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	var opened atomic.Int32
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	c := newConnector(t, httpcall.Config{})
	for range 20 {
		o := c.Perform(t.Context(), connector.Task{
			Input: value.Raw(fmt.Sprintf(`{"uri":%q,"method":"POST","body":{"a":1}}`, s.URL)),
		})
		if o.Status != tutti.Completed {
			t.Fatalf("%v %s", o.Status, o.Reason)
		}
	}
	if opened.Load() != 1 {
		t.Errorf("%d connections for 20 calls", opened.Load())
	}
}

func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "secure") }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	input := fmt.Sprintf(`{"uri":%q,"method":"GET"}`, s.URL)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	o := perform(t, httpcall.Config{TLS: &tls.Config{RootCAs: roots}}, input)
	if at(o, "response", "body") != `"secure"` {
		t.Errorf("%v %s %s", o.Status, o.Reason, o.Output)
	}
	o = perform(t, httpcall.Config{}, input)
	if o.Status != tutti.Failed || !strings.Contains(o.Reason, "certificate") {
		t.Errorf("unknown authority: %v %s", o.Status, o.Reason)
	}
}
