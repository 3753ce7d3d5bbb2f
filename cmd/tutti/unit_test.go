package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tutti-run/tutti/value"
)

func TestServerAddress(t *testing.T) {
	for _, c := range []struct {
		in, addr string
		secure   bool
	}{
		{"127.0.0.1:8090", "127.0.0.1:8090", false},
		{"example.com", "example.com:8090", false},
		{"[::1]", "[::1]:8090", false},
		{"http://example.com:8080/api", "example.com:8080", false},
		{"http://example.com", "example.com:80", false},
		{"https://example.com", "example.com:443", true},
		{"https://[::1]:1", "[::1]:1", true},
	} {
		addr, secure, err := serverAddress(c.in)
		if addr != c.addr || secure != c.secure || err != nil {
			t.Errorf("serverAddress(%q) = %q, %v, %v", c.in, addr, secure, err)
		}
	}
	for _, in := range []string{"ftp://x", "http://", "https://%"} {
		if addr, _, err := serverAddress(in); err == nil {
			t.Errorf("serverAddress(%q) = %q, want an error", in, addr)
		}
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:80": true, "127.9.9.9:80": true, "[::1]:80": true, "localhost:80": true,
		":80": false, "0.0.0.0:80": false, "[::]:80": false, "10.0.0.1:80": false,
		"example.com:80": false, "127.0.0.1.example.com:80": false,
	} {
		if got := loopback(addr); got != want {
			t.Errorf("loopback(%q) = %v", addr, got)
		}
	}
}

func TestGuardHosts(t *testing.T) {
	local := newGuard(nil, true, []string{"Tutti.internal"})
	open := newGuard(nil, false, nil)
	named := newGuard(nil, false, []string{"tutti.internal"})
	for _, c := range []struct {
		host               string
		local, open, named bool
	}{
		{"localhost", true, true, true},
		{"LOCALHOST.:8080", true, true, true},
		{"a.localhost:1", true, true, true},
		{"[::1]:8080", true, true, true},
		{"127.0.0.1", true, true, true},
		{"tutti.internal:80", true, true, true},
		{"", false, true, false},
		{"10.0.0.1:8080", false, true, false},
		{"localhost.evil.example", false, true, false},
		{"2130706433", false, true, false},
	} {
		got := [3]bool{local.known(c.host), open.known(c.host), named.known(c.host)}
		if want := [3]bool{c.local, c.open, c.named}; got != want {
			t.Errorf("host %q: %v, want %v", c.host, got, want)
		}
	}
}

// TestStopAnswer sees that nobody is told that he went away.
func TestStopAnswer(t *testing.T) {
	g := newGuard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(statusGone)
		w.(http.Flusher).Flush()
	}), false, nil)
	w := httptest.NewRecorder()
	g.ServeHTTP(w, httptest.NewRequest("GET", "/", http.NoBody))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("status %d, header %v", w.Code, w.Header())
	}
}

// TestBodyBound sees that a body over the bound is cut off.
func TestBodyBound(t *testing.T) {
	g := newGuard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := r.Body.Read(make([]byte, 10))
		for err == nil {
			n, err = r.Body.Read(make([]byte, 1<<20))
		}
		_ = n
		if err.Error() == "http: request body too large" {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	}), false, nil)
	w := httptest.NewRecorder()
	body := strings.NewReader(strings.Repeat("x", maxBody+1))
	g.ServeHTTP(w, httptest.NewRequest("POST", "/", body))
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", w.Code)
	}
}

func TestTable(t *testing.T) {
	tab := table{head: []string{"NAME", "N", "WHY"}}
	tab.add("ä", 5, "")
	tab.add("long name", 1234.5, "because")
	var b strings.Builder
	tab.print(&b)
	want := "NAME       N       WHY\nä               5\nlong name  1234.5  because\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestClip(t *testing.T) {
	for _, c := range [][2]string{
		{"short", "short"}, {"two\n lines", "two lines"}, {"äöüäöüäöüäöü", "äöüäöüäöü…"},
	} {
		if got := clip(c[0], 10); got != c[1] {
			t.Errorf("clip(%q) = %q", c[0], got)
		}
	}
}

func TestRedactURL(t *testing.T) {
	for in, want := range map[string]string{
		"postgres://u:p@h/d": "postgres://h/d", "postgres://h/d": "postgres://h/d", "x": "x",
		"postgres://u:p@q@h/d": "postgres://h/d",
	} {
		if got := redactURL(in); got != want {
			t.Errorf("redactURL(%q) = %q", in, got)
		}
	}
}

func TestDefinitionFiles(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string // pointer and kind
	}{
		{"a.json", `{"name": "w", "tasks": []}`, []string{" workflow"}},
		{"a.yaml", "name: t\nretryCount: 1\n", []string{" taskdef"}},
		{
			"a.json", `[{"name": "w", "tasks": []}, {"name": "t", "retryCount": 1}]`,
			[]string{"/0 workflow", "/1 taskdef"},
		},
		{
			"a.json", `{"workflows": [{"name": "w"}], "taskDefs": [{"name": "t"}]}`,
			[]string{"/taskDefs/0 taskdef", "/workflows/0 workflow"},
		},
		{"a.json", `{"name": "x"}`, nil},
		{"a.json", `{"tasks": []}`, nil},
		{"a.json", `[{"name": "w", "tasks": []}, 5]`, nil},
		{"a.json", `"text"`, nil},
	} {
		src, err := readSource(c.name, []byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range src.parts() {
			got = append(got, p.pointer+" "+p.kind)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.text, diff)
		}
		if (conductorFiles{}).Recognizes(c.name, []byte(c.text)) != (c.want != nil) {
			t.Errorf("%s: recognized wrongly", c.text)
		}
	}
}

func TestSecretsFromEnvironment(t *testing.T) {
	got, err := loadSecrets(Main{Env: []string{
		"TUTTI_SECRET_A=1", "TUTTI_SECRET_=x", "OTHER=2", "TUTTI_SECRET_A=3",
		"TUTTI_SECRET_B=x=y",
	}}, "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(secrets{"A": "3", "B": "x=y"}, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzDefinitionFile sees that no file makes the reader of definitions panic.
func FuzzDefinitionFile(f *testing.F) {
	f.Add("a.json", []byte(`[{"name": "w", "tasks": []}]`))
	f.Add("a.yaml", []byte("workflows: [{name: w, tasks: [{name: a}]}]"))
	f.Fuzz(func(_ *testing.T, name string, text []byte) {
		src, err := readSource(name, text)
		if err != nil {
			return
		}
		for _, p := range src.parts() {
			_, findings := checkPart(p, nil)
			for _, fd := range findings {
				_ = src.diagnostic(p.pointer, fd)
			}
		}
	})
}

// FuzzEvalRequest sees that every line of a batch gets exactly one answer.
func FuzzEvalRequest(f *testing.F) {
	f.Add([]byte(`{"expr": "$.a[?(@.b)]", "input": {"a": [{"b": 1}]}}`))
	f.Add([]byte(`{"expr": 5, "bindings": []}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if got := answer(line, evalPath); got.Len() != 1 {
			t.Errorf("%s", value.Marshal(got))
		}
	})
}
