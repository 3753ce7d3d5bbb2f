package adminapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/api/adminapi"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
	"github.com/tutti-run/tutti/runner"
	"github.com/tutti-run/tutti/store/memstore"
	"github.com/tutti-run/tutti/value"
)

// applier stores a source as one definition named after its file.
type applier struct{ svc *api.Service }

func (applier) Recognizes(_ string, source []byte) bool {
	return bytes.HasPrefix(source, []byte("["))
}

func (a applier) Apply(
	ctx context.Context, ns, filename string, source []byte, dryRun bool,
) (out api.Applied, err error) {
	name, _, _ := strings.Cut(filename, ".")
	out.Diagnostics, err = a.svc.Compile(ctx, ns, &tutti.Source{Dialect: "toy", Body: source})
	if err != nil || dryRun || out.Diagnostics.HasErrors() {
		return out, err
	}
	_, err = a.svc.PutDocument(ctx, engine.Document{
		Namespace: ns, Dialect: "toy", Kind: "toy", Name: name, Version: 1, Body: source,
	}, engine.PutAny)
	out.Refs = []api.DocumentRef{{Namespace: ns, Dialect: "toy", Kind: "toy", Name: name, Version: 1}}
	return out, err
}

// client talks to a server that is all its own.
type client struct {
	t   *testing.T
	url string
	svc *api.Service
}

func serve(t *testing.T, auth api.Authorizer) *client {
	t.Helper()
	st, err := memstore.Open(memstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dialects := []tutti.Dialect{enginetest.Toy{}}
	r, err := runner.Open(context.Background(), runner.Options{Store: st, Dialects: dialects})
	if err != nil {
		t.Fatal(err)
	}
	svc := api.New(api.Options{Runner: r, Dialects: dialects, Authorizer: auth})
	srv := httptest.NewServer(adminapi.New(adminapi.Options{
		Service: svc, Appliers: api.Appliers{"toy": applier{svc}}, Version: "1.2.3",
	}).Handler())
	t.Cleanup(func() {
		srv.Close()
		r.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return &client{t: t, url: srv.URL + adminapi.Prefix, svc: svc}
}

// do sends a request and decodes the answer into out, which may be nil.
func (c *client) do(method, path, body string, out any) int {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			c.t.Fatalf("%s %s: %v in %s", method, path, err, b)
		}
	}
	return resp.StatusCode
}

func (c *client) want(status int, method, path, body string, out any) {
	c.t.Helper()
	var raw json.RawMessage
	if out == nil && status != http.StatusNoContent {
		out = &raw
	}
	if got := c.do(method, path, body, out); got != status {
		c.t.Errorf("%s %s: status %d, want %d: %s", method, path, got, status, raw)
	}
}

func (c *client) define(name, body string) {
	c.t.Helper()
	var out adminapi.Applied
	c.want(200, "POST", "/definitions:apply?filename="+name+".json", body, &out)
	if !out.Stored || len(out.Definitions) != 1 {
		c.t.Fatalf("applied %+v", out)
	}
}

func (c *client) start(body string) string {
	c.t.Helper()
	var out adminapi.StartReply
	c.want(201, "POST", "/runs", body, &out)
	return out.ID
}

// work performs one task of a queue.
func (c *client) work(queue string) {
	c.t.Helper()
	got, err := c.svc.Poll(c.t.Context(), api.PollRequest{
		Namespace: "default", Queue: queue, Worker: "w", Wait: 10 * time.Second,
	})
	if err != nil || len(got) != 1 {
		c.t.Fatalf("poll: %d tasks, %v", len(got), err)
	}
	_, err = c.svc.Complete(c.t.Context(), "default", api.Completion{
		Run: got[0].Run.ID, Seq: got[0].Task.Seq, Token: got[0].Task.Token,
		Outcome: engine.Outcome{
			Status: tutti.Completed, Output: value.Raw(`{"paid":true}`), Logs: [][]byte{[]byte("hi")},
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

func TestRuns(t *testing.T) {
	c := serve(t, nil)
	c.define("order", `[{"task":"pay","name":"pay"},{"wait":0,"name":"approve"}]`)
	id := c.start(`{"definition":"order","dialect":"toy","input":{"n":1},"labels":{"team":"red"}}`)
	var x adminapi.Explanation
	c.want(200, "GET", "/runs/"+id+"/explain", "", &x)
	if len(x.Waits) != 1 || x.Waits[0].Code != "Queued" || x.Text == "" {
		t.Errorf("explanation: %+v", x)
	}
	c.work("pay")
	c.want(204, "POST", "/runs/"+id+"/signal", `{"step":"approve","output":"yes"}`, nil)
	var r adminapi.Run
	c.want(200, "GET", "/runs/"+id+"?waitMs=10000", "", &r)
	if r.Status != "COMPLETED" || string(r.Output) != `{"done":2}` || r.TaskCount != 2 {
		t.Errorf("run: %+v", r)
	}
	var tasks adminapi.TaskPage
	c.want(200, "GET", "/runs/"+id+"/tasks?limit=1", "", &tasks)
	if len(tasks.Tasks) != 1 || tasks.Next != 2 || string(tasks.Tasks[0].Output) != `{"paid":true}` {
		t.Errorf("tasks: %+v", tasks)
	}
	var task adminapi.Task
	c.want(200, "GET", "/runs/"+id+"/tasks/2", "", &task)
	if task.Name != "approve" || task.Kind != "wait" || task.Attempt != 1 {
		t.Errorf("task: %+v", task)
	}
	var logs []adminapi.LogLine
	c.want(200, "GET", "/runs/"+id+"/tasks/"+tasks.Tasks[0].ID+"/logs", "", &logs)
	if len(logs) != 1 || logs[0].Text != "hi" {
		t.Errorf("logs: %+v", logs)
	}
	var def adminapi.Definition
	c.want(200, "GET", "/runs/"+id+"/definition", "", &def)
	if def.Name != "order" || def.Dialect != "toy" {
		t.Errorf("definition: %+v", def)
	}
	c.want(204, "DELETE", "/runs/"+id, "", nil)
	c.want(404, "GET", "/runs/"+id, "", nil)
}

func TestInlineRun(t *testing.T) {
	c := serve(t, nil)
	var out adminapi.StartReply
	c.want(201, "POST", "/runs",
		`{"dialect":"toy","source":[{"local":1}],"waitMs":10000,"idempotencyKey":"k"}`, &out)
	if out.Run == nil || out.Run.Status != "COMPLETED" || out.Run.Definition != "inline" {
		t.Errorf("run: %+v", out.Run)
	}
	body := `{"dialect":"toy","source":[{"local":1}],"idempotencyKey":"k"`
	c.want(409, "POST", "/runs", body+`}`, nil)
	var again adminapi.StartReply
	c.want(201, "POST", "/runs", body+`,"onDuplicate":"return"}`, &again)
	if !again.Existing || again.ID != out.ID {
		t.Errorf("second start: %+v", again)
	}
}

func TestControl(t *testing.T) {
	c := serve(t, nil)
	c.define("d", `[{"wait":0,"name":"a"},{"local":1,"name":"b"}]`)
	run := "/runs/" + c.start(`{"definition":"d","dialect":"toy"}`)
	for _, step := range []struct {
		action, body string
		status       int
	}{
		{"pause", `{"by":"me"}`, 204},
		{"resume", ``, 204},
		{"resume", ``, 409},
		{"skip", `{"step":"b","output":3}`, 204},
		{"skip", `{}`, 400},
		{"terminate", `{"reason":"enough","output":{"x":1}}`, 204},
		{"pause", ``, 409},
		{"retry", `{"resumeChildren":true}`, 204},
		{"terminate", ``, 204},
		{"rerun", `{"number":1}`, 204},
		{"terminate", ``, 204},
		{"rerun", `{"task":"nonsense"}`, 404},
		{"restart", `{"newest":true,"input":{"again":1}}`, 204},
		{"restart", ``, 409},
		{"signal", `{"failed":true,"reason":"no"}`, 204},
		{"signal", ``, 409},
	} {
		c.want(step.status, "POST", run+"/"+step.action, step.body, nil)
	}
	var r adminapi.Run
	c.want(200, "GET", run, "", &r)
	if r.Status != "FAILED" || r.Reason != "no" || string(r.Input) != `{"again":1}` {
		t.Errorf("run: %+v", r)
	}
}

func TestListAndSearch(t *testing.T) {
	c := serve(t, nil)
	c.define("done", `[{"local":1}]`)
	c.define("open", `[{"wait":0}]`)
	for i := range 6 {
		c.start(fmt.Sprintf(
			`{"definition":%q,"dialect":"toy","input":{"fruit":"apple"},"correlationId":"c%d",`+
				`"labels":{"odd":"%v"},"priority":%d}`,
			[]string{"done", "open"}[i%2], i/3, i%2 == 1, i))
	}
	for q, want := range map[string]int{
		"": 6, "status=completed": 3, "status=RUNNING,PAUSED": 3, "definition=open": 3,
		"correlationId=c1": 3, "label=odd=true": 3, "text=apple": 6, "text=pear": 0,
		"limit=2": 2, "offset=5": 1, "from=2000-01-01T00:00:00Z": 6, "to=1000": 0,
		"sort=-priority&limit=1": 1, "topLevel": 6, "version=1": 6, "version=7": 0,
		"endFrom=1": 3,
	} {
		var page adminapi.RunPage
		c.want(200, "GET", "/runs?"+q, "", &page)
		if len(page.Runs) != want {
			t.Errorf("%q: %d runs, want %d", q, len(page.Runs), want)
		}
		for _, r := range page.Runs {
			if r.Input != nil {
				t.Errorf("%q: payloads were not asked for", q)
			}
		}
	}
	for _, q := range []string{"limit=4", "limit=4&text=apple", "limit=1&label=odd=true"} {
		seen, cursor := map[string]bool{}, ""
		for range 10 {
			var page adminapi.RunPage
			c.want(200, "GET", "/runs?payloads&"+q+"&cursor="+url.QueryEscape(cursor), "", &page)
			for _, r := range page.Runs {
				if seen[r.ID] || r.Input == nil {
					t.Errorf("%s: run %s twice, or without input", q, r.ID)
				}
				seen[r.ID] = true
			}
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		if want := map[bool]int{true: 3, false: 6}[strings.Contains(q, "odd")]; len(seen) != want {
			t.Errorf("%s: %d runs over all pages, want %d", q, len(seen), want)
		}
	}
}

func TestErrors(t *testing.T) {
	c := serve(t, nil)
	const nobody = "/runs/01a20525-0000-7000-8000-000000000000"
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               adminapi.Error
	}{
		{"POST", "/runs", "{\n  \"definition\": \"x\",,\n}", 400, adminapi.Error{
			Kind: "invalid", Code: "InvalidBody", Pos: "2:21",
		}},
		{"POST", "/runs", "{\n  \"definiton\": \"x\"\n}", 400, adminapi.Error{
			Kind: "invalid", Code: "InvalidBody", Pos: "2:3",
		}},
		{"POST", "/runs", `{"version":"x"}`, 400, adminapi.Error{
			Kind: "invalid", Code: "InvalidBody", Pos: "1:15",
		}},
		{"POST", "/runs", `{"definition":"x","dialect":"toy"}`, 404, adminapi.Error{
			Kind: "not found", Code: "NoSuchDefinition",
		}},
		{"POST", "/runs", `{"definition":"x","onDuplicate":"shrug"}`, 400, adminapi.Error{
			Kind: "invalid", Code: "InvalidQuery", Pos: "onDuplicate",
		}},
		{"GET", "/runs?limit=-1", "", 400, adminapi.Error{
			Kind: "invalid", Code: "InvalidQuery", Pos: "limit",
		}},
		{"GET", "/runs?status=fine", "", 400, adminapi.Error{
			Kind: "invalid", Code: "InvalidQuery", Pos: "status",
		}},
		{"GET", "/runs?cursor=x", "", 400, adminapi.Error{
			Kind: "invalid", Code: "InvalidCursor",
			Hint: "a cursor is the next field of the page before, unchanged",
		}},
		{"GET", "/runs/nonsense", "", 404, adminapi.Error{Kind: "not found", Code: "RunNotFound"}},
		{"GET", nobody, "", 404, adminapi.Error{Kind: "not found", Code: "RunNotFound"}},
		{"GET", nobody + "/explain", "", 404, adminapi.Error{Kind: "not found", Code: "RunNotFound"}},
		{"GET", nobody + "/history", "", 404, adminapi.Error{Kind: "not found", Code: "RunNotFound"}},
		{"GET", nobody + "/events", "", 404, adminapi.Error{Kind: "not found", Code: "RunNotFound"}},
		{"GET", nobody + "/tasks/1", "", 404, adminapi.Error{Kind: "not found", Code: "RunNotFound"}},
		{"GET", "/nothing", "", 404, adminapi.Error{
			Kind: "not found", Code: "NoRoute", Hint: "see /admin/v1/openapi.json",
		}},
		{"GET", "/definitions/toy/x?kind=toy", "", 404, adminapi.Error{
			Kind: "not found", Code: "DocumentNotFound",
		}},
		{"GET", "/runs?namespace=a/b", "", 400, adminapi.Error{Kind: "invalid", Code: "InvalidName"}},
	} {
		var got adminapi.Error
		status := c.do(tt.method, tt.path, tt.body, &got)
		if got.Message == "" {
			t.Errorf("%s %s: no message", tt.method, tt.path)
		}
		got.Message = ""
		if strings.HasSuffix(got.Code, "NotFound") || got.Code == "MalformedID" {
			got.Code = tt.want.Code
			got.Hint = ""
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || status != tt.status {
			t.Errorf("%s %s: status %d, want %d; %s", tt.method, tt.path, status, tt.status, diff)
		}
	}
	if status := c.do("PUT", "/runs", "", nil); status != 405 {
		t.Errorf("wrong method: %d", status)
	}
}

func TestHistory(t *testing.T) {
	c := serve(t, nil)
	c.define("d", `[{"loop":200,"name":"l","steps":[{"local":1,"name":"x"}]},{"task":"q","name":"y"}]`)
	id := c.start(`{"definition":"d","dialect":"toy"}`)
	resp, err := http.Get(c.url + "/runs/" + id + "/history")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n := 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		var ev adminapi.HistoryEvent
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			t.Fatal(err)
		}
		if n++; ev.Number != n {
			t.Fatalf("entry %d has number %d", n, ev.Number)
		}
	}
	if n < 200 {
		t.Errorf("%d entries", n)
	}
	var last adminapi.HistoryEvent
	c.want(200, "GET", fmt.Sprintf("/runs/%s/history?after=%d", id, n-1), "", &last)
	if last.Kind != "TaskScheduled" || last.Name != "y" {
		t.Errorf("last entry: %+v", last)
	}
}

func TestEvents(t *testing.T) {
	c := serve(t, nil)
	c.define("d", `[{"wait":0,"name":"a"},{"wait":0,"name":"b"}]`)
	id := c.start(`{"definition":"d","dialect":"toy"}`)
	req, err := http.NewRequestWithContext(t.Context(), "GET", c.url+"/runs/"+id+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", "1")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Errorf("content type %q", ct)
	}
	var names []string
	var number, signals int
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		kind, rest, _ := strings.Cut(lines.Text(), ": ")
		switch kind {
		case "event":
			names = append(names, rest)
			if rest == "run" && signals < 2 { // it waits: let it go on
				signals++
				c.want(204, "POST", "/runs/"+id+"/signal", ``, nil)
			}
		case "id":
			var n int
			if _, err := fmt.Sscan(rest, &n); err != nil || n != max(number, 1)+1 {
				t.Errorf("event %s follows event %d", rest, number)
			}
			number = n
		}
	}
	if len(names) == 0 || names[len(names)-1] != "end" || number < 5 {
		t.Errorf("events %v up to number %d", names, number)
	}
}

func TestServer(t *testing.T) {
	c := serve(t, nil)
	c.define("d", `[{"task":"a b","name":"y"}]`)
	c.start(`{"definition":"d","dialect":"toy"}`)
	var bad struct {
		Stored      bool
		Diagnostics []struct{ Severity, Message string }
	}
	c.want(200, "POST", "/definitions:apply?filename=bad.json&dialect=toy", `[{"nonsense":1}]`, &bad)
	if bad.Stored || len(bad.Diagnostics) != 1 || bad.Diagnostics[0].Severity != "error" {
		t.Errorf("a bad source: %+v", bad)
	}
	c.want(400, "POST", "/definitions:apply?filename=x.txt", `what`, nil)
	var defs []adminapi.Definition
	c.want(200, "GET", "/definitions?kind=toy", "", &defs)
	if len(defs) != 1 || defs[0].Name != "d" || defs[0].Body != nil {
		t.Errorf("definitions: %+v", defs)
	}
	var def adminapi.Definition
	c.want(200, "GET", "/definitions/toy/d?kind=toy", "", &def)
	if def.Body == nil || def.CreateMs == 0 {
		t.Errorf("definition: %+v", def)
	}
	var queues []adminapi.Queue
	c.want(200, "GET", "/queues", "", &queues)
	if len(queues) != 1 || queues[0].Name != "a b" || queues[0].Depth != 1 {
		t.Errorf("queues: %+v", queues)
	}
	c.work("a b")
	var q adminapi.Queue
	c.want(200, "GET", "/queues/a%20b", "", &q)
	if q.Depth != 0 || len(q.Workers) != 1 || q.Workers[0].Name != "w" {
		t.Errorf("queue: %+v", q)
	}
	var st adminapi.Stats
	c.want(200, "GET", "/stats", "", &st)
	if !st.Healthy || st.Version != "1.2.3" || st.Runs["COMPLETED"] != 1 || st.Batches == 0 {
		t.Errorf("stats: %+v", st)
	}
	var au adminapi.Audit
	c.want(200, "GET", "/audit", "", &au)
	if au.Recent == nil {
		t.Errorf("audit: %+v", au)
	}
	var elsewhere adminapi.RunPage
	c.want(200, "GET", "/runs?namespace=other", "", &elsewhere)
	if len(elsewhere.Runs) != 0 {
		t.Error("another namespace sees the runs")
	}
}

func TestOpenAPI(t *testing.T) {
	c := serve(t, nil)
	var raw json.RawMessage
	c.want(200, "GET", "/openapi.json", "", &raw)
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Errorf("the document is not valid: %v", err)
	}
	signal := doc.Paths.Find("/admin/v1/runs/{id}/signal")
	if signal == nil || signal.Post == nil || signal.Post.RequestBody == nil {
		t.Error("a route is missing from the document")
	}
	run := doc.Components.Schemas["Run"]
	if run == nil || run.Value.Properties["status"] == nil {
		t.Error("the schema of runs is missing")
	}
}

// denyAll refuses everybody.
type denyAll struct{}

func (denyAll) Authorize(context.Context, api.Permission, string) error {
	return tutti.E(tutti.Denied, "authorize", "Denied", "not you")
}

func TestPermissions(t *testing.T) {
	c := serve(t, denyAll{})
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	c.want(200, "GET", "/openapi.json", "", &doc)
	n := 0
	for path, item := range doc.Paths {
		for method := range item {
			path := strings.TrimPrefix(path, adminapi.Prefix)
			if path == "/openapi.json" {
				continue
			}
			n++
			c.want(403, strings.ToUpper(method), path, "", nil)
		}
	}
	if n < 25 {
		t.Errorf("only %d routes are in the document", n)
	}
}
