package conductorapi

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/runner"
	"github.com/tutti-run/tutti/store/memstore"
)

// server is the API over a runner in memory.
type server struct {
	t   testing.TB
	api *API
	svc *api.Service
	url string
}

func newServer(t testing.TB, change ...func(*Options)) *server {
	t.Helper()
	st, err := memstore.Open(memstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dialects := []tutti.Dialect{conductor.Dialect{}}
	var out io.Writer = testWriter{t}
	if _, fuzzing := t.(*testing.F); fuzzing {
		out = os.Stderr // a fuzz target may not log by its testing.F
	}
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelError}))
	run, err := runner.Open(t.Context(), runner.Options{Store: st, Dialects: dialects, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	svc := api.New(api.Options{Runner: run, Dialects: dialects, Logger: log})
	opts := Options{Service: svc, Logger: log, Version: "test"}
	for _, fn := range change {
		fn(&opts)
	}
	a := New(opts)
	h := httptest.NewServer(a.Handler())
	t.Cleanup(func() {
		h.Close()
		run.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return &server{t: t, api: a, svc: svc, url: h.URL}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// reply is what the server answered.
type reply struct {
	t      testing.TB
	status int
	header http.Header
	body   string
}

func (s *server) do(method, path, body string) reply {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply{s.t, res.StatusCode, res.Header, string(b)}
}

// ok is do for a request that must succeed.
func (s *server) ok(method, path, body string) reply {
	s.t.Helper()
	r := s.do(method, path, body)
	if r.status >= 300 {
		s.t.Fatalf("%s %s: %d %s", method, path, r.status, r.body)
	}
	return r
}

// get returns a member of the answer by its path.
func (r reply) get(path ...any) any {
	r.t.Helper()
	d := json.NewDecoder(bytes.NewReader([]byte(r.body)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		r.t.Fatalf("answer %q is no JSON: %v", r.body, err)
	}
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func (r reply) text(path ...any) string {
	r.t.Helper()
	switch v := r.get(path...).(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		if v {
			return "true"
		}
		return "false"
	}
	return ""
}

// eventually waits until a condition holds that no change of a workflow announces.
func (s *server) eventually(what string, cond func() bool) {
	s.t.Helper()
	late := time.NewTimer(10 * time.Second)
	defer late.Stop()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !cond() {
		select {
		case <-again.C:
		case <-late.C:
			s.t.Fatalf("waited in vain until %s", what)
		}
	}
}

const oneTask = `{"name":"one","version":1,"tasks":[
	{"name":"work","taskReferenceName":"w","inputParameters":{"a":"${workflow.input.a}"}}],
	"outputParameters":{"r":"${w.output.r}"}}`

func TestSlice(t *testing.T) {
	s := newServer(t)
	s.ok("POST", "/api/metadata/workflow", oneTask)
	id := s.ok("POST", "/api/workflow", `{"name":"one","input":{"a":1}}`).body
	task := s.ok("GET", "/api/tasks/poll/work?workerid=me", "")
	if task.text("inputData", "a") != "1" || task.text("status") != "IN_PROGRESS" {
		t.Fatalf("polled %s", task.body)
	}
	if got := s.do("GET", "/api/tasks/poll/work", "").status; got != 204 {
		t.Fatalf("second poll answered %d", got)
	}
	s.ok("POST", "/api/tasks", `{"workflowInstanceId":"`+id+`","taskId":"`+task.text("taskId")+
		`","status":"COMPLETED","outputData":{"r":2},"workerId":"me"}`)
	wf := s.ok("GET", "/api/workflow/"+id, "")
	if wf.text("status") != "COMPLETED" || wf.text("output", "r") != "2" {
		t.Fatalf("got %s", wf.body)
	}
	t.Log(wf.body)
}
