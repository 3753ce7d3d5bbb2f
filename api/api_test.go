package api_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
	"github.com/tutti-run/tutti/runner"
	"github.com/tutti-run/tutti/store"
	"github.com/tutti-run/tutti/store/memstore"
	"github.com/tutti-run/tutti/store/pebblestore"
	"github.com/tutti-run/tutti/value"
)

const ns = "shop"

// dialect is the toy with every optional ability.
type dialect struct {
	enginetest.Toy
	retention map[string]tutti.RetentionPolicy
}

func (d dialect) Compile(src *tutti.Source) (tutti.Program, value.Diagnostics) {
	p, diags := d.Toy.Compile(src)
	if p == nil {
		return nil, diags
	}
	return program{p}, diags
}

func (dialect) Handoff(in value.Raw, secrets func(string) (string, bool)) value.Raw {
	before, rest, ok := bytes.Cut(in, []byte("$secret."))
	if !ok {
		return in
	}
	name, after, _ := bytes.Cut(rest, []byte("$"))
	val, _ := secrets(string(name))
	return value.Raw(string(before) + val + string(after))
}

func (d dialect) Retention(_ tutti.Documents, def string) (tutti.RetentionPolicy, bool) {
	p, ok := d.retention[def]
	return p, ok
}

type program struct{ tutti.Program }

func (program) Prepare(spec *tutti.RunSpec) error {
	if bytes.Contains(spec.Input, []byte("forbidden")) {
		return tutti.E(tutti.Invalid, "start", "InputForbidden", "the definition forbids it")
	}
	if spec.Limit == nil && strings.HasPrefix(spec.Definition, "alone") {
		spec.Limit = &tutti.RunLimit{Key: spec.Definition, Concurrency: 1}
	}
	return nil
}

// server is a Service over a runner.
type server struct {
	*api.Service
	t   testing.TB
	run *runner.Runner
}

func open(t testing.TB, st store.Store, opts api.Options) *server {
	t.Helper()
	ropts := runner.Options{Store: st, Dialects: opts.Dialects}
	if ropts.Dialects == nil {
		ropts.Dialects = []tutti.Dialect{dialect{}}
	}
	if opts.Text != nil {
		ropts.Observe = opts.Text.Observe
	}
	r, err := runner.Open(context.Background(), ropts)
	if err != nil {
		t.Fatal(err)
	}
	opts.Runner, opts.Dialects = r, ropts.Dialects
	t.Cleanup(func() {
		r.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return &server{Service: api.New(opts), t: t, run: r}
}

func inMemory(t testing.TB, opts api.Options) *server {
	t.Helper()
	st, err := memstore.Open(memstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return open(t, st, opts)
}

// onEveryStore runs a test over every driver.
func onEveryStore(t *testing.T, test func(t *testing.T, s *server)) {
	t.Run("memory", func(t *testing.T) { test(t, inMemory(t, api.Options{})) })
	t.Run("pebble", func(t *testing.T) {
		st, err := pebblestore.Open(t.TempDir(), pebblestore.Options{
			ReserveBytes: 1 << 20, BallastBytes: 1 << 20,
		})
		if err != nil {
			t.Fatal(err)
		}
		test(t, open(t, st, api.Options{}))
	})
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (s *server) define(name, body string) {
	s.t.Helper()
	_, err := s.PutDocument(s.t.Context(), engine.Document{
		Namespace: ns, Dialect: "toy", Kind: "toy", Name: name, Version: 1, Body: value.Raw(body),
	}, engine.PutAny)
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) start(spec tutti.RunSpec) tutti.RunID {
	s.t.Helper()
	spec.Namespace, spec.Dialect = ns, "toy"
	st, err := s.Start(s.t.Context(), spec)
	if err != nil {
		s.t.Fatal(err)
	}
	return st.ID
}

func (s *server) poll(queue string, n int) []api.HandOut {
	s.t.Helper()
	return must[[]api.HandOut](s.t)(s.Poll(s.t.Context(), api.PollRequest{
		Namespace: ns, Queue: queue, Worker: "w1", Count: n, Wait: 5 * time.Second,
	}))
}

// finish completes a hand-out.
func (s *server) finish(h api.HandOut) {
	s.t.Helper()
	must[*tutti.Task](s.t)(s.Complete(s.t.Context(), ns, api.Completion{
		Run: h.Run.ID, Seq: h.Task.Seq, Token: h.Task.Token,
		Outcome: engine.Outcome{Status: tutti.Completed, Output: value.Raw(`{"ok":true}`)},
	}))
}

// end starts a run of a definition without tasks and waits for its end.
func (s *server) end(spec tutti.RunSpec) *tutti.Run {
	s.t.Helper()
	id := s.start(spec)
	r := must[*tutti.Run](s.t)(s.WaitEnd(s.t.Context(), ns, id, 10*time.Second))
	if r.Status.Open() {
		s.t.Fatalf("run %s of %s has not ended", id, spec.Definition)
	}
	return r
}

func TestLifeOfARun(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s *server) {
		ctx := t.Context()
		s.define("order", `[{"task":"pay","name":"pay"},{"wait":0,"name":"approve"}]`)
		id := s.start(tutti.RunSpec{Definition: "order", Input: value.Raw(`{"n":1}`)})
		h := s.poll("pay", 1)[0]
		if h.Queue != "pay" || h.Task.Name != "pay" || h.Run.ID != id {
			t.Fatalf("handed out %+v", h)
		}
		must[struct{}](t)(struct{}{}, s.AddLogs(ctx, ns, id, 1, [][]byte{[]byte("paying")}))
		s.finish(h)
		_, err := s.Complete(ctx, ns, api.Completion{
			Run: id, Seq: 1, Token: h.Task.Token, Outcome: engine.Outcome{Status: tutti.Failed},
		})
		if tutti.KindOf(err) != tutti.Conflict {
			t.Errorf("a second completion: %v, want a conflict", err)
		}
		_, err = s.Signal(ctx, ns, id, "nobody", engine.Outcome{})
		if tutti.KindOf(err) != tutti.Conflict {
			t.Errorf("a signal for nobody: %v, want a conflict", err)
		}
		must[*tutti.Task](t)(s.Signal(ctx, ns, id, "", engine.Outcome{
			Status: tutti.Completed, Output: value.Raw(`"yes"`),
		}))
		r := must[*tutti.Run](t)(s.WaitEnd(ctx, ns, id, 10*time.Second))
		if r.Status != tutti.RunCompleted || string(r.Output) != `{"done":2}` {
			t.Errorf("run ended as %s with %s", r.Status, r.Output)
		}
		lines := must[[]engine.LogLine](t)(s.Logs(ctx, ns, id, 1))
		if len(lines) != 1 || lines[0].Text != "paying" {
			t.Errorf("logs: %+v", lines)
		}
		_, task, err := s.Task(ctx, ns, id, 2)
		if err != nil || task.Name != "approve" || string(task.Output) != `"yes"` {
			t.Errorf("task 2: %+v, %v", task, err)
		}
	})
}

func TestRunView(t *testing.T) {
	s := inMemory(t, api.Options{})
	s.define("loop", `[{"loop":2,"name":"l","steps":[{"task":"q","name":"step"}]},{"wait":0}]`)
	id := s.start(tutti.RunSpec{Definition: "loop"})
	for range 2 {
		s.finish(s.poll("q", 1)[0])
	}
	err := s.WithRun(t.Context(), ns, id, func(v *api.RunView) error {
		newest := must[*tutti.Task](t)(v.TaskByName("step"))
		var seqs, back []tutti.Seq
		must[struct{}](t)(struct{}{}, v.Tasks(0, func(x *tutti.Task) bool {
			seqs = append(seqs, x.Seq)
			return true
		}))
		must[struct{}](t)(struct{}{}, v.TasksBack(func(x *tutti.Task) bool {
			back = append(back, x.Seq)
			return len(back) < 2
		}))
		if newest.Iteration != 2 {
			t.Errorf("step by name is of iteration %d", newest.Iteration)
		}
		if diff := cmp.Diff([]tutti.Seq{1, 2, 3, 4}, seqs); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]tutti.Seq{4, 3}, back); diff != "" {
			t.Error(diff)
		}
		if _, err := v.TaskByName("none"); tutti.KindOf(err) != tutti.NotFound {
			t.Errorf("a step that is not there: %v", err)
		}
		p := must[tutti.Program](t)(v.Program())
		state := must[[]byte](t)(v.FrameState(0))
		must[any](t)(p.DecodeState(state))
		if src := must[*tutti.Source](t)(v.Source()); src.Name != "loop" {
			t.Errorf("source %q", src.Name)
		}
		if cell, ok, err := v.Cell("done"); string(cell) != "3" || !ok || err != nil {
			t.Errorf("cell = %q, %v, %v", cell, ok, err)
		}
		n := 0
		must[struct{}](t)(struct{}{}, v.History(0, func(engine.HistoryEvent) bool { n++; return true }))
		if n < 8 {
			t.Errorf("%d entries of history", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestNamespacesAreApart(t *testing.T) {
	s := inMemory(t, api.Options{})
	ctx := t.Context()
	s.define("d", `[{"task":"q","name":"a"}]`)
	id := s.start(tutti.RunSpec{Definition: "d", CorrelationID: "c"})
	h := s.poll("q", 1)[0]
	const other = "bank"
	for name, err := range map[string]error{
		"run":    second(s.Run(ctx, other, id)),
		"pause":  s.Pause(ctx, other, id, ""),
		"remove": s.Remove(ctx, other, id),
		"signal": second(s.Signal(ctx, other, id, "", engine.Outcome{})),
		"complete": second(s.Complete(ctx, other, api.Completion{
			Run: id, Seq: 1, Token: h.Task.Token, Outcome: engine.Outcome{Status: tutti.Completed},
		})),
		"extend":  s.Extend(ctx, other, id, 1, h.Task.Token),
		"logs":    s.AddLogs(ctx, other, id, 1, [][]byte{[]byte("x")}),
		"explain": second(s.Explain(ctx, other, id)),
		"link":    second(s.Link(ctx, other, "toy", "d", 0)),
		"document": second(s.Document(ctx, api.DocumentRef{
			Namespace: other, Dialect: "toy", Kind: "toy", Name: "d",
		})),
	} {
		if tutti.KindOf(err) != tutti.NotFound || err == nil {
			t.Errorf("%s in another namespace: %v, want not found", name, err)
		}
	}
	page := must[api.ListPage](t)(s.List(ctx, api.ListQuery{
		RunQuery: engine.RunQuery{Namespace: other},
	}))
	found := must[*api.SearchResult](t)(s.Search(ctx, api.Query{
		Namespace: other, IDs: []tutti.RunID{id},
	}))
	corr := must[[]engine.IndexEntry](t)(s.ByCorrelation(ctx, other, "c", 0))
	if len(page.Entries)+len(found.Runs)+len(corr) > 0 {
		t.Error("another namespace sees the run")
	}
	s.finish(h)
}

func second[T any](_ T, err error) error { return err }

func TestWaitUntil(t *testing.T) {
	s := inMemory(t, api.Options{})
	ctx := t.Context()
	s.define("d", `[{"wait":0,"name":"a"},{"wait":0,"name":"b"}]`)
	id := s.start(tutti.RunSpec{Definition: "d"})
	reached := make(chan bool)
	go func() {
		met, err := s.WaitUntil(ctx, ns, id, time.Minute, func(v *api.RunView) (bool, error) {
			_, err := v.TaskByName("b")
			if tutti.KindOf(err) == tutti.NotFound {
				return false, nil
			}
			return err == nil, err
		})
		reached <- met && err == nil
	}()
	must[*tutti.Task](t)(s.Signal(ctx, ns, id, "a", engine.Outcome{Status: tutti.Completed}))
	if !<-reached {
		t.Error("the wait ended without its condition")
	}
	r := must[*tutti.Run](t)(s.WaitEnd(ctx, ns, id, time.Millisecond))
	if r.Status != tutti.RunRunning {
		t.Errorf("after the time the run is %s", r.Status)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.WaitEnd(gone, ns, id, time.Minute); tutti.KindOf(err) != tutti.Cancelled {
		t.Errorf("a caller that went away: %v", err)
	}
}

func TestOperators(t *testing.T) {
	s := inMemory(t, api.Options{})
	ctx := t.Context()
	s.define("d", `[{"wait":0,"name":"a"},{"local":1,"name":"b"}]`)
	id := s.start(tutti.RunSpec{Definition: "d"})
	do := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	do("pause", s.Pause(ctx, ns, id, "me"))
	do("resume", s.Resume(ctx, ns, id, "me"))
	do("decide", s.Decide(ctx, ns, id))
	do("reset callbacks", s.ResetCallbacks(ctx, ns, id))
	do("repair", s.Repair(ctx, ns, id))
	do("skip", s.Skip(ctx, ns, id, "b", nil, value.Raw(`7`)))
	do("set", s.SetVariables(ctx, ns, id, "vars", value.Raw(`{"x":1}`), true))
	do("terminate", s.Terminate(ctx, ns, id, "enough", nil))
	do("retry", s.Retry(ctx, ns, id, false))
	do("terminate", s.Terminate(ctx, ns, id, "enough", value.Raw(`"out"`)))
	do("rerun", s.Rerun(ctx, ns, id, 2, nil))
	do("terminate", s.Terminate(ctx, ns, id, "enough", nil))
	s.define("d", `[{"local":1,"name":"only"}]`)
	corr := "fresh"
	do("restart", s.Restart(ctx, ns, id, api.RestartOptions{
		Newest: true, Input: value.Raw(`{"again":true}`), CorrelationID: &corr,
	}))
	r := must[*tutti.Run](t)(s.Run(ctx, ns, id))
	if r.Status != tutti.RunCompleted || r.CorrelationID != corr || string(r.Output) != `{"done":1}` {
		t.Errorf("after the restart: %s %q %s", r.Status, r.CorrelationID, r.Output)
	}
	do("remove", s.Remove(ctx, ns, id))
	if _, err := s.Run(ctx, ns, id); tutti.KindOf(err) != tutti.NotFound {
		t.Errorf("a removed run: %v", err)
	}
	if err := s.Resume(ctx, ns, id, ""); tutti.KindOf(err) != tutti.NotFound {
		t.Errorf("resume of a removed run: %v", err)
	}
}

func TestBulk(t *testing.T) {
	s := inMemory(t, api.Options{})
	ctx := t.Context()
	s.define("d", `[{"wait":0}]`)
	var ids []string
	for range 100 {
		ids = append(ids, s.start(tutti.RunSpec{Definition: "d"}).String())
	}
	ids[50] = "nonsense"
	pause := func(ctx context.Context, id tutti.RunID) error { return s.Pause(ctx, ns, id, "") }
	out := must[[]api.BulkOutcome](t)(s.Bulk(ctx, ids, pause))
	for i, o := range out {
		if o.ID != ids[i] || (o.Err != nil) != (i == 50) {
			t.Errorf("outcome %d: %+v", i, o)
		}
	}
	by, exact, err := s.Count(ctx, engine.RunQuery{Namespace: ns})
	want := map[tutti.RunStatus]int{tutti.RunPaused: 99, tutti.RunRunning: 1}
	if diff := cmp.Diff(want, by); diff != "" || !exact || err != nil {
		t.Errorf("count: %s, exact %v, %v", diff, exact, err)
	}
	_, err = s.Bulk(ctx, make([]string, api.MaxBulk+1), nil)
	if tutti.KindOf(err) != tutti.Invalid {
		t.Errorf("over the bound: %v", err)
	}
}

func TestHandoff(t *testing.T) {
	s := inMemory(t, api.Options{
		Secrets: func(ns, name string) (string, bool) { return ns + "-" + name, true },
		Trace:   func(r *tutti.Run, seq tutti.Seq) string { return fmt.Sprint("trace-", seq) },
	})
	s.define("d", `[{"task":"q","input":{"key":"$secret.API$"}}]`)
	id := s.start(tutti.RunSpec{Definition: "d"})
	h := s.poll("q", 1)[0]
	if string(h.Task.Input) != `{"key":"shop-API"}` || h.TraceParent != "trace-1" {
		t.Errorf("handed out %s with trace %q", h.Task.Input, h.TraceParent)
	}
	_, stored, err := s.Task(t.Context(), ns, id, 1)
	if err != nil || bytes.Contains(stored.Input, []byte("shop-API")) {
		t.Errorf("the secret is stored: %s, %v", stored.Input, err)
	}
}

func TestTraceContext(t *testing.T) {
	const in = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, tt := range []struct {
		header string
		traces bool
		want   string
	}{{in, true, in}, {in, false, ""}, {"nonsense", true, ""}, {"", true, ""}} {
		opts := api.Options{}
		if tt.traces {
			opts.Trace = func(*tutti.Run, tutti.Seq) string { return "" }
		}
		s := inMemory(t, opts)
		var id tutti.RunID
		h := api.TraceContext(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			st, err := s.Start(r.Context(), tutti.RunSpec{
				Namespace: ns, Labels: map[string]string{"a": "b"}, Source: &tutti.Source{
					Dialect: "toy", Name: "p", Body: value.Raw(`[{"wait":0}]`),
				},
			})
			if err != nil {
				t.Error(err)
			}
			id = st.ID
		}))
		req := httptest.NewRequest(http.MethodPost, "/", nil)
		req.Header.Set("traceparent", tt.header)
		h.ServeHTTP(httptest.NewRecorder(), req)
		r := must[*tutti.Run](t)(s.Run(t.Context(), ns, id))
		if got := r.Labels[tutti.LabelTrace]; got != tt.want || r.Labels["a"] != "b" {
			t.Errorf("traceparent %q, tracing %v: labels %v", tt.header, tt.traces, r.Labels)
		}
	}
}

func TestPrepare(t *testing.T) { synctest.Test(t, testPrepare) }

func testPrepare(t *testing.T) {
	s := inMemory(t, api.Options{})
	ctx := t.Context()
	s.define("alone", `[{"wait":0}]`)
	s.define("parent", `[{"child":"alone"}]`)
	_, err := s.Start(ctx, tutti.RunSpec{
		Namespace: ns, Dialect: "toy", Definition: "alone", Input: value.Raw(`"forbidden"`),
	})
	if tutti.KindOf(err) != tutti.Invalid {
		t.Errorf("a forbidden input: %v", err)
	}
	first := s.start(tutti.RunSpec{Definition: "alone"})
	parent := s.start(tutti.RunSpec{Definition: "parent"})
	synctest.Wait()
	child := must[[]engine.IndexEntry](t)(
		s.ByLabel(ctx, ns, engine.LabelParent, parent.String(), 0))
	if len(child) != 1 {
		t.Fatalf("%d children", len(child))
	}
	ex := must[*api.Explanation](t)(s.Explain(ctx, ns, child[0].ID))
	if len(ex.Waits) != 1 || ex.Waits[0].Code != "RunLimited" ||
		!strings.Contains(ex.Text, "held by run "+first.String()) {
		t.Errorf("the child was not prepared: %+v", ex)
	}
}

func TestStartRefuses(t *testing.T) {
	s := inMemory(t, api.Options{})
	long := strings.Repeat("x", api.MaxNameBytes+1)
	toy := func(change func(*tutti.RunSpec)) tutti.RunSpec {
		spec := tutti.RunSpec{Namespace: ns, Dialect: "toy", Definition: "d"}
		change(&spec)
		return spec
	}
	for name, tt := range map[string]struct {
		spec tutti.RunSpec
		kind tutti.Kind
	}{
		"no namespace":  {toy(func(s *tutti.RunSpec) { s.Namespace = "" }), tutti.Invalid},
		"bad namespace": {toy(func(s *tutti.RunSpec) { s.Namespace = "a/b" }), tutti.Invalid},
		"no definition": {toy(func(s *tutti.RunSpec) { s.Definition = "" }), tutti.Invalid},
		"zero byte":     {toy(func(s *tutti.RunSpec) { s.Definition = "a\x00" }), tutti.Invalid},
		"unknown":       {toy(func(*tutti.RunSpec) {}), tutti.NotFound},
		"no dialect":    {toy(func(s *tutti.RunSpec) { s.Dialect = "asl" }), tutti.Unsupported},
		"any dialect":   {toy(func(s *tutti.RunSpec) { s.Dialect = "" }), tutti.NotFound},
		"long key":      {toy(func(s *tutti.RunSpec) { s.IdempotencyKey = long }), tutti.Invalid},
		"long label": {toy(func(s *tutti.RunSpec) {
			s.Labels = map[string]string{"a": long}
		}), tutti.Invalid},
		"malformed JSON": {toy(func(s *tutti.RunSpec) { s.Input = value.Raw(`{`) }), tutti.Invalid},
		"large": {toy(func(s *tutti.RunSpec) {
			s.Input = make([]byte, api.MaxPayloadBytes+1)
		}), tutti.Exhausted},
		"bad source": {toy(func(s *tutti.RunSpec) {
			s.Source = &tutti.Source{Dialect: "toy", Name: "x", Body: value.Raw(`{}`)}
		}), tutti.Invalid},
	} {
		if _, err := s.Start(t.Context(), tt.spec); tutti.KindOf(err) != tt.kind || err == nil {
			t.Errorf("%s: %v, want %s", name, err, tt.kind)
		}
	}
}

func TestStartInline(t *testing.T) {
	s := inMemory(t, api.Options{})
	r := s.end(tutti.RunSpec{Source: &tutti.Source{
		Dialect: "toy", Name: "inline", Version: 3, Body: value.Raw(`[{"local":1}]`),
	}})
	if r.Status != tutti.RunCompleted || r.Definition != "inline" || r.Version != 3 {
		t.Errorf("inline run: %s of %s version %d", r.Status, r.Definition, r.Version)
	}
}

func TestDocuments(t *testing.T) {
	s := inMemory(t, api.Options{})
	ctx := t.Context()
	ref := api.DocumentRef{Namespace: ns, Dialect: "toy", Kind: "toy", Name: "d", Version: 1}
	put := func(mode engine.PutMode, version int, body string) error {
		_, err := s.PutDocument(ctx, engine.Document{
			Namespace: ns, Dialect: "toy", Kind: "toy", Name: "d", Version: version,
			Body: value.Raw(body),
		}, mode)
		return err
	}
	check := func(what string, err error, kind tutti.Kind) {
		t.Helper()
		if tutti.KindOf(err) != kind || err == nil {
			t.Errorf("%s: %v, want %s", what, err, kind)
		}
	}
	check("replace nothing", put(engine.PutExists, 1, `[]`), tutti.NotFound)
	must[struct{}](t)(struct{}{}, put(engine.PutNew, 1, `[]`))
	check("create twice", put(engine.PutNew, 1, `[]`), tutti.Exists)
	check("malformed", put(engine.PutAny, 1, `[`), tutti.Invalid)
	check("negative", put(engine.PutAny, -1, `[]`), tutti.Invalid)
	must[struct{}](t)(struct{}{}, put(engine.PutAny, 2, `[{"local":1}]`))
	if docs := must[[]engine.Document](t)(s.Documents(ctx, ns, "toy", "toy")); len(docs) != 2 {
		t.Errorf("%d documents", len(docs))
	}
	newest := ref
	newest.Version = 0
	if d := must[engine.Document](t)(s.Document(ctx, newest)); d.Version != 2 {
		t.Errorf("the newest is version %d", d.Version)
	}
	must[struct{}](t)(struct{}{}, s.DeleteDocument(ctx, ref))
	check("deleted", second(s.Document(ctx, ref)), tutti.NotFound)
	diags := must[value.Diagnostics](t)(s.Compile(ctx, ns, &tutti.Source{
		Dialect: "toy", Body: value.Raw(`[{"nonsense":1}]`),
	}))
	if len(diags) == 0 {
		t.Error("a bad source has no diagnostics")
	}
}

func TestStatusOfKinds(t *testing.T) {
	for k := tutti.Internal; k <= tutti.Unsupported; k++ {
		if k != tutti.Internal && (api.HTTPStatus(k) == 500 || api.GRPCCode(k).String() == "Internal") {
			t.Errorf("kind %s has no status of its own", k)
		}
	}
	if api.HTTPStatus(99) != 500 {
		t.Error("an unknown kind must be a fault of the server")
	}
}
