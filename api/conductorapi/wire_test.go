package conductorapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/value"
)

// TestLongPoll checks that a poll that waits gets a task the moment there is one.
func TestLongPoll(t *testing.T) {
	s := newServer(t)
	s.ok("POST", "/api/metadata/workflow", oneTask)
	type result struct {
		reply
		took time.Duration
	}
	got := make(chan result)
	begun := time.Now()
	go func() {
		r := s.do("GET", "/api/tasks/poll/batch/work?count=5&timeout=5000", "")
		got <- result{r, time.Since(begun)}
	}()
	s.polling("work")
	s.ok("POST", "/api/workflow", `{"name":"one"}`)
	r := <-got
	if r.text(0, "taskType") != "work" {
		t.Fatalf("polled %d %s", r.status, r.body)
	}
	if r.took > 3*time.Second {
		t.Errorf("the poll took %v", r.took)
	}
	begun = time.Now()
	if r := s.do("GET", "/api/tasks/poll/batch/work?timeout=300", ""); r.body != "[]" {
		t.Errorf("polled %s", r.body)
	}
	if took := time.Since(begun); took < 300*time.Millisecond {
		t.Errorf("an empty poll came back after %v", took)
	}
}

// polling waits until somebody waits for tasks of a queue.
func (s *server) polling(queue string) {
	s.t.Helper()
	s.eventually("somebody polls "+queue, func() bool {
		queues, err := s.svc.Queues(s.t.Context(), namespace)
		if err != nil {
			s.t.Fatal(err)
		}
		return slices.ContainsFunc(queues, func(q api.QueueInfo) bool {
			return q.Name == queue && q.Waiting > 0
		})
	})
}

// TestExecuteWaits checks that a synchronous start answers when its workflow ends, and says so
// when the time is over before.
func TestExecuteWaits(t *testing.T) {
	s := newServer(t)
	s.ok("POST", "/api/metadata/workflow", oneTask)
	late := s.ok("POST", "/api/workflow/execute/one/1?waitForSeconds=1", "{}")
	if late.text("signalTimeout") != "true" || late.text("targetWorkflowStatus") != "RUNNING" {
		t.Errorf("answered %s", late.body)
	}
	s.ok("DELETE", "/api/workflow/"+late.text("targetWorkflowId"), "")
	got := make(chan reply)
	begun := time.Now()
	go func() { got <- s.do("POST", "/api/workflow/execute/one/1?waitForSeconds=60", "{}") }()
	task := s.ok("GET", "/api/tasks/poll/batch/work?timeout=5000", "")
	s.ok("POST", "/api/tasks", fmt.Sprintf(`{"workflowInstanceId":%q,"taskId":%q,
		"status":"COMPLETED","outputData":{"r":3}}`, task.text(0, "workflowInstanceId"),
		task.text(0, "taskId")))
	r := <-got
	if r.text("output", "r") != "3" || r.text("status") != "COMPLETED" {
		t.Errorf("answered %s", r.body)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestUpdateV2 checks that the answer to a report is the next task.
func TestUpdateV2(t *testing.T) {
	s := newServer(t)
	s.ok("POST", "/api/metadata/workflow", `{"name":"w","tasks":[
		{"name":"work","taskReferenceName":"a"},{"name":"work","taskReferenceName":"b"}]}`)
	s.ok("POST", "/api/workflow", `{"name":"w"}`)
	task := s.ok("GET", "/api/tasks/poll/work?workerid=me", "")
	report := func(status string) reply {
		return s.ok("POST", "/api/tasks/update-v2", fmt.Sprintf(`{"workflowInstanceId":%q,
			"taskId":%q,"status":%q,"workerId":"me"}`, task.text("workflowInstanceId"),
			task.text("taskId"), status))
	}
	task = report("COMPLETED")
	if task.text("referenceTaskName") != "b" || task.text("workerId") != "me" {
		t.Fatalf("the next task is %d %s", task.status, task.body)
	}
	if r := report("IN_PROGRESS"); r.status != http.StatusNoContent {
		t.Errorf("progress is answered with %d %s", r.status, r.body)
	}
	if r := report("COMPLETED"); r.status != http.StatusNoContent {
		t.Errorf("the last report is answered with %d %s", r.status, r.body)
	}
	if r := s.do("POST", "/api/tasks/update-v2", `{"status":"COMPLETED"}`); r.status != 500 {
		t.Errorf("a report without ids is answered with %d %s", r.status, r.body)
	}
}

// TestCallback checks that a task in progress comes back after the time that its worker asked
// for, and at once when callbacks are reset.
func TestCallback(t *testing.T) {
	s := newServer(t)
	s.ok("POST", "/api/metadata/workflow", oneTask)
	id := s.ok("POST", "/api/workflow", `{"name":"one"}`).body
	task := s.ok("GET", "/api/tasks/poll/work", "")
	s.ok("POST", "/api/tasks", fmt.Sprintf(`{"workflowInstanceId":%q,"taskId":%q,
		"status":"IN_PROGRESS","callbackAfterSeconds":600,"outputData":{"half":true}}`,
		id, task.text("taskId")))
	if r := s.do("GET", "/api/tasks/poll/work", ""); r.status != http.StatusNoContent {
		t.Fatalf("the task came back at once: %s", r.body)
	}
	got := s.ok("GET", "/api/tasks/"+task.text("taskId"), "")
	if got.text("status") != "SCHEDULED" || got.text("callbackAfterSeconds") != "600" ||
		got.text("outputData", "half") != "true" {
		t.Errorf("the task is %s", got.body)
	}
	s.ok("POST", "/api/workflow/"+id+"/resetcallbacks", "")
	again := s.ok("GET", "/api/tasks/poll/work", "")
	if again.text("pollCount") != "2" {
		t.Errorf("polled %d %s", again.status, again.body)
	}
}

// TestIdempotency checks the strategies for a key that is known.
func TestIdempotency(t *testing.T) {
	s := newServer(t)
	s.ok("POST", "/api/metadata/workflow", oneTask)
	start := func(strategy string) reply {
		return s.do("POST", "/api/workflow", fmt.Sprintf(
			`{"name":"one","idempotencyKey":"k","idempotencyStrategy":%q}`, strategy))
	}
	first := start("RETURN_EXISTING")
	if again := start("RETURN_EXISTING"); again.body != first.body {
		t.Errorf("another workflow was started: %s, not %s", again.body, first.body)
	}
	for _, strategy := range []string{"FAIL", "FAIL_ON_RUNNING"} {
		if r := start(strategy); r.status != http.StatusConflict {
			t.Errorf("%s: %d %s", strategy, r.status, r.body)
		}
	}
	s.ok("DELETE", "/api/workflow/"+first.body, "")
	if r := start("FAIL"); r.status != http.StatusConflict {
		t.Errorf("FAIL after the end: %d %s", r.status, r.body)
	}
	if r := start("FAIL_ON_RUNNING"); r.status != http.StatusOK || r.body == first.body {
		t.Errorf("FAIL_ON_RUNNING after the end: %d %s", r.status, r.body)
	}
}

// TestSecretsForWorkers checks that a worker gets the secrets that its task definition names,
// and that nobody else sees them.
func TestSecretsForWorkers(t *testing.T) {
	s := newServer(t, func(o *Options) {
		o.Secret = func(name string) (string, bool) { return "s3cret", name == "KEY" }
	})
	s.ok("POST", "/api/metadata/taskdefs", `[{"name":"work","runtimeMetadata":["KEY","OTHER"]}]`)
	s.ok("POST", "/api/metadata/workflow", oneTask)
	id := s.ok("POST", "/api/workflow", `{"name":"one"}`).body
	task := s.ok("GET", "/api/tasks/poll/work", "")
	if got := task.get("runtimeMetadata"); fmt.Sprint(got) != "map[KEY:s3cret]" {
		t.Errorf("the worker got %v", got)
	}
	if wf := s.ok("GET", "/api/workflow/"+id, "").body; strings.Contains(wf, "s3cret") {
		t.Errorf("the secret shows in %s", wf)
	}
}

// TestDomains checks that taskToDomain routes tasks.
func TestDomains(t *testing.T) {
	s := newServer(t)
	s.ok("POST", "/api/metadata/workflow", oneTask)
	s.ok("POST", "/api/workflow", `{"name":"one","taskToDomain":{"*":"d1"}}`)
	if r := s.do("GET", "/api/tasks/poll/work", ""); r.status != http.StatusNoContent {
		t.Errorf("polled without the domain: %s", r.body)
	}
	if r := s.ok("GET", "/api/tasks/poll/work?domain=d1", ""); r.text("domain") != "d1" {
		t.Errorf("polled %s", r.body)
	}
}

// TestNames checks names that have to be escaped in a URL.
func TestNames(t *testing.T) {
	s := newServer(t)
	for _, name := range []string{"a b", "a/b", "ä", "a+b", "a%b", "a?b"} {
		def := strings.Replace(oneTask, `"one"`, fmt.Sprintf("%q", name), 1)
		s.ok("POST", "/api/metadata/workflow", def)
		r := s.ok("GET", "/api/metadata/workflow/"+url.PathEscape(name), "")
		if r.text("name") != name {
			t.Errorf("%q: %s", name, r.body)
		}
		s.ok("DELETE", "/api/metadata/workflow/"+url.PathEscape(name)+"/1", "")
	}
}

// TestManyClients runs workflows with several workers at once; each task must be handed out
// once.
func TestManyClients(t *testing.T) {
	s := newServer(t)
	s.ok("POST", "/api/metadata/workflow", oneTask)
	const runs, workers = 200, 4
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	for range workers {
		wg.Go(func() {
			for {
				mu.Lock()
				done := len(seen) == runs
				mu.Unlock()
				if done {
					return
				}
				got := s.do("GET", "/api/tasks/poll/batch/work?count=20&timeout=100", "")
				for i := 0; got.text(i, "taskId") != ""; i++ {
					mu.Lock()
					seen[got.text(i, "taskId")]++
					mu.Unlock()
					s.do("POST", "/api/tasks", fmt.Sprintf(`{"workflowInstanceId":%q,"taskId":%q,
						"status":"COMPLETED"}`, got.text(i, "workflowInstanceId"),
						got.text(i, "taskId")))
				}
			}
		})
	}
	for range runs {
		s.ok("POST", "/api/workflow", `{"name":"one"}`)
	}
	wg.Wait()
	for id, n := range seen {
		if n != 1 {
			t.Errorf("task %s was handed out %d times", id, n)
		}
	}
	found := s.ok("GET", "/api/workflow/search?query=status=COMPLETED", "")
	if n := found.text("totalHits"); n != fmt.Sprint(runs) {
		t.Errorf("%s workflows completed, want %d", n, runs)
	}
}

// FuzzRequests checks that no body and no query is answered by a fault of the server.
func FuzzRequests(f *testing.F) {
	s := newServer(f)
	id := ""
	s.ok("POST", "/api/metadata/workflow", oneTask)
	id = s.ok("POST", "/api/workflow", `{"name":"one"}`).body
	all := routes()
	for i := range all {
		f.Add(i, `{"name":"one","tasks":[{"name":"a","taskReferenceName":"b"}]}`, "version=1")
		f.Add(i, `["`+id+`"]`, "query=status=RUNNING&start=1")
		f.Add(i, `{"workflowInstanceId":"`+id+`","taskId":"x","status":"COMPLETED"}`, "count=2")
	}
	h := s.api.Handler()
	f.Fuzz(func(t *testing.T, at int, body, query string) {
		rt := all[uint(at)%uint(len(all))]
		path := pathParameter.ReplaceAllString(strings.ReplaceAll(rt.pattern, "*", "x"), id)
		if strings.Contains(path, "poll") || strings.Contains(path, "execute") ||
			strings.Contains(path, "workflow/test") {
			return // they wait
		}
		r := httptest.NewRequestWithContext(t.Context(), rt.method, path, strings.NewReader(body))
		r.URL.RawQuery = query
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if strings.Contains(w.Body.String(), "internal error") {
			t.Fatalf("%s %s?%s with %q: %s", rt.method, path, query, body, w.Body)
		}
		out := w.Body.Bytes()
		if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") &&
			rt.method != http.MethodHead {
			if err := value.Check(out, value.DefaultLimits); err != nil {
				t.Fatalf("%s %s?%s with %q is answered with %s: %v",
					rt.method, path, query, body, out, err)
			}
		}
	})
}
