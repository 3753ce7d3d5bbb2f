package observe_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
	"github.com/tutti-run/tutti/observe"
	"github.com/tutti-run/tutti/runner"
	"github.com/tutti-run/tutti/store"
	"github.com/tutti-run/tutti/store/memstore"
	"github.com/tutti-run/tutti/value"
)

// observed is a runner with everything attached.
type observed struct {
	*runner.Runner
	metrics *observe.Metrics
	tracer  *observe.Tracer
	spans   *spans
}

// spans is an exporter that keeps what it is given.
type spans struct{ tracetest.SpanStubs }

func (s *spans) ExportSpans(_ context.Context, batch []sdktrace.ReadOnlySpan) error {
	s.SpanStubs = append(s.SpanStubs, tracetest.SpanStubsFromReadOnlySpans(batch)...)
	return nil
}

func (*spans) Shutdown(context.Context) error { return nil }

func open(t *testing.T) *observed {
	t.Helper()
	st, err := memstore.Open(memstore.Options{Shards: 1})
	if err != nil {
		t.Fatal(err)
	}
	o := &observed{metrics: observe.NewMetrics(), spans: &spans{}}
	o.tracer, err = observe.NewTracer(t.Context(), observe.TraceOptions{Exporter: o.spans})
	if err != nil {
		t.Fatal(err)
	}
	o.Runner, err = runner.Open(t.Context(), runner.Options{
		Store: st, Dialects: []tutti.Dialect{enginetest.Toy{}}, OnBatch: o.metrics.OnBatch,
		Observe: func(n []engine.Notification) { o.metrics.Observe(n); o.tracer.Observe(n) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.metrics.Register(observe.NewCollector(observe.Sources{
		Runner: o.Runner, Store: inspector{},
		IndexLag: func() time.Duration { return 1500 * time.Millisecond },
		Audit:    func() (uint64, uint64, uint64) { return 7, 2, 1 },
		Dropped:  o.tracer.Dropped,
	})); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		o.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

type inspector struct{}

func (inspector) Healthy() error     { return nil }
func (inspector) Stats() store.Stats { return store.Stats{Commits: 11, DiskFreeBytes: 1 << 30} }

func (o *observed) start(t *testing.T, body string, labels map[string]string) tutti.RunID {
	t.Helper()
	src := &tutti.Source{Dialect: "toy", Name: "order", Version: 2, Body: value.Raw(body)}
	st, err := o.Start(t.Context(), tutti.RunSpec{
		Namespace: "shop", Dialect: "toy", Labels: labels,
	}, src)
	if err != nil {
		t.Fatal(err)
	}
	return st.ID
}

func (o *observed) poll(t *testing.T, queue string) engine.HandOut {
	t.Helper()
	got, err := o.Poll(t.Context(), "shop/"+queue, "w", 1, 10*time.Second)
	if err != nil || len(got) != 1 {
		t.Fatalf("poll: %d tasks, %v", len(got), err)
	}
	return got[0]
}

func (o *observed) finish(t *testing.T, h engine.HandOut, st tutti.TaskStatus) {
	t.Helper()
	_, err := o.ForRun(t.Context(), h.Run.ID, engine.Complete{
		Run: h.Run.ID, Seq: h.Task.Seq, Token: h.Task.Token, Outcome: engine.Outcome{Status: st},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (o *observed) scrape(t *testing.T) string {
	t.Helper()
	w := httptest.NewRecorder()
	o.metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	b, err := io.ReadAll(w.Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("status %d, %v: %s", w.Code, err, b)
	}
	return string(b)
}

func TestMetrics(t *testing.T) {
	o := open(t)
	for range 3 {
		o.start(t, `[{"task":"pay","name":"pay"}]`, nil)
	}
	o.finish(t, o.poll(t, "pay"), tutti.Completed)
	o.finish(t, o.poll(t, "pay"), tutti.Fatal)
	o.poll(t, "pay")
	o.start(t, `[{"task":"ship"}]`, nil)
	o.Close() // everything has been observed
	text := o.scrape(t)
	for _, want := range []string{
		`tutti_runs_started_total{definition="order"} 4`,
		`tutti_runs_ended_total{definition="order",status="COMPLETED"} 1`,
		`tutti_runs_ended_total{definition="order",status="FAILED"} 1`,
		`tutti_tasks_handed_out_total{type="task"} 3`,
		`tutti_tasks_ended_total{status="fatal",type="task"} 1`,
		`tutti_task_seconds_count{type="task"} 2`,
		`tutti_leases 1`,
		`tutti_queue_depth{namespace="shop",queue="ship"} 1`,
		`tutti_pending_commands{shard="0"} 0`,
		`tutti_commit_seconds_count{shard="0"}`,
		`tutti_store_commits_total 11`,
		`tutti_text_index_lag_seconds 1.5`,
		`tutti_audit_problems_total 2`,
		`tutti_healthy 1`,
		`go_goroutines`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics do not have %s", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestMetricsAreBounded(t *testing.T) {
	m := observe.NewMetrics()
	notes := make([]engine.Notification, 0, 2000)
	for i := range 2000 {
		notes = append(notes, engine.Notification{
			Kind: engine.HistoryRunStarted,
			Run:  &engine.RunInfo{Definition: strings.Repeat("d", i)},
		})
	}
	m.Observe(notes)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text := w.Body.String()
	if n := strings.Count(text, "tutti_runs_started_total{"); n != 501 {
		t.Errorf("%d series, want 500 and one for all others", n)
	}
	if !strings.Contains(text, `tutti_runs_started_total{definition="other"} 1500`) {
		t.Error("the others are not added up")
	}
}

func TestTraces(t *testing.T) {
	o := open(t)
	const incoming = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	plain := o.start(t, `[{"task":"pay","name":"pay","retries":1}]`, nil)
	h := o.poll(t, "pay")
	parent := o.tracer.TraceParent(&h.Run, h.Task.Seq)
	o.finish(t, h, tutti.Failed)
	o.finish(t, o.poll(t, "pay"), tutti.Completed)
	o.start(t, `[{"local":1}]`, map[string]string{tutti.LabelTrace: incoming})
	unsampled := o.start(t, `[{"local":1}]`, map[string]string{
		tutti.LabelTrace: incoming[:54] + "0",
	})
	o.Close() // everything has been observed
	if err := o.tracer.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	type span struct{ Name, Trace, ID, Parent, Status string }
	var got []span
	for _, s := range o.spans.SpanStubs {
		sp := span{
			Name: s.Name, Trace: s.SpanContext.TraceID().String(),
			ID: s.SpanContext.SpanID().String(), Status: s.Status.Description,
		}
		if s.Parent.IsValid() {
			sp.Parent = s.Parent.SpanID().String()
		}
		if !s.EndTime.After(s.StartTime) && !s.EndTime.Equal(s.StartTime) {
			t.Errorf("span %s ends before it starts", s.Name)
		}
		for _, a := range s.Attributes {
			if a.Value.AsString() == unsampled.String() {
				t.Error("a run whose caller does not sample has a span")
			}
		}
		got = append(got, sp)
	}
	if len(got) != 5 {
		t.Fatalf("%d spans: %+v", len(got), got)
	}
	first := got[0]
	if want := "00-" + first.Trace + "-" + first.ID + "-01"; parent != want {
		t.Errorf("the worker was told %s, the span is %s", parent, want)
	}
	if first.Trace != strings.ReplaceAll(plain.String(), "-", "") || first.Status != "failed" {
		t.Errorf("first attempt: %+v of run %s", first, plain)
	}
	if got[1].Parent != first.Parent || got[2].ID != first.Parent || got[2].Name != "order" {
		t.Errorf("the attempts are not children of the run: %+v", got)
	}
	run := got[4]
	if run.Trace != incoming[3:35] || run.Parent != incoming[36:52] {
		t.Errorf("a run of a caller's trace: %+v", run)
	}
}

func TestTracerOff(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
	tr, err := observe.NewTracer(t.Context(), observe.TraceOptions{})
	if tr != nil || err != nil {
		t.Fatalf("without a receiver: %v, %v", tr, err)
	}
	tr.Observe(nil)
	const in = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	given := tr.TraceParent(&tutti.Run{Labels: map[string]string{tutti.LabelTrace: in}}, 1)
	if none := tr.TraceParent(&tutti.Run{}, 1); given != in || none != "" {
		t.Errorf("passes on %q and %q", given, none)
	}
	if err := tr.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSampling(t *testing.T) {
	tr, err := observe.NewTracer(t.Context(), observe.TraceOptions{
		Exporter: &spans{}, Ratio: 0.25,
	})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for i := range 4000 {
		r := &tutti.Run{ID: tutti.NewRunID(1, uint64(i)*0x9e3779b97f4a7c15)}
		a, b := tr.TraceParent(r, 1), tr.TraceParent(r, 2)
		if a[53:] != b[53:] {
			t.Fatal("tasks of one run are sampled differently")
		}
		if a[53:] == "01" {
			n++
		}
	}
	if n < 850 || n > 1150 {
		t.Errorf("%d of 4000 are sampled, want about 1000", n)
	}
	if err := tr.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestValidTraceParent(t *testing.T) {
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for s, want := range map[string]bool{
		good: true, "": false, good[:54]: false, "01" + good[2:]: false,
		"00-" + strings.Repeat("0", 32) + good[35:]: false,
		strings.Replace(good, "4b", "4x", 1):        false,
	} {
		if got := observe.ValidTraceParent(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestEventLog(t *testing.T) {
	run := &engine.RunInfo{
		ID: tutti.NewRunID(1, 2), Namespace: "shop", Definition: "order",
	}
	notes := []engine.Notification{
		{
			Kind: engine.HistoryTaskDone, Run: run, Seq: 3, Name: "pay", Type: "HTTP",
			Status: uint8(tutti.Failed),
		},
		{Kind: engine.HistoryRunEnded, Run: run, Status: uint8(tutti.RunFailed)},
		{Kind: engine.HistoryRunEnded, Run: run, Status: uint8(tutti.RunCompleted)},
	}
	for level, want := range map[slog.Level]string{
		slog.LevelInfo: "level=WARN msg=\"run ended as FAILED\" run=" + run.ID.String() +
			" namespace=shop definition=order\n",
		slog.LevelError: "",
		slog.LevelDebug: "level=DEBUG msg=TaskEnded run=" + run.ID.String() +
			" namespace=shop definition=order task=" + run.ID.TaskID(3) +
			" step=pay type=HTTP status=failed\n" +
			"level=WARN msg=\"run ended as FAILED\" run=" + run.ID.String() +
			" namespace=shop definition=order\n" +
			"level=DEBUG msg=RunEnded run=" + run.ID.String() +
			" namespace=shop definition=order\n",
	} {
		var out bytes.Buffer
		l := observe.NewEventLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
			Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			},
		})))
		l.Observe(notes)
		l.Close()
		l.Observe(notes) // too late, and harmless
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("at level %s: %s", level, diff)
		}
	}
}

func BenchmarkMetrics(b *testing.B) {
	m := observe.NewMetrics()
	run := &engine.RunInfo{Definition: "order"}
	notes := []engine.Notification{
		{Kind: engine.HistoryRunStarted, Run: run},
		{Kind: engine.HistoryTaskScheduled, Run: run, Seq: 1, Type: "SIMPLE"},
		{Kind: engine.HistoryTaskHandedOut, Run: run, Seq: 1, Type: "SIMPLE"},
		{Kind: engine.HistoryTaskDone, Run: run, Seq: 1, Type: "SIMPLE", Status: 2},
		{Kind: engine.HistoryRunEnded, Run: run, Status: uint8(tutti.RunCompleted)},
	}
	for b.Loop() {
		m.Observe(notes)
	}
}
