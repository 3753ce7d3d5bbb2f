package api_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/connector"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/store"
	"github.com/tutti-run/tutti/store/memstore"
	"github.com/tutti-run/tutti/value"
)

func TestExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inMemory(t, api.Options{})
		s.define("child", `[{"task":"lonely","name":"ask"}]`)
		s.define("top", `[{"child":"child","name":"sub"}]`)
		s.define("limited", `[{"task":"busy","name":"l","limit":{"key":"k","concurrency":1}}]`)
		top := s.start(tutti.RunSpec{Definition: "top"})
		holder := s.start(tutti.RunSpec{Definition: "limited"})
		held := s.poll("busy", 1)[0]
		waiter := s.start(tutti.RunSpec{Definition: "limited"})
		_, err := s.Poll(t.Context(), api.PollRequest{Namespace: ns, Queue: "busy", Worker: "w2"})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, tt := range []struct {
			run  tutti.RunID
			want []string
		}{
			{top, []string{"Step sub", "Step ask", "No worker has asked", "lonely"}},
			{holder, []string{"Step l", "held by worker w1"}},
			{waiter, []string{`limit "k"`, "held by task " + holder.TaskID(held.Task.Seq)}},
		} {
			ex := must[*api.Explanation](t)(s.Explain(t.Context(), ns, tt.run))
			for _, part := range tt.want {
				if !strings.Contains(ex.Text, part) {
					t.Errorf("%q does not say %q", ex.Text, part)
				}
			}
		}
		ex := must[*api.Explanation](t)(s.Explain(t.Context(), ns, top))
		if ex.Waits[0].Child == nil || ex.Waits[0].Child.Waits[0].Code != "Queued" {
			t.Errorf("the child is not explained: %+v", ex)
		}
		if err := s.Terminate(t.Context(), ns, top, "enough", nil); err != nil {
			t.Fatal(err)
		}
		ex = must[*api.Explanation](t)(s.Explain(t.Context(), ns, top))
		if !strings.Contains(ex.Text, "TERMINATED") || !strings.Contains(ex.Text, "enough") {
			t.Errorf("of an ended run: %q", ex.Text)
		}
	})
}

func TestExplainIsBounded(t *testing.T) {
	s := inMemory(t, api.Options{})
	s.define("f", `[{"fork":150,"name":"f","steps":[{"wait":0}]}]`)
	id := s.start(tutti.RunSpec{Definition: "f"})
	met, err := s.WaitUntil(t.Context(), ns, id, time.Minute, func(v *api.RunView) (bool, error) {
		return v.Run.OpenTasks == 151, nil
	})
	if !met || err != nil {
		t.Fatal(met, err)
	}
	ex := must[*api.Explanation](t)(s.Explain(t.Context(), ns, id))
	if len(ex.Waits) != 100 || ex.Omitted != 51 || !strings.Contains(ex.Text, "151 open steps") {
		t.Errorf("%d waits, %d omitted: %s", len(ex.Waits), ex.Omitted, ex.Text)
	}
	s.define("deep", `[{"child":"deep"}]`)
}

// lossy is a store that loses rows of the ready queue while it is told to.
type lossy struct {
	store.Store
	losing atomic.Bool
}

type lossyShard struct {
	store.Shard
	of *lossy
}

func (l *lossy) Claim(ctx context.Context, id store.ShardID) (store.Shard, error) {
	sh, err := l.Store.Claim(ctx, id)
	return lossyShard{sh, l}, err
}

func (s lossyShard) Commit(b *store.Batch) store.Ticket {
	if !s.of.losing.Load() {
		return s.Shard.Commit(b)
	}
	kept := new(store.Batch)
	for op := range b.Ops() {
		switch {
		case op.Key[0] == 'q':
		case op.Kind == store.OpSet:
			kept.Set(op.Key, op.Value)
		case op.Kind == store.OpDelete:
			kept.Delete(op.Key)
		case op.Kind == store.OpAppend:
			kept.Append(op.Key, op.Value)
		default:
			kept.DeleteRange(op.Key, op.Value)
		}
	}
	return s.Shard.Commit(kept)
}

func TestAuditor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reports []api.AuditStats
		mem, err := memstore.Open(memstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		st := &lossy{Store: mem}
		s := open(t, st, api.Options{OnAudit: func(st api.AuditStats) {
			reports = append(reports, st)
		}})
		s.define("d", `[{"task":"q"}]`)
		for range 300 {
			s.start(tutti.RunSpec{Definition: "d"})
		}
		ctx, cancel := context.WithCancel(t.Context())
		go s.RunAuditor(ctx)
		time.Sleep(30 * time.Second)
		stats := must[api.AuditStats](t)(s.Audit(t.Context(), ns))
		if stats.Rounds != 1 || stats.Runs != 300 || stats.Problems != 0 {
			t.Errorf("first round: %+v", stats)
		}
		st.losing.Store(true)
		id := s.start(tutti.RunSpec{Definition: "d"})
		st.losing.Store(false)
		if p := must[[]engine.Problem](t)(s.AuditRun(t.Context(), ns, id)); len(p) != 1 {
			t.Fatalf("problems of the damaged run: %+v", p)
		}
		time.Sleep(time.Minute)
		stats = must[api.AuditStats](t)(s.Audit(t.Context(), ns))
		if stats.Rounds != 2 || stats.Problems != 1 || stats.Repairs != 1 ||
			stats.Recent[0].Run != id {
			t.Errorf("second round: %+v", stats)
		}
		if p := must[[]engine.Problem](t)(s.AuditRun(t.Context(), ns, id)); len(p) != 0 {
			t.Errorf("problems after the repair: %+v", p)
		}
		cancel()
		synctest.Wait()
		if len(reports) != 3 {
			t.Errorf("%d reports", len(reports))
		}
	})
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		day := time.Hour // to be quick
		s := inMemory(t, api.Options{
			Retention: tutti.RetentionPolicy{AgeMs: (7 * day).Milliseconds()},
			Dialects: []tutti.Dialect{dialect{retention: map[string]tutti.RetentionPolicy{
				"few": {Count: 3}, "forever": {},
			}}},
		})
		for _, name := range []string{"week", "few", "forever"} {
			s.define(name, `[{"local":1}]`)
		}
		s.define("open", `[{"wait":0}]`)
		s.define("parent", `[{"child":"week"},{"wait":0}]`)
		parent := s.start(tutti.RunSpec{Definition: "parent"})
		s.start(tutti.RunSpec{Definition: "open"})
		for range 5 {
			for _, name := range []string{"week", "few", "forever"} {
				s.end(tutti.RunSpec{Definition: name})
			}
			time.Sleep(day)
		}
		count := func(def string) int {
			by, _, err := s.Count(t.Context(), engine.RunQuery{
				Namespace: ns, Definitions: []string{def},
			})
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, v := range by {
				n += v
			}
			return n
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		go s.RunRetention(ctx)
		check := func(week, few int) {
			t.Helper()
			time.Sleep(2 * time.Minute)
			got := []int{count("week"), count("few"), count("forever"), count("open")}
			if want := []int{week, few, 5, 1}; !slices.Equal(got, want) {
				t.Errorf("kept %v, want %v", got, want)
			}
		}
		check(6, 3)               // one is the parent's child
		time.Sleep(3*day + day/2) // 8.5 days after the first
		check(4, 3)               // two of five are too old; the child is not removed
		time.Sleep(30 * day)      // all are too old
		check(1, 3)               // but the child of an open run
		must[*tutti.Task](t)(s.Signal(ctx, ns, parent, "", engine.Outcome{Status: tutti.Completed}))
		check(0, 3)
	})
}

// echo completes tasks with their input.
type echo struct{ tasks chan connector.Task }

func (e echo) Perform(_ context.Context, t connector.Task) connector.Outcome {
	e.tasks <- t
	return connector.Outcome{Status: tutti.Completed, Output: t.Input}
}

func TestConnectors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inMemory(t, api.Options{
			Trace: func(*tutti.Run, tutti.Seq) string { return "00-trace" },
		})
		body := `[{"task":"HTTP","name":"call","input":{"u":"x"},"timeout":60000},{"task":"HTTP"}]`
		s.define("before", body)
		first := s.start(tutti.RunSpec{Definition: "before"})
		src := must[*api.ConnectorSource](t)(s.ConnectorSource(t.Context(), "server-1"))
		tasks := make(chan connector.Task, 100)
		pool := &connector.Pool{
			Source: src, Log: slog.New(slog.DiscardHandler),
			Workers: []connector.Worker{{Queue: "HTTP", Connector: echo{tasks}, Concurrency: 4}},
		}
		ctx, cancel := context.WithCancel(t.Context())
		go src.Run(ctx)
		go pool.Run(ctx)
		time.Sleep(time.Second)
		if r := must[*tutti.Run](t)(s.Run(ctx, ns, first)); r.Status != tutti.RunCompleted {
			t.Errorf("a run from before the connector: %s", r.Status)
		}
		task := <-tasks
		if task.IdempotencyKey != first.String()+"/call" || task.Headers["traceparent"] != "00-trace" ||
			task.Deadline.IsZero() || string(task.Input) != `{"u":"x"}` {
			t.Errorf("performed %+v", task)
		}
		st, err := s.Start(ctx, tutti.RunSpec{
			Namespace: "another", Source: &tutti.Source{
				Dialect: "toy", Name: "new", Body: value.Raw(`[{"task":"HTTP"}]`),
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		r := must[*tutti.Run](t)(s.WaitEnd(ctx, "another", st.ID, time.Minute))
		if r.Status != tutti.RunCompleted {
			t.Errorf("a run of a new namespace: %s", r.Status)
		}
		cancel()
		synctest.Wait()
		left := s.start(tutti.RunSpec{Definition: "before"})
		ex := must[*api.Explanation](t)(s.Explain(t.Context(), ns, left))
		if ex.Waits[0].Code != "Queued" || ex.Waits[0].WorkersWaiting != 0 {
			t.Errorf("after the connector stopped: %+v", ex.Waits[0])
		}
	})
}

// slow performs tasks for a long time.
type slow struct{ begun chan string }

func (c slow) Perform(ctx context.Context, t connector.Task) connector.Outcome {
	c.begun <- t.ID
	time.Sleep(5 * time.Minute) // fake time
	return connector.Outcome{Status: tutti.Completed}
}

func TestConnectorLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inMemory(t, api.Options{})
		s.define("d", `[{"task":"HTTP","name":"long"}]`)
		id := s.start(tutti.RunSpec{Definition: "d"})
		src := must[*api.ConnectorSource](t)(s.ConnectorSource(t.Context(), "server-1"))
		begun := make(chan string, 10)
		pool := &connector.Pool{
			Source: src, Workers: []connector.Worker{{Queue: "HTTP", Connector: slow{begun}}},
		}
		ctx, cancel := context.WithCancel(t.Context())
		go src.Run(ctx)
		go pool.Run(ctx)
		r := must[*tutti.Run](t)(s.WaitEnd(ctx, ns, id, 9*time.Minute))
		if r.Status != tutti.RunCompleted || len(begun) != 1 {
			t.Errorf("run is %s; the task was performed %d times", r.Status, len(begun))
		}
		cancel()
		synctest.Wait()
	})
}

func TestQueues(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s *server) {
		ctx := t.Context()
		s.define("d", `[{"task":"q"}]`)
		for range 5 {
			s.start(tutti.RunSpec{Definition: "d"})
		}
		got := s.poll("q", 2)
		q := must[api.QueueInfo](t)(s.Queue(ctx, ns, "q"))
		if q.Depth+len(got) != 5 || q.AtLeast || q.LastPoll == 0 {
			t.Errorf("queue %+v after %d were taken", q, len(got))
		}
		must[struct{}](t)(struct{}{}, s.Requeue(ctx, ns, "q"))
		if all := must[[]api.QueueInfo](t)(s.Queues(ctx, ns)); len(all) != 1 || all[0].Name != "q" {
			t.Errorf("queues: %+v", all)
		}
		polls := must[[]api.PollInfo](t)(s.PollData(ctx, ns, "q"))
		if len(polls) != 1 || polls[0].Worker != "w1" || polls[0].AtMs == 0 {
			t.Errorf("polls: %+v", polls)
		}
		if err := s.Return(ctx, ns, got[0].Run.ID, 1, got[0].Task.Token, true); err != nil {
			t.Error(err)
		}
		if err := s.Extend(ctx, ns, got[1].Run.ID, 1, got[1].Task.Token); err != nil {
			t.Error(err)
		}
		_, err := s.Poll(ctx, api.PollRequest{Namespace: ns, Queue: "q", Count: api.MaxPollCount + 1})
		if tutti.KindOf(err) != tutti.Invalid {
			t.Errorf("a poll for too many: %v", err)
		}
	})
}

func TestSubscribe(t *testing.T) {
	s := inMemory(t, api.Options{})
	s.define("d", `[{"fork":5,"steps":[{"task":"a"},{"task":"b"}]}]`)
	tasks := make(chan api.HandOut, 100)
	sub, err := s.Subscribe(t.Context(), api.Subscription{
		Namespace: ns, Queues: []string{"a", "b"}, Worker: "stream", Lease: time.Minute,
		Deliver: func(h api.HandOut) { tasks <- h },
	})
	if err != nil {
		t.Fatal(err)
	}
	sub.AddCredit(10)
	id := s.start(tutti.RunSpec{Definition: "d"})
	for range 10 {
		s.finish(<-tasks)
	}
	r := must[*tutti.Run](t)(s.WaitEnd(t.Context(), ns, id, time.Minute))
	if r.Status != tutti.RunCompleted {
		t.Errorf("run is %s", r.Status)
	}
	sub.Close()
}
