package httpcall

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/tutti-run/tutti/value"
)

func TestSameOrigin(t *testing.T) {
	tests := []struct {
		from, to string
		want     bool
	}{
		{"http://a/x", "http://a/y", true},
		{"http://a/", "http://A:80/", true},
		{"http://a/", "https://a/", true},
		{"https://a/", "http://a/", false},
		{"http://a:8080/", "https://a/", false},
		{"http://a/", "http://a:8080/", false},
		{"http://a/", "http://b.a/", false},
		{"http://a/", "https://a:8443/", false},
	}
	for _, tt := range tests {
		from, _ := url.Parse(tt.from)
		to, _ := url.Parse(tt.to)
		if got := sameOrigin(from, to); got != tt.want {
			t.Errorf("sameOrigin(%s, %s) = %v", tt.from, tt.to, got)
		}
	}
}

func TestTruncate(t *testing.T) {
	if got := truncate("ééééé", 8); got != "éé…" {
		t.Errorf("truncate = %q", got)
	}
	if got := truncate("short", 8); got != "short" {
		t.Errorf("truncate = %q", got)
	}
}

// FuzzParseRequest feeds inputs to the parser; what it accepts must make a request.
func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{
		`{"http_request":{"uri":"http://a/b?c=d#e","method":"GET"}}`,
		`{"uri":"https://u:p@[::1]:8/","method":"post","headers":{"a":["b",1,null]},"body":{"x":1}}`,
		`{"uri":"http://a","method":"PUT","accept":["a"],"contentType":"` + formMediaType + `",
			"body":{"a":[1,{"b":null}]},"readTimeOut":"1","connectionTimeOut":0}`,
		`{"uri":"http://a\u0000","method":"G\n"}`, `[`, `null`, `{"http_request":[]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		r, err := parseRequest(value.Raw(input))
		if err != nil {
			return
		}
		req, err := http.NewRequest(r.method, r.url.String(), nil)
		if err != nil {
			t.Fatalf("accepted %q, which makes no request: %v", input, err)
		}
		if req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.URL.Hostname() == "" {
			t.Errorf("accepted %q with the URL %v", input, req.URL)
		}
		if r.connect < 0 || r.read < 0 {
			t.Errorf("accepted %q with negative timeouts", input)
		}
	})
}
